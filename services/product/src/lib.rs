//! Products over gRPC. Prices are doubles on the wire and cents in the store.

pub mod service;
pub mod store;

use proto::product::v1::product_service_server::ProductServiceServer;

/// The service that this environment describes: `DATABASE_URL`, a file `product.db` where it is
/// unset.
pub async fn start(
    environment: &kit::Environment,
) -> Result<ProductServiceServer<service::Products>, kit::StartError> {
    let store = store::Store::open(&environment.database("product.db")?).await?;
    Ok(ProductServiceServer::new(service::Products::new(store)))
}
