//! Users over gRPC: unary calls, and a stream of each kind.
//!
//! [`service`](mod@service) turns messages into the types of [`model`], which [`store`] keeps.

pub mod model;
pub mod service;
pub mod store;

use proto::user::v1::user_service_server::UserServiceServer;

/// The service that this environment describes: `DATABASE_URL`, a file `user.db` where it is unset.
pub async fn start(
    environment: &kit::Environment,
) -> Result<UserServiceServer<service::Users>, kit::StartError> {
    let store = store::Store::open(&environment.database("user.db")?).await?;
    Ok(UserServiceServer::new(service::Users::new(store)))
}
