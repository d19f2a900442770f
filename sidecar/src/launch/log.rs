//! One terminal for many processes: every line that a process of the mesh writes is passed on
//! behind its name. Lines keep the order in which they arrive; nothing is kept but the lines on
//! their way, whose number and length are bounded. A terminal that stands still holds the
//! processes' output back, never `up` itself.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Lines on their way to the terminal.
const QUEUE: usize = 1024;

/// Bytes of one line; what is longer is cut.
const LINE: usize = 8 * 1024;

/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The name before `up`'s own lines.
const OWN: &str = "outrigger";

/// Foreground colours that are legible on light and dark terminals.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Where the mesh's lines go.
pub(crate) struct Log {
    lines: mpsc::Sender<String>,
    written: tokio::sync::oneshot::Receiver<()>,
    readers: JoinSet<()>,
    width: usize,
    colour: bool,
    names: usize,
}

impl Log {
    /// A log to `out`, with names padded to `width`.
    pub(crate) fn new(
        mut out: impl Write + Send + 'static,
        width: usize,
        colour: bool,
    ) -> io::Result<Self> {
        let (lines, mut queue) = mpsc::channel::<String>(QUEUE);
        let (done, written) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            while let Some(line) = queue.blocking_recv() {
                // A reader that is gone (`up | head`) is no reason to end the mesh.
                let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            }
            let _ = done.send(());
        })?;
        let width = width.max(OWN.len());
        Ok(Self { lines, written, readers: JoinSet::new(), width, colour, names: 0 })
    }

    /// A line of `up`'s own. Dropped when the terminal stands still: `up` never waits for it.
    pub(crate) fn say(&self, text: &str) {
        for line in text.lines() {
            let prefix = self.prefix(OWN, 1);
            let _ = self.lines.try_send(format!("{prefix}{line}\n"));
        }
    }

    /// Text for the person, with nothing before it.
    pub(crate) fn show(&self, text: &str) {
        let _ = self.lines.try_send(text.to_owned());
    }

    /// Passes on the lines that come out of these pipes under `name`, until they close.
    pub(crate) fn follow(
        &mut self,
        name: &str,
        pipes: impl IntoIterator<Item = OwnedFd>,
    ) -> io::Result<()> {
        let colour = COLOURS[self.names % COLOURS.len()];
        self.names += 1;
        for pipe in pipes {
            let prefix = self.prefix(name, colour);
            let lines = self.lines.clone();
            let pipe = BufReader::new(pipe::Receiver::from_owned_fd(pipe)?);
            self.readers.spawn(pass_on(pipe, prefix, lines));
        }
        Ok(())
    }

    /// Waits until what the processes wrote is written.
    pub(crate) async fn finish(mut self) {
        let all = async {
            while self.readers.join_next().await.is_some() {}
            drop(self.lines);
            let _ = self.written.await;
        };
        let _ = tokio::time::timeout(LAST_LINES, all).await;
    }

    fn prefix(&self, name: &str, colour: u8) -> String {
        let width = self.width;
        if self.colour {
            format!("\x1b[{colour}m{name:<width$} |\x1b[0m ")
        } else {
            format!("{name:<width$} | ")
        }
    }
}

async fn pass_on(mut pipe: impl AsyncBufRead + Unpin, prefix: String, lines: mpsc::Sender<String>) {
    while let Ok(Some(line)) = next_line(&mut pipe).await {
        if lines.send(format!("{prefix}{line}\n")).await.is_err() {
            return;
        }
    }
}

/// The next line, without its end, cut after [`LINE`] bytes; `None` at the end of the stream.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut cut = 0;
    let mut any = false;
    loop {
        let chunk = input.fill_buf().await?;
        if chunk.is_empty() {
            break;
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let text = &chunk[..end.unwrap_or(chunk.len())];
        let kept = text.len().min(LINE - line.len());
        line.extend_from_slice(&text[..kept]);
        cut += text.len() - kept;
        let used = end.map_or(chunk.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            break;
        }
    }
    if !any {
        return Ok(None);
    }
    let mut text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
    if cut > 0 {
        text.push_str(&format!(" … ({cut} bytes cut)"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let long = format!("{}\nnext\r\nlast", "x".repeat(LINE + 5));
        let mut input = long.as_bytes();
        let first = next_line(&mut input).await.unwrap().unwrap();
        assert!(first.ends_with("x … (5 bytes cut)"), "{}", &first[LINE - 5..]);
        assert_eq!(next_line(&mut input).await.unwrap().as_deref(), Some("next"));
        assert_eq!(next_line(&mut input).await.unwrap().as_deref(), Some("last"));
        assert_eq!(next_line(&mut input).await.unwrap(), None);
    }
}
