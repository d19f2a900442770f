//! From keys to a [`Config`]: fills in what follows from other keys, and refuses
//! what no key alone can show to be wrong.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use certs::SpiffeId;

use super::keys::{ConsulKeys, IdentityKeys, Keys, ServiceKeys, SourceKey};
use super::problem::{Origin, Problem};
use super::tree::Node;
use super::{
    Advertise, AgentAddr, Authorization, Config, Identity, IdentitySource, Inbound, InstanceId,
    Limits, Runtime, Service, variables,
};

mod files;
mod ports;
mod upstreams;

/// Consul's own limits on a service's meta data.
const META_PAIRS: usize = 64;
const META_KEY: usize = 128;
const META_VALUE: usize = 512;

/// What keys mean together, and what of it is wrong. The keys are completed on the way.
pub(super) struct Resolver<'t> {
    pub(super) tree: &'t Node,
    /// The folder that paths in the file are relative to.
    pub(super) base: &'t Path,
    /// The environment, for the `CONSUL_*` variables.
    pub(super) variables: &'t BTreeMap<String, String>,
    /// When certificates must be valid.
    pub(super) now: SystemTime,
    /// Cores that this process may use.
    pub(super) cores: NonZeroUsize,
    pub(super) problems: Vec<Problem>,
}

