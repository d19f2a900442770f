//! A peer's process that outlives no test. The tests of the crate `consul` include this file too.

use std::io::Write;
use std::process::{Child, Command, Stdio};

/// A process that ends with this value, and with the test's own process however that ends.
pub(crate) struct Guarded(Child);

impl Guarded {
    /// Starts it; what it says goes nowhere.
    pub(crate) fn spawn(command: &Command) -> Self {
        // The shell holds the read end of a pipe from us: it closes when we are gone.
        let script = "\"$@\" & child=$!; read -r _; kill -9 $child; wait $child";
        let child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(stdin) = &mut self.0.stdin {
            let _ = stdin.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}
