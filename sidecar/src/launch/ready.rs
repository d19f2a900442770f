//! Whether the mesh can be called: every sidecar says so on its admin port, and every app's port
//! connects. What is not ready says why, in its own words.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Between two looks at the same port.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(2);

/// Bytes of an answer that are read.
const ANSWER: usize = 16 * 1024;

/// Bytes of an answer that are shown.
const SHOWN: usize = 300;

/// Something that the mesh waits for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// For the person: `user-service-1 app`.
    pub(crate) name: String,
    pub(crate) probe: Probe,
}

/// How its readiness is seen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    /// The port connects.
    Connects(SocketAddr),
    /// `GET` of this path is answered with 200 and a body of more than an empty string.
    Answers(SocketAddr, &'static str),
}

/// Waits until everything is ready. At the deadline: a line for each that is not, with its
/// reason.
pub(crate) async fn all(wanted: &[Wanted], deadline: Instant) -> Result<(), Vec<String>> {
    let mut late = Vec::new();
    // One after the other: what is last in the list is ready soon after what is first.
    for Wanted { name, probe } in wanted {
        if let Err(why) = one(*probe, deadline).await {
            late.push(format!("{name}: {why}"));
        }
    }
    if late.is_empty() { Ok(()) } else { Err(late) }
}

/// Looks at least once, also when the deadline has passed.
async fn one(probe: Probe, deadline: Instant) -> Result<(), String> {
    loop {
        let Err(why) = look(probe).await else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(why);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn look(probe: Probe) -> Result<(), String> {
    let (Probe::Connects(addr) | Probe::Answers(addr, _)) = probe;
    let looked = async {
        let stream = TcpStream::connect(addr).await.map_err(|e| format!("{addr}: {e}"))?;
        match probe {
            Probe::Connects(_) => Ok(()),
            Probe::Answers(_, path) => answers(stream, addr, path).await,
        }
    };
    let late = |_| Err(format!("{addr} has not answered within {LOOK:?}"));
    tokio::time::timeout(LOOK, looked).await.unwrap_or_else(late)
}

async fn answers(stream: TcpStream, addr: SocketAddr, path: &str) -> Result<(), String> {
    let broken = |error: hyper::Error| format!("http://{addr}{path}: {error}");
    let (mut send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = http::Request::get(path)
        .header(http::header::HOST, addr.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = send.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok::<_, String>((status, body))
    };
    let (status, body) = tokio::select! {
        exchanged = exchange => exchanged?,
        // The connection ends first only with an error, which the exchange then tells better.
        Err(error) = connection => return Err(broken(error)),
    };
    let text = String::from_utf8_lossy(&body);
    let text = text.trim();
    if status == http::StatusCode::OK && text != "\"\"" {
        return Ok(());
    }
    let shown: String =
        text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    Err(format!("http://{addr}{path} answers {status}: {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn peer(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        addr
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn a_sidecar_that_becomes_ready_is_waited_for() {
        let addr = peer(&[
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 7\r\n\r\nno leaf",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready",
        ])
        .await;
        let wanted = Wanted { name: "a".to_owned(), probe: Probe::Answers(addr, "/ready") };
        all(&[wanted], soon()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_ready_at_the_deadline_says_why() {
        let addr =
            peer(&["HTTP/1.1 503 Service Unavailable\r\ncontent-length: 7\r\n\r\nno leaf"]).await;
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let wanted = [
            Wanted { name: "a".to_owned(), probe: Probe::Answers(addr, "/ready") },
            Wanted { name: "b".to_owned(), probe: Probe::Connects(free) },
        ];
        let late = all(&wanted, Instant::now()).await.unwrap_err();
        assert_eq!(
            late[0],
            format!("a: http://{addr}/ready answers 503 Service Unavailable: no leaf")
        );
        assert!(late[1].starts_with(&format!("b: {free}: ")), "{}", late[1]);
    }
}
