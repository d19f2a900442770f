//! The product service over the wire: what each call answers, and how it refuses.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "in tests, outside #[test] too")]

#[path = "../../kit/tests/served/running.rs"]
mod running;

use proto::product::v1::{self, product_service_client::ProductServiceClient};
use tonic::{Code, transport::Channel};

use running::{Running, serve};

type Client = ProductServiceClient<Channel>;

async fn running() -> Running<Client> {
    let start = async |url: &str| {
        product::start(&kit::Environment::from_variables([("DATABASE_URL", url)])).await
    };
    serve(start, Client::new).await
}

fn new(name: &str, price: f64) -> v1::CreateProductRequest {
    v1::CreateProductRequest { name: name.into(), price, description: "Fast".into() }
}

#[tokio::test]
async fn a_created_product_is_found_with_its_price_to_the_cent() {
    let client = &mut running().await.client;
    let created = client.create_product(new("Laptop", 999.99)).await.unwrap().into_inner();
    let product = created.product.unwrap();
    assert_eq!((product.id.as_str(), product.price), ("1", 999.99));
    let found = client.get_product(v1::GetProductRequest { id: "1".into() }).await.unwrap();
    assert_eq!(found.into_inner().product.unwrap(), product);
}

#[tokio::test]
async fn a_price_that_is_none_is_named_with_its_value() {
    let client = &mut running().await.client;
    for (price, says) in [
        (1.999, "price: found 1.999, expected two decimals at most"),
        (-1.0, "price: found -1, expected 0 or more"),
        (f64::NAN, "price: found NaN, expected a finite number"),
        (f64::INFINITY, "price: found inf, expected a finite number"),
        (1e9 + 1.0, "price: found 1000000001, expected at most 1000000000"),
    ] {
        let status = client.create_product(new("Laptop", price)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, says));
    }
    let status = client.create_product(new(" ", 1.0)).await.unwrap_err();
    assert_eq!(status.message(), r#"name: found " ", expected a text"#);
    // Nothing was stored of them.
    let created = client.create_product(new("Free", 0.0)).await.unwrap().into_inner();
    assert_eq!(created.product.unwrap().id, "1");
}

#[tokio::test]
async fn a_product_that_does_not_exist_is_named() {
    let client = &mut running().await.client;
    for (id, code, says) in [
        ("42", Code::NotFound, r#"product "42" does not exist"#),
        ("x", Code::NotFound, r#"product "x" does not exist"#),
        ("", Code::InvalidArgument, "id: found nothing, expected an ID"),
    ] {
        let status = client.get_product(v1::GetProductRequest { id: id.into() }).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, says));
    }
}

#[tokio::test]
async fn a_token_leads_from_page_to_page_to_the_end() {
    let client = &mut running().await.client;
    for n in 1..=5 {
        client.create_product(new("Laptop", f64::from(n))).await.unwrap();
    }
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    for expected in [2, 2, 1] {
        let request = v1::ListProductsRequest { page_size: 2, page_token };
        let page = client.list_products(request).await.unwrap().into_inner();
        assert_eq!(page.products.len(), expected);
        seen.extend(page.products.into_iter().map(|product| product.id));
        page_token = page.next_page_token;
    }
    assert_eq!((seen.join(" "), page_token.as_str()), ("1 2 3 4 5".to_owned(), ""));
    let request = v1::ListProductsRequest { page_size: 2, page_token: "garbage".into() };
    let status = client.list_products(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("page_token: "), "{}", status.message());
}
