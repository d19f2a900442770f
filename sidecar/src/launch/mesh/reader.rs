//! TOML read key by key, so that one wrong value hides no other: every error is kept with its
//! line until the file is through. A key that nobody asked for is an error too.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Characters of a wrong value that are shown.
const FOUND: usize = 60;

/// A file that is being read, and what is wrong in it.
pub(super) struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    errors: RefCell<Vec<(usize, String)>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, errors: RefCell::default() }
    }

    /// The whole file as a table; none where it is no TOML.
    pub(super) fn root(&'a self) -> Option<Table<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let at = error.span().unwrap_or(0..0);
            self.error(at, error.message());
        }
        // What follows a syntax error is a guess; errors about a guess help nobody.
        errors.is_empty().then(|| Table::new(self, 0..0, String::new(), table.into_inner()))
    }

    pub(super) fn is_clean(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// What was wrong, in the file's order.
    pub(super) fn finish(&self) -> Result<(), Vec<String>> {
        let mut errors = self.errors.take();
        errors.sort_by_key(|(line, _)| *line);
        if errors.is_empty() {
            return Ok(());
        }
        let file = self.file;
        Err(errors.into_iter().map(|(line, what)| format!("{file}:{line}: {what}")).collect())
    }

    fn error(&self, at: Range<usize>, what: impl Display) {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        self.errors.borrow_mut().push((line, what.to_string()));
    }

    fn found(&self, at: Range<usize>) -> String {
        let raw = self.text.get(at).unwrap_or_default();
        let mut shown: String = raw.chars().take(FOUND).collect();
        if shown.len() < raw.len() {
            shown.push('…');
        }
        shown
    }
}

/// A table whose keys are taken one by one.
pub(super) struct Table<'a> {
    reader: &'a Reader<'a>,
    at: Range<usize>,
    /// `service.` before the names of its keys.
    path: String,
    keys: Vec<Key<'a>>,
    /// Every name that was asked for, there or not: the keys that there are.
    known: Vec<&'static str>,
}

struct Key<'a> {
    name: String,
    name_at: Range<usize>,
    value_at: Range<usize>,
    value: Option<Spanned<DeValue<'a>>>,
}

impl<'a> Table<'a> {
    fn new(reader: &'a Reader<'a>, at: Range<usize>, path: String, table: DeTable<'a>) -> Self {
        let keys = table.into_iter().map(|(name, value)| Key {
            name_at: name.span(),
            name: name.into_inner().into_owned(),
            value_at: value.span(),
            value: Some(value),
        });
        Self { reader, at, path, keys: keys.collect(), known: Vec::new() }
    }

    /// An error about the table as a whole.
    pub(super) fn error(&mut self, what: &str) {
        self.reader.error(self.at.clone(), what);
    }

    /// An error about one of its keys.
    pub(super) fn error_at(&mut self, key: &str, what: &str) {
        let key = self.keys.iter().find(|k| k.name == key);
        let at = key.map_or_else(|| self.at.clone(), |key| key.value_at.clone());
        self.reader.error(at, what);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|k| k.name == key)
    }

    /// The value of a key that must be there. None: an error was kept.
    pub(super) fn required<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        if !self.has(key) {
            let path = &self.path;
            self.reader.error(self.at.clone(), format!("`{path}{key}` is missing"));
        }
        self.optional(key)
    }

    /// The value of a key. None: it is not there, or an error was kept.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let value = self.take(key)?;
        let at = value.span();
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(value),
            Err(error) => {
                let at = error.span().unwrap_or(at);
                let found = self.reader.found(at.clone());
                let (path, why) = (&self.path, error.message());
                self.reader.error(at, format!("`{path}{key}` is {found}: {why}"));
                None
            }
        }
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let at = value.span();
        let DeValue::Array(values) = value.into_inner() else {
            self.reader.error(at, format!("`{key}` is no list of tables: write [[{key}]]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for value in values {
            let at = value.span();
            match value.into_inner() {
                DeValue::Table(table) => {
                    tables.push(Table::new(self.reader, at, format!("{key}."), table));
                }
                _ => self.reader.error(at, format!("`{key}` holds no table: write [[{key}]]")),
            }
        }
        tables
    }

    /// Every key that nobody asked for is an error, with the nearest known one.
    pub(super) fn finish(self) {
        for key in self.keys.iter().filter(|key| !self.known.contains(&key.name.as_str())) {
            let nearest = self
                .known
                .iter()
                .max_by(|a, b| strsim::jaro(a, &key.name).total_cmp(&strsim::jaro(b, &key.name)));
            let (path, name) = (&self.path, &key.name);
            let hint =
                nearest.map(|key| format!("; did you mean `{path}{key}`?")).unwrap_or_default();
            self.reader
                .error(key.name_at.clone(), format!("`{path}{name}` is no key of this file{hint}"));
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        self.known.push(key);
        let key = self.keys.iter_mut().find(|k| k.name == key)?;
        key.value.take()
    }
}
