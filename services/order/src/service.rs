//! The three calls of `order.v1.OrderService`.

use kit::{Context, Moment, Page, invalid};
use proto::order::v1::{self, order_service_server::OrderService};
use tonic::{Request, Response, Status};

use crate::{
    store::{NewOrder, Order, Store},
    upstream::Upstreams,
};

const MAX_QUANTITY: i32 = 1_000_000;
/// No ID of a user or a product is longer.
const MAX_ID: usize = 64;

/// The service over its store and the services that it asks.
#[derive(Clone, Debug)]
pub struct Orders {
    store: Store,
    upstreams: Upstreams,
}

impl Orders {
    /// The service over this store and these upstreams.
    pub fn new(store: Store, upstreams: Upstreams) -> Self {
        Self { store, upstreams }
    }
}

#[tonic::async_trait]
impl OrderService for Orders {
    async fn create_order(
        &self,
        request: Request<v1::CreateOrderRequest>,
    ) -> Result<Response<v1::CreateOrderResponse>, Status> {
        let context = Context::of(&request);
        let v1::CreateOrderRequest { user_id, product_id, quantity } = request.into_inner();
        kit::text("user_id", &user_id, MAX_ID)?;
        kit::text("product_id", &product_id, MAX_ID)?;
        let quantity = parse_quantity(quantity)?;

        self.upstreams.expect_user(&context, &user_id).await?;
        let price = self.upstreams.price(&context, &product_id).await?;
        let total_price = price.times(quantity).ok_or_else(|| {
            let price = price.units();
            invalid("quantity", format_args!("{quantity} times {price} is too large a total"))
        })?;

        // Confirmed from the start: the checks that an order could be pending for are behind it.
        let status = v1::OrderStatus::Confirmed;
        let order = NewOrder { user_id, product_id, quantity, total_price, status };
        let order = self.store.create(order, Moment::now()).await.map_err(kit::fault)?;
        Ok(Response::new(v1::CreateOrderResponse { order: Some(order.into()) }))
    }

    async fn get_order(
        &self,
        request: Request<v1::GetOrderRequest>,
    ) -> Result<Response<v1::GetOrderResponse>, Status> {
        let id = &request.get_ref().id;
        let found = match kit::id("id", id)? {
            Some(id) => self.store.find(id).await.map_err(kit::fault)?,
            None => None,
        };
        let order = found.ok_or_else(|| {
            let shown: String = id.chars().take(80).collect();
            Status::not_found(format!("order {shown:?} does not exist"))
        })?;
        Ok(Response::new(v1::GetOrderResponse { order: Some(order.into()) }))
    }

    async fn list_orders(
        &self,
        request: Request<v1::ListOrdersRequest>,
    ) -> Result<Response<v1::ListOrdersResponse>, Status> {
        let v1::ListOrdersRequest { page_size, page_token, user_id } = request.into_inner();
        let user_id = match user_id.as_str() {
            "" => None,
            id => Some(kit::text("user_id", id, MAX_ID)?),
        };
        // The filter is part of the list's name, so that a token is good for one filter only.
        let scope = format!("orders:{}", user_id.unwrap_or_default());
        let page = Page::parse(&scope, page_size, &page_token)?;
        let rows = self.store.list(user_id, &page).await.map_err(kit::fault)?;
        let (orders, next) = page.cut(rows, |order| order.id);
        let orders = orders.into_iter().map(v1::Order::from).collect();
        let next_page_token = next.unwrap_or_default();
        Ok(Response::new(v1::ListOrdersResponse { orders, next_page_token }))
    }
}

fn parse_quantity(found: i32) -> Result<u32, Status> {
    let in_range = (1..=MAX_QUANTITY).contains(&found);
    u32::try_from(found).ok().filter(|_| in_range).ok_or_else(|| {
        invalid("quantity", format_args!("found {found}, expected 1 to {MAX_QUANTITY}"))
    })
}

impl From<Order> for v1::Order {
    fn from(stored: Order) -> Self {
        let Order { id, order, created_at } = stored;
        Self {
            id: id.to_string(),
            user_id: order.user_id,
            product_id: order.product_id,
            // At most a million.
            quantity: order.quantity.cast_signed(),
            total_price: order.total_price.units(),
            status: order.status.into(),
            created_at: Some(created_at.into()),
        }
    }
}
