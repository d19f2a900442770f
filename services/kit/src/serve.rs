//! The life of a service: read the environment, open, listen, serve, shut down.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, pending},
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::sleep,
};
use tonic::{
    body::Body,
    server::NamedService,
    transport::server::{Server, TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::MapResponseLayer;

use crate::{BadVariable, Environment, OpenError, trailers};

/// Bytes that a peer may send on one stream before they are read.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams together: 8 that nobody reads do not stop the others.
pub(crate) const CONNECTION_WINDOW: u32 = 8 * STREAM_WINDOW;
/// Time for the calls in flight when the service is told to stop.
const DRAIN: Duration = Duration::from_secs(20);

/// Why a service did not start.
#[derive(Debug)]
pub enum StartError {
    /// A variable's value cannot be used: exit code 2.
    Variable(BadVariable),
    /// The store cannot be opened.
    Store(OpenError),
    /// Nothing can listen at the address, or no more on it.
    Listen(SocketAddr, std::io::Error),
    /// The descriptors, or the signals, are not as they must be.
    Internal(String),
}

/// Runs the service `name` until SIGTERM or SIGINT. `start` makes it from the environment.
///
/// `port` is where it listens if `ADDR` says nothing; `descriptors` is what reflection tells.
pub async fn run<S>(
    name: &str,
    port: u16,
    descriptors: &'static [u8],
    start: impl AsyncFnOnce(&Environment) -> Result<S, StartError>,
) -> ExitCode
where
    S: Grpc,
{
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();

    match start_and_serve(name, port, descriptors, start).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&mut std::io::stderr(), format_args!("{name}: {error}"));
            ExitCode::from(if matches!(error, StartError::Variable(_)) { 2 } else { 1 })
        }
    }
}

async fn start_and_serve<S>(
    name: &str,
    port: u16,
    descriptors: &'static [u8],
    start: impl AsyncFnOnce(&Environment) -> Result<S, StartError>,
) -> Result<(), StartError>
where
    S: Grpc,
{
    let environment = Environment::of_process();
    let address = environment.address((Ipv4Addr::LOCALHOST, port).into())?;
    // Before anything is opened, so that a signal never finds the process without an answer.
    let stopped = stop_signal()?;
    let service = start(&environment).await?;
    let refuse = |error| StartError::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    say(&mut std::io::stdout(), format_args!("{name}: listening on {bound}"));
    serve(listener, service, descriptors, stopped).await
}

/// What a generated server is to tonic, in one word.
pub trait Grpc:
    tower::Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Grpc for S where
    S: tower::Service<
            http::Request<Body>,
            Response = http::Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Serves on `listener`, with health and reflection, until `stopped`; then lets the calls in
/// flight end, for 20 s at most.
pub async fn serve<S: Grpc>(
    listener: TcpListener,
    service: S,
    descriptors: &'static [u8],
    stopped: impl Future<Output = ()> + Send,
) -> Result<(), StartError> {
    let address = listener.local_addr().unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(S::NAME)
            .with_service_name("grpc.health.v1.Health")
    };
    let refuse = |error: tonic_reflection::server::Error| StartError::Internal(error.to_string());
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status(S::NAME, ServingStatus::Serving).await;

    let (draining, drained_from) = oneshot::channel();
    let stopped = async move {
        stopped.await;
        tracing::info!("shutting down");
        stop_health(reporter, S::NAME).await;
        let _ = draining.send(());
    };
    let too_long = async {
        match drained_from.await {
            Ok(()) => sleep(DRAIN).await,
            Err(_) => pending().await,
        }
    };
    let served = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .layer(MapResponseLayer::new(trailers::write))
        .add_service(health)
        .add_service(reflection().build_v1().map_err(refuse)?)
        .add_service(reflection().build_v1alpha().map_err(refuse)?)
        .add_service(service)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stopped,
        );
    tokio::select! {
        result = served => {
            result.map_err(|error| StartError::Listen(address, std::io::Error::other(error)))
        }
        () = too_long => {
            tracing::warn!("calls were still in flight after {DRAIN:?}; stopping without them");
            Ok(())
        }
    }
}

/// Tells the watchers of health, then ends their streams, which would hold up the shutdown.
async fn stop_health(mut reporter: HealthReporter, service: &str) {
    for name in ["", service] {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
    for name in ["", service] {
        reporter.clear_service_status(name).await;
    }
}

/// Ends at SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()> + Send, StartError> {
    let listen = |kind| signal(kind).map_err(|error| StartError::Internal(error.to_string()));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Prints a line. Whoever started the service may have closed the other end already.
fn say(to: &mut impl std::io::Write, line: fmt::Arguments<'_>) {
    let _ = writeln!(to, "{line}").and_then(|()| to.flush());
}

impl From<BadVariable> for StartError {
    fn from(error: BadVariable) -> Self {
        Self::Variable(error)
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Internal(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for StartError {}
