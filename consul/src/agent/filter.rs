//! `filter=` expressions: the useful part of Consul's filter language (go-bexpr), parsed once
//! against the fields of what is filtered, then evaluated on the JSON shapes of the answers.
//!
//! `==`, `!=`, `in`, `not in`, `contains`, `not contains`, `matches`, `not matches`, `is empty`,
//! `is not empty`, `and`, `or`, `not`, parentheses. A selector that names no field is refused.

use serde_json::Value;

#[path = "filter/lexer.rs"]
mod lexer;
#[path = "filter/parser.rs"]
mod parser;
#[path = "filter/schema.rs"]
mod schema;

use schema::Kind;
pub(super) use schema::Schema;

/// Why an expression was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("Failed to create boolean expression evaluator: {0}")]
pub(super) struct FilterError(String);

/// A parsed expression.
#[derive(Debug)]
pub(super) struct Filter(Expression);

#[derive(Debug)]
enum Expression {
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Test { path: Vec<String>, kind: Kind, test: Test },
}

#[derive(Debug)]
enum Test {
    Equals(String),
    /// The field, a list, a map, or a text, has this.
    Contains(String),
    Matches(regex::Regex),
    Empty,
}

impl Filter {
    /// Parses an expression about values of a schema.
    pub(super) fn parse(text: &str, schema: Schema) -> Result<Self, FilterError> {
        parser::parse(text, schema).map(Self)
    }

    /// Whether a value fits.
    pub(super) fn matches(&self, value: &Value) -> bool {
        self.0.holds(value)
    }
}

impl Expression {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::And(left, right) => left.holds(value) && right.holds(value),
            Self::Or(left, right) => left.holds(value) || right.holds(value),
            Self::Not(inner) => !inner.holds(value),
            Self::Test { path, kind, test } => {
                let found = path.iter().try_fold(value, |value, name| value.get(name));
                test.holds(found.unwrap_or(&Value::Null), *kind)
            }
        }
    }
}

impl Test {
    fn holds(&self, value: &Value, kind: Kind) -> bool {
        match self {
            Self::Equals(wanted) => as_text(value, kind) == *wanted,
            Self::Contains(wanted) => match value {
                Value::Array(items) => items.iter().any(|item| item.as_str() == Some(wanted)),
                Value::Object(map) => map.contains_key(wanted),
                Value::String(text) => text.contains(wanted.as_str()),
                _ => false,
            },
            Self::Matches(pattern) => pattern.is_match(&as_text(value, kind)),
            Self::Empty => match value {
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => map.is_empty(),
                Value::String(text) => text.is_empty(),
                _ => true,
            },
        }
    }
}

/// A field that Go leaves out where it is zero still has its zero value.
fn as_text(value: &Value, kind: Kind) -> String {
    match (value, kind) {
        (Value::String(text), _) => text.clone(),
        (Value::Null, Kind::Number) => "0".to_owned(),
        (Value::Null, Kind::Boolean) => "false".to_owned(),
        (Value::Null, _) => String::new(),
        (other, _) => other.to_string(),
    }
}

#[cfg(test)]
#[path = "filter/tests.rs"]
mod tests;
