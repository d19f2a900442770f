//! A pool for benchmarks that look at no connection.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use outrigger::transport::pool::{Connect, ConnectFault, Opened, Pool, Settings};

/// The choice looks at no connection, so there is none.
struct Nowhere;

impl Connect for Nowhere {
    fn connect(&self) -> Pin<Box<dyn Future<Output = Result<Opened, ConnectFault>> + '_>> {
        Box::pin(std::future::pending())
    }
}

/// A pool without a connection.
pub(crate) fn pool() -> Rc<Pool> {
    let settings = Settings {
        stream_window: 65_535,
        connection_window: 4 * 65_535,
        max_frame: 16_384,
        max_header_list: 65_536,
        connections: 1,
        keepalive: None,
        first_bytes: Duration::from_secs(1),
        idle: Duration::from_secs(60),
    };
    Pool::new(Box::new(Nowhere), Rc::new(settings))
}
