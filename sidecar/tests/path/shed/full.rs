//! Calls that find every stream taken: the sidecar's own, or those to the app.

use outrigger::telemetry::labels::Shed;

use super::super::net::app_as;
use super::*;

/// An app that takes one call at a time on each connection, and answers when it may.
fn app_of_one_stream(mesh: &Mesh, may: Rc<Semaphore>) {
    let mut server = h2::server::Builder::new();
    server.max_concurrent_streams(1);
    app_as(mesh, server, move |request, respond| {
        let may = may.clone();
        async move {
            may.acquire().await.unwrap().forget();
            work_on(Seen::default(), Duration::ZERO, request, respond).await;
        }
    });
}

/// One call answered, the next refused and counted, and the first one's place given to a third.
async fn the_second_of_two_is_refused(limits: &str, cause: &str, says: &str) {
    let mesh = Mesh::with_app(limits);
    let may = Rc::new(Semaphore::new(1));
    app_of_one_stream(&mesh, may.clone());
    let mut client = mesh.peer("web", &mesh.echo).await;
    assert_eq!(spawn(&mut client, "").await.unwrap().status, "0");
    let first = spawn(&mut client, "");
    sleep(Duration::from_millis(10)).await;
    let second = spawn(&mut client, "").await.unwrap();
    assert_eq!((second.status.as_str(), second.reason.as_str()), ("14", "overloaded"));
    assert!(second.message.contains(says), "{}", second.message);
    let metrics = Mesh::scrape(&mesh.echo_metrics);
    for of in Shed::ALL {
        let times = i32::from(of.label() == cause);
        let line = format!("outrigger_shed_total{{cause=\"{}\"}} {times}\n", of.label());
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    may.add_permits(2);
    assert_eq!(first.await.unwrap().status, "0");
    assert_eq!(spawn(&mut client, "").await.unwrap().status, "0");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stream_over_those_of_the_sidecar_is_refused_and_counted() {
    let one = "[limits]\nopen_streams = 1\n";
    the_second_of_two_is_refused(one, "open_streams", "1 streams are open").await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_over_the_streams_that_the_app_takes_is_refused_and_counted() {
    let one = "[limits]\nconnections_per_endpoint = 1\n";
    the_second_of_two_is_refused(one, "connections", "all 1 connections are full").await;
}
