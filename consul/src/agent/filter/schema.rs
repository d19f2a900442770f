//! The fields that a filter may select, by what is filtered.

use super::FilterError;

/// What is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Schema {
    AgentService,
    CatalogService,
    Check,
    ConfigEntry,
    Health,
    Intention,
    Node,
    NodeService,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Boolean,
    /// A list of texts.
    List,
    /// A map of texts.
    Map,
}

impl Kind {
    /// Whether it has elements.
    pub(super) fn is_collection(self) -> bool {
        matches!(self, Self::List | Self::Map)
    }
}

type Fields = &'static [(&'static str, Kind)];

const SERVICE: Fields = &[
    ("Address", Kind::Text),
    ("Connect.Native", Kind::Boolean),
    ("EnableTagOverride", Kind::Boolean),
    ("ID", Kind::Text),
    ("Kind", Kind::Text),
    ("Meta", Kind::Map),
    ("PeerName", Kind::Text),
    ("Port", Kind::Number),
    ("Proxy.DestinationServiceID", Kind::Text),
    ("Proxy.DestinationServiceName", Kind::Text),
    ("Proxy.LocalServiceAddress", Kind::Text),
    ("Proxy.LocalServicePort", Kind::Number),
    ("Proxy.Mode", Kind::Text),
    ("Service", Kind::Text),
    ("SocketPath", Kind::Text),
    ("TaggedAddresses", Kind::Map),
    ("Tags", Kind::List),
    ("Weights.Passing", Kind::Number),
    ("Weights.Warning", Kind::Number),
];

const NODE: Fields = &[
    ("Address", Kind::Text),
    ("Datacenter", Kind::Text),
    ("ID", Kind::Text),
    ("Meta", Kind::Map),
    ("Node", Kind::Text),
    ("PeerName", Kind::Text),
    ("TaggedAddresses", Kind::Map),
];

const CATALOG_SERVICE: Fields = &[
    ("Address", Kind::Text),
    ("Datacenter", Kind::Text),
    ("ID", Kind::Text),
    ("Node", Kind::Text),
    ("NodeMeta", Kind::Map),
    ("ServiceAddress", Kind::Text),
    ("ServiceConnect.Native", Kind::Boolean),
    ("ServiceEnableTagOverride", Kind::Boolean),
    ("ServiceID", Kind::Text),
    ("ServiceKind", Kind::Text),
    ("ServiceMeta", Kind::Map),
    ("ServiceName", Kind::Text),
    ("ServicePort", Kind::Number),
    ("ServiceProxy.DestinationServiceID", Kind::Text),
    ("ServiceProxy.DestinationServiceName", Kind::Text),
    ("ServiceProxy.LocalServiceAddress", Kind::Text),
    ("ServiceProxy.LocalServicePort", Kind::Number),
    ("ServiceTaggedAddresses", Kind::Map),
    ("ServiceTags", Kind::List),
    ("ServiceWeights.Passing", Kind::Number),
    ("ServiceWeights.Warning", Kind::Number),
    ("TaggedAddresses", Kind::Map),
];

const CHECK: Fields = &[
    ("CheckID", Kind::Text),
    ("ExposedPort", Kind::Number),
    ("Interval", Kind::Text),
    ("Name", Kind::Text),
    ("Node", Kind::Text),
    ("Notes", Kind::Text),
    ("Output", Kind::Text),
    ("ServiceID", Kind::Text),
    ("ServiceName", Kind::Text),
    ("ServiceTags", Kind::List),
    ("Status", Kind::Text),
    ("Timeout", Kind::Text),
    ("Type", Kind::Text),
];

const INTENTION: Fields = &[
    ("Action", Kind::Text),
    ("Description", Kind::Text),
    ("DestinationName", Kind::Text),
    ("DestinationNS", Kind::Text),
    ("ID", Kind::Text),
    ("Meta", Kind::Map),
    ("Precedence", Kind::Number),
    ("SourceName", Kind::Text),
    ("SourceNS", Kind::Text),
    ("SourceType", Kind::Text),
];

const CONFIG_ENTRY: Fields = &[("Kind", Kind::Text), ("Meta", Kind::Map), ("Name", Kind::Text)];

impl Schema {
    /// The parts of the schema: a prefix, and the fields below it.
    fn parts(self) -> &'static [(&'static str, Fields)] {
        match self {
            Self::AgentService | Self::NodeService => &[("", SERVICE)],
            Self::CatalogService => &[("", CATALOG_SERVICE)],
            Self::Check => &[("", CHECK)],
            Self::ConfigEntry => &[("", CONFIG_ENTRY)],
            Self::Health => &[("Node.", NODE), ("Service.", SERVICE)],
            Self::Intention => &[("", INTENTION)],
            Self::Node => &[("", NODE)],
        }
    }

    /// The path and kind of a selector; below a map, every key is a text.
    pub(super) fn resolve(self, selector: &str) -> Result<(Vec<String>, Kind), FilterError> {
        let path = segments(selector);
        for (prefix, fields) in self.parts() {
            for (name, kind) in *fields {
                let full = format!("{prefix}{name}");
                let known: Vec<&str> = full.split('.').collect();
                if path.len() == known.len() && path.iter().eq(known.iter()) {
                    return Ok((path, *kind));
                }
                let below = path.len() == known.len() + 1 && *kind == Kind::Map;
                if below && path[..known.len()].iter().eq(known.iter()) {
                    return Ok((path, Kind::Text));
                }
            }
        }
        Err(FilterError(format!("Selector {selector:?} is not valid")))
    }
}

/// `A.B["c.d"]` is `A`, `B`, `c.d`.
fn segments(selector: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = selector;
    while !rest.is_empty() {
        if let Some(bracketed) = rest.strip_prefix('[') {
            let end = bracketed.find(']').unwrap_or(bracketed.len());
            out.push(bracketed[..end].trim_matches(['"', '`']).to_owned());
            rest = bracketed.get(end + 1..).unwrap_or("");
            rest = rest.strip_prefix('.').unwrap_or(rest);
            continue;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        out.push(rest[..end].to_owned());
        rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
    }
    out
}
