//! What an order asks of other services: whether its user exists, and what its product costs.
//!
//! Their answers keep their code, so that a caller sees the same fault as if it had asked itself.

use http::Uri;
use kit::{Cents, Context};
use proto::{
    product::v1::{GetProductRequest, product_service_client::ProductServiceClient},
    user::v1::{GetUserRequest, user_service_client::UserServiceClient},
};
use tonic::{Code, Status, transport::Channel};

const USERS: &str = "user-service";
const PRODUCTS: &str = "product-service";

/// The services that an order depends on.
#[derive(Clone, Debug)]
pub struct Upstreams {
    users: UserServiceClient<Channel>,
    products: ProductServiceClient<Channel>,
}

impl Upstreams {
    /// Both through the sidecar at `outbound`. They connect when they are first called.
    pub fn through(outbound: Uri) -> Self {
        Self {
            users: UserServiceClient::new(kit::channel(outbound.clone(), USERS)),
            products: ProductServiceClient::new(kit::channel(outbound, PRODUCTS)),
        }
    }

    /// NOT_FOUND, naming the user, where it does not exist.
    pub async fn expect_user(&self, context: &Context, id: &str) -> Result<(), Status> {
        let request = context.request(GetUserRequest { id: id.to_owned() });
        let answer = self.users.clone().get_user(request).await;
        answer.map_err(|status| refusal(context, USERS, "user", id, &status))?;
        Ok(())
    }

    /// The price of one. NOT_FOUND, naming the product, where it does not exist.
    pub async fn price(&self, context: &Context, id: &str) -> Result<Cents, Status> {
        let request = context.request(GetProductRequest { id: id.to_owned() });
        let answer = self.products.clone().get_product(request).await;
        let answer = answer.map_err(|status| refusal(context, PRODUCTS, "product", id, &status))?;
        let product = answer.into_inner().product;
        let price = product.and_then(|product| Cents::from_units(product.price).ok());
        price.ok_or_else(|| Status::internal(format!("{PRODUCTS}: no price of product {id:?}")))
    }
}

/// What the caller is told of an upstream's refusal.
fn refusal(context: &Context, service: &str, kind: &str, id: &str, status: &Status) -> Status {
    match status.code() {
        Code::NotFound => Status::not_found(format!("{kind} {id:?} does not exist")),
        // The client library says "cancelled" of a time that ran out.
        Code::Cancelled if context.expired() => {
            Status::deadline_exceeded(format!("{service}: no answer in the time given"))
        }
        code => Status::new(code, format!("{service}: {}", status.message())),
    }
}
