//! The config file: TOML to a tree in which each value knows its line.

use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem, Problems};
use super::tree::{Node, Value};

/// No config is larger; a wrong path may be anything.
const LARGEST: u64 = 1 << 20;
/// Deeper than any key lies, and shallow enough for any stack.
const DEEPEST: usize = 16;

/// Reads the file and parses it.
pub(crate) fn read(path: &Path) -> Result<Node, Problems> {
    let file: Arc<str> = path.display().to_string().into();
    let fail = |message: String| {
        Problems::from(Problem {
            origin: Some(Origin::File { file: file.clone(), line: None }),
            key: String::new(),
            message,
        })
    };
    let cannot = |error: std::io::Error| fail(format!("cannot be read: {error}"));
    let meta = std::fs::metadata(path).map_err(cannot)?;
    if meta.is_dir() {
        return Err(fail("found a folder, expected a TOML file".to_owned()));
    }
    if meta.len() > LARGEST {
        return Err(fail(format!(
            "found {} bytes, expected a TOML file of at most 1 MiB",
            meta.len()
        )));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    match String::from_utf8(bytes) {
        Ok(text) => parse(&text, &file),
        Err(_) => Err(fail("found bytes that are no UTF-8, expected TOML".to_owned())),
    }
}

/// Parses a file's text. Where it is not TOML, nothing past that can be believed,
/// so all of its syntax errors are reported, and they alone.
pub(crate) fn parse(text: &str, file: &Arc<str>) -> Result<Node, Problems> {
    let lines = Lines { text, file };
    let (table, errors) = DeTable::parse_recoverable(text);
    let problems = errors.iter().map(|error| {
        let span = error.span().unwrap_or(text.len()..text.len());
        let at = match text.get(span.clone()).and_then(|found| found.lines().next()) {
            Some(found) if !found.is_empty() => format!(" at {}", Value::Text(found.to_owned())),
            _ => String::new(),
        };
        Problem {
            origin: Some(lines.origin(span.start)),
            key: String::new(),
            message: format!("not valid TOML{at}: {}", error.message().replace('\n', " ")),
        }
    });
    Problems::none_of(problems.collect())?;
    Ok(Node {
        value: lines.table(table.get_ref(), 0),
        origin: Some(Origin::File { file: file.clone(), line: None }),
    })
}

struct Lines<'t> {
    text: &'t str,
    file: &'t Arc<str>,
}

impl Lines<'_> {
    fn origin(&self, at: usize) -> Origin {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        Origin::File {
            file: self.file.clone(),
            line: Some(1 + before.iter().filter(|byte| **byte == b'\n').count()),
        }
    }

    fn table(&self, table: &DeTable<'_>, depth: usize) -> Value {
        Value::Table(
            table
                .iter()
                .map(|(key, value)| {
                    let node = Node {
                        value: self.value(value.get_ref(), depth + 1),
                        origin: Some(self.origin(key.span().start)),
                    };
                    (key.get_ref().clone().into_owned(), node)
                })
                .collect(),
        )
    }

    fn value(&self, value: &DeValue<'_>, depth: usize) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Value::Other(number.to_string()), Value::Integer),
            DeValue::Float(number) => Value::Other(number.to_string()),
            DeValue::Boolean(flag) => Value::Boolean(*flag),
            DeValue::Datetime(date) => Value::Other(date.to_string()),
            DeValue::Array(_) | DeValue::Table(_) if depth > DEEPEST => {
                Value::Other("a value in too many brackets".to_owned())
            }
            DeValue::Array(list) => Value::List(
                list.iter()
                    .map(|value| Node {
                        value: self.value(value.get_ref(), depth + 1),
                        origin: Some(self.origin(value.span().start)),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => self.table(table, depth),
        }
    }
}
