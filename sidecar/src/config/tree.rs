//! Keys and values as they were written, each with where it came from; the file
//! first, then what variables and flags lay over it.

use std::collections::BTreeMap;
use std::fmt;

use super::problem::Origin;

/// One value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Option<Origin>,
}

/// What was written.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// What no key takes: a float, a date, an integer beyond 64 bits.
    Other(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    /// It was wrong and has been reported: passed over from then on, yet set.
    Refused,
}

/// One step down: a key of a table or a place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Node {
    /// The root, with nothing in it.
    pub(crate) fn empty() -> Self {
        Self { value: Value::Table(BTreeMap::new()), origin: None }
    }

    /// Whether the value came from where everything is text.
    pub(crate) fn is_loose(&self) -> bool {
        matches!(self.origin, Some(Origin::Variable(_) | Origin::Flag(_)))
    }

    /// What is under these keys, refused values included.
    pub(crate) fn find<'a>(&self, keys: impl IntoIterator<Item = &'a str>) -> Option<&Self> {
        keys.into_iter().try_fold(self, |node, key| match &node.value {
            Value::Table(table) => table.get(key),
            _ => None,
        })
    }

    /// What is under a dotted key; where that is not written, what it would stand in.
    pub(super) fn nearest(&self, key: &str) -> &Self {
        let mut node = self;
        for key in key.split('.') {
            match node.find([key]) {
                Some(below) => node = below,
                None => break,
            }
        }
        node
    }

    /// What lies at a path.
    pub(super) fn at(&self, path: &[Step]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match (&node.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get(key),
            (Value::List(list), Step::Index(index)) => list.get(*index),
            _ => None,
        })
    }

    /// Adds the variables and flags that set anything here, each once.
    pub(super) fn add_origins(&self, origins: &mut Vec<Option<Origin>>) {
        if self.is_loose() && !origins.contains(&self.origin) {
            origins.push(self.origin.clone());
        }
        if let Value::Table(table) = &self.value {
            table.values().for_each(|node| node.add_origins(origins));
        }
    }

    fn step_mut(&mut self, step: &Step) -> Option<&mut Self> {
        match (&mut self.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get_mut(key),
            (Value::List(list), Step::Index(index)) => list.get_mut(*index),
            _ => None,
        }
    }

    /// Takes a wrong value out. False where nothing was there to take.
    pub(crate) fn refuse(&mut self, path: &[Step]) -> bool {
        let node = path.iter().try_fold(self, |node, step| node.step_mut(step));
        match node {
            Some(node) if !matches!(node.value, Value::Refused) => {
                node.value = Value::Refused;
                true
            }
            _ => false,
        }
    }

    /// Lays a text over what is under these keys.
    pub(crate) fn lay(&mut self, keys: &[String], text: &str, origin: &Origin) {
        let mut node = self;
        for key in keys {
            if !matches!(node.value, Value::Table(_)) {
                node.value = Value::Table(BTreeMap::new());
            }
            let Value::Table(table) = &mut node.value else {
                return;
            };
            node = table.entry(key.clone()).or_insert_with(|| Self {
                value: Value::Table(BTreeMap::new()),
                origin: Some(origin.clone()),
            });
        }
        node.value = Value::Text(text.to_owned());
        node.origin = Some(origin.clone());
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 60;
        match self {
            Self::Text(text) => match text.char_indices().nth(LONGEST) {
                Some((end, _)) => write!(f, "{:?}…", &text[..end]),
                None => write!(f, "{text:?}"),
            },
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(flag) => flag.fmt(f),
            Self::Other(text) => f.write_str(text),
            Self::List(_) => f.write_str("a list"),
            Self::Table(_) => f.write_str("a table"),
            Self::Refused => f.write_str("a wrong value"),
        }
    }
}

/// A path as a reader writes it: `upstreams.user-service.route[0].match`.
pub(crate) fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Index(index) => {
                text.push('[');
                text.push_str(&index.to_string());
                text.push(']');
            }
        }
    }
    text
}
