//! The client: sends requests, judges statuses, reads bounded answers.
//!
//! A request goes out once, save a read whose kept connection turned out to be dead.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    Config, ConfigError, Error,
    api::{acl, agent, catalog, config, connect, health, status},
    pool::{Connection, Pool},
    token::TokenSource,
};

/// A client of one Consul agent. Cheap to clone; the clones share connections and token.
///
/// Its connections are driven by tasks of the runtime that it is used on: use it on one runtime.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    pool: Pool,
    host: String,
    token: TokenSource,
    /// `dc`, `ns` and `partition`, as far as they are set.
    scope: Vec<(&'static str, String)>,
    request_timeout: Duration,
    max_body: usize,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("host", &self.0.host).finish_non_exhaustive()
    }
}

/// One request, before the client adds its scope and token.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, segments: &[&str]) -> Call {
        let mut path = "/v1".to_owned();
        for segment in segments {
            path.push('/');
            encode(&mut path, segment);
        }
        Call { method, path, query: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Call {
        self.query.push((key, value.into()));
        self
    }

    pub(crate) fn json(mut self, body: &impl serde::Serialize) -> Result<Call, Error> {
        let refused = |error: serde_json::Error| Error::Request {
            what: self.what(),
            reason: error.to_string(),
        };
        self.body = serde_json::to_vec(body).map_err(refused)?.into();
        Ok(self)
    }

    /// Method and path, for errors; the query may hold names, never secrets, but is long.
    pub(crate) fn what(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn target(&self, scope: &[(&'static str, String)]) -> String {
        let mut target = self.path.clone();
        let given = |key: &str| self.query.iter().any(|(name, _)| *name == key);
        let inherited = scope.iter().filter(|(key, _)| !given(key));
        for (index, (key, value)) in self.query.iter().chain(inherited).enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(key);
            if !value.is_empty() {
                target.push('=');
                encode(&mut target, value);
            }
        }
        target
    }
}

/// Percent-encodes all that RFC 3986 does not call unreserved.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// The headers and the whole body of a success.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    /// A client; nothing is dialled before its first request.
    ///
    /// # Errors
    /// Where a TLS file is missing or unusable.
    pub fn new(config: Config) -> Result<Client, ConfigError> {
        let pool = Pool::new(&config)?;
        let scope =
            [("dc", config.datacenter), ("ns", config.namespace), ("partition", config.partition)];
        Ok(Client(Arc::new(Inner {
            host: pool.host(),
            pool,
            token: TokenSource::new(config.token),
            scope: scope.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
            request_timeout: config.request_timeout,
            max_body: config.max_body,
        })))
    }

    /// `/v1/agent/…`: the local agent.
    pub fn agent(&self) -> agent::Agent<'_> {
        agent::Agent(self)
    }

    /// `/v1/health/…`: instances and their checks.
    pub fn health(&self) -> health::Health<'_> {
        health::Health(self)
    }

    /// `/v1/catalog/…`: what the servers know.
    pub fn catalog(&self) -> catalog::Catalog<'_> {
        catalog::Catalog(self)
    }

    /// `/v1/connect/…`: the CA and intentions; `/v1/discovery-chain/…`.
    pub fn connect(&self) -> connect::Connect<'_> {
        connect::Connect(self)
    }

    /// `/v1/config/…`: config entries.
    pub fn config(&self) -> config::ConfigEntries<'_> {
        config::ConfigEntries(self)
    }

    /// `/v1/status/…`: leader and peers.
    pub fn status(&self) -> status::Status<'_> {
        status::Status(self)
    }

    /// `/v1/acl/…`: tokens and policies.
    pub fn acl(&self) -> acl::Acl<'_> {
        acl::Acl(self)
    }

    /// Sends a call over a kept connection, or a new one.
    pub(crate) async fn send(&self, call: &Call) -> Result<RawAnswer, Error> {
        let inner = &*self.0;
        let limited = timeout(inner.request_timeout, async {
            let _place = inner.pool.place().await?;
            if let Some(kept) = inner.pool.take() {
                match self.exchange(kept, call).await {
                    // The agent closed it, or went away, while it lay idle.
                    Err(Error::Unreachable { .. }) if call.method == Method::GET => {}
                    other => return other,
                }
            }
            let dialled = inner.pool.dial().await?;
            self.exchange(dialled, call).await
        });
        limited.await.map_err(|_| self.late(call, inner.request_timeout))?
    }

    async fn exchange(&self, mut connection: Connection, call: &Call) -> Result<RawAnswer, Error> {
        let answer = self.exchange_on(&mut connection, call).await;
        if read_whole(&answer) {
            self.0.pool.keep(connection);
        }
        answer
    }

    /// Sends a call that the agent may hold for `wait`, on the caller's own connection. One that
    /// is held is never asked again on another connection, where another Consul may answer, which
    /// would hold it for an index that says nothing to it.
    pub(crate) async fn send_blocking(
        &self,
        connection: &mut Option<Connection>,
        call: &Call,
        wait: Duration,
    ) -> Result<RawAnswer, Error> {
        // The agent adds up to a sixteenth of its own, against thundering herds.
        let allowed = wait + wait / 16 + self.0.request_timeout;
        let exchange = async {
            if let Some(kept) = connection.as_mut() {
                let is_held = !wait.is_zero();
                match self.exchange_on(kept, call).await {
                    Err(Error::Unreachable { .. }) if !is_held => {}
                    Err(broken @ Error::Unreachable { .. }) => {
                        *connection = None;
                        return Err(broken);
                    }
                    other => return other,
                }
            }
            *connection = None;
            let mut dialled = self.0.pool.dial().await?;
            let answer = self.exchange_on(&mut dialled, call).await;
            if read_whole(&answer) {
                *connection = Some(dialled);
            }
            answer
        };
        let answer = timeout(allowed, exchange).await;
        match answer {
            Ok(answer) => answer,
            Err(_) => {
                *connection = None;
                Err(self.late(call, allowed))
            }
        }
    }

    fn late(&self, call: &Call, after: Duration) -> Error {
        Error::Timeout { what: call.what(), after }
    }

    async fn exchange_on(
        &self,
        connection: &mut Connection,
        call: &Call,
    ) -> Result<RawAnswer, Error> {
        let request = self.request(call)?;
        let pool = &self.0.pool;
        connection.ready().await.map_err(|error| pool.unreachable(error))?;
        let response =
            connection.send_request(request).await.map_err(|error| pool.unreachable(error))?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, self.0.max_body).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(Error::TooLarge { what: call.what(), limit: self.0.max_body });
            }
            Err(error) => return Err(pool.unreachable(error)),
        };
        if head.status.is_success() {
            return Ok(RawAnswer { headers: head.headers, body });
        }
        let what = call.what();
        let message = message(&body);
        Err(match head.status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Error::Forbidden { what, message },
            StatusCode::NOT_FOUND => Error::NotFound { what, message },
            status => Error::Status { what, code: status.as_u16(), message },
        })
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Error> {
        let refused = |reason: String| Error::Request { what: call.what(), reason };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.target(&self.0.scope))
            .header(header::HOST, &self.0.host)
            .body(Full::new(call.body.clone()))
            .map_err(|error| refused(error.to_string()))?;
        if !call.body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        if let Some(token) = self.0.token.current()? {
            let mut value = HeaderValue::try_from(token)
                .map_err(|_| refused("the token holds bytes that no header can".to_owned()))?;
            value.set_sensitive(true);
            request.headers_mut().insert("x-consul-token", value);
        }
        Ok(request)
    }

    /// Sends a call whose answer holds nothing of interest.
    pub(crate) async fn send_quietly(&self, call: &Call) -> Result<(), Error> {
        self.send(call).await.map(drop)
    }

    /// Sends a call and reads its answer.
    pub(crate) async fn send_for<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        decode(call, &self.send(call).await?.body)
    }
}

/// A refusal's body is read whole too: its connection can serve again.
fn read_whole(answer: &Result<RawAnswer, Error>) -> bool {
    !matches!(answer, Err(Error::Unreachable { .. } | Error::TooLarge { .. }))
}

/// Consul's own words, as far as they fit in a line.
fn message(body: &[u8]) -> String {
    const LONGEST: usize = 1024;
    let text = String::from_utf8_lossy(&body[..body.len().min(LONGEST)]);
    text.trim().replace(['\n', '\r'], " ")
}

pub(crate) fn decode<T: DeserializeOwned>(call: &Call, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|source| Error::Decode { what: call.what(), source })
}
