//! The app of each instance that is hurt: a bare tonic service that knows nothing of the mesh.
//!
//! `app LISTEN` answers every call of `user.v1.UserService` with an empty message after 5 ms of
//! waiting; after 1 s from SIGUSR1 to SIGUSR2. Its reflection says what the service's proto does. At SIGTERM it takes no more connections, sends GOAWAY
//! and ends with its last call. Invariant: everything else is as tonic has it by default.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_local;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// What an answer waits for, in ms: a query, say.
const USUAL: u64 = 5;
const SLOW: u64 = 1_000;

fn main() -> Result<(), Failure> {
    let listen = std::env::args().nth(1).ok_or("usage: app LISTEN")?;
    let listen: SocketAddr = listen.parse()?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build_local(Default::default())?.block_on(serve(listen))
}

async fn serve(listen: SocketAddr) -> Result<(), Failure> {
    let wait = Arc::new(AtomicU64::new(USUAL));
    for (kind, ms) in [(SignalKind::user_defined1(), SLOW), (SignalKind::user_defined2(), USUAL)] {
        let (mut signal, wait) = (signal(kind)?, wait.clone());
        spawn_local(async move {
            while signal.recv().await.is_some() {
                wait.store(ms, Ordering::Relaxed);
            }
        });
    }
    let mut leave = signal(SignalKind::terminate())?;
    let incoming = TcpIncoming::from(TcpListener::bind(listen).await?).with_nodelay(Some(true));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let server = Server::builder().add_service(reflection).add_service(Answers(wait));
    Ok(server
        .serve_with_incoming_shutdown(incoming, async {
            let _ = leave.recv().await;
        })
        .await?)
}

/// Answers any method.
#[derive(Clone)]
struct Answers(Arc<AtomicU64>);

impl NamedService for Answers {
    const NAME: &'static str = "user.v1.UserService";
}

impl Service<Request<Body>> for Answers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let wait = self.0.clone();
        Box::pin(async move {
            let _read = request.into_body().collect().await;
            tokio::time::sleep(Duration::from_millis(wait.load(Ordering::Relaxed))).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            // An empty message: not compressed, of no bytes.
            let message = Full::new(Bytes::from_static(&[0; 5]));
            let body = Body::new(message.with_trailers(async { Some(Ok(trailers)) }));
            let mut response = Response::new(body);
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
            Ok(response)
        })
    }
}
