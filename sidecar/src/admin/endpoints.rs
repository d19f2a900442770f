//! What the admin server answers, by method and path.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::negotiation::{self, Format};
use crate::telemetry::metrics::{Metrics, to_plain};
use crate::telemetry::readiness::Readiness;

const TEXT: &str = "text/plain; charset=utf-8";

/// All there is, as the answers 404 and 405 list it.
const LISTING: &str = "\
GET /live     200 while the process runs
GET /metrics  metrics for Prometheus, as OpenMetrics where that is asked for
GET /ready    200 when ready, 503 with what it waits for
";

/// What the answers are made of.
pub(super) struct Endpoints {
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
}

impl Endpoints {
    /// The answer to a request, whose body nobody reads. hyper leaves a HEAD's body out.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let endpoint = match request.uri().path() {
            "/live" => Self::live,
            "/metrics" => Self::metrics,
            "/ready" => Self::ready,
            path => {
                let text = format!("nothing at {}; there is:\n{LISTING}", shortened(path));
                return response(StatusCode::NOT_FOUND, TEXT, text);
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let method = shortened(request.method().as_str());
            let text = format!("{method} is not allowed; there is:\n{LISTING}");
            let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        endpoint(self, request.headers())
    }

    fn live(&self, _: &http::HeaderMap) -> Response<Full<Bytes>> {
        response(StatusCode::OK, TEXT, "live\n".to_owned())
    }

    fn ready(&self, _: &http::HeaderMap) -> Response<Full<Bytes>> {
        let blocked = self.readiness.blocked();
        let (status, mut text) = if blocked.is_empty() {
            (StatusCode::OK, "ready\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, String::new())
        };
        for what in blocked {
            text.extend(["waiting for ", &what, "\n"]);
        }
        for what in self.readiness.degraded() {
            text.extend(["degraded: ", &what, "\n"]);
        }
        response(status, TEXT, text)
    }

    fn metrics(&self, headers: &http::HeaderMap) -> Response<Full<Bytes>> {
        let mut text = String::new();
        if self.metrics.encode(SystemTime::now(), &mut text).is_err() {
            let text = "the metrics could not be written as text\n".to_owned();
            return response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text);
        }
        match negotiation::format(headers) {
            Format::OpenMetrics => response(StatusCode::OK, negotiation::OPEN_METRICS, text),
            Format::Plain => response(StatusCode::OK, negotiation::PLAIN, to_plain(&text)),
        }
    }
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// As much of the client's own text as an answer repeats. Paths and methods are ASCII in hyper.
fn shortened(text: &str) -> &str {
    text.get(..128).unwrap_or(text)
}
