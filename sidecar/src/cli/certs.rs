//! `outrigger certs`: a certificate authority for development, the leaves that it issues, and
//! what a PEM file holds.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use certs::{DevelopmentCa, SpiffeId, TrustDomain, describe};
use clap::{Args, Subcommand};

use super::{FAILED, WRONG};
use crate::config::{ServiceName, parse_duration};

#[derive(Debug, Subcommand)]
pub(super) enum CertsCommand {
    /// Make a certificate authority: a root and its key
    Init(InitArgs),
    /// Issue a certificate and a key for one workload
    Issue(IssueArgs),
    /// Say what PEM files hold; of a key, its kind alone
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Where to keep it; made where it is missing
    #[arg(long, value_name = "DIR", default_value = "certs-dev")]
    dir: PathBuf,
    /// What it vouches for: the first part of every SPIFFE ID that it issues
    #[arg(long, value_name = "NAME", default_value = "outrigger.test")]
    trust_domain: TrustDomain,
}

#[derive(Debug, Args)]
pub(super) struct IssueArgs {
    /// A service's name, or a whole SPIFFE ID
    #[arg(value_name = "SERVICE|spiffe://…")]
    workload: String,
    /// Where the authority is kept
    #[arg(long, value_name = "DIR", default_value = "certs-dev")]
    dir: PathBuf,
    /// Where to write NAME.pem and NAME-key.pem [default: the authority's directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How long the certificate lives: 90m, 24h, 30d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = ttl)]
    ttl: Duration,
    /// The datacenter in the SPIFFE ID of a service
    #[arg(long, value_name = "NAME", default_value = "dc1")]
    datacenter: String,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// What to read
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

fn ttl(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|ttl| !ttl.is_zero())
        .ok_or_else(|| "expected a time above zero such as 90m, 24h or 30d".to_owned())
}

/// Why it failed, and with which exit code.
struct Failed(u8, String);

fn failed(error: impl std::fmt::Display) -> Failed {
    Failed(FAILED, error.to_string())
}

pub(super) fn run(command: CertsCommand) -> ExitCode {
    let now = SystemTime::now();
    let done = match command {
        CertsCommand::Init(args) => init(&args, now),
        CertsCommand::Issue(args) => issue(&args, now),
        CertsCommand::Show(args) => show(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(code, error)) => {
            eprintln!("{error}");
            ExitCode::from(code)
        }
    }
}

/// Prints a line. A reader that closed the pipe has read enough.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn init(args: &InitArgs, now: SystemTime) -> Result<(), Failed> {
    let ca = DevelopmentCa::new(args.trust_domain.clone(), now).map_err(failed)?;
    ca.save(&args.dir).map_err(failed)?;
    say(format_args!(
        "{}: an authority for {}, for development alone. Next: outrigger certs issue SERVICE --dir {}",
        args.dir.display(),
        ca.trust_domain().as_str(),
        args.dir.display()
    ));
    Ok(())
}

fn issue(args: &IssueArgs, now: SystemTime) -> Result<(), Failed> {
    let ca = DevelopmentCa::load(&args.dir).map_err(failed)?;
    let id = workload(args, &ca)?;
    let issued = ca.issue(&id, args.ttl, now).map_err(failed)?;
    let out = args.out.as_ref().unwrap_or(&args.dir);
    let name = id.path().rsplit('/').next().unwrap_or("workload").to_owned();
    let cert = out.join(format!("{name}.pem"));
    let key = out.join(format!("{name}-key.pem"));
    issued.save(&cert, &key).map_err(failed)?;
    let roots = root_of(&args.dir);
    say(format_args!("{id}\n  cert = {cert:?}\n  key = {key:?}\n  roots = {roots:?}"));
    Ok(())
}

fn root_of(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

fn workload(args: &IssueArgs, ca: &DevelopmentCa) -> Result<SpiffeId, Failed> {
    let text = &args.workload;
    let wrong = |expected: String| Failed(WRONG, format!("found {text:?}, {expected}"));
    if text.starts_with("spiffe://") {
        return text.parse().map_err(|error| wrong(format!("expected a SPIFFE ID: {error}")));
    }
    let name: ServiceName = text.parse().map_err(|expected| wrong(format!("{expected}")))?;
    let domain = ca.trust_domain().as_str();
    SpiffeId::for_consul(domain, "default", &args.datacenter, name.as_str())
        .map_err(|error| Failed(WRONG, format!("no SPIFFE ID can be made: {error}")))
}

fn show(args: &ShowArgs) -> Result<(), Failed> {
    for path in &args.files {
        let pem = fs::read(path)
            .map_err(|error| failed(format!("{}: cannot be read: {error}", path.display())))?;
        let blocks = describe(&pem);
        if blocks.is_empty() {
            let path = path.display();
            return Err(failed(format!(
                "{path}: no PEM block found, expected certificates or keys"
            )));
        }
        say(format_args!("{}:", path.display()));
        for block in blocks {
            say(format_args!("{block}"));
        }
    }
    Ok(())
}
