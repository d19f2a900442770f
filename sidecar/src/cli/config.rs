//! Flags that set config keys. They beat the environment, which beats the file.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;

use crate::config::{self, Flag, Loaded, Problems, Sources};

/// Config keys on the command line.
#[derive(Debug, Args)]
#[command(next_help_heading = "Config keys, over OUTRIGGER_… variables, over the file")]
pub(super) struct ConfigArgs {
    /// The service's name in Consul [service.name]
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// This instance's ID, unique on its agent [service.id]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Where the app listens; left out: a caller only [service.app]
    #[arg(long, value_name = "ADDR")]
    app: Option<String>,
    /// What the app speaks: grpc or http1 [service.protocol]
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Where the mesh calls [inbound.listen]
    #[arg(long, value_name = "ADDR")]
    inbound: Option<String>,
    /// The inbound address that Consul is told [inbound.advertise]
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Where the app calls upstreams [outbound.listen]
    #[arg(long, value_name = "ADDR")]
    outbound: Option<String>,
    /// Where metrics and readiness are read [admin.listen]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// The Consul agent [consul.address]
    #[arg(long, value_name = "ADDR")]
    consul: Option<String>,
    /// A file with the Consul token [consul.token_file]
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// off, error, warn, info, debug or trace [log.level]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Any other key: --set upstreams.user-service.timeout=2s; lists with commas. Lists of tables
    /// (route, fallback, inbound.rate, inbound.fault) can be given in the file alone
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE such as drain.timeout=5s".to_owned()),
    }
}

impl ConfigArgs {
    /// Loads the configuration that these flags, the environment and a file make together.
    pub(super) fn load(self, file: Option<PathBuf>) -> Result<Loaded, Problems> {
        let variables = std::env::vars_os().map(|(name, value)| {
            // What is no UTF-8 is reported where it is read, like any other wrong value.
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        });
        let sources = Sources { file, variables: variables.collect(), flags: self.flags() };
        config::load(&sources, SystemTime::now())
    }

    fn flags(self) -> Vec<Flag> {
        let single = [
            ("--service", "service.name", self.service),
            ("--id", "service.id", self.id),
            ("--app", "service.app", self.app),
            ("--protocol", "service.protocol", self.protocol),
            ("--inbound", "inbound.listen", self.inbound),
            ("--advertise", "inbound.advertise", self.advertise),
            ("--outbound", "outbound.listen", self.outbound),
            ("--admin", "admin.listen", self.admin),
            ("--consul", "consul.address", self.consul),
            ("--token-file", "consul.token_file", self.token_file),
            ("--log", "log.level", self.log),
        ];
        let set = self.set.into_iter().map(|(key, value)| Flag {
            name: format!("--set {key}"),
            key,
            value,
        });
        single
            .into_iter()
            .filter_map(|(name, key, value)| {
                Some(Flag { name: name.to_owned(), key: key.to_owned(), value: value? })
            })
            .chain(set)
            .collect()
    }
}
