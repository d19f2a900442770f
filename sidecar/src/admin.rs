//! The admin server: what a person, Prometheus or a supervisor asks a running sidecar.
//!
//! HTTP/1.1 on loopback, on the control thread. Invariant: nothing that a client does or leaves
//! undone costs more than a bounded number of connections, each with bounded memory and time.

mod endpoints;
mod negotiation;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::endpoints::Endpoints;
use crate::config::Count;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::Readiness;

const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// For a request's head, and so also between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection older than this takes no further request: a client that never reads cannot keep
/// its place for ever.
const MAX_AGE: Duration = Duration::from_secs(300);
/// For the answer that is on its way when a connection ends.
const GRACE: Duration = Duration::from_secs(2);
/// When the process has no file descriptor left, accepting again at once would only burn CPU.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Serves `connections` at a time, further ones wait in the listener's backlog, until `shutdown`
/// resolves; then ends each connection after the answer it is giving.
pub async fn serve(
    listener: TcpListener,
    connections: Count,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    shutdown: impl Future<Output = ()>,
) {
    let endpoints = Arc::new(Endpoints { metrics, readiness });
    let permits = Arc::new(Semaphore::new(connections.get().min(Semaphore::MAX_PERMITS)));
    let (ending, _) = watch::channel(false);
    let mut conversations = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = conversations.join_next() => {}
            (permit, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let (endpoints, ending) = (endpoints.clone(), ending.subscribe());
                    conversations.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = converse(stream, endpoints, ending).await {
                            tracing::debug!(%error, "admin connection ended");
                        }
                    });
                }
                Err(error) => {
                    if !concerns_one_client(&error) {
                        tracing::warn!(%error, "admin server cannot accept");
                        sleep(ACCEPT_BACKOFF).await;
                    }
                }
            },
        }
    }
    drop(listener);
    ending.send_replace(true);
    while conversations.join_next().await.is_some() {}
}

/// One connection, until its client leaves, its time is up, or the server ends.
async fn converse(
    stream: TcpStream,
    endpoints: Arc<Endpoints>,
    mut ending: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let answer = endpoints.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEADER_BYTES)
            .max_buf_size(2 * MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        done = &mut connection => return done,
        () = sleep(MAX_AGE) => {}
        _ = ending.wait_for(|ending| *ending) => {}
    }
    connection.as_mut().graceful_shutdown();
    timeout(GRACE, connection).await.unwrap_or(Ok(()))
}

/// An error of accept(2) that is about the connection that was to come, not about the listener.
fn concerns_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests;
