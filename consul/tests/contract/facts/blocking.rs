//! Blocking queries, on the wire.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::target::eventually;

facts! {
    async fn a_question_is_held_until_something_changes(at: At) {
        at.register(&json!({"ID": "held-1", "Name": "held", "Port": 4400})).await;
        eventually("it is told", async || {
            (at.client.health().service("held").send().await.unwrap().value.len() == 1)
                .then_some(())
        })
        .await;
        let index = at.fetch("/v1/health/service/held").await.index();
        let held = tokio::spawn({
            let at = at.clone();
            async move { at.fetch(&format!("/v1/health/service/held?index={index}&wait=60s")).await }
        });
        // Held: it has no answer while nothing changes.
        let mut held = held;
        assert!(timeout(Duration::from_millis(300), &mut held).await.is_err());
        at.register(&json!({"ID": "held-2", "Name": "held", "Port": 4401})).await;
        let raw = timeout(Duration::from_secs(20), held).await.unwrap().unwrap();
        assert!(raw.index() > index);
        assert_eq!(raw.json().as_array().unwrap().len(), 2);
    }

    async fn a_question_is_answered_after_its_wait_with_the_same_index(at: At) {
        at.register(&json!({"Name": "waited", "Port": 4410})).await;
        eventually("it is told", async || {
            (at.client.health().service("waited").send().await.unwrap().value.len() == 1)
                .then_some(())
        })
        .await;
        let index = at.fetch("/v1/health/service/waited").await.index();
        let start = Instant::now();
        let raw = at.fetch(&format!("/v1/health/service/waited?index={index}&wait=500ms")).await;
        assert_eq!(raw.index(), index);
        assert!(start.elapsed() >= Duration::from_millis(500));
    }

    async fn a_question_for_an_old_index_is_answered_at_once(at: At) {
        let raw =
            timeout(Duration::from_secs(10), at.fetch("/v1/catalog/services?index=1&wait=60s"));
        assert!(raw.await.unwrap().index() > 1);
    }

    async fn a_wrong_index_or_wait_is_refused(at: At) {
        at.fetch("/v1/health/service/x?index=-1").await.says(400, "Invalid index");
        at.fetch("/v1/health/service/x?index=a").await.says(400, "Invalid index");
        at.fetch("/v1/health/service/x?index=1&wait=long").await.says(400, "Invalid wait time");
    }
}
