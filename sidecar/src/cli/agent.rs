//! `outrigger agent`: the embedded Consul agent alone, until a signal ends it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use consul::agent::{Agent, AgentConfig, DefaultIntentionPolicy};
use tokio::signal::unix::{SignalKind, signal};

use super::FAILED;
use crate::config::{Log, LogLevel};
use crate::telemetry::log;

#[derive(Debug, Args)]
pub(super) struct AgentArgs {
    /// Where the HTTP API listens
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8500)))]
    http: SocketAddr,
    /// Where DNS listens, over UDP and TCP
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8600)))]
    dns: SocketAddr,
    /// The datacenter's name
    #[arg(long, value_name = "NAME", default_value = "dc1")]
    datacenter: String,
    /// What decides between services that no intention names
    #[arg(long, value_name = "ACTION", default_value = "allow")]
    default_intention_policy: Policy,
    /// The least that is worth a line in the log
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: LogLevel,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Policy {
    Allow,
    Deny,
}

pub(super) fn run(args: AgentArgs) -> ExitCode {
    log::init(&Log { level: args.log, ..Log::default() });
    let config = AgentConfig {
        http: args.http,
        dns: Some(args.dns),
        datacenter: args.datacenter,
        default_intention_policy: match args.default_intention_policy {
            Policy::Allow => DefaultIntentionPolicy::Allow,
            Policy::Deny => DefaultIntentionPolicy::Deny,
        },
        ..AgentConfig::default()
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

fn serve(config: AgentConfig) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the agent starts: a signal that comes meanwhile is not lost.
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let agent = Agent::start(config).await.map_err(io::Error::other)?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        agent.stop().await;
        Ok(())
    })
}
