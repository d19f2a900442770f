//! Two workers, a caller and an app, joined by pipes: client → outbound of `web` → mTLS → inbound
//! of `echo` → app.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use certs::ca::DevelopmentCa;
use certs::{Identity, Leaf, SpiffeId, TlsMin, TrustDomain};
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use outrigger::config::Config;
use outrigger::discovery::snapshot::Upstream;
use outrigger::inbound::authorize::{Action, Intention, Intentions, Source};
use outrigger::telemetry::metrics::{Bounds, Metrics};
use outrigger::transport::io::{Dial, Dialing, Io};
use outrigger::worker::{Shared, Worker};
use outrigger::{inbound, outbound};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

pub const TRUST_DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";
const PIPE: usize = 256 * 1024;

/// The pipes that stand in for the network: who listens where.
#[derive(Default)]
pub struct Net {
    listeners: RefCell<HashMap<SocketAddr, mpsc::UnboundedSender<DuplexStream>>>,
}

impl Net {
    pub fn listen(&self, address: SocketAddr) -> mpsc::UnboundedReceiver<DuplexStream> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.borrow_mut().insert(address, sender);
        receiver
    }

    pub fn connect(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        let (near, far) = duplex(PIPE);
        let listeners = self.listeners.borrow();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        listeners.get(&address).ok_or_else(refused)?.send(far).map_err(|_| refused())?;
        Ok(near)
    }
}

struct Pipes(Rc<Net>);

impl Dial for Pipes {
    fn dial(&self, address: SocketAddr) -> Dialing {
        let pipe = self.0.connect(address);
        Box::pin(async move { pipe.map(|pipe| Box::new(pipe) as Box<dyn Io>) })
    }
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn app_address() -> SocketAddr {
    address("127.0.0.1:50051")
}

pub fn inbound_address() -> SocketAddr {
    address("127.0.0.1:21000")
}

/// The whole bench.
pub struct Mesh {
    pub net: Rc<Net>,
    pub ca: DevelopmentCa,
    /// Beside the caller.
    pub web: Rc<Worker>,
    /// Beside the app.
    pub echo: Rc<Worker>,
    pub web_metrics: Arc<Metrics>,
    pub echo_metrics: Arc<Metrics>,
    /// Further workers beside the caller.
    web_fellows: RefCell<Vec<Rc<Worker>>>,
    web_shared: Arc<Shared>,
    /// What the workers beside the app share.
    echo_shared: Arc<Shared>,
    /// Kept, so that a name that is asked for is not refused.
    _demanded: Vec<mpsc::Receiver<outrigger::config::ServiceName>>,
}

impl Mesh {
    /// `web` may call `echo`; nobody else may.
    pub fn new() -> Self {
        Self::with_app("")
    }

    /// With more said of the app, as TOML.
    pub fn with_app(more: &str) -> Self {
        Self::with("", more)
    }

    /// With more said of the caller's sidecar, as TOML.
    pub fn with_caller(more: &str) -> Self {
        Self::with(more, "")
    }

    /// With more said of both.
    pub fn with(caller: &str, callee: &str) -> Self {
        let net = Rc::new(Net::default());
        let now = SystemTime::now();
        let ca = DevelopmentCa::new(TRUST_DOMAIN.parse::<TrustDomain>().unwrap(), now).unwrap();
        let mut demanded = Vec::new();
        let mut worker = |name: &str, app: &str| {
            let text = format!("[service]\nname = \"{name}\"\n{app}\n");
            let config = Config::from_toml(&text, now).unwrap_or_else(|e| panic!("{e}"));
            let metrics = Metrics::new(name, Bounds::default());
            let (demand, asked) = mpsc::channel(8);
            demanded.push(asked);
            let dial = Rc::new(Pipes(net.clone()));
            let shared = Shared::new(demand);
            let worker = Worker::new(Arc::new(config), metrics.shard(), dial, shared.clone());
            (worker, metrics, shared)
        };
        let (web, web_metrics, web_shared) = worker("web", caller);
        let (echo, echo_metrics, echo_shared) =
            worker("echo", &format!("app = \"127.0.0.1:50051\"\n{callee}"));
        let mesh = Self {
            net,
            ca,
            web,
            echo,
            web_metrics,
            echo_metrics,
            web_fellows: RefCell::default(),
            web_shared,
            echo_shared,
            _demanded: demanded,
        };
        mesh.web.set_identity(mesh.identity("web"));
        mesh.echo.set_identity(mesh.identity("echo"));
        mesh.echo.set_intentions(allow(&["web"]));
        mesh.endpoints(&[(inbound_address(), "echo")]);
        mesh
    }

