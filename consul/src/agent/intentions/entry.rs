//! One `service-intentions` entry: read and validated as Consul does, its sources always in order
//! of precedence.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::agent::body::{BodyError, Fields};
use crate::api::intention::Action;

/// What an intention decides by: one action, or L7 permissions tried top-down.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::agent) enum Rule {
    L4(Action),
    L7(Vec<Value>),
}

/// One source of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::agent) struct Source {
    pub(in crate::agent) name: String,
    pub(in crate::agent) rule: Rule,
    pub(super) description: String,
}

/// The `service-intentions` entry of one destination.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::agent) struct Entry {
    pub(in crate::agent) name: String,
    pub(super) sources: Vec<Source>,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// What the agent's caller, an operator, got wrong.
#[derive(Debug, thiserror::Error)]
pub(in crate::agent) enum Invalid {
    #[error("{0}")]
    Body(#[from] BodyError),
    #[error("{0}")]
    Entry(String),
    #[error("the embedded development agent holds at most {0} intentions")]
    Full(usize),
}

fn parse_action(text: &str) -> Option<Action> {
    match text {
        "allow" => Some(Action::Allow),
        "deny" => Some(Action::Deny),
        _ => None,
    }
}

pub(super) fn invalid<T>(text: String) -> Result<T, Invalid> {
    Err(Invalid::Entry(text))
}

/// Consul's precedence, from 9 (both exact) to 5 (both wild).
pub(super) fn precedence(source: &str, destination: &str) -> u8 {
    let most = if destination == "*" { 6 } else { 9 };
    most - u8::from(source == "*")
}

impl Source {
    /// Reads a source of an entry, or the body of an intention whose source `name` is.
    pub(super) fn from_fields(fields: Fields<'_>, name: String, at: &str) -> Result<Self, Invalid> {
        let action = fields.text("Action")?;
        let permissions = fields.objects("Permissions")?;
        let rule = if permissions.is_empty() {
            let action = parse_action(&action);
            Rule::L4(action.ok_or_else(|| {
                Invalid::Entry(format!("{at}.Action must be set to 'allow' or 'deny'"))
            })?)
        } else if !action.is_empty() {
            return invalid(format!("{at}.Action must be omitted if Permissions are specified"));
        } else {
            let read = |(number, fields): (usize, Fields<'_>)| {
                permission(fields, &format!("{at}.Permissions[{number}]"))
            };
            Rule::L7(permissions.into_iter().enumerate().map(read).collect::<Result<_, _>>()?)
        };
        let kind = fields.text("Type")?;
        if !kind.is_empty() && kind != "consul" {
            return invalid(format!("{at}.Type must be set to 'consul'"));
        }
        Ok(Self { name, rule, description: fields.text("Description")? })
    }

