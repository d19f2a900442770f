//! The reference of all keys, made from the types that read them: it cannot name a key that does
//! not exist, nor forget one that does.

use schemars::schema_for;
use serde_json::{Map, Value as Json};

use super::keys::Keys;

/// In the order of a reader's questions; a section that is not here comes after them.
const ORDER: [&str; 18] = [
    "service",
    "inbound",
    "outbound",
    "admin",
    "identity",
    "authorization",
    "upstreams",
    "retry",
    "hedge",
    "retry_budget",
    "breaker",
    "consul",
    "timeouts",
    "limits",
    "balance",
    "drain",
    "log",
    "runtime",
];

const HEAD: &str = "# Config reference

Made by `outrigger check --reference > sidecar/CONFIG.md` from the types; do not edit.

`outrigger run --config sidecar.toml` reads these keys from TOML, `outrigger check sidecar.toml` \
says whether they are valid and what they resolve to. Every key but `service.name` has a default. \
Environment variables beat the file: `OUTRIGGER_`, then the key in capitals with `__` for each dot \
and `_` for each hyphen (`OUTRIGGER_UPSTREAMS__USER_SERVICE__TIMEOUT=2s`), lists with commas. Flags \
beat both: `--set KEY=VALUE`, and short ones for the most used (`outrigger run --help`). Lists of \
tables, here in `[[double brackets]]`, can be given in the file alone. A key or variable that is \
unknown is an error.

Durations are written `250ms`, `2s`, `5m`, `1h`, at most `24h`; sizes `512B`, `64KiB`, `1MiB`; \
addresses are an IP address and a port, and port 0 is any free one. Paths are relative to the \
config file.
";

/// All keys, in Markdown.
#[must_use]
pub fn reference() -> String {
    let schema = schema_for!(Keys).to_value();
    let mut reference = Reference { schema: &schema, text: HEAD.to_owned() };
    let none = Map::new();
    let sections = properties(&schema).unwrap_or(&none);
    let later = sections.keys().map(String::as_str).filter(|name| !ORDER.contains(name));
    for name in ORDER.into_iter().chain(later) {
        if let Some(section) = sections.get(name) {
            reference.section(name, section);
        }
    }
    reference.text
}

struct Reference<'s> {
    schema: &'s Json,
    text: String,
}

impl Reference<'_> {
    fn section(&mut self, name: &str, field: &Json) {
        let shape = self.shape(field);
        // A table of tables: one section for each name.
        if let Some(inner) = shape.get("additionalProperties").filter(|inner| inner.is_object()) {
            let inner = self.shape(inner).clone();
            return self.keys(&format!("{name}.NAME"), "[", "]", field, &inner);
        }
        let shape = shape.clone();
        self.keys(name, "[", "]", field, &shape);
    }

    fn keys(&mut self, path: &str, open: &str, close: &str, section: &Json, shape: &Json) {
        let about = words(section);
        let Some(keys) = properties(shape) else {
            return;
        };
        self.text.push_str(&format!("\n## `{open}{path}{close}`\n\n{about}\n\n"));
        self.text.push_str("| Key | Type | Default | What it is |\n| --- | --- | --- | --- |\n");
        let mut tables = Vec::new();
        self.rows("", keys, section.get("default"), &mut tables);
        for (key, field, shape) in tables {
            self.keys(&format!("{path}.{key}"), "[[", "]]", &field, &shape);
        }
    }

    fn rows(
        &mut self,
        above: &str,
        keys: &Map<String, Json>,
        defaults: Option<&Json>,
        tables: &mut Vec<Table>,
    ) {
        for (name, field) in keys {
            let shape = self.shape(field).clone();
            let key = format!("{above}{name}");
            if let Some(inner) = properties(&shape) {
                self.rows(&format!("{key}."), inner, field.get("default"), tables);
            } else if let Some(item) = shape.get("items")
                && properties(self.shape(item)).is_some()
            {
                tables.push((key, field.clone(), self.shape(item).clone()));
            } else {
                let given = |default: &&Json| !default.is_null();
                let own = field.get("default").filter(given);
                // A section may have other defaults than its parts have by themselves.
                let default = own.or_else(|| defaults?.get(name).filter(given));
                let default = default.map_or("—".to_owned(), |default| format!("`{default}`"));
                let (kind, about) = (self.kind(&shape), words(field));
                self.text.push_str(&format!("| `{key}` | {kind} | {default} | {about} |\n"));
            }
        }
    }

    /// What a field's value looks like: references followed, "or null" left out.
    fn shape<'a>(&'a self, field: &'a Json) -> &'a Json {
        if let Some(Json::String(reference)) = field.get("$ref") {
            let name = reference.trim_start_matches("#/$defs/");
            return self.schema.get("$defs").and_then(|defs| defs.get(name)).unwrap_or(field);
        }
        match field.get("anyOf").and_then(Json::as_array) {
            Some(either) => either
                .iter()
                .find(|shape| shape.get("type") != Some(&Json::from("null")))
                .map_or(field, |shape| self.shape(shape)),
            None => field,
        }
    }

    fn kind(&self, shape: &Json) -> String {
        let quoted = |words: Vec<&Json>| {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        };
        if let Some(words) = shape.get("enum").and_then(Json::as_array) {
            return quoted(words.iter().collect());
        }
        if let Some(words) = shape.get("oneOf").and_then(Json::as_array) {
            return quoted(words.iter().filter_map(|word| word.get("const")).collect());
        }
        if let Some(item) = shape.get("items") {
            return format!("list of: {}", self.kind(self.shape(item)));
        }
        if let Some(value) = shape.get("additionalProperties") {
            return format!("table of: {}", self.kind(self.shape(value)));
        }
        let kind = match shape.get("type") {
            Some(Json::Array(kinds)) => kinds.first().and_then(Json::as_str),
            kind => kind.and_then(Json::as_str),
        };
        match (kind, shape.get("format").and_then(Json::as_str)) {
            (Some("string"), Some(format)) => format.to_owned(),
            (Some("integer"), _) => "number".to_owned(),
            (Some("boolean"), _) => "`true`, `false`".to_owned(),
            (kind, _) => kind.unwrap_or("any").to_owned(),
        }
    }
}

/// A list of tables inside a section: its key, the field, what one of them holds.
type Table = (String, Json, Json);

fn properties(shape: &Json) -> Option<&Map<String, Json>> {
    shape.get("properties").and_then(Json::as_object)
}

fn words(field: &Json) -> String {
    let text = field.get("description").and_then(Json::as_str).unwrap_or_default();
    text.replace('\n', " ").replace('|', "\\|")
}