    pub fn id(&self, service: &str) -> SpiffeId {
        SpiffeId::for_consul(TRUST_DOMAIN, "default", "dc1", service).unwrap()
    }

    pub fn identity(&self, service: &str) -> Arc<Identity> {
        let ttl = Duration::from_secs(3600);
        let issued = self.ca.issue(&self.id(service), ttl, SystemTime::now()).unwrap();
        let leaf =
            Leaf::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes()).unwrap();
        Arc::new(Identity::new(leaf, self.ca.roots().unwrap(), TlsMin::V1_3).unwrap())
    }

    /// What `web` knows of `echo`: addresses, and whom to expect there.
    pub fn endpoints(&self, endpoints: &[(SocketAddr, &str)]) {
        let sni: Arc<str> = self.id("echo").consul().unwrap().server_name(TRUST_DOMAIN).into();
        let endpoints = endpoints.iter().map(|(at, service)| (*at, self.id(service), sni.clone()));
        let snapshot = Arc::new(Upstream::succeed(None, "echo".into(), endpoints, 0));
        self.web.set_upstream(snapshot.clone());
        self.web_fellows.borrow().iter().for_each(|web| web.set_upstream(snapshot.clone()));
    }

    /// Serves the inbound side of `echo` at its address.
    pub fn serve_inbound(&self) {
        self.serve_inbound_at(inbound_address());
    }

    /// Serves it at another address too.
    pub fn serve_inbound_at(&self, address: SocketAddr) {
        let mut connections = self.net.listen(address);
        let echo = self.echo.clone();
        spawn_local(async move {
            while let Some(pipe) = connections.recv().await {
                spawn_local(inbound::connection(echo.clone(), pipe));
            }
        });
    }

    /// So many workers beside the caller; to be called before its endpoints are told.
    pub fn callers(&self, workers: usize) -> Vec<Rc<Worker>> {
        let Self { web, web_metrics, web_shared, web_fellows, .. } = self;
        for _ in 1..workers {
            let dial = Rc::new(Pipes(self.net.clone()));
            let (config, shard) = (web.config.clone(), web_metrics.shard());
            let fellow = Worker::new(config, shard, dial, web_shared.clone());
            fellow.set_identity(self.identity("web"));
            web_fellows.borrow_mut().push(fellow);
        }
        [web.clone()].into_iter().chain(web_fellows.borrow().iter().cloned()).collect()
    }

    /// One more worker of the process beside the app.
    pub fn fellow(&self) -> Rc<Worker> {
        let Self { echo, echo_metrics, echo_shared, .. } = self;
        let dial = Rc::new(Pipes(self.net.clone()));
        let (config, shard) = (echo.config.clone(), echo_metrics.shard());
        let fellow = Worker::new(config, shard, dial, echo_shared.clone());
        fellow.set_identity(self.identity("echo"));
        fellow.set_intentions(allow(&["web", "shop"]));
        fellow
    }

    /// A peer's own connection to the inbound side of this worker, without a sidecar.
    pub async fn peer(&self, of: &str, worker: &Rc<Worker>) -> Client {
        let (near, far) = duplex(PIPE);
        spawn_local(inbound::connection(worker.clone(), far));
        let tls = TlsConnector::from(self.identity(of).client_config(&self.id("echo")));
        let name = rustls::pki_types::ServerName::try_from("echo").unwrap();
        Client::over(tls.connect(name, near).await.unwrap()).await
    }

    /// A client's connection to the outbound side of `web`.
    pub async fn client(&self) -> Client {
        self.client_of(&self.web).await
    }

    /// A client's connection to the outbound side of this worker.
    pub async fn client_of(&self, worker: &Rc<Worker>) -> Client {
        let (near, far) = duplex(PIPE);
        spawn_local(outbound::connection(worker.clone(), far, None));
        Client::over(near).await
    }

    /// A raw connection to the outbound side of `web`.
    pub fn raw(&self) -> DuplexStream {
        let (near, far) = duplex(PIPE);
        spawn_local(outbound::connection(self.web.clone(), far, None));
        near
    }

    /// What a Prometheus would read.
    pub fn scrape(metrics: &Metrics) -> String {
        let mut out = String::new();
        metrics.encode(SystemTime::now(), &mut out).unwrap();
        out
    }
}

/// Intentions that allow these callers alone.
pub fn allow(callers: &[&str]) -> Arc<Intentions> {
    let rule = |caller: &&str| Intention {
        source: Source::of_default_namespace(caller),
        destination: "echo".into(),
        action: Action::Allow,
    };
    Arc::new(Intentions {
        rules: callers.iter().map(rule).collect(),
        allowed: Vec::new(),
        default: Action::Deny,
        default_source: "the test",
    })
}

