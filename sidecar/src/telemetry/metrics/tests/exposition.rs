//! A strict reader of the OpenMetrics text format 1.0.0, as far as the sidecar writes it.

use std::collections::{BTreeMap, BTreeSet};

/// One line with a number. `labels` are as written: sorted by name they are the series' identity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Reads a whole exposition, or says which line breaks the format, and why.
pub(crate) fn parse(text: &str) -> Result<Vec<Sample>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("does not end with # EOF")?;
    let (mut samples, mut families, mut series) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let (mut help, mut family) = (None, None);
    for line in body.lines() {
        let wrong = |why: &str| format!("{why}: {line}");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest.split_once(' ').ok_or_else(|| wrong("no help"))?.0);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            if help != Some(name) {
                return Err(wrong("no HELP before its TYPE"));
            }
            if !families.insert(name) {
                return Err(wrong("told twice"));
            }
            family = Some((name, kind));
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').ok_or_else(|| wrong("no unit"))?;
            if family.map(|(name, _)| name) != Some(name) || !name.ends_with(unit) {
                return Err(wrong("not the metric's unit"));
            }
        } else {
            let sample = sample(line).map_err(|why| wrong(&why))?;
            let (family, kind) = family.ok_or_else(|| wrong("before any TYPE"))?;
            let suffix = sample.name.strip_prefix(family).ok_or_else(|| wrong("not its TYPE's"))?;
            let suffixes: &[&str] = match kind {
                "counter" => &["_total"],
                "gauge" => &[""],
                "info" => &["_info"],
                "histogram" => &["_sum", "_count", "_bucket"],
                _ => return Err(wrong("unknown type")),
            };
            if !suffixes.contains(&suffix) {
                return Err(wrong("not a suffix of its type"));
            }
            if !series.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(wrong("the same series twice"));
            }
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn sample(line: &str) -> Result<Sample, String> {
    let (series, value) = line.rsplit_once(' ').ok_or("no value")?;
    let value = value.parse().map_err(|_| "not a number")?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').ok_or("no closing brace")?),
        None => (series, ""),
    };
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return Err("not a metric's name".to_owned());
    }
    let mut parsed = BTreeMap::new();
    // No value that the sidecar writes has a comma or a quote in it.
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=').ok_or("a label without a value")?;
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value =
            value.filter(|value| !value.contains(['"', '\\'])).ok_or("a bad label value")?;
        if parsed.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err("a label twice".to_owned());
        }
    }
    Ok(Sample { name: name.to_owned(), labels: parsed, value })
}
