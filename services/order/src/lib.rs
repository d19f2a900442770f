//! Orders over gRPC. Each is checked against the user and the product service before it is placed.
//!
//! Both are called by name through the sidecar's outbound port; where they run, and how the way
//! there is secured, tried again or given up, is the sidecar's business.

pub mod service;
pub mod store;
pub mod upstream;

use proto::order::v1::order_service_server::OrderServiceServer;

/// The service that this environment describes: `DATABASE_URL`, a file `order.db` where it is
/// unset, and `OUTBOUND`.
pub async fn start(
    environment: &kit::Environment,
) -> Result<OrderServiceServer<service::Orders>, kit::StartError> {
    let upstreams = upstream::Upstreams::through(environment.outbound()?);
    let store = store::Store::open(&environment.database("order.db")?).await?;
    Ok(OrderServiceServer::new(service::Orders::new(store, upstreams)))
}
