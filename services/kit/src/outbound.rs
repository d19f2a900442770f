//! The way to other services: the sidecar's outbound port.

use std::time::Duration;

use http::{Uri, uri::Authority};
use tonic::transport::{Channel, Endpoint};

use crate::serve::{CONNECTION_WINDOW, STREAM_WINDOW};

/// A channel to `service` through the sidecar at `outbound`. It connects when it is first used,
/// and again after a loss: nothing needs to run before the service does.
///
/// The sidecar finds the service by the call's authority, so that is the service's name.
pub fn channel(outbound: Uri, service: &'static str) -> Channel {
    let mut origin = http::uri::Parts::default();
    origin.scheme = Some(http::uri::Scheme::HTTP);
    origin.authority = Some(Authority::from_static(service));
    origin.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    let mut endpoint = Endpoint::from(outbound);
    if let Ok(origin) = Uri::from_parts(origin) {
        endpoint = endpoint.origin(origin);
    }
    endpoint
        // On loopback what takes longer is not there.
        .connect_timeout(Duration::from_secs(1))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_lazy()
}
