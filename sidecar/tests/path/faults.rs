//! What is refused or ends early, with which words, and when.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::net::{
    Answer, Mesh, address, allow, app, app_address, echo, grpc_request, inbound_address, push,
    request,
};

pub async fn refused(mesh: &Mesh, request: http::Request<()>) -> (String, String, String) {
    let answer = mesh.client().await.call(request, b"").await.unwrap();
    assert_eq!(answer.head.status(), 200);
    answer.status()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_no_intention_allows_is_denied_by_name() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    mesh.echo.set_intentions(allow(&["other"]));
    let (status, message, reason) = refused(&mesh, grpc_request()).await;
    assert_eq!((status.as_str(), reason.as_str()), ("7", "denied"));
    assert!(message.contains("\"web\"") && message.contains("default"), "{message}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_intention_that_turns_to_deny_ends_an_open_stream() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    let mut answers = response.await.unwrap().into_body();
    push(&mut send, Bytes::from_static(b"one")).await.unwrap();
    assert_eq!(answers.data().await.unwrap().unwrap(), "one");
    mesh.echo.set_intentions(allow(&[]));
    assert!(answers.data().await.is_none());
    let trailers = answers.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "7");
    assert_eq!(trailers["outrigger-reason"], "denied");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_is_not_there_is_named() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let (status, message, reason) = refused(&mesh, grpc_request()).await;
    assert_eq!((status.as_str(), reason.as_str()), ("14", "app_unreachable"));
    assert!(message.contains("127.0.0.1:50051") && message.contains("refused"), "{message}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn endpoints_that_cannot_be_connected_are_passed_over() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let dead = [address("127.0.0.1:1"), address("127.0.0.1:2")];
    mesh.endpoints(&[(dead[0], "echo"), (inbound_address(), "echo"), (dead[1], "echo")]);
    let mut client = mesh.client().await;
    for _ in 0..20 {
        let answer = client.call(grpc_request(), b"x").await.unwrap();
        assert_eq!(answer.body, b"x");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_endpoint_that_came_back_is_called_again() {
    let mesh = Mesh::new();
    app(&mesh, echo);
    let (status, message, reason) = refused(&mesh, grpc_request()).await;
    assert_eq!((status.as_str(), reason.as_str()), ("14", "connect_failed"));
    assert!(message.contains("1 known, 1 that cannot be connected"), "{message}");
    mesh.serve_inbound();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answer = mesh.client().await.call(grpc_request(), b"x").await.unwrap();
    assert_eq!(answer.body, b"x");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_with_another_identity_is_refused() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    mesh.endpoints(&[(inbound_address(), "payments")]);
    let (status, message, reason) = refused(&mesh, grpc_request()).await;
    assert_eq!((status.as_str(), reason.as_str()), ("14", "identity_mismatch"));
    assert!(message.contains("svc/payments") && message.contains("svc/echo"), "{message}");
    let metrics = Mesh::scrape(&mesh.web_metrics);
    assert!(
        metrics.contains(
            "outrigger_tls_handshakes_total{direction=\"outbound\",outcome=\"wrong_identity\"}"
        ),
        "{metrics}"
    );
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_of_another_ca_is_refused_as_a_tls_failure() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    mesh.web.set_identity(Mesh::new().identity("web"));
    let (status, _, reason) = refused(&mesh, grpc_request()).await;
    assert_eq!((status.as_str(), reason.as_str()), ("14", "tls_failed"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_name_that_consul_says_nothing_of_is_waited_for_a_second() {
    let mesh = Mesh::new();
    let request = http::Request::post("http://unknown/p.S/M")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let begin = Instant::now();
    let (status, message, reason) = refused(&mesh, request).await;
    assert_eq!((status.as_str(), reason.as_str()), ("14", "no_endpoints"));
    assert!(message.contains("\"unknown\""), "{message}");
    assert_eq!(begin.elapsed().as_secs(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_cancels_stops_the_app_at_once() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let (gone, is_gone) = oneshot::channel();
    let gone = std::rc::Rc::new(std::cell::Cell::new(Some(gone)));
    app(&mesh, move |_request, mut respond| {
        let gone = gone.clone();
        async move {
            let head = Response::new(());
            let mut send = respond.send_response(head, false).unwrap();
            send.send_data(Bytes::from_static(b"begun"), false).unwrap();
            let reset = std::future::poll_fn(|cx| send.poll_reset(cx)).await;
            gone.take().unwrap().send(reset.unwrap()).unwrap();
        }
    });
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "begun");
    let begin = Instant::now();
    send.send_reset(h2::Reason::CANCEL);
    assert_eq!(is_gone.await.unwrap(), h2::Reason::CANCEL);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_resets_after_its_head_becomes_trailers() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |_request, mut respond| async move {
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        send.send_data(Bytes::from_static(b"begun"), false).unwrap();
        // The data first, then the reset: what is queued is dropped by a reset.
        tokio::time::sleep(Duration::from_millis(10)).await;
        send.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
    });
    let answer = mesh.client().await.call(grpc_request(), b"").await.unwrap();
    assert_eq!(answer.body, b"begun");
    let (status, message, reason) = answer.status();
    assert_eq!((status.as_str(), reason.as_str()), ("8", "upstream_reset"));
    assert!(message.contains("ENHANCE_YOUR_CALM"), "{message}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn headers_over_the_limit_are_refused_in_our_words() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |_request, _respond| async { panic!("the app was called") });
    let request = request().header("x-large", "x".repeat(65 * 1024)).body(()).unwrap();
    let (status, message, reason) = refused(&mesh, request).await;
    assert_eq!((status.as_str(), reason.as_str()), ("8", "too_large"));
    assert!(message.contains("65536"), "{message}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_drained_connection_lets_its_calls_end() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    let answers = response.await.unwrap();
    mesh.echo.drain(outrigger::telemetry::labels::Direction::Inbound);
    tokio::time::sleep(Duration::from_secs(1)).await;
    push(&mut send, Bytes::from_static(b"late")).await.unwrap();
    send.send_data(Bytes::new(), true).unwrap();
    let answer = Answer::read(answers).await.unwrap();
    assert_eq!(answer.body, b"late");
    assert_eq!(answer.trailers["grpc-status"], "0");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_open_when_the_drain_ends_is_told_so() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut client = mesh.client().await;
    let (response, _send) = client.open(grpc_request());
    let answers = response.await.unwrap();
    mesh.echo.cut(outrigger::telemetry::labels::Direction::Inbound);
    let (status, _, reason) = Answer::read(answers).await.unwrap().status();
    assert_eq!((status.as_str(), reason.as_str()), ("14", "draining"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_endpoint_that_hangs_is_taken_out_although_its_callers_gave_up() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    // Accepts, and never says a word.
    let mute = address("127.0.0.1:3");
    let mut accepted = mesh.net.listen(mute);
    let held = tokio::task::spawn_local(async move {
        let mut held = Vec::new();
        while let Some(pipe) = accepted.recv().await {
            held.push(pipe);
        }
    });
    mesh.endpoints(&[(mute, "echo"), (inbound_address(), "echo")]);
    let mut client = mesh.client().await;
    let mut failed = 0;
    for _ in 0..100 {
        let request = request().header("grpc-timeout", "500m").body(()).unwrap();
        let answer = client.call(request, b"x").await.unwrap();
        failed += usize::from(answer.status().0 != "0");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(failed <= 10, "{failed} of 100 calls went to the endpoint that hangs");
    held.abort();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn calls_over_the_limit_are_told_that_it_is_reached() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |_request, respond| async move {
        std::future::pending::<()>().await;
        drop(respond);
    });
    let mut client = mesh.client().await;
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(client.open(grpc_request()));
        tokio::task::yield_now().await;
    }
    let (status, message, reason) = refused(&mesh, grpc_request()).await;
    assert_eq!((status.as_str(), reason.as_str()), ("14", "overloaded"), "{message}");
    assert!(message.contains("256"), "{message}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_denial_reaches_a_call_that_waits_for_its_connection() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    // An app that accepts and says nothing.
    let _silent = mesh.net.listen(app_address());
    let mut client = mesh.client().await;
    let (response, _send) = client.open(grpc_request());
    let begin = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(100)).await;
    mesh.echo.set_intentions(allow(&[]));
    let (status, _, reason) = Answer::read(response.await.unwrap()).await.unwrap().status();
    assert_eq!((status.as_str(), reason.as_str()), ("7", "denied"));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answers_headers_over_the_limit_end_that_call_alone() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |request, mut respond| async move {
        let size: usize = request.headers()["size"].to_str().unwrap().parse().unwrap();
        let large = |n: usize| {
            let pairs = (0..n / 1000).map(|i| {
                let name = http::HeaderName::try_from(format!("x-{i}")).unwrap();
                (name, http::HeaderValue::try_from("v".repeat(1000)).unwrap())
            });
            pairs.collect::<http::HeaderMap>()
        };
        let mut head = Response::new(());
        if request.uri().path().contains("Head") {
            *head.headers_mut() = large(size);
            let _ = respond.send_response(head, true);
        } else if let Ok(mut send) = respond.send_response(head, false) {
            let _ = send.send_trailers(large(size));
        }
        std::future::pending::<()>().await;
    });
    let mut client = mesh.client().await;
    let call = |method: &str, size: &str| {
        let request = http::Request::post(format!("http://echo/echo.v1.Echo/{method}"));
        let request = request.header("content-type", "application/grpc").header("size", size);
        request.body(()).unwrap()
    };
    let (bystander, _send) = client.open(call("Tail", "0"));
    let mut bystander = bystander.await.unwrap().into_body();
    for (method, size) in
        [("Head", "80000"), ("Tail", "80000"), ("Head", "400000"), ("Tail", "400000")]
    {
        let answer = client.call(call(method, size), b"").await.unwrap();
        let (status, message, reason) = answer.status();
        assert_eq!((status.as_str(), reason.as_str()), ("8", "too_large"), "{message}");
    }
    assert!(bystander.data().await.is_none());
    assert!(bystander.trailers().await.is_ok());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refused_peer_takes_no_name_in_the_metrics() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    mesh.echo.set_intentions(allow(&[]));
    refused(&mesh, grpc_request()).await;
    let metrics = Mesh::scrape(&mesh.echo_metrics);
    assert!(!metrics.contains("echo.v1.Echo"), "{metrics}");
    assert!(metrics.contains("grpc_service=\"other\""), "{metrics}");
}
