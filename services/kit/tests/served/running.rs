//! A service in the test's own process, on a store of its own: what the tests of each service
//! begin with.

use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::transport::{Channel, Endpoint};

/// A service and a client of it. Dropped, it stops.
pub(crate) struct Running<C> {
    pub(crate) client: C,
    _stop: oneshot::Sender<()>,
    _directory: TempDir,
}

/// Serves on a free port what `start` makes of the URL of a store that does not exist yet.
pub(crate) async fn serve<S: kit::Grpc, C>(
    start: impl AsyncFnOnce(&str) -> Result<S, kit::StartError>,
    client: impl FnOnce(Channel) -> C,
) -> Running<C> {
    let directory = TempDir::new().unwrap();
    let url = format!("sqlite:{}", directory.path().join("new/store.db").display());
    let service = start(&url).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        kit::serve(listener, service, proto::FILE_DESCRIPTOR_SET, stopped).await.unwrap();
    });
    let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
    Running { client: client(channel), _stop: stop, _directory: directory }
}
