//! One `up` at a time for one `mesh.toml`. The lock is the system's (flock), so it falls with the
//! process that holds it however that ends; the file says who that is.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::ports;

/// Bytes of a process number.
const PID: u64 = 16;

/// Held while the mesh runs.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock in `dir`, which is made where it is missing. The error is a sentence.
    pub(crate) fn take(dir: &Path) -> Result<Self, String> {
        let path = dir.join("up.lock");
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        fs::create_dir_all(dir).map_err(failed)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_the_way(&mut file, &path)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn in_the_way(file: &mut File, path: &Path) -> String {
    let mut text = String::new();
    let pid = file.take(PID).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
    let path = path.display();
    match pid.and_then(|pid: u32| Some((pid, ports::command(pid)?))) {
        Some((pid, command)) => format!(
            "this mesh runs already: process {pid} ({command}) holds {path}; \
             end it with Ctrl-C in its terminal, or with `kill {pid}`"
        ),
        None => format!("this mesh runs already: another process holds {path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_up_is_told_which_process_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(&dir.path().join("mesh")).unwrap();
        let refused = Lock::take(&dir.path().join("mesh")).unwrap_err();
        let pid = std::process::id();
        assert!(refused.contains(&format!("process {pid} (")), "{refused}");
        drop(held);
        Lock::take(&dir.path().join("mesh")).unwrap();
    }
}
