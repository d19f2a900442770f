//! The same mesh on a real Consul with ACLs: its loss, with and without its data, and a rotation
//! of its authority lose no call.

use proto::order::v1::CreateOrderRequest;
use proto::order::v1::order_service_client::OrderServiceClient;
use proto::product::v1::CreateProductRequest;
use proto::product::v1::product_service_client::ProductServiceClient;
use serde_json::json;

use super::authority::Authority;
use super::load::Load;
use super::process::until;
use super::whole::{SERVICES, Whole};

const CALLERS: usize = 8;

/// As the log of `up` names them.
const SIDECARS: [&str; 4] = [
    "user-service-1 sidecar",
    "product-service-1 sidecar",
    "order-service-1 sidecar",
    "client-1 sidecar",
];

fn load(mesh: &Whole) -> Load {
    Load::start((0..CALLERS).map(|_| mesh.channel("user-service")), "1")
}

async fn all_went_well(load: Load) {
    let (calls, failures) = load.end().await;
    assert!(failures.is_empty(), "{} of {calls} calls failed: {failures:?}", failures.len());
}

/// An order: through the client's sidecar and, twice, through the one of the order service.
async fn order(mesh: &Whole) {
    let mut products = ProductServiceClient::new(mesh.channel("product-service"));
    let lamp = CreateProductRequest { name: "Lamp".into(), price: 19.99, ..Default::default() };
    let product = products.create_product(lamp).await.unwrap().into_inner().product.unwrap();
    let mut orders = OrderServiceClient::new(mesh.channel("order-service"));
    let wanted = CreateOrderRequest { user_id: "1".into(), product_id: product.id, quantity: 2 };
    let order = orders.create_order(wanted).await.unwrap().into_inner().order.unwrap();
    assert_eq!(order.total_price, 39.98);
}

/// Waits until every service is registered with its sidecar and passes.
async fn registered(mesh: &Whole) {
    for service in SERVICES {
        until("the service is registered and passes", async || {
            let found = mesh.consul.health().connect(service).passing().send().await;
            found.is_ok_and(|found| found.value.len() == 1)
        })
        .await;
    }
}

#[tokio::test]
async fn a_consul_that_is_killed_and_comes_back_with_its_data_costs_no_call() {
    let Some(mut consul) = Authority::start().await else { return };
    let mesh = Whole::on(&consul).await.with_a_user().await;
    order(&mesh).await;
    let load = load(&mesh);
    load.calls(100).await;
    consul.kill().await;
    load.calls(200).await;
    consul.restart().await;
    registered(&mesh).await;
    load.calls(200).await;
    order(&mesh).await;
    all_went_well(load).await;
    mesh.end().await;
}

#[tokio::test]
async fn a_consul_that_comes_back_without_its_data_costs_no_call_and_learns_of_all_services_again()
{
    let Some(mut consul) = Authority::start().await else { return };
    let mut mesh = Whole::on(&consul).await.with_a_user().await;
    let before = mesh.consul.agent().roots().send().await.unwrap().value.trust_domain;
    let load = load(&mesh);
    load.calls(100).await;
    consul.kill().await;
    load.calls(100).await;
    consul
        .begin_anew(async || {
            mesh.up.line(&["client-1 sidecar", "answers again", "endpoints"]).await
        })
        .await;
    registered(&mesh).await;
    let after = mesh.consul.agent().roots().send().await.unwrap().value.trust_domain;
    assert_ne!(before, after, "it has its data");
    // What is trusted first and presented later, by each in its own time; the domain before it is
    // trusted no more in the end.
    for sidecar in SIDECARS {
        mesh.up.line(&[sidecar, " identity ", &after, "roots=2"]).await;
    }
    for sidecar in SIDECARS {
        mesh.up.line(&[sidecar, " identity ", &after, "roots=1"]).await;
    }
    load.calls(200).await;
    all_went_well(load).await;
    mesh.end().await;
}

#[tokio::test]
async fn a_rotation_of_the_root_and_with_it_of_every_leaf_costs_no_call() {
    let Some(consul) = Authority::start().await else { return };
    let mut mesh = Whole::on(&consul).await.with_a_user().await;
    let load = load(&mesh);
    load.calls(100).await;
    let connect = mesh.consul.connect();
    let config = connect.ca_configuration().send().await.unwrap().value;
    let mut turned = json!({ "Provider": "consul", "Config": config["Config"].clone() });
    turned["Config"]["PrivateKeyType"] = json!("ec");
    turned["Config"]["PrivateKeyBits"] = json!(384);
    turned["Config"].as_object_mut().unwrap().remove("RootCert");
    connect.set_ca_configuration(&turned).await.unwrap();
    let roots = mesh.consul.agent().roots().send().await.unwrap().value;
    assert_eq!(roots.roots.len(), 2);
    // First with the leaf that they have, then with one of the new root.
    for sidecar in SIDECARS {
        mesh.up.times(2, &[sidecar, " identity ", "roots=2"]).await;
    }
    load.calls(200).await;
    all_went_well(load).await;
    mesh.end().await;
}
