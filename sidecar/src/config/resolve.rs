//! From keys to a [`Config`]: fills in what follows from other keys, and refuses
//! what no key alone can show to be wrong.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::keys::{ConsulKeys, Keys};
use super::problem::{Origin, Problem};
use super::tree::Node;
use super::{Advertise, AgentAddr, Authorization, Config, Inbound, Runtime};

mod calling;
mod contradiction;
mod identity;
mod inbound;
mod limits;
mod matching;
mod ports;
mod service;
mod upstreams;

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
        self.limits(keys);
        self.concurrency(&mut keys.inbound.concurrency);
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

    fn inbound(&mut self, keys: &Keys) -> Option<Inbound> {
        let (rates, faults) = (self.rates(&keys.inbound), self.faults(&keys.inbound));
        let Some(app) = keys.service.app else {
            if !self.is_set("service.app") {
                for key in [
                    "inbound.listen",
                    "inbound.advertise",
                    "inbound.concurrency",
                    "inbound.rate",
                    "inbound.rate_buckets",
                    "inbound.fault",
                    "service.protocol",
                ] {
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
            concurrency: keys.inbound.concurrency.clone(),
            rates,
            rate_buckets: keys.inbound.rate_buckets,
            faults,
        })
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
