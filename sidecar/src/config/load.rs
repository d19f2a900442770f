//! Loads a configuration: file, then variables over it, then flags over both.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::keys::Keys;
use super::problem::{Origin, Problem, Problems};
use super::resolve::Resolver;
use super::tree::{Node, Step};
use super::{Config, file, reader, variables};

/// Where a configuration may come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The config file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment; `OUTRIGGER_…` and `CONSUL_…` are looked at.
    pub variables: BTreeMap<String, String>,
    /// What the command line sets.
    pub flags: Vec<Flag>,
}

/// One key that the command line sets.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The flag as its user knows it: `--app`.
    pub name: String,
    /// The key that it sets: `service.app`.
    pub key: String,
    /// The value, as text.
    pub value: String,
}

/// A configuration and what it was made of.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every key that has a value, in the order of the keys.
    pub settings: Vec<Setting>,
}

/// One key of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key, dotted.
    pub key: String,
    /// Its value, in TOML.
    pub value: String,
    /// Where it was set; none: it is the default.
    pub origin: Option<Origin>,
}

/// Loads a configuration. Certificates in files must be valid `now`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(sources: &Sources, now: SystemTime) -> Result<Loaded, Problems> {
    let mut tree = match &sources.file {
        Some(path) => file::read(path)?,
        None => Node::empty(),
    };
    variables::lay(&mut tree, &sources.variables);
    for flag in &sources.flags {
        let keys: Vec<String> = flag.key.split('.').map(str::to_owned).collect();
        tree.lay(&keys, &flag.value, &Origin::Flag(flag.name.clone()));
    }
    let base = sources.file.as_deref().and_then(Path::parent);
    read(tree, base.unwrap_or(Path::new("")), &sources.variables, now)
}

impl Config {
    /// Parses a config file's text, with nothing laid over it and its paths relative
    /// to the working directory.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_toml(text: &str, now: SystemTime) -> Result<Self, Problems> {
        let tree = file::parse(text, &Arc::from("sidecar.toml"))?;
        read(tree, Path::new(""), &BTreeMap::new(), now).map(|loaded| loaded.config)
    }
}

fn read(
    mut tree: Node,
    base: &Path,
    variables: &BTreeMap<String, String>,
    now: SystemTime,
) -> Result<Loaded, Problems> {
    let (mut keys, problems) = reader::read::<Keys>(&mut tree);
    let mut resolver = Resolver {
        tree: &tree,
        base,
        variables,
        now,
        cores: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        problems,
    };
    let config = resolver.config(&mut keys);
    Problems::none_of(resolver.problems)?;
    let config = config.ok_or_else(|| {
        Problems::from(Problem {
            origin: None,
            key: String::new(),
            message: "no configuration".to_owned(),
        })
    })?;
    Ok(Loaded { config, settings: settings(&keys, &tree) })
}

fn settings(keys: &Keys, tree: &Node) -> Vec<Setting> {
    let mut settings = Vec::new();
    if let Ok(value) = serde_json::to_value(keys) {
        flatten(&mut settings, String::new(), &value, Some(tree));
    }
    settings
}

fn flatten(
    settings: &mut Vec<Setting>,
    key: String,
    value: &serde_json::Value,
    node: Option<&Node>,
) {
    use serde_json::Value as Json;
    match value {
        Json::Null => {}
        Json::Object(table) => {
            for (name, value) in table {
                let node = node.and_then(|node| node.find([name.as_str()]));
                let key = match key.is_empty() {
                    true => name.clone(),
                    false => format!("{key}.{name}"),
                };
                flatten(settings, key, value, node);
            }
        }
        Json::Array(list) if list.iter().any(Json::is_object) => {
            for (i, value) in list.iter().enumerate() {
                let node = node.and_then(|node| node.at(&[Step::Index(i)]));
                flatten(settings, format!("{key}[{i}]"), value, node);
            }
        }
        plain => settings.push(Setting {
            key,
            // A plain JSON value, or a list of them, is spelled alike in TOML.
            value: plain.to_string(),
            origin: node.and_then(|node| node.origin.clone()),
        }),
    }
}
