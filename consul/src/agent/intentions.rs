//! Intentions: who may call whom. Stored as Consul stores them, one `service-intentions` config
//! entry a destination whose sources stand in order of precedence; every entry here is valid.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::body::Fields;
use super::catalog::Index;
use crate::api::intention::Action;

#[path = "intentions/entry.rs"]
mod entry;

pub(super) use entry::{Entry, Invalid, Rule};
use entry::{Source, invalid, partial_wildcard, precedence};

/// One intention, as it matches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intention<'a> {
    entry: &'a Entry,
    source: &'a Source,
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
