//! The order service as a process: what it says of a variable that it cannot use.

use std::process::Command;

#[test]
fn an_outbound_that_is_no_port_is_one_line_and_exit_code_2() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_order-service"));
    let ended = command.env_clear().env("OUTBOUND", "127.0.0.1:15013").output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let says = "order-service: OUTBOUND: found \"127.0.0.1:15013\", expected the URL of a port, \
                for example http://127.0.0.1:15001\n";
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), says);
}
