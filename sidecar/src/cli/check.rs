//! `outrigger check`: whether a config is valid, and what it resolves to.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::WRONG;
use super::config::ConfigArgs;
use crate::config::{Loaded, reference};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The config file; left out: flags and variables alone
    #[arg(value_name = "FILE", env = "OUTRIGGER_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Print the reference of all keys instead, in Markdown
    #[arg(long, hide = true)]
    reference: bool,
    #[command(flatten)]
    keys: ConfigArgs,
}

pub(super) fn run(args: CheckArgs) -> ExitCode {
    let text = if args.reference {
        reference()
    } else {
        match args.keys.load(args.config) {
            Ok(loaded) => resolved(&loaded),
            Err(problems) => {
                eprintln!("{problems}");
                return ExitCode::from(WRONG);
            }
        }
    };
    // A reader that closes the pipe has read enough.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// One line a key, with where it was set; without that it is the default.
fn resolved(loaded: &Loaded) -> String {
    let lines: Vec<_> = loaded
        .settings
        .iter()
        .map(|setting| (format!("{} = {}", setting.key, setting.value), &setting.origin))
        .collect();
    let width = lines
        .iter()
        .filter(|(_, origin)| origin.is_some())
        .map(|(line, _)| line.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (line, origin) in lines {
        text.push_str(&match origin {
            Some(origin) => format!("{line:width$}  # {origin}\n"),
            None => format!("{line}\n"),
        });
    }
    text
}
