//! The order service over the wire, with the real user and product service behind one port, as a
//! sidecar's outbound port has them.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "in tests, outside #[test] too")]

#[path = "../../kit/tests/served/running.rs"]
mod running;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::{
    order::v1::{self, order_service_client::OrderServiceClient},
    product::v1::{CreateProductRequest, product_service_server::ProductService as _},
    user::v1::{CreateUserRequest, user_service_server::UserService as _},
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{
    Code, Request,
    transport::{Channel, Server, server::TcpIncoming},
};
use tower::util::MapRequestLayer;

use running::{Running, serve};

type Client = OrderServiceClient<Channel>;

/// Of each call that came to the outbound port: its authority and headers.
type Seen = Arc<Mutex<Vec<(String, http::HeaderMap)>>>;

async fn running(outbound: &str) -> Running<Client> {
    let start = async |url: &str| {
        let variables = [("DATABASE_URL", url), ("OUTBOUND", outbound)];
        order::start(&kit::Environment::from_variables(variables)).await
    };
    serve(start, Client::new).await
}

/// The user "1" and the product "1", which costs 19.99, behind one port.
struct Upstreams {
    outbound: String,
    seen: Seen,
    _directory: TempDir,
}

async fn upstreams() -> Upstreams {
    let directory = TempDir::new().unwrap();
    let store = |name: &str| kit::Database::Sqlite(directory.path().join(format!("{name}.db")));
    let users = user::service::Users::new(user::store::Store::open(&store("user")).await.unwrap());
    let products = product::store::Store::open(&store("product")).await.unwrap();
    let products = product::service::Products::new(products);
    let ada = CreateUserRequest { email: "ada@example.com".into(), name: "Ada".into(), role: 0 };
    users.create_user(Request::new(ada)).await.unwrap();
    let book = CreateProductRequest { name: "Book".into(), price: 19.99, ..Default::default() };
    products.create_product(Request::new(book)).await.unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outbound = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    let record = MapRequestLayer::new(move |request: http::Request<tonic::body::Body>| {
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        record.lock().unwrap().push((authority, request.headers().clone()));
        request
    });
    use proto::product::v1::product_service_server::ProductServiceServer;
    use proto::user::v1::user_service_server::UserServiceServer;
    let server = Server::builder()
        .layer(record)
        .add_service(UserServiceServer::new(users))
        .add_service(ProductServiceServer::new(products))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    Upstreams { outbound, seen, _directory: directory }
}

fn new(user_id: &str, product_id: &str, quantity: i32) -> v1::CreateOrderRequest {
    let (user_id, product_id) = (user_id.into(), product_id.into());
    v1::CreateOrderRequest { user_id, product_id, quantity }
}

#[tokio::test]
async fn an_order_is_confirmed_with_the_total_of_its_product() {
    let upstreams = upstreams().await;
    let client = &mut running(&upstreams.outbound).await.client;
    let created = client.create_order(new("1", "1", 3)).await.unwrap().into_inner();
    let order = created.order.unwrap();
    assert_eq!((order.id.as_str(), order.quantity, order.total_price), ("1", 3, 59.97));
    assert_eq!(order.status(), v1::OrderStatus::Confirmed);
    let found = client.get_order(v1::GetOrderRequest { id: "1".into() }).await.unwrap();
    assert_eq!(found.into_inner().order.unwrap(), order);
}

#[tokio::test]
async fn an_order_for_who_or_what_does_not_exist_names_it() {
    let upstreams = upstreams().await;
    let client = &mut running(&upstreams.outbound).await.client;
    for (order, code, says) in [
        (new("42", "1", 1), Code::NotFound, r#"user "42" does not exist"#),
        (new("1", "43", 1), Code::NotFound, r#"product "43" does not exist"#),
        (new("", "1", 1), Code::InvalidArgument, r#"user_id: found "", expected a text"#),
        (new("1", "1", 0), Code::InvalidArgument, "quantity: found 0, expected 1 to 1000000"),
        (new("1", "1", -1), Code::InvalidArgument, "quantity: found -1, expected 1 to 1000000"),
    ] {
        let status = client.create_order(order).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, says));
    }
    let status = client.get_order(v1::GetOrderRequest { id: "1".into() }).await.unwrap_err();
    let says = (Code::NotFound, r#"order "1" does not exist"#);
    assert_eq!((status.code(), status.message()), says);
}

#[tokio::test]
async fn upstreams_are_called_by_name_with_the_trace_and_the_time_left() {
    let upstreams = upstreams().await;
    let client = &mut running(&upstreams.outbound).await.client;
    let mut request = Request::new(new("1", "1", 1));
    request.set_timeout(Duration::from_secs(30));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (name, value) in [
        ("traceparent", trace),
        ("tracestate", "outrigger=d:1;a:1,o=x"),
        ("baggage", "k=v"),
        ("x-other", "x"),
    ] {
        request.metadata_mut().append(name, value.parse().unwrap());
    }
    client.create_order(request).await.unwrap();
    let seen = upstreams.seen.lock().unwrap();
    let authorities: Vec<_> = seen.iter().map(|(authority, _)| authority.as_str()).collect();
    assert_eq!(authorities, ["user-service", "product-service"]);
    for (_, headers) in seen.iter() {
        assert_eq!(headers["traceparent"], trace);
        assert_eq!(headers["tracestate"], "outrigger=d:1;a:1,o=x");
        assert_eq!(headers["baggage"], "k=v");
        assert!(headers.contains_key("grpc-timeout"));
        assert!(!headers.contains_key("x-other"));
    }
}

#[tokio::test]
async fn a_sidecar_that_is_not_there_is_told_with_the_upstream_it_was_for() {
    // A port that was just given back: nobody listens.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = &mut running(&format!("http://{gone}")).await.client;
    let status = client.create_order(new("1", "1", 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("user-service: "), "{}", status.message());
}

#[tokio::test]
async fn a_call_does_not_outlive_the_time_it_was_given() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outbound = format!("http://{}", silent.local_addr().unwrap());
    let client = &mut running(&outbound).await.client;
    let mut request = Request::new(new("1", "1", 1));
    request.metadata_mut().insert("grpc-timeout", "50m".parse().unwrap());
    let answer = tokio::time::timeout(Duration::from_secs(30), client.create_order(request)).await;
    let status = answer.unwrap().unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
}

#[tokio::test]
async fn a_list_is_of_one_user_or_of_all_and_its_tokens_with_it() {
    let upstreams = upstreams().await;
    let client = &mut running(&upstreams.outbound).await.client;
    for _ in 0..3 {
        client.create_order(new("1", "1", 1)).await.unwrap();
    }
    let ask = |user_id: &str, page_token: String| v1::ListOrdersRequest {
        page_size: 2,
        page_token,
        user_id: user_id.into(),
    };
    let first = client.list_orders(ask("1", String::new())).await.unwrap().into_inner();
    assert_eq!(first.orders.len(), 2);
    let token = first.next_page_token;
    let rest = client.list_orders(ask("1", token.clone())).await.unwrap().into_inner();
    assert_eq!((rest.orders[0].id.as_str(), rest.next_page_token.as_str()), ("3", ""));
    let others = client.list_orders(ask("2", String::new())).await.unwrap().into_inner();
    assert!(others.orders.is_empty());
    let all = client.list_orders(ask("", String::new())).await.unwrap().into_inner();
    assert_eq!(all.orders.len(), 2);
    for other in ["", "2"] {
        let status = client.list_orders(ask(other, token.clone())).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("page_token: "), "{}", status.message());
    }
}