/// An HTTP/2 client.
pub struct Client {
    pub send: SendRequest<Bytes>,
}

impl Client {
    pub async fn over(pipe: impl Io + 'static) -> Self {
        let (send, connection) = h2::client::handshake(pipe).await.unwrap();
        spawn_local(async move {
            let _ = connection.await;
        });
        Self { send: send.ready().await.unwrap() }
    }

    /// Opens a call, its request body still open.
    pub fn open(
        &mut self,
        request: Request<()>,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        self.send.send_request(request, false).unwrap()
    }

    /// A whole unary call.
    pub async fn call(&mut self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let (response, mut send) = self.open(request);
        send.send_data(Bytes::copy_from_slice(body), true)?;
        Answer::read(response.await?).await
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub head: Response<()>,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
}

impl Answer {
    pub async fn read(response: Response<RecvStream>) -> Result<Self, h2::Error> {
        let (parts, mut stream) = response.into_parts();
        let mut body = Vec::new();
        while let Some(data) = stream.data().await {
            let data = data?;
            stream.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        let trailers = stream.trailers().await?.unwrap_or_default();
        Ok(Self { head: Response::from_parts(parts, ()), body, trailers })
    }

    /// The gRPC status, its message and the sidecar's reason, wherever they stand.
    pub fn status(&self) -> (String, String, String) {
        let find = |name: &str| {
            let value = self.trailers.get(name).or_else(|| self.head.headers().get(name));
            value.map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        (find("grpc-status"), find("grpc-message"), find("outrigger-reason"))
    }
}

/// A gRPC request to `echo`.
pub fn request() -> http::request::Builder {
    Request::post("http://echo/echo.v1.Echo/Say")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

pub fn grpc_request() -> Request<()> {
    request().body(()).unwrap()
}

/// An app that answers each call by itself.
pub fn app<F, Fut>(mesh: &Mesh, handler: F)
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    app_as(mesh, h2::server::Builder::new(), handler);
}

/// An app that speaks HTTP/2 like this, and how many connections it got.
pub fn app_as<F, Fut>(mesh: &Mesh, server: h2::server::Builder, handler: F) -> Rc<Cell<usize>>
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let mut connections = mesh.net.listen(app_address());
    let opened = Rc::new(Cell::new(0));
    let counted = opened.clone();
    spawn_local(async move {
        while let Some(pipe) = connections.recv().await {
            counted.set(counted.get() + 1);
            let (handler, server) = (handler.clone(), server.clone());
            spawn_local(async move {
                let mut server = server.handshake(pipe).await.unwrap();
                while let Some(Ok((request, respond))) = server.accept().await {
                    spawn_local(handler(request, respond));
                }
            });
        }
    });
    opened
}

/// An app that echoes, and how many calls it got.
pub fn counted_app(mesh: &Mesh) -> Rc<Cell<usize>> {
    let calls = Rc::new(Cell::new(0));
    let also = calls.clone();
    app(mesh, move |request, respond| {
        also.set(also.get() + 1);
        echo(request, respond)
    });
    calls
}

/// A sidecar of `echo` that answers each call so by itself.
pub fn sidecar<F, Fut>(mesh: &Mesh, at: SocketAddr, handler: F)
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let mut connections = mesh.net.listen(at);
    let tls = tokio_rustls::TlsAcceptor::from(mesh.identity("echo").server_config());
    spawn_local(async move {
        while let Some(pipe) = connections.recv().await {
            let (tls, handler) = (tls.clone(), handler.clone());
            spawn_local(async move {
                let Ok(tls) = tls.accept(pipe).await else { return };
                let Ok(mut server) = h2::server::handshake(tls).await else { return };
                while let Some(Ok((request, respond))) = server.accept().await {
                    spawn_local(handler(request, respond));
                }
            });
        }
    });
}

/// Echoes the body, then trailers with status 0.
pub async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let Ok(mut send) = respond.send_response(head, false) else { return };
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        if push(&mut send, data).await.is_err() {
            return;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let _ = send.send_trailers(trailers);
}

/// Sends with regard to flow control.
pub async fn push(send: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        if send.capacity() == 0 {
            let capacity = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
            capacity.ok_or(h2::Reason::STREAM_CLOSED)??;
            continue;
        }
        let n = send.capacity().min(data.len());
        send.send_data(data.split_to(n), false)?;
    }
    Ok(())
}
