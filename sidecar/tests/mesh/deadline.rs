//! A deadline over two hops, by an app between them that knows nothing of it.

use std::time::Duration;

use proto::user::v1::CreateUserRequest;
use proto::user::v1::user_service_client::UserServiceClient;
use tokio::time::Instant;
use tonic::{Code, Request};

use super::app::{App, HELD};
use super::pki::Pki;
use super::sidecar::Sidecar;

fn millis(timeout: &str) -> u64 {
    let (digits, unit) = timeout.split_at(timeout.len() - 1);
    let count: u64 = digits.parse().unwrap();
    match unit {
        "S" => count * 1_000,
        "m" => count,
        "u" => count / 1_000,
        "n" => count / 1_000_000,
        other => panic!("a deadline in {other}"),
    }
}

#[tokio::test]
async fn a_deadline_reaches_the_second_app_shortened_over_a_bare_first_one() {
    let pki = Pki::new();
    let (hop, last) = (App::start("hop"), App::start("last"));
    let callee =
        Sidecar::guarding(&pki, "user-service", last.address, &["order-service"], "").await;
    let upstream = format!("[upstreams.user-service]\nendpoints = [\"{}\"]\n", callee.inbound);
    let between = Sidecar::guarding(&pki, "order-service", hop.address, &["web"], &upstream).await;
    assert!(hop.state.next.set(between.channel("user-service")).is_ok());
    let caller = Sidecar::calling(&pki, "web", "order-service", &[between.inbound]).await;
    let mut client = UserServiceClient::new(caller.channel("order-service"));
    let mut call = async |id: &str, within: Duration| {
        let create = CreateUserRequest { name: id.into(), ..CreateUserRequest::default() };
        let mut request = Request::new(create);
        request.set_timeout(within);
        client.create_user(request).await
    };

    call("1", Duration::from_secs(30)).await.unwrap();
    let told = last.state.timeouts.lock().unwrap().clone();
    let [told] = &told[..] else { panic!("{told:?}") };
    let left = millis(told);
    assert!((15_000..30_000).contains(&left), "{told}");

    // The last app does not answer: the first one's caller is not kept waiting for it.
    let begun = Instant::now();
    let refused = call(HELD, Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(refused.code(), Code::DeadlineExceeded | Code::Cancelled), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
