//! What went wrong with a call, whose it was, and whether it was delivered.
//!
//! Every error that the sidecar itself makes is a [`Fault`], and this is the one place where a
//! fault becomes a gRPC status, an HTTP status and the metadata `outrigger-reason`. The set of
//! reasons is closed: dashboards and retry rules rely on it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
pub use tonic::Code;

/// The metadata that names the reason of a sidecar's own answer.
pub const REASON_HEADER: HeaderName = HeaderName::from_static("outrigger-reason");

/// The metadata of a fault that the config asked for.
pub const INJECTED_HEADER: HeaderName = HeaderName::from_static("outrigger-injected");

/// gRFC A6, "Pushback".
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// The metadata that says whether the app may have seen a call, where the reason does not tell.
pub const DELIVERED_HEADER: HeaderName = HeaderName::from_static("outrigger-delivered");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The closed set of reasons, as `outrigger-reason` and the label `reason` spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The authority names no service.
    NoRoute,
    /// The service has no endpoint that takes calls.
    NoEndpoints,
    /// Every endpoint that could be called rests.
    BreakerOpen,
    /// Every attempt to connect failed.
    ConnectFailed,
    /// The TLS handshake failed.
    TlsFailed,
    /// The peer's certificate names another workload than was asked for.
    IdentityMismatch,
    /// No intention allows the call.
    Denied,
    /// The call's time was up.
    DeadlineExceeded,
    /// The call failed, and would have been sent again had not too many been.
    RetryBudgetExhausted,
    /// A limit on calls or streams was reached.
    Overloaded,
    /// The stream or its connection ended early.
    UpstreamReset,
    /// The app behind the inbound side cannot be reached.
    AppUnreachable,
    /// The sidecar is shutting down.
    Draining,
    /// A header list or a message is over its limit.
    TooLarge,
    /// The request breaks the protocol.
    Malformed,
}

impl Reason {
    /// All of them.
    const ALL: [Self; 15] = [
        Reason::NoRoute,
        Reason::NoEndpoints,
        Reason::BreakerOpen,
        Reason::ConnectFailed,
        Reason::TlsFailed,
        Reason::IdentityMismatch,
        Reason::Denied,
        Reason::DeadlineExceeded,
        Reason::RetryBudgetExhausted,
        Reason::Overloaded,
        Reason::UpstreamReset,
        Reason::AppUnreachable,
        Reason::Draining,
        Reason::TooLarge,
        Reason::Malformed,
    ];

    /// The one of this name, as `outrigger-reason` gives it.
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str().as_bytes() == name)
    }

    /// The name on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::NoRoute => "no_route",
            Reason::NoEndpoints => "no_endpoints",
            Reason::BreakerOpen => "breaker_open",
            Reason::ConnectFailed => "connect_failed",
            Reason::TlsFailed => "tls_failed",
            Reason::IdentityMismatch => "identity_mismatch",
            Reason::Denied => "denied",
            Reason::DeadlineExceeded => "deadline_exceeded",
            Reason::RetryBudgetExhausted => "retry_budget_exhausted",
            Reason::Overloaded => "overloaded",
            Reason::UpstreamReset => "upstream_reset",
            Reason::AppUnreachable => "app_unreachable",
            Reason::Draining => "draining",
            Reason::TooLarge => "too_large",
            Reason::Malformed => "malformed",
        }
    }

    /// The gRPC status and the HTTP status that a caller sees.
    const fn statuses(self) -> (Code, StatusCode) {
        match self {
            // gRPC's own mapping of HTTP 404.
            Reason::NoRoute => (Code::Unimplemented, StatusCode::NOT_FOUND),
            Reason::NoEndpoints
            | Reason::BreakerOpen
            | Reason::RetryBudgetExhausted
            | Reason::Overloaded
            | Reason::Draining => (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            Reason::ConnectFailed
            | Reason::TlsFailed
            | Reason::IdentityMismatch
            | Reason::UpstreamReset
            | Reason::AppUnreachable => (Code::Unavailable, StatusCode::BAD_GATEWAY),
            Reason::Denied => (Code::PermissionDenied, StatusCode::FORBIDDEN),
            Reason::DeadlineExceeded => (Code::DeadlineExceeded, StatusCode::GATEWAY_TIMEOUT),
            Reason::TooLarge => {
                (Code::ResourceExhausted, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
            }
            Reason::Malformed => (Code::InvalidArgument, StatusCode::BAD_REQUEST),
        }
    }
}

/// Whether the app may have seen the call. Only `No` is always safe to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The app saw nothing of it.
    No,
    /// Unknown: the connection ended, or something unforeseen happened.
    Maybe,
    /// The app saw it.
    Yes,
}

