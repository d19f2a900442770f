//! The log: one line an event on standard error, for people or for machines.
//! Never on a request's path at the default level, and never with a secret in it.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};

/// Crates whose events are our own.
const OURS: [&str; 3] = ["outrigger", "certs", "consul"];

/// Sends the process's events to standard error from now on. A second call changes nothing.
pub fn init(log: &Log) {
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match log.format {
        LogFormat::Human => lines.with_ansi(io::stderr().is_terminal()).with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter(log.level)));
    // Where the process has a subscriber already (a test), that one stays.
    let _ = subscriber.try_init();
}

/// Our own events from the level on; of the libraries below us warnings, save at `trace`: their
/// `debug` is a line for each HTTP/2 frame.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let others = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    // It warns of frames that any peer can send by the thousand.
    let h2 = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::ERROR) };
    let ours = OURS.map(|target| (target, level));
    Targets::new().with_default(others).with_target("h2", h2).with_targets(ours)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_are_quieter_than_we_are() {
        let debug = filter(LogLevel::Debug);
        assert!(debug.would_enable("outrigger::inbound", &Level::DEBUG));
        assert!(!debug.would_enable("h2::codec", &Level::DEBUG));
        assert!(debug.would_enable("hyper::proto", &Level::WARN));
        assert!(!debug.would_enable("h2::codec", &Level::WARN));
        assert!(filter(LogLevel::Trace).would_enable("h2::codec", &Level::TRACE));
    }

    #[test]
    fn a_log_that_is_off_says_nothing() {
        let off = filter(LogLevel::Off);
        assert!(!off.would_enable("outrigger", &Level::ERROR));
        assert!(!off.would_enable("h2", &Level::ERROR));
    }
}
