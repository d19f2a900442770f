//! One fault in reading, on its way up from the value to the root, gathering its path.

use std::fmt::{self, Display};

use serde::de::{Error, Expected, Unexpected};

use super::problem::{Origin, Problem};
use super::tree::{Node, Step, Value, dotted};
use super::variables;

/// What does not fit, and where.
#[derive(Debug)]
pub(super) struct Fault {
    kind: Kind,
    /// From the value up to the root.
    steps: Vec<Step>,
    origin: Option<Origin>,
}

#[derive(Debug)]
enum Kind {
    Wrong(String),
    Unknown(&'static [&'static str]),
}

impl Fault {
    /// A word that is none of an enum's.
    pub(super) fn one_of(found: &Value, words: &'static [&'static str]) -> Self {
        let mut message = format!("found {found}, expected ");
        for (i, word) in words.iter().enumerate() {
            let before = match i {
                0 => "",
                _ if i + 1 == words.len() => " or ",
                _ => ", ",
            };
            message.push_str(&format!("{before}\"{word}\""));
        }
        Self::custom(message)
    }

    /// The same fault seen from the table or list around it.
    pub(super) fn under(mut self, step: Step, node: &Node) -> Self {
        self.steps.push(step);
        if self.origin.is_none() {
            self.origin.clone_from(&node.origin);
        }
        self
    }

    /// The same fault as one of the value that holds it.
    pub(super) fn without_steps(mut self) -> Self {
        self.steps.clear();
        self
    }

    /// From the root to the value.
    pub(super) fn path(&self) -> Vec<Step> {
        self.steps.iter().rev().cloned().collect()
    }

    /// One problem; of an unknown section as many as variables and flags set keys in it, as each
    /// of them has its own name.
    pub(super) fn into_problems(self, tree: &Node) -> Vec<Problem> {
        let path = self.path();
        let key = dotted(&path);
        let known = match self.kind {
            Kind::Wrong(message) => return vec![Problem { key, origin: self.origin, message }],
            Kind::Unknown(known) => known,
        };
        let mut origins = vec![self.origin];
        if let Some(node) = tree.at(&path) {
            node.add_origins(&mut origins);
        }
        let problem = |origin: Option<Origin>| Problem {
            key: key.clone(),
            message: unknown(origin.as_ref(), &path, known),
            origin,
        };
        origins.into_iter().map(problem).collect()
    }
}

fn unknown(origin: Option<&Origin>, path: &[Step], known: &[&str]) -> String {
    let Some((Step::Key(key), above)) = path.split_last() else {
        return "unknown key".to_owned();
    };
    let Some(near) = nearest(key, known) else {
        return format!("unknown key, expected one of {}", known.join(", "));
    };
    match origin {
        Some(Origin::Variable(name)) => {
            let mut keys = above.to_vec();
            keys.push(Step::Key(near.to_owned()));
            let rest = name.split("__").skip(path.len());
            let near = std::iter::once(&*variables::name(&dotted(&keys)))
                .chain(rest)
                .collect::<Vec<_>>()
                .join("__");
            format!("unknown variable, did you mean {near}?")
        }
        _ => format!("unknown key, did you mean \"{near}\"?"),
    }
}

/// The known word that a typing mistake may have been meant to be.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|near| (strsim::damerau_levenshtein(&word, near), *near))
        .filter(|(distance, near)| {
            *distance <= 1 + near.len() / 4 || (word.len() > 1 && near.starts_with(&word))
        })
        .min()
        .map(|(_, near)| near)
}

impl Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self { kind: Kind::Wrong(message.to_string()), steps: Vec::new(), origin: None }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_value(found, expected)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) => Value::Text(text.to_owned()),
            Unexpected::Signed(number) => Value::Integer(number),
            Unexpected::Bool(flag) => Value::Boolean(flag),
            Unexpected::Seq => Value::List(Vec::new()),
            Unexpected::Map => Value::Table(Default::default()),
            Unexpected::Other(text) => Value::Other(text.to_owned()),
            other => Value::Other(other.to_string()),
        };
        Self::custom(format_args!("found {found}, expected {expected}"))
    }

    fn unknown_variant(found: &str, words: &'static [&'static str]) -> Self {
        Self::one_of(&Value::Text(found.to_owned()), words)
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self { kind: Kind::Unknown(known), steps: Vec::new(), origin: None }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Wrong(message) => f.write_str(message),
            Kind::Unknown(_) => f.write_str("unknown key"),
        }
    }
}

impl std::error::Error for Fault {}
