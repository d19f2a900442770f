//! Reads the JSON bodies that callers put to the agent with the tolerances of Consul's own
//! decoder: field names in any case and with or without underscores, `null` for "left out",
//! durations as text or nanoseconds. Every refusal names the field, what was found and what
//! was expected.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::duration;

/// Why a body was not understood.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BodyError(String);

/// Parses a body that must hold one JSON object.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, BodyError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(BodyError("EOF".to_owned()));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => {
            Err(BodyError(format!("json: cannot unmarshal {} into an object", kind(&other))))
        }
        Err(error) if error.is_eof() => Err(BodyError("unexpected EOF".to_owned())),
        Err(error) => Err(BodyError(error.to_string())),
    }
}

/// An object of a body, read field by field.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a str,
}

impl<'a> Fields<'a> {
    /// The fields of `map`, named `path` in errors.
    pub(super) fn new(map: &'a Map<String, Value>, path: &'a str) -> Self {
        Self { map, path }
    }

    /// Refuses fields that are none of `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), BodyError> {
        let odd = self.map.keys().find(|key| !known.iter().any(|name| same_name(key, name)));
        match odd {
            None => Ok(()),
            Some(key) => Err(BodyError(format!("json: unknown field {key:?}"))),
        }
    }

    /// The raw value of a field; `null` counts as left out.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        let exact = self.map.get(name);
        exact
            .or_else(|| self.map.iter().find(|(key, _)| same_name(key, name)).map(|(_, v)| v))
            .filter(|value| !value.is_null())
    }

    /// A text; empty where left out.
    pub(super) fn text(&self, name: &str) -> Result<String, BodyError> {
        match self.value(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(self.mismatch(name, other, "string")),
        }
    }

    /// A list of texts; empty where left out.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, BodyError> {
        let Some(value) = self.value(name) else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(|| self.mismatch(name, value, "[]string"))?;
        items
            .iter()
            .map(|item| {
                item.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| self.mismatch(name, item, "[]string"))
            })
            .collect()
    }

    /// A map of texts; empty where left out.
    pub(super) fn text_map(&self, name: &str) -> Result<BTreeMap<String, String>, BodyError> {
        let Some(value) = self.value(name) else { return Ok(BTreeMap::new()) };
        let map = value.as_object().ok_or_else(|| self.mismatch(name, value, "map"))?;
        map.iter()
            .map(|(key, item)| match item.as_str() {
                Some(text) => Ok((key.clone(), text.to_owned())),
                None => Err(self.mismatch(name, item, "string")),
            })
            .collect()
    }

    /// A whole number; 0 where left out.
    pub(super) fn integer(&self, name: &str) -> Result<i64, BodyError> {
        match self.value(name) {
            None => Ok(0),
            Some(value) => value.as_i64().ok_or_else(|| self.mismatch(name, value, "int")),
        }
    }

    /// A port: 0, which stands for none, to 65535.
    pub(super) fn port(&self, name: &str) -> Result<u16, BodyError> {
        let number = self.integer(name)?;
        u16::try_from(number).map_err(|_| {
            BodyError(format!("{}.{name}: {number} is no port, expected 0 to 65535", self.path))
        })
    }

    /// A count; 0 where left out.
    pub(super) fn count(&self, name: &str) -> Result<u32, BodyError> {
        let number = self.integer(name)?;
        u32::try_from(number).map_err(|_| {
            BodyError(format!("{}.{name}: {number} is no count, expected 0 or more", self.path))
        })
    }

    /// A truth value; false where left out.
    pub(super) fn boolean(&self, name: &str) -> Result<bool, BodyError> {
        match self.value(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Err(self.mismatch(name, other, "bool")),
        }
    }

    /// A duration, as Go writes it (`"1m30s"`) or in nanoseconds; zero where left out.
    pub(super) fn duration(&self, name: &str) -> Result<Duration, BodyError> {
        match self.value(name) {
            None => Ok(Duration::ZERO),
            Some(Value::String(text)) if text.is_empty() => {
                Err(BodyError("time: invalid duration \"\"".to_owned()))
            }
            Some(Value::String(text)) => duration::parse(text)
                .ok_or_else(|| BodyError(format!("time: invalid duration {text:?}"))),
            Some(value) => match value.as_f64() {
                Some(nanos) if (0.0..9.3e18).contains(&nanos) => {
                    Ok(Duration::from_nanos(nanos as u64))
                }
                _ => Err(self.mismatch(name, value, "time.Duration")),
            },
        }
    }

    /// A nested object.
    pub(super) fn object(&self, name: &'a str) -> Result<Option<Fields<'a>>, BodyError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields::new(map, name))),
            Some(other) => Err(self.mismatch(name, other, "object")),
        }
    }

    /// A list of objects; empty where left out.
    pub(super) fn objects(&self, name: &'a str) -> Result<Vec<Fields<'a>>, BodyError> {
        let Some(value) = self.value(name) else { return Ok(Vec::new()) };
        let items = value.as_array().ok_or_else(|| self.mismatch(name, value, "list"))?;
        items
            .iter()
            .filter(|item| !item.is_null())
            .map(|item| match item {
                Value::Object(map) => Ok(Fields::new(map, name)),
                other => Err(self.mismatch(name, other, "object")),
            })
            .collect()
    }

    /// Whether no field is set.
    pub(super) fn is_empty(&self) -> bool {
        self.map.values().all(Value::is_null)
    }

    fn mismatch(&self, name: &str, found: &Value, expected: &str) -> BodyError {
        BodyError(format!(
            "json: cannot unmarshal {} into Go struct field {}.{name} of type {expected}",
            kind(found),
            self.path
        ))
    }
}

fn same_name(key: &str, name: &str) -> bool {
    let mut left = key.chars().filter(|c| *c != '_');
    let mut right = name.chars().filter(|c| *c != '_');
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a.eq_ignore_ascii_case(&b) => {}
            _ => return false,
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_read_in_any_case_and_with_underscores() {
        let map = object(br#"{"service_name": "a", "PORT": 7, "Tags": null}"#).unwrap();
        let fields = Fields::new(&map, "Body");
        assert_eq!(fields.text("ServiceName").unwrap(), "a");
        assert_eq!(fields.port("Port").unwrap(), 7);
        assert!(fields.texts("Tags").unwrap().is_empty());
    }

    #[test]
    fn a_refusal_names_the_field_what_was_found_and_what_was_expected() {
        let map = object(br#"{"Name": 7, "Port": 70000, "TTL": "soon"}"#).unwrap();
        let fields = Fields::new(&map, "ServiceDefinition");
        let error = fields.text("Name").unwrap_err().to_string();
        assert_eq!(
            error,
            "json: cannot unmarshal number into Go struct field ServiceDefinition.Name of type string"
        );
        assert!(fields.port("Port").unwrap_err().to_string().contains("70000"));
        assert_eq!(
            fields.duration("TTL").unwrap_err().to_string(),
            "time: invalid duration \"soon\""
        );
    }

    #[test]
    fn durations_are_text_or_nanoseconds() {
        let map = object(br#"{"A": "1m30s", "B": 1000000000}"#).unwrap();
        let fields = Fields::new(&map, "Body");
        assert_eq!(fields.duration("A").unwrap(), Duration::from_secs(90));
        assert_eq!(fields.duration("B").unwrap(), Duration::from_secs(1));
    }
}
