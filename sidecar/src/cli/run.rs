//! `outrigger run`: one sidecar beside one service.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::config::ConfigArgs;
use super::{FAILED, WRONG};
use crate::telemetry::log;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The config file (see CONFIG.md); none is needed where flags or variables say enough
    #[arg(long, value_name = "FILE", env = "OUTRIGGER_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    keys: ConfigArgs,
}

pub(super) fn run(args: RunArgs) -> ExitCode {
    let config = match args.keys.load(args.config) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(WRONG);
        }
    };
    log::init(&config.log);
    match crate::run::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(FAILED)
        }
    }
}