    fn json(&self, destination: &str) -> Value {
        let mut out = json!({
            "Name": self.name,
            "Type": "consul",
            "Precedence": precedence(&self.name, destination),
        });
        self.rule.put(&mut out);
        if !self.description.is_empty() {
            out["Description"] = json!(self.description);
        }
        out
    }
}

impl Rule {
    pub(super) fn put(&self, out: &mut Value) {
        match self {
            Self::L4(action) => out["Action"] = json!(action),
            Self::L7(permissions) => out["Permissions"] = json!(permissions),
        }
    }
}

fn permission(fields: Fields<'_>, at: &str) -> Result<Value, Invalid> {
    let Some(action) = parse_action(&fields.text("Action")?) else {
        return invalid(format!("{at}.Action must be set to 'allow' or 'deny'"));
    };
    let Some(http) = fields.object("HTTP")? else {
        return invalid(format!("{at}.HTTP is required"));
    };
    let mut out = Map::new();
    for name in ["PathExact", "PathPrefix", "PathRegex"] {
        let path = http.text(name)?;
        if path.is_empty() {
            continue;
        }
        if !out.is_empty() {
            return invalid(format!(
                "{at}.HTTP should only contain one of PathExact, PathPrefix, or PathRegex"
            ));
        }
        if name != "PathRegex" && !path.starts_with('/') {
            return invalid(format!("{at}.HTTP.{name} doesn't start with '/': {path:?}"));
        }
        out.insert(name.to_owned(), json!(path));
    }
    let headers = http
        .objects("Header")?
        .into_iter()
        .enumerate()
        .map(|(number, header)| header_permission(header, &format!("{at}.HTTP.Header[{number}]")))
        .collect::<Result<Vec<_>, _>>()?;
    if !headers.is_empty() {
        out.insert("Header".to_owned(), headers.into());
    }
    let methods: Vec<String> =
        http.texts("Methods")?.iter().map(|method| method.to_uppercase()).collect();
    if !methods.is_empty() {
        out.insert("Methods".to_owned(), json!(methods));
    }
    if out.is_empty() {
        return invalid(format!("{at}.HTTP should not be empty"));
    }
    Ok(json!({ "Action": action, "HTTP": out }))
}

fn header_permission(fields: Fields<'_>, at: &str) -> Result<Value, Invalid> {
    let name = fields.text("Name")?;
    if name.is_empty() {
        return invalid(format!("{at} missing required Name field"));
    }
    let mut out = json!({ "Name": name });
    let mut ways = u8::from(fields.boolean("Present")?);
    if ways == 1 {
        out["Present"] = json!(true);
    }
    for way in ["Exact", "Prefix", "Suffix", "Contains", "Regex"] {
        let text = fields.text(way)?;
        if !text.is_empty() {
            ways += 1;
            out[way] = json!(text);
        }
    }
    if ways != 1 {
        return invalid(format!(
            "{at} should only contain one of Present, Exact, Prefix, Suffix, Contains, or Regex"
        ));
    }
    for flag in ["Invert", "IgnoreCase"] {
        if fields.boolean(flag)? {
            out[flag] = json!(true);
        }
    }
    Ok(out)
}

impl Entry {
    /// Reads a `service-intentions` entry.
    pub(in crate::agent) fn from_fields(fields: Fields<'_>) -> Result<Self, Invalid> {
        let name = fields.text("Name")?;
        if name.is_empty() {
            return invalid("Name is required".to_owned());
        }
        partial_wildcard(&name).map_err(Invalid::Entry)?;
        let mut sources: Vec<Source> = Vec::new();
        for (number, item) in fields.objects("Sources")?.into_iter().enumerate() {
            let at = format!("Sources[{number}]");
            let source = item.text("Name")?;
            if source.is_empty() {
                return invalid(format!("{at}.Name is required"));
            }
            partial_wildcard(&source).map_err(|text| Invalid::Entry(format!("{at}.{text}")))?;
            if sources.iter().any(|known| known.name == source) {
                return invalid(format!("{at} defines {source:?} more than once"));
            }
            let source = Source::from_fields(item, source, &at)?;
            if name == "*" && matches!(source.rule, Rule::L7(_)) {
                return invalid(format!(
                    "{at}.Permissions cannot be specified on intentions with wildcarded destinations"
                ));
            }
            sources.push(source);
        }
        if sources.is_empty() {
            return invalid("At least one source is required".to_owned());
        }
        let mut entry = Self {
            meta: fields.text_map("Meta")?,
            name,
            sources,
            create_index: 0,
            modify_index: 0,
        };
        entry.sort();
        Ok(entry)
    }

    pub(super) fn sort(&mut self) {
        let name = &self.name;
        self.sources.sort_by(|a, b| {
            precedence(&b.name, name).cmp(&precedence(&a.name, name)).then(a.name.cmp(&b.name))
        });
    }

    /// Whether any source is judged by HTTP requests.
    pub(in crate::agent) fn has_permissions(&self) -> bool {
        self.sources.iter().any(|source| matches!(source.rule, Rule::L7(_)))
    }

    /// The config entry's JSON.
    pub(in crate::agent) fn json(&self) -> Value {
        let sources: Vec<Value> =
            self.sources.iter().map(|source| source.json(&self.name)).collect();
        let mut out = json!({
            "Kind": "service-intentions",
            "Name": self.name,
            "Sources": sources,
            "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index,
        });
        if !self.meta.is_empty() {
            out["Meta"] = json!(self.meta);
        }
        out
    }

    /// The index of the entry's last change.
    pub(in crate::agent) fn modify_index(&self) -> u64 {
        self.modify_index
    }
}

pub(super) fn partial_wildcard(name: &str) -> Result<(), String> {
    if name != "*" && name.contains('*') {
        return Err("Name: wildcard character '*' cannot be used with partial values".to_owned());
    }
    Ok(())
}
