//! Intentions: who may call whom. Stored as Consul stores them, one `service-intentions` config
//! entry a destination whose sources stand in order of precedence; every entry here is valid.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::body::{BodyError, Fields};
use super::catalog::Index;
use crate::api::intention::Action;

/// What an intention decides by: one action, or L7 permissions tried top-down.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    L4(Action),
    L7(Vec<Value>),
}

/// One source of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) rule: Rule,
    description: String,
}

/// The `service-intentions` entry of one destination.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    sources: Vec<Source>,
    meta: BTreeMap<String, String>,
    create_index: u64,
    modify_index: u64,
}

/// One intention, as it matches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intention<'a> {
    entry: &'a Entry,
    source: &'a Source,
}

/// What the agent's caller, an operator, got wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Invalid {
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

fn invalid<T>(text: String) -> Result<T, Invalid> {
    Err(Invalid::Entry(text))
}

/// Consul's precedence, from 9 (both exact) to 5 (both wild).
fn precedence(source: &str, destination: &str) -> u8 {
    let most = if destination == "*" { 6 } else { 9 };
    most - u8::from(source == "*")
}

impl Source {
    /// Reads a source of an entry, or the body of an intention whose source `name` is.
    fn from_fields(fields: Fields<'_>, name: String, at: &str) -> Result<Self, Invalid> {
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
    fn put(&self, out: &mut Value) {
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
    pub(super) fn from_fields(fields: Fields<'_>) -> Result<Self, Invalid> {
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

    fn sort(&mut self) {
        let name = &self.name;
        self.sources.sort_by(|a, b| {
            precedence(&b.name, name).cmp(&precedence(&a.name, name)).then(a.name.cmp(&b.name))
        });
    }

    /// Whether any source is judged by HTTP requests.
    pub(super) fn has_permissions(&self) -> bool {
        self.sources.iter().any(|source| matches!(source.rule, Rule::L7(_)))
    }

    /// The config entry's JSON.
    pub(super) fn json(&self) -> Value {
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
    pub(super) fn modify_index(&self) -> u64 {
        self.modify_index
    }
}

fn partial_wildcard(name: &str) -> Result<(), String> {
    if name != "*" && name.contains('*') {
        return Err("Name: wildcard character '*' cannot be used with partial values".to_owned());
    }
    Ok(())
}

impl<'a> Intention<'a> {
    fn precedence(&self) -> u8 {
        precedence(&self.source.name, &self.entry.name)
    }

    /// What it decides by.
    pub(super) fn rule(&self) -> &'a Rule {
        &self.source.rule
    }

    /// The intention's JSON.
    pub(super) fn json(&self) -> Value {
        let mut out = json!({
            "SourceNS": "default",
            "SourceName": self.source.name,
            "DestinationNS": "default",
            "DestinationName": self.entry.name,
            "SourceType": "consul",
            "Precedence": self.precedence(),
            "CreateIndex": self.entry.create_index,
            "ModifyIndex": self.entry.modify_index,
        });
        self.source.rule.put(&mut out);
        if !self.source.description.is_empty() {
            out["Description"] = json!(self.source.description);
        }
        if !self.entry.meta.is_empty() {
            out["Meta"] = json!(self.entry.meta);
        }
        out
    }

    /// The intention in one line, as `authorize` gives its reason.
    pub(super) fn describe(&self) -> String {
        let detail = match &self.source.rule {
            Rule::L4(Action::Allow) => "Action: ALLOW".to_owned(),
            Rule::L4(Action::Deny) => "Action: DENY".to_owned(),
            Rule::L7(permissions) => format!("Permissions: {}", permissions.len()),
        };
        format!(
            "default/{} => default/{} (Precedence: {}, {detail})",
            self.source.name,
            self.entry.name,
            self.precedence()
        )
    }
}

/// All intentions.
#[derive(Debug)]
pub(super) struct Intentions {
    entries: BTreeMap<String, Entry>,
    bound: usize,
    index: u64,
}

impl Intentions {
    /// None yet, and never more sources in all than `bound`.
    pub(super) fn new(bound: usize) -> Self {
        Self { entries: BTreeMap::new(), bound, index: 1 }
    }

    /// The index of the last change.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// The entries, by destination.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry of a destination.
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Stores an entry. What is the same already moves no index.
    pub(super) fn put(&mut self, mut entry: Entry, index: &mut Index) -> Result<(), Invalid> {
        let others: usize = self
            .entries
            .values()
            .filter(|known| known.name != entry.name)
            .map(|known| known.sources.len())
            .sum();
        if others + entry.sources.len() > self.bound {
            return Err(Invalid::Full(self.bound));
        }
        if let Some(known) = self.entries.get(&entry.name) {
            entry.create_index = known.create_index;
            entry.modify_index = known.modify_index;
            if *known == entry {
                return Ok(());
            }
        }
        let at = index.advance();
        if entry.create_index == 0 {
            entry.create_index = at;
        }
        entry.modify_index = at;
        self.index = at;
        self.entries.insert(entry.name.clone(), entry);
        Ok(())
    }

    /// Removes a destination's entry; whether it was there.
    pub(super) fn remove(&mut self, name: &str, index: &mut Index) -> bool {
        let found = self.entries.remove(name).is_some();
        if found {
            self.index = index.advance();
        }
        found
    }

    /// The entry that a destination would have with one source written anew (from the body of
    /// `/v1/connect/intentions/exact`).
    pub(super) fn with_source(
        &self,
        source: &str,
        destination: &str,
        body: Fields<'_>,
    ) -> Result<Entry, Invalid> {
        partial_wildcard(destination).map_err(Invalid::Entry)?;
        let mut entry = self.entries.get(destination).cloned().unwrap_or_else(|| Entry {
            name: destination.to_owned(),
            sources: Vec::new(),
            meta: BTreeMap::new(),
            create_index: 0,
            modify_index: 0,
        });
        let meta = body.text_map("Meta")?;
        if !meta.is_empty() && meta != entry.meta {
            let text = if entry.sources.is_empty() {
                "Meta must not be specified"
            } else {
                "Meta must not be specified, or should be unchanged during an update."
            };
            return invalid(text.to_owned());
        }
        let at = format!("Sources[{}]", entry.sources.len());
        partial_wildcard(source).map_err(|text| Invalid::Entry(format!("{at}.{text}")))?;
        let written = Source::from_fields(body, source.to_owned(), &at)?;
        entry.sources.retain(|known| known.name != source);
        entry.sources.push(written);
        entry.sort();
        Ok(entry)
    }

    /// Removes one source of a destination, and the entry with its last one.
    pub(super) fn remove_source(&mut self, source: &str, destination: &str, index: &mut Index) {
        let Some(entry) = self.entries.get_mut(destination) else { return };
        let before = entry.sources.len();
        entry.sources.retain(|known| known.name != source);
        if entry.sources.len() == before {
            return;
        }
        let at = index.advance();
        entry.modify_index = at;
        self.index = at;
        if entry.sources.is_empty() {
            self.entries.remove(destination);
        }
    }

    /// The intention of exactly this pair.
    pub(super) fn exact(&self, source: &str, destination: &str) -> Option<Intention<'_>> {
        let entry = self.entries.get(destination)?;
        let source = entry.sources.iter().find(|known| known.name == source)?;
        Some(Intention { entry, source })
    }

    /// All intentions, the highest precedence first.
    pub(super) fn all(&self) -> Vec<Intention<'_>> {
        self.select(|_| true)
    }

    /// Those that concern a destination, the highest precedence first.
    pub(super) fn of_destination(&self, name: &str) -> Vec<Intention<'_>> {
        self.select(|found| found.entry.name == name || found.entry.name == "*")
    }

    /// Those that concern a source, the highest precedence first.
    pub(super) fn of_source(&self, name: &str) -> Vec<Intention<'_>> {
        self.select(|found| found.source.name == name || found.source.name == "*")
    }

    /// The intention that decides between two services.
    pub(super) fn deciding(&self, source: &str, destination: &str) -> Option<Intention<'_>> {
        self.of_destination(destination)
            .into_iter()
            .find(|found| found.source.name == source || found.source.name == "*")
    }

    fn select(&self, wanted: impl Fn(&Intention<'_>) -> bool) -> Vec<Intention<'_>> {
        let all = self
            .entries
            .values()
            .flat_map(|entry| entry.sources.iter().map(move |source| Intention { entry, source }));
        let mut found: Vec<Intention<'_>> = all.filter(wanted).collect();
        found.sort_by(|a, b| {
            b.precedence()
                .cmp(&a.precedence())
                .then_with(|| a.source.name.cmp(&b.source.name))
                .then_with(|| a.entry.name.cmp(&b.entry.name))
        });
        found
    }
}

#[cfg(test)]
#[path = "intentions/tests.rs"]
mod tests;
