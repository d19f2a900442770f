//! The life of an instance in the mesh, on either Consul.

use std::time::Duration;

use consul::api::{Action, CheckStatus, Rule};

use crate::agents::{Consul, Kind, eventually, within};
use crate::mesh::{App, Load, Sidecar, call, callable, is_denied, whole_server};
use crate::way::Way;

/// Makes two tests of each fact.
macro_rules! facts {
    ($(async fn $name:ident($consul:ident: Consul) $body:block)*) => {
        $(async fn $name(#[allow(unused_mut)] mut $consul: Consul) $body)*

        mod real {
            use super::{Consul, Kind};
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                let Some(consul) = Consul::up(Kind::Real).await else { return };
                super::$name(consul).await;
            })*
        }

        mod embedded {
            use super::{Consul, Kind};
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() {
                super::$name(Consul::up(Kind::Embedded).await.unwrap()).await;
            })*
        }
    };
}

facts! {
    async fn an_instance_is_registered_called_and_gone(consul: Consul) {
        let app = App::start().await;
        let order = Sidecar::start(&consul, "order", Some(app.address), "").await;
        let web = Sidecar::start(&consul, "web", None, "").await;
        order.ready().await;
        web.ready().await;
        callable(&web.client("order")).await;

        let client = consul.client();
        let apps = client.health().service("order").passing().send().await.unwrap().value;
        assert_eq!(apps[0].service.port, app.address.port());
        let proxies = client.health().connect("order").send().await.unwrap().value;
        assert_eq!(proxies[0].service.port, order.inbound.unwrap().port());
        assert_eq!(proxies[0].checks.iter().filter(|c| !c.service_id.is_empty()).count(), 1);
        let text = order.scrape() + &web.scrape();
        for metric in [
            "\noutrigger_certificate_expiry_timestamp_seconds",
            "outrigger_endpoints{peer=\"order\",state=\"available\"} 1",
            "outrigger_consul_snapshot_age_seconds{kind=\"leaf\"}",
            "outrigger_consul_snapshot_age_seconds{kind=\"endpoints\"}",
        ] {
            assert!(text.contains(metric), "{metric} in\n{text}");
        }

        let id = format!("order-{}", app.address.port());
        assert!(client.agent().service(&id).await.unwrap().is_some());
        assert!(order.control.deregister().await);
        assert!(client.agent().service(&id).await.unwrap().is_none());
        assert!(order.control.gone_from_mesh().await);
        assert!(order.control.deregister().await, "twice is no error");
        let left = client.health().connect("order").send().await.unwrap().value;
        assert!(left.is_empty(), "{left:?}");
        eventually("callers are told", async || {
            let status = call(&web.client("order")).await.err()?;
            status.message().contains("none is registered").then_some(())
        })
        .await;
    }

    async fn an_intention_that_denies_ends_an_open_stream_and_names_itself(consul: Consul) {
        let app = App::start().await;
        let order = Sidecar::start(&consul, "order", Some(app.address), "").await;
        let web = Sidecar::start(&consul, "web", None, "").await;
        order.ready().await;
        let mut caller = web.client("order");
        callable(&caller).await;
        let mut stream = caller.watch(whole_server()).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());

        let connect = consul.client();
        let rule = |action| Rule::Action(action);
        connect.connect().set_intention("web", "order", &rule(Action::Deny)).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(3), stream.message()).await;
        let status = ended.expect("the stream ends").unwrap_err();
        assert!(is_denied(&status), "{status:?}");
        assert!(status.message().contains("\"web => order\""), "{}", status.message());
        assert!(is_denied(&call(&caller).await.unwrap_err()));

        connect.connect().set_intention("web", "order", &rule(Action::Allow)).await.unwrap();
        callable(&caller).await;
    }

    async fn a_change_of_intentions_waits_for_no_answer_about_the_default(consul: Consul) {
        let (app, way) = (App::start().await, Way::to(consul.address()).await);
        let more = format!("[consul]\naddress = \"{}\"\n", way.address);
        let order = Sidecar::start(&consul, "order", Some(app.address), &more).await;
        let web = Sidecar::start(&consul, "web", None, "").await;
        order.ready().await;
        let caller = web.client("order");
        callable(&caller).await;
        way.lose_authorize();
        let connect = consul.client();
        let turn = async |action| {
            connect.connect().set_intention("web", "order", &Rule::Action(action)).await.unwrap();
        };
        turn(Action::Deny).await;
        eventually("the default is asked for", async || way.has_lost().then_some(())).await;
        let soon = Duration::from_secs(5);
        for action in [Action::Deny, Action::Allow, Action::Deny] {
            turn(action).await;
            within(soon, "it counts", async || {
                let is_refused = call(&caller).await.is_err_and(|status| is_denied(&status));
                (is_refused == (action == Action::Deny)).then_some(())
            })
            .await;
        }
    }

    async fn an_instance_that_consul_forgot_is_registered_again(consul: Consul) {
        let app = App::start().await;
        let order = Sidecar::start(&consul, "order", Some(app.address), "").await;
        order.ready().await;
        let id = format!("order-{}", app.address.port());
        let client = consul.client();
        // All of it, and its sidecar alone.
        for forgotten in [id.clone(), format!("{id}-sidecar-proxy")] {
            client.agent().deregister(&forgotten).await.unwrap();
            within(Duration::from_secs(10), "it is registered again", async || {
                client.agent().service(&forgotten).await.ok()??;
                let entries = client.health().connect("order").passing().send().await.ok()?.value;
                (!entries.is_empty()).then_some(())
            })
            .await;
        }
    }

    async fn the_health_of_the_app_is_that_of_its_endpoint_and_says_why(consul: Consul) {
        let app = App::start().await;
        let order = Sidecar::start(&consul, "order", Some(app.address), "").await;
        order.ready().await;
        let client = consul.client();
        let id = format!("service:order-{}", app.address.port());
        let check = async |status: CheckStatus, words: &str| {
            eventually(words, async || {
                let entries = client.health().connect("order").send().await.ok()?.value;
                // The agent's own word: a changed output alone reaches the servers minutes later.
                let checks = client.agent().checks().send().await.ok()?.value;
                let all = entries.first()?.status() == status && checks[&id].output.contains(words);
                all.then_some(())
            })
            .await;
        };
        check(CheckStatus::Passing, "SERVING").await;
        app.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        check(CheckStatus::Critical, "NOT_SERVING").await;
        assert!(order.readiness.degraded().iter().any(|d| d.starts_with("app: ")));
        let address = app.address;
        app.stop().await;
        check(CheckStatus::Critical, "connection refused").await;
        let app = App::start_at(address).await;
        check(CheckStatus::Passing, "SERVING").await;
        drop(app);
    }

    async fn maintenance_of_a_former_life_is_over(consul: Consul) {
        let app = App::start().await;
        let id = format!("order-{}", app.address.port());
        let client = consul.client();
        let registration = consul::api::ServiceRegistration {
            id: Some(id.clone()),
            name: "order".to_owned(),
            ..Default::default()
        };
        client.agent().register(&registration).await.unwrap();
        client.agent().service_maintenance(&id, true, "a drain that was cut short").await.unwrap();
        let order = Sidecar::start(&consul, "order", Some(app.address), "").await;
        order.ready().await;
        eventually("it takes calls", async || {
            let entries = client.health().connect("order").passing().send().await.ok()?.value;
            (!entries.is_empty()).then_some(())
        })
        .await;
    }

    async fn an_instance_that_listens_everywhere_has_its_agents_address(consul: Consul) {
        let app = App::start().await;
        let order = Sidecar::start_everywhere(&consul, "order", app.address).await;
        let web = Sidecar::start(&consul, "web", None, "").await;
        order.ready().await;
        callable(&web.client("order")).await;
        let client = consul.client();
        let proxies = client.health().connect("order").send().await.unwrap().value;
        assert_eq!(proxies[0].service.address, "");
        assert_eq!(proxies[0].address(), "127.0.0.1");
    }

    async fn what_is_called_no_more_is_forgotten_and_found_again(consul: Consul) {
        let app = App::start().await;
        let order = Sidecar::start(&consul, "order", Some(app.address), "").await;
        order.ready().await;
        let web = Sidecar::start(&consul, "web", None, "[timeouts]\nupstream_idle = \"1s\"").await;
        callable(&web.client("order")).await;
        let metric = "outrigger_endpoints{peer=\"order\"";
        eventually("it is forgotten", async || (!web.scrape().contains(metric)).then_some(())).await;
        eventually("it is found again", async || {
            call(&web.client("order")).await.unwrap();
            web.scrape().contains(metric).then_some(())
        })
        .await;
    }

    async fn after_a_restart_of_consul_an_app_that_dies_is_called_no_more(consul: Consul) {
        let (well, ill) = (App::start().await, App::start().await);
        let one = Sidecar::start(&consul, "order", Some(well.address), "").await;
        let other = Sidecar::start(&consul, "order", Some(ill.address), "").await;
        let web = Sidecar::start(&consul, "web", None, "").await;
        one.ready().await;
        other.ready().await;
        callable(&web.client("order")).await;
        let available = async |web: &Sidecar, n: usize| {
            let series = format!("outrigger_endpoints{{peer=\"order\",state=\"available\"}} {n}\n");
            eventually(&series, async || web.scrape().contains(&series).then_some(())).await;
        };
        available(&web, 2).await;
        consul.kill().await;
        eventually("the outage is noticed", async || {
            (!web.readiness.degraded().is_empty()).then_some(())
        })
        .await;
        consul.start().await;
        let client = consul.client();
        eventually("both are known again", async || {
            let entries = client.health().connect("order").passing().send().await.ok()?.value;
            let is_well = web.readiness.degraded().is_empty() && entries.len() == 2;
            is_well.then_some(())
        })
        .await;
        available(&web, 2).await;
        ill.stop().await;
        within(Duration::from_secs(30), "it is out", async || {
            web.scrape().contains("state=\"available\"} 1\n").then_some(())
        })
        .await;
        call(&web.client("order")).await.unwrap();
    }

    async fn a_rotation_of_the_root_fails_no_call(consul: Consul) {
        let app = App::start().await;
        let order = Sidecar::start(&consul, "order", Some(app.address), "").await;
        let web = Sidecar::start(&consul, "web", None, "").await;
        order.ready().await;
        callable(&web.client("order")).await;
        let before = web.fleet.present_identity().await.leaf().chain().to_vec();
        let load = Load::on(web.client("order"));
        rotate(&consul).await;
        for sidecar in [&web, &order] {
            eventually("a leaf of the new root is presented", async || {
                let identity = sidecar.fleet.present_identity().await;
                let is_new = identity.leaf().chain() != before && identity.roots().certificates().len() == 2;
                is_new.then_some(())
            })
            .await;
        }
        let calls = load.calls.load(std::sync::atomic::Ordering::Relaxed);
        eventually("calls go on", async || {
            (load.calls.load(std::sync::atomic::Ordering::Relaxed) > calls + 20).then_some(())
        })
        .await;
        let failures = load.end().await;
        assert!(failures.is_empty(), "{failures:#?}");
    }

    async fn consul_and_the_app_may_come_last(consul: Consul) {
        consul.lose_everything().await;
        let app = App::start().await;
        let address = app.address;
        app.stop().await;
        let order = Sidecar::start(&consul, "order", Some(address), "").await;
        let web = Sidecar::start(&consul, "web", None, "").await;
        eventually("it says what it waits for", async || {
            let degraded = order.readiness.degraded();
            degraded.iter().any(|d| d.contains("cannot be reached")).then_some(())
        })
        .await;
        assert!(order.readiness.blocked().iter().any(|b| b.contains("certificate")));
        let status = call(&web.client("order")).await.unwrap_err();
        assert!(status.message().contains("\"order\""), "{status:?}");
        consul.start().await;
        eventually("only the app is missing", async || {
            (order.readiness.blocked() == ["the app to be healthy"]).then_some(())
        })
        .await;
        let _app = App::start_at(address).await;
        order.ready().await;
        callable(&web.client("order")).await;
        eventually("nothing is amiss", async || order.readiness.degraded().is_empty().then_some(()))
            .await;
    }
}

/// Another key type needs another key, and so another root.
async fn rotate(consul: &Consul) {
    let connect = consul.client();
    let config = connect.connect().ca_configuration().send().await.unwrap().value;
    let mut turned = serde_json::json!({"Provider": "consul", "Config": config["Config"].clone()});
    turned["Config"]["PrivateKeyType"] = "rsa".into();
    turned["Config"]["PrivateKeyBits"] = 2048.into();
    turned["Config"].as_object_mut().unwrap().remove("RootCert");
    connect.connect().set_ca_configuration(&turned).await.unwrap();
}