/// One failed call: the reason, plain words for a person, and the delivery.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which of the closed set it was.
    pub reason: Reason,
    /// What a person reads in `grpc-message`.
    pub message: Cow<'static, str>,
    /// Whether it may be sent again.
    pub delivery: Delivery,
    kind: Kind,
}

/// What there is to say beyond the reason.
#[derive(Clone, Debug)]
enum Kind {
    /// Nothing.
    Plain,
    /// A status that says more than the reason's own, such as an RST_STREAM code's.
    Of(Code),
    /// The caller may come again after this time.
    RateLimited(Duration),
    /// Somebody asked for a fault with this status.
    Injected(Code),
}

impl Fault {
    /// A fault of which the app has seen nothing.
    #[cold]
    pub fn undelivered(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), delivery: Delivery::No, kind: Kind::Plain }
    }

    /// A fault after which the app may have seen the call.
    #[cold]
    pub fn after_send(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), delivery: Delivery::Maybe, kind: Kind::Plain }
    }

    /// A caller makes more calls than it may; it may come again after this time.
    #[cold]
    pub fn rate_limited(message: impl Into<Cow<'static, str>>, wait: Duration) -> Self {
        let kind = Kind::RateLimited(wait);
        Self { kind, ..Self::undelivered(Reason::Overloaded, message) }
    }

    /// A fault that the config asks for: to be taken as the app's own status.
    #[cold]
    pub fn injected(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let kind = Kind::Injected(code);
        Self { kind, ..Self::after_send(Reason::UpstreamReset, message) }
    }

    /// Whether somebody asked for it.
    pub fn is_injected(&self) -> bool {
        matches!(self.kind, Kind::Injected(_))
    }

    /// What an HTTP/2 error on the callee's side of a stream means.
    ///
    /// `whom` is the callee in words. The codes follow gRPC over HTTP/2, "HTTP2 Transport
    /// Mapping / Errors".
    #[cold]
    pub fn from_h2(whom: fmt::Arguments<'_>, error: &h2::Error) -> Self {
        let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // A stream above the last ID of a GOAWAY, or refused by the peer, was never processed.
        let delivery = if error.is_remote() && (error.is_go_away() || refused) {
            Delivery::No
        } else {
            Delivery::Maybe
        };
        let kind = match error.reason() {
            Some(reason) if error.is_reset() => Kind::Of(code_of_reset(reason)),
            _ => Kind::Plain,
        };
        let message = match error.reason() {
            Some(reason) if error.is_reset() && error.is_remote() => {
                format!("{whom} reset the stream: {}", name_of_reset(reason))
            }
            Some(reason) if error.is_go_away() => {
                format!("the connection to {whom} closed: {}", name_of_reset(reason))
            }
            _ => format!("the connection to {whom} was lost: {error}"),
        };
        Self { reason: Reason::UpstreamReset, message: message.into(), delivery, kind }
    }

    /// The gRPC status that the caller sees.
    pub fn code(&self) -> Code {
        match self.kind {
            Kind::Plain => self.reason.statuses().0,
            Kind::Of(code) | Kind::Injected(code) => code,
            Kind::RateLimited(_) => Code::ResourceExhausted,
        }
    }

    fn http_status(&self) -> StatusCode {
        match self.kind {
            Kind::Plain | Kind::Of(_) => self.reason.statuses().1,
            Kind::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Kind::Injected(code) => http_status_of(code),
        }
    }

    /// Trailers that end a gRPC call: after the head as trailers, before it as trailers-only.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(4);
        self.write(&mut trailers);
        trailers
    }

    fn write(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, HeaderValue::from(self.code() as u16));
        headers.insert(GRPC_MESSAGE, percent_encoded(&self.message));
        if let Kind::RateLimited(wait) = self.kind {
            headers.insert(PUSHBACK, HeaderValue::from(in_units(wait, 1_000_000)));
        }
        self.write_why(headers);
    }

    /// Whether the app saw it is told where the reason alone would say otherwise.
    fn write_delivery(&self, headers: &mut HeaderMap) {
        let told = match (self.reason, self.delivery) {
            (Reason::UpstreamReset, Delivery::No) => "no",
            (Reason::Draining, Delivery::Maybe | Delivery::Yes) => "maybe",
            _ => return,
        };
        headers.insert(DELIVERED_HEADER, HeaderValue::from_static(told));
    }

    fn write_why(&self, headers: &mut HeaderMap) {
        self.write_delivery(headers);
        if self.is_injected() {
            headers.insert(INJECTED_HEADER, HeaderValue::from_static("true"));
        } else {
            headers.insert(REASON_HEADER, HeaderValue::from_static(self.reason.as_str()));
        }
    }

    /// The whole answer to a gRPC call that has no head yet ("Trailers-Only"); gRPC-Web has the
    /// same form under its own content type.
    pub fn grpc_response(&self, content_type: HeaderValue) -> Response<()> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.reserve(4);
        headers.insert(CONTENT_TYPE, content_type);
        self.write(headers);
        response
    }

    /// The whole answer to a request that is not gRPC: an HTTP status and a JSON body.
    pub fn http_response(&self) -> Response<Bytes> {
        let reason = if self.is_injected() { "injected" } else { self.reason.as_str() };
        let body = serde_json::json!({
            "error": { "reason": reason, "message": self.message }
        });
        let body = Bytes::from(body.to_string());
        let length = HeaderValue::from(body.len());
        let mut response = Response::new(body);
        *response.status_mut() = self.http_status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, length);
        if let Kind::RateLimited(wait) = self.kind {
            headers.insert(RETRY_AFTER, HeaderValue::from(in_units(wait, 1_000_000_000)));
        }
        self.write_why(headers);
        response
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.message)
    }
}