impl Resolver<'_> {
    /// The configuration; none where a problem stands in its way.
    pub(super) fn config(&mut self, keys: &mut Keys) -> Option<Config> {
        ports::check(self, keys);
        self.limits(&keys.limits);
        let inbound = self.inbound(keys);
        let service = self.service(&mut keys.service, keys.outbound.listen.socket_addr().port());
        let identity = self.identity(&mut keys.identity, keys.consul.enabled);
        let consul = self.consul(&mut keys.consul);
        let own = identity.as_ref().and_then(|(_, own)| own.as_ref());
        let upstreams = upstreams::resolve(self, keys, own);
        let default_workers = self.cores.get().min(2);
        if keys.runtime.workers == 0 {
            keys.runtime.workers = u8::try_from(default_workers).unwrap_or(1);
        }
        let workers = NonZeroUsize::new(keys.runtime.workers.into()).unwrap_or(NonZeroUsize::MIN);
        Some(Config {
            service: service?,
            inbound,
            outbound: keys.outbound.listen,
            admin: keys.admin.listen,
            identity: identity?.0,
            authorization: Authorization {
                default: keys.authorization.default,
                allow: keys
                    .authorization
                    .allow
                    .iter()
                    .map(|workload| workload.id().clone())
                    .collect(),
            },
            upstreams,
            consul,
            timeouts: keys.timeouts.clone(),
            limits: keys.limits.clone(),
            drain: keys.drain.clone(),
            log: keys.log.clone(),
            runtime: Runtime { workers },
        })
    }

    fn service(&mut self, keys: &mut ServiceKeys, outbound: u16) -> Option<Service> {
        self.meta(keys);
        for (i, tag) in keys.tags.iter().enumerate() {
            if tag.is_empty() {
                self.problem(
                    "service.tags",
                    format!("found \"\" at place {}, expected a tag", i + 1),
                );
            }
        }
        let Some(name) = keys.name.clone() else {
            if !self.is_set("service.name") {
                let variable = variables::name("service.name");
                self.problem(
                    "service.name",
                    format!(
                        "not set, expected a name in the file, in {variable} or after --service"
                    ),
                );
            }
            return None;
        };
        let port = keys.app.map_or(outbound, |app| app.socket_addr().port());
        let id = keys.id.get_or_insert_with(|| InstanceId::of(&name, port)).clone();
        Some(Service { name, id, tags: keys.tags.clone(), meta: keys.meta.clone() })
    }

    fn meta(&mut self, keys: &ServiceKeys) {
        if keys.meta.len() > META_PAIRS {
            let found = keys.meta.len();
            let message =
                format!("found {found} pairs, expected at most {META_PAIRS}, Consul's limit");
            self.problem("service.meta", message);
        }
        for (key, value) in &keys.meta {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            let place = format!("service.meta.{key}");
            if key.is_empty() || key.len() > META_KEY || !key.bytes().all(fits) {
                let message = format!(
                    "found the key {key:?}, expected 1 to {META_KEY} of A-Z, a-z, 0-9, _ and -"
                );
                self.problem(&place, message);
            }
            if value.len() > META_VALUE {
                let found = value.len();
                self.problem(
                    &place,
                    format!("found {found} bytes, expected at most {META_VALUE}, Consul's limit"),
                );
            }
        }
    }

    fn inbound(&mut self, keys: &Keys) -> Option<Inbound> {
        let Some(app) = keys.service.app else {
            if !self.is_set("service.app") {
                for key in ["inbound.listen", "inbound.advertise", "service.protocol"] {
                    if self.is_set(key) {
                        self.problem(
                            key,
                            "set without service.app, expected the app's address there too".into(),
                        );
                    }
                }
            }
            return None;
        };
        if app.socket_addr().port() == 0 {
            self.problem(
                "service.app",
                format!("found \"{app}\", expected the port that the app listens on"),
            );
        }
        let advertise = match keys.inbound.advertise {
            Some(address) => {
                let plain = address.socket_addr();
                if plain.port() == 0 || plain.ip().is_unspecified() {
                    let message =
                        format!("found \"{address}\", expected an address that callers can reach");
                    self.problem("inbound.advertise", message);
                }
                Advertise::Address(address)
            }
            None if keys.inbound.listen.socket_addr().ip().is_unspecified() => Advertise::Agent,
            None => Advertise::Bound,
        };
        Some(Inbound {
            app,
            protocol: keys.service.protocol,
            listen: keys.inbound.listen,
            advertise,
        })
    }

    /// Where certificates come from, and our own identity where that is known already.
    fn identity(
        &mut self,
        keys: &mut IdentityKeys,
        consul: bool,
    ) -> Option<(Identity, Option<SpiffeId>)> {
        let files = [
            ("identity.cert", &mut keys.cert),
            ("identity.key", &mut keys.key),
            ("identity.roots", &mut keys.roots),
        ];
        let (source, own) = match keys.source {
            SourceKey::Consul => {
                if !consul {
                    let (key, message) = if self.is_set("identity.source") {
                        (
                            "identity.source",
                            "found \"consul\" although consul.enabled is false, expected \"files\"",
                        )
                    } else {
                        (
                            "consul.enabled",
                            "found false, so identity.source must be \"files\", with cert, key and roots",
                        )
                    };
                    self.problem(key, message.into());
                }
                for (key, value) in files {
                    if value.is_some() {
                        self.problem(
                            key,
                            "set although identity.source is \"consul\", expected \"files\" there"
                                .into(),
                        );
                    }
                }
                (IdentitySource::Consul, None)
            }
            SourceKey::Files => {
                let [cert, key, roots] = files.map(|(key, value)| self.needed_path(key, value));
                let (cert, key, roots) = (cert?, key?, roots?);
                let leaf = files::check(self, &cert, &key, &roots);
                let source = IdentitySource::Files { cert, key, roots };
                (source, leaf.map(|leaf| leaf.id().clone()))
            }
        };
        let tls_min = keys.tls_min.into();
        Some((Identity { source, tls_min }, own))
    }

    fn needed_path(&mut self, key: &str, value: &mut Option<PathBuf>) -> Option<PathBuf> {
        let Some(path) = value else {
            if !self.is_set(key) {
                let message = "not set, expected a PEM file, as identity.source is \"files\"";
                self.problem_at("identity.source", key, message.into());
            }
            return None;
        };
        *path = self.path(key, path);
        Some(path.clone())
    }

    fn consul(&mut self, keys: &mut ConsulKeys) -> Option<consul::Config> {
        if let Some(path) = &mut keys.token_file {
            *path = self.path("consul.token_file", path);
            if let Err(error) = std::fs::read(&*path) {
                let message = format!("found {path:?}, which cannot be read: {error}");
                self.problem("consul.token_file", message);
            }
        }
        if !keys.enabled {
            return None;
        }
        let mut config = match consul::Config::from_vars(|name| self.variables.get(name).cloned()) {
            Ok(config) => config,
            Err(error) => {
                self.problems.push(Problem {
                    message: format!("found {}, expected {}", error.found, error.expected),
                    origin: Some(Origin::Variable(error.setting)),
                    key: String::new(),
                });
                return None;
            }
        };
        match &keys.address {
            Some(address) => config.address = address.0.clone(),
            None => keys.address = Some(AgentAddr(config.address.clone())),
        }
        if let Some(file) = &keys.token_file {
            config.token = consul::Token::File(file.clone());
        }
        Some(config)
    }

    fn limits(&mut self, limits: &Limits) {
        let frame = limits.frame.bytes();
        if !(1 << 14..1 << 24).contains(&frame) {
            let found = limits.frame;
            self.problem(
                "limits.frame",
                format!(
                    "found \"{found}\", expected \"16KiB\" or more, below \"16MiB\" (RFC 9113, 4.2)"
                ),
            );
        }
        if limits.header_list.bytes() > 1 << 20 {
            let found = limits.header_list;
            self.problem(
                "limits.header_list",
                format!("found \"{found}\", expected at most \"1MiB\""),
            );
        }
        let (stream, connection) = (limits.stream_window, limits.connection_window);
        if u64::from(connection.bytes()) < 4 * u64::from(stream.bytes()) {
            let key = if self.is_set("limits.connection_window") {
                "limits.connection_window"
            } else {
                "limits.stream_window"
            };
            self.problem(key, format!("a connection_window of \"{connection}\" beside a stream_window of \"{stream}\", expected at least 4 times as much, so that no stream can stall the others"));
        }
    }

    /// A path as it is written, relative to the file that it is written in.
    fn path(&self, key: &str, path: &Path) -> PathBuf {
        match self.origin(key) {
            Some(Origin::File { .. }) => self.base.join(path),
            _ => path.to_owned(),
        }
    }

    fn find(&self, key: &str) -> Option<&Node> {
        self.tree.find(key.split('.'))
    }

    /// Whether a key is written anywhere, even with a wrong value.
    fn is_set(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    fn origin(&self, key: &str) -> Option<Origin> {
        self.find(key).and_then(|node| node.origin.clone())
    }

    fn problem(&mut self, key: &str, message: String) {
        self.problem_at(key, key, message);
    }

    /// A problem with one key that another key's line shows.
    fn problem_at(&mut self, place: &str, key: &str, message: String) {
        self.problems.push(Problem { origin: self.origin(place), key: key.to_owned(), message });
    }
}
