//! The HTTP server: takes connections, turns a request into a `Call`, lets the router answer it,
//! and holds blocking queries until what they wait for changes. Bodies, connections and waiting
//! queries are bounded; a request that the agent does not know is refused in Consul's words.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::config::Limits;
use super::state::Shared;

#[path = "http/answer.rs"]
mod answer;
#[path = "http/call.rs"]
mod call;
#[path = "http/catalog.rs"]
mod catalog;
#[path = "http/config.rs"]
mod config;
#[path = "http/connect.rs"]
mod connect;
#[path = "http/health.rs"]
mod health;
#[path = "http/intentions.rs"]
mod intentions;
#[path = "http/local.rs"]
mod local;
#[path = "http/node.rs"]
mod node;
#[path = "http/router.rs"]
mod router;
#[path = "http/selector.rs"]
mod selector;

use answer::{ApiError, Reply, Routed, Watch};
use call::Call;

/// How long a client may take for the head of a request, or between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the acceptor rests when the system gives no connection (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is dropped; its connections end with it.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Answers are written whole: waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| handle(request, &shared, limits));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection of the API ended");
            }
            drop(place);
        });
    }
}

async fn handle(
    request: Request<Incoming>,
    shared: &Shared,
    limits: Limits,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, limits.body).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let text = format!("Request body not read: {error}");
            return Ok(render(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text).into(), false));
        }
    };
    let call = match Call::parse(&head, body) {
        Ok(call) => call,
        Err(error) => return Ok(render(error.into(), false)),
    };
    let reply = match router::route(&call, shared) {
        Routed::Done(reply) => reply,
        Routed::Watch(watch) => wait(&call, watch, shared).await.unwrap_or_else(Reply::from),
    };
    Ok(render(reply, call.query.has("pretty")))
}

/// Answers a query when its index is past the caller's, or when the caller's time is over.
async fn wait(call: &Call, watch: Watch, shared: &Shared) -> Result<Reply, ApiError> {
    let blocking = call.blocking()?;
    let mut changes = shared.changes();
    let mut place = None;
    let deadline = Instant::now() + blocking.wait;
    loop {
        changes.borrow_and_update();
        let now = Instant::now();
        let answer = shared.with(now, |state| watch(state, SystemTime::now()))?;
        if answer.is_news_to(&blocking) || now >= deadline {
            return Ok(answer.reply(call, place.is_none()));
        }
        if place.is_none() {
            let busy = || {
                let text = "Too many blocking queries wait on this agent";
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, text)
            };
            place = Some(shared.waiting.try_acquire().map_err(|_| busy())?);
        }
        // The sender lives as long as the state: an error would mean that the agent has ended.
        let _ = tokio::time::timeout_at(deadline, changes.changed()).await;
    }
}

fn render(reply: Reply, pretty: bool) -> Response<Full<Bytes>> {
    let (kind, body) = reply.body.bytes(pretty);
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if !reply.is_routed {
        return response;
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(
        HeaderName::from_static("x-consul-default-acl-policy"),
        HeaderValue::from_static("allow"),
    );
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}
