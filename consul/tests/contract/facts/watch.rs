//! Watches of the typed client, over a live agent.

use std::time::Duration;

use consul::{
    Event, Watch,
    api::{Action, CheckStatus, Rule},
};
use tokio::time::{Instant, timeout};

use crate::target::{Settings, start};

use super::registration::meshed;

pub(super) async fn changed<T: std::fmt::Debug>(watch: &mut Watch<T>) -> T {
    // After a change of roots Consul spreads the renewal of leaves over half a minute.
    match timeout(Duration::from_secs(60), watch.next()).await.expect("a change") {
        Event::Changed(change) => change.value,
        other => panic!("{other:?}"),
    }
}

async fn until<T: std::fmt::Debug>(watch: &mut Watch<T>, wanted: impl Fn(&T) -> bool) {
    while !wanted(&changed(watch).await) {}
}

facts! {
    async fn a_watch_tells_the_state_and_then_each_change(at: At) {
        let mut watch = at.client.health().connect("watched").passing().watch();
        assert!(changed(&mut watch).await.is_empty());
        at.client.agent().register(&meshed("watched", 4500, CheckStatus::Passing)).await.unwrap();
        until(&mut watch, |entries| entries.len() == 1).await;
        at.client.agent().update_check("watched:ttl", CheckStatus::Critical, "").await.unwrap();
        until(&mut watch, |entries| entries.is_empty()).await;
        assert!(watch.age(Instant::now()).unwrap() < Duration::from_secs(60));
    }

    async fn a_watch_tells_nothing_twice_and_outlives_an_impatient_caller(at: At) {
        let mut watch = at.client.connect().intentions_to("calm").watch();
        changed(&mut watch).await;
        for _ in 0..5 {
            assert!(timeout(Duration::from_millis(100), watch.next()).await.is_err());
        }
        at.client.connect().set_intention("a", "calm", &Rule::Action(Action::Allow)).await.unwrap();
        until(&mut watch, |intentions| intentions.iter().any(|one| one.source == "a")).await;
    }

    async fn a_leaf_and_the_roots_can_be_watched(at: At) {
        let mut leaf = at.client.agent().leaf("watched-leaf").watch();
        assert!(changed(&mut leaf).await.service_uri.ends_with("/svc/watched-leaf"));
        let mut roots = at.client.agent().roots().watch();
        assert_eq!(changed(&mut roots).await.roots.len(), 1);
        assert!(timeout(Duration::from_millis(300), leaf.next()).await.is_err());
        assert!(timeout(Duration::from_millis(300), roots.next()).await.is_err());
    }

    async fn an_outage_is_told_once(at: At) {
        let Some(own) = start(at.kind, Settings::default()).await else { return };
        let mut watch = own.at.client.health().service("consul").watch();
        changed(&mut watch).await;
        own.stop().await;
        let event = timeout(Duration::from_secs(20), watch.next()).await.unwrap();
        assert!(matches!(&event, Event::Failed(error) if error.is_outage()), "{event:?}");
        assert!(timeout(Duration::from_secs(2), watch.next()).await.is_err(), "told twice");
    }

    async fn a_consul_that_lost_its_data_is_told_as_a_regression(at: At) {
        let Some(own) = start(at.kind, Settings::default()).await else { return };
        let client = own.at.client.clone();
        let mut watch = client.health().connect("lost").watch();
        changed(&mut watch).await;
        // Enough writes that the new one's index stays behind.
        for n in 0..100 {
            let rule = Rule::Action(Action::Allow);
            client.connect().set_intention(&format!("n{n}"), "lost", &rule).await.unwrap();
        }
        client.agent().register(&meshed("lost", 4510, CheckStatus::Passing)).await.unwrap();
        until(&mut watch, |entries| entries.len() == 1).await;
        let ports = own.ports;
        own.stop().await;
        let event = timeout(Duration::from_secs(20), watch.next()).await.unwrap();
        assert!(matches!(event, Event::Failed(_)), "{event:?}");
        let settings = Settings { ports: Some(ports), ..Settings::default() };
        let Some(new) = start(at.kind, settings).await else { return };
        loop {
            match timeout(Duration::from_secs(60), watch.next()).await.unwrap() {
                Event::Changed(change) => {
                    assert!(change.value.is_empty());
                    assert!(change.regressed);
                    break;
                }
                // While it starts it fails in one way after another.
                Event::Failed(_) => {}
                Event::Restored(meta) => panic!("told as the same: {meta:?}"),
            }
        }
        new.stop().await;
    }
}