impl std::error::Error for Fault {}

/// A gRPC status with its message, where there is one: not of the sidecar's own making.
pub fn status_trailers(code: Code, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(4);
    trailers.insert(GRPC_STATUS, HeaderValue::from(code as u16));
    if !message.is_empty() {
        trailers.insert(GRPC_MESSAGE, percent_encoded(message));
    }
    trailers
}

/// In whole units of so many nanoseconds, and never too few.
fn in_units(wait: Duration, nanos: u128) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(nanos)).unwrap_or(u64::MAX)
}

/// As `google.rpc.Code` maps them.
const fn http_status_of(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// gRPC over HTTP/2, "HTTP2 Transport Mapping / Errors".
fn code_of_reset(reason: h2::Reason) -> Code {
    match reason {
        h2::Reason::REFUSED_STREAM => Code::Unavailable,
        h2::Reason::CANCEL => Code::Cancelled,
        h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        h2::Reason::STREAM_CLOSED | h2::Reason::HTTP_1_1_REQUIRED => Code::Unknown,
        _ => Code::Internal,
    }
}

/// RFC 9113 §7, as it spells them.
fn name_of_reset(reason: h2::Reason) -> Cow<'static, str> {
    match reason {
        h2::Reason::NO_ERROR => "NO_ERROR".into(),
        h2::Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR".into(),
        h2::Reason::INTERNAL_ERROR => "INTERNAL_ERROR".into(),
        h2::Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR".into(),
        h2::Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT".into(),
        h2::Reason::STREAM_CLOSED => "STREAM_CLOSED".into(),
        h2::Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR".into(),
        h2::Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR".into(),
        h2::Reason::CONNECT_ERROR => "CONNECT_ERROR".into(),
        h2::Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY".into(),
        h2::Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED".into(),
        h2::Reason::REFUSED_STREAM => "REFUSED_STREAM".into(),
        h2::Reason::CANCEL => "CANCEL".into(),
        h2::Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM".into(),
        other => format!("code {}", u32::from(other)).into(),
    }
}

/// gRPC over HTTP/2, "Status-Message → Percent-Encoded".
fn percent_encoded(message: &str) -> HeaderValue {
    let mut out = Vec::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    HeaderValue::from_bytes(&out)
        .unwrap_or_else(|_| HeaderValue::from_static("unprintable message"))
}

#[cfg(test)]
mod tests;
