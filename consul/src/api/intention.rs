//! Intentions: who may call whom, as Consul tells and takes them.
//!
//! An intention either decides by itself or by its permissions, never by both.

use serde::{Deserialize, Serialize};

use super::null;

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Let it through.
    Allow,
    /// Refuse it.
    Deny,
}

/// Who may call whom.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Wire")]
pub struct Intention {
    /// The caller's name; `*` is any.
    pub source: String,
    /// The caller's namespace; `*` is any.
    pub source_namespace: String,
    /// The caller's partition, where one is told.
    pub source_partition: Option<String>,
    /// The peer that the caller comes from, where it is another cluster's.
    pub source_peer: Option<String>,
    /// The called service's name; `*` is any.
    pub destination: String,
    /// The called service's namespace.
    pub destination_namespace: String,
    /// What it decides.
    pub rule: Rule,
    /// It also demands a JSON Web Token.
    pub jwt: bool,
    /// Higher comes first.
    pub precedence: i32,
    /// For people.
    pub description: String,
}

/// What an intention decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Rule {
    /// The same for every request.
    Action(Action),
    /// By request, the first that fits; where none fits the default decides. Never empty.
    Permissions(Vec<Permission>),
}

/// A decision for the requests that it fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "WirePermission", try_from = "WirePermission")]
pub struct Permission {
    /// The decision.
    pub action: Action,
    /// The path; any where it is `None`.
    pub path: Option<PathMatch>,
    /// All must fit.
    pub headers: Vec<HeaderMatch>,
    /// In upper case; any where it is empty.
    pub methods: Vec<String>,
    /// It also demands a JSON Web Token.
    pub jwt: bool,
}

/// What a path must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The same.
    Exact(String),
    /// Begins with this.
    Prefix(String),
    /// A whole match of this RE2 expression.
    Regex(String),
}

/// What a header must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HeaderMatch {
    /// Its name.
    pub name: String,
    /// It is there.
    #[serde(skip_serializing_if = "is_false")]
    pub present: bool,
    /// Its value is this.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub exact: String,
    /// Its value begins with this.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Its value ends with this.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub suffix: String,
    /// Its value holds this.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub contains: String,
    /// Its value matches this RE2 expression whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub regex: String,
    /// Case does not count.
    #[serde(skip_serializing_if = "is_false")]
    pub ignore_case: bool,
    /// It fits where all of the above does not.
    #[serde(skip_serializing_if = "is_false")]
    pub invert: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    source_name: String,
    #[serde(rename = "SourceNS", default)]
    source_namespace: String,
    #[serde(default)]
    source_partition: String,
    #[serde(default)]
    source_peer: String,
    destination_name: String,
    #[serde(rename = "DestinationNS", default)]
    destination_namespace: String,
    #[serde(default)]
    action: String,
    #[serde(default, deserialize_with = "null")]
    permissions: Vec<Permission>,
    #[serde(rename = "JWT", default)]
    jwt: Option<serde_json::Value>,
    #[serde(default)]
    precedence: i32,
    #[serde(default)]
    description: String,
}

impl TryFrom<Wire> for Intention {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Intention, String> {
        let rule = if wire.permissions.is_empty() {
            Rule::Action(match wire.action.as_str() {
                "allow" => Action::Allow,
                "deny" => Action::Deny,
                other => return Err(format!("intention with action {other:?}, no permissions")),
            })
        } else {
            Rule::Permissions(wire.permissions)
        };
        let named = |name: String| Some(name).filter(|name| !name.is_empty());
        Ok(Intention {
            source: wire.source_name,
            source_namespace: wire.source_namespace,
            source_partition: named(wire.source_partition),
            source_peer: named(wire.source_peer),
            destination: wire.destination_name,
            destination_namespace: wire.destination_namespace,
            rule,
            jwt: wire.jwt.is_some_and(|jwt| !jwt.is_null()),
            precedence: wire.precedence,
            description: wire.description,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WirePermission {
    action: Action,
    #[serde(rename = "HTTP", default, deserialize_with = "null")]
    http: WireHttp,
    #[serde(rename = "JWT", default, skip_serializing)]
    jwt: Option<serde_json::Value>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WireHttp {
    #[serde(skip_serializing_if = "String::is_empty")]
    path_exact: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    path_prefix: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    path_regex: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null")]
    header: Vec<HeaderMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null")]
    methods: Vec<String>,
}

impl TryFrom<WirePermission> for Permission {
    type Error = String;

    fn try_from(wire: WirePermission) -> Result<Permission, String> {
        let WireHttp { path_exact, path_prefix, path_regex, header, methods } = wire.http;
        let mut paths = [
            (path_exact, PathMatch::Exact as fn(String) -> PathMatch),
            (path_prefix, PathMatch::Prefix),
            (path_regex, PathMatch::Regex),
        ]
        .into_iter()
        .filter(|(text, _)| !text.is_empty())
        .map(|(text, form)| form(text));
        let path = paths.next();
        if paths.next().is_some() {
            return Err("a permission with more than one form of path".to_owned());
        }
        let jwt = wire.jwt.is_some_and(|jwt| !jwt.is_null());
        Ok(Permission { action: wire.action, path, headers: header, methods, jwt })
    }
}

impl From<Permission> for WirePermission {
    fn from(permission: Permission) -> WirePermission {
        let mut http = WireHttp {
            header: permission.headers,
            methods: permission.methods,
            ..WireHttp::default()
        };
        match permission.path {
            None => {}
            Some(PathMatch::Exact(path)) => http.path_exact = path,
            Some(PathMatch::Prefix(path)) => http.path_prefix = path,
            Some(PathMatch::Regex(path)) => http.path_regex = path,
        }
        WirePermission { action: permission.action, http, jwt: None }
    }
}
