//! What the command line says of itself.

use clap::{CommandFactory, Parser};
use insta::assert_snapshot;

use super::Cli;

fn help(words: &[&str]) -> String {
    let words = std::iter::once("outrigger").chain(words.iter().copied()).chain(["--help"]);
    // As wide as the test's own terminal is not.
    let command = Cli::command().term_width(100);
    command.try_get_matches_from(words).unwrap_err().to_string()
}

#[test]
fn the_commands_agree_with_themselves() {
    Cli::command().debug_assert();
}

#[test]
fn help_tells_what_each_command_is_for() {
    assert_snapshot!("help", help(&[]));
    assert_snapshot!("help_run", help(&["run"]));
    assert_snapshot!("help_agent", help(&["agent"]));
    assert_snapshot!("help_check", help(&["check"]));
    assert_snapshot!("help_certs", help(&["certs"]));
    assert_snapshot!("help_certs_issue", help(&["certs", "issue"]));
}

#[test]
fn a_wrong_flag_ends_with_the_code_for_wrong() {
    let wrong = Cli::try_parse_from(["outrigger", "run", "--set", "x"]).unwrap_err();
    assert_eq!(wrong.exit_code(), i32::from(super::WRONG));
}
