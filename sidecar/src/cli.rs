//! The command line: what each subcommand is told, and which part of the crate it starts.
//! Exit codes: 0 done, 1 failed, 2 told something wrong (a flag, a config).

mod agent;
mod certs;
mod check;
mod config;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::launch;

/// Failed at what it was told to do.
const FAILED: u8 = 1;
/// Told something wrong; clap's own code for flags that it refuses.
const WRONG: u8 = 2;

/// A sidecar for gRPC services in Consul: mTLS, discovery, balancing and deadlines beside a bare
/// service on localhost.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run beside one service
    Run(run::RunArgs),
    /// Run a whole mesh on this machine: Consul, every service with its sidecar
    Up(launch::UpArgs),
    /// Run the embedded Consul agent alone: one node, in memory, for development
    Agent(agent::AgentArgs),
    /// Make and read certificates for development
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Check a config: whether it is valid, and what it resolves to
    Check(check::CheckArgs),
    /// End a group of processes when the one that started it ends
    #[command(hide = true)]
    Guard(launch::GuardArgs),
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Up(args) => launch::up(args),
        Command::Agent(args) => agent::run(args),
        Command::Certs(command) => certs::run(command),
        Command::Check(args) => check::run(args),
        Command::Guard(args) => launch::guard(args),
    }
}

#[cfg(test)]
mod tests;
