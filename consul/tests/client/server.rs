//! A server that answers by a script and writes down what it was asked.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use consul::{Address, Client, Config};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Notify,
};

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) token: Option<String>,
    pub(crate) body: String,
}

/// An answer of the script; `None` never comes.
pub(crate) type Answer = Option<Response<Full<Bytes>>>;
type Script = dyn Fn(usize, &Asked) -> Answer + Send + Sync;

/// What the server saw.
#[derive(Clone)]
pub(crate) struct Server {
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    broken: Arc<Notify>,
}

impl Server {
    /// The script is told how many questions came before.
    pub(crate) fn new(script: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Server {
        Server {
            script: Arc::new(script),
            asked: Arc::default(),
            connections: Arc::default(),
            broken: Arc::default(),
        }
    }

    /// Ends the connections that are open, answered or not.
    pub(crate) fn break_connections(&self) {
        self.broken.notify_waiters();
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Listens on TCP; a configuration that leads there.
    pub(crate) async fn listen(&self) -> Config {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(server.clone().serve(stream));
            }
        });
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port, tls: false };
        Config { address, ..Config::default() }
    }

    /// Listens on TCP; a client that leads there.
    pub(crate) async fn client(&self) -> Client {
        Client::new(self.listen().await).unwrap()
    }

    /// Serves one connection.
    pub(crate) async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let broken = self.broken.clone();
        let service = service_fn(move |request| self.clone().answer(request));
        let http = hyper::server::conn::http1::Builder::new();
        tokio::select! {
            _ = http.serve_connection(TokioIo::new(stream), service) => {}
            () = broken.notified() => {}
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let asked = Asked {
            line: format!("{} {}", head.method, head.uri),
            token: head.headers.get("x-consul-token").map(|it| it.to_str().unwrap().to_owned()),
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        let before = {
            let mut all = self.asked.lock().unwrap();
            all.push(asked.clone());
            all.len() - 1
        };
        match (self.script)(before, &asked) {
            Some(response) => Ok(response),
            None => std::future::pending().await,
        }
    }
}

/// An answer with a status, an index and a body.
pub(crate) fn answer(status: u16, index: u64, body: &str) -> Answer {
    let response = Response::builder()
        .status(status)
        .header("x-consul-index", index)
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    Some(response.unwrap())
}
