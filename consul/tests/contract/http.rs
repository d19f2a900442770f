//! Plain HTTP, for what the typed client hides: statuses, headers, words.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::target::At;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Raw {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn index(&self) -> u64 {
        self.header("x-consul-index").expect("an index").parse().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts status and words at once, so that a failure shows both.
    #[track_caller]
    pub(crate) fn says(&self, status: u16, words: &str) {
        assert_eq!((self.status, self.body.trim()), (status, words));
    }
}

impl At {
    /// Sends a request on a connection of its own.
    pub(crate) async fn send(&self, method: &str, target: &str, body: &str) -> Raw {
        let stream = TcpStream::connect(self.http).await.unwrap();
        let (mut send, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", self.http.to_string())
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        let (head, body) = send.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        driver.abort();
        Raw {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn fetch(&self, target: &str) -> Raw {
        self.send("GET", target, "").await
    }

    pub(crate) async fn put(&self, target: &str, body: &str) -> Raw {
        self.send("PUT", target, body).await
    }

    /// Registers a service from JSON.
    pub(crate) async fn register(&self, service: &Value) {
        let raw = self.put("/v1/agent/service/register", &service.to_string()).await;
        assert_eq!(raw.status, 200, "{raw:?}");
    }
}
