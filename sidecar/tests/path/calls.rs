//! What crosses two sidecars unharmed.

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::sync::mpsc;

use super::net::{Answer, Mesh, app, echo, grpc_request, push, request};

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_unary_call_comes_back_byte_for_byte() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let answer = mesh.client().await.call(grpc_request(), b"\0\0\0\0\x02hi").await.unwrap();
    assert_eq!(answer.head.status(), 200);
    assert_eq!(answer.body, b"\0\0\0\0\x02hi");
    assert_eq!(answer.trailers["grpc-status"], "0");
    let metrics = Mesh::scrape(&mesh.echo_metrics);
    assert!(
        metrics.contains("outrigger_requests_total{direction=\"inbound\",service=\"echo\",peer=\"web\",grpc_service=\"echo.v1.Echo\",grpc_method=\"Say\",grpc_status=\"OK\"} 1"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn headers_and_trailers_cross_unharmed() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let (seen, mut was_seen) = mpsc::unbounded_channel();
    app(&mesh, move |request, mut respond| {
        let seen = seen.clone();
        async move {
            seen.send(request.headers().clone()).unwrap();
            let head = Response::builder()
                .header("x-answer", "1")
                .header("x-answer", "2")
                .header("x-bin-bin", "AAECAw")
                .body(())
                .unwrap();
            let mut send = respond.send_response(head, false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.append("x-trailer", "a".parse().unwrap());
            trailers.append("x-trailer", "b".parse().unwrap());
            trailers.insert("grpc-status", "5".parse().unwrap());
            trailers.insert("grpc-status-details-bin", "CAUSBA".parse().unwrap());
            send.send_trailers(trailers).unwrap();
        }
    });
    let request = request()
        .header("x-many", "1")
        .header("x-many", "2")
        .header("x-data-bin", "3q2+7w")
        .header("tracestate", "other=1")
        .body(())
        .unwrap();
    let answer = mesh.client().await.call(request, b"\0\0\0\0\0").await.unwrap();
    let seen = was_seen.recv().await.unwrap();
    assert_eq!(seen.get_all("x-many").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(seen["x-data-bin"], "3q2+7w");
    assert_eq!(seen["tracestate"], "other=1");
    let head = answer.head.headers();
    assert_eq!(head.get_all("x-answer").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(head["x-bin-bin"], "AAECAw");
    let trailers = answer.trailers;
    assert_eq!(trailers.get_all("x-trailer").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(trailers["grpc-status"], "5");
    assert_eq!(trailers["grpc-status-details-bin"], "CAUSBA");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_trailers_only_answer_stays_one() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |_request, mut respond| async move {
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "16")
            .body(())
            .unwrap();
        respond.send_response(head, true).unwrap();
    });
    let mut client = mesh.client().await;
    let (response, _send) = client.open(grpc_request());
    let response = response.await.unwrap();
    assert!(response.body().is_end_stream());
    assert_eq!(response.headers()["grpc-status"], "16");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn both_directions_stream_at_the_same_time() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    let mut answers = response.await.unwrap().into_body();
    for n in 0..10u8 {
        push(&mut send, Bytes::from(vec![n; 100])).await.unwrap();
        let answer = answers.data().await.unwrap().unwrap();
        assert_eq!(answer, vec![n; 100]);
    }
    send.send_data(Bytes::new(), true).unwrap();
    assert!(answers.data().await.is_none());
    assert_eq!(answers.trailers().await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn forged_identity_is_stripped_and_the_true_peer_named() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let (seen, mut was_seen) = mpsc::unbounded_channel();
    app(&mesh, move |request, respond| {
        seen.send(request.headers().clone()).unwrap();
        echo(request, respond)
    });
    let request = request()
        .header("outrigger-peer-id", "spiffe://x/svc/admin")
        .header("x-forwarded-client-cert", "URI=spiffe://x/svc/admin")
        .header("tracestate", "outrigger=a:7,kept=1")
        .header("tracestate", http::HeaderValue::from_bytes(b"odd=\xff,outrigger=a:7").unwrap())
        .body(())
        .unwrap();
    mesh.client().await.call(request, b"").await.unwrap();
    let seen = was_seen.recv().await.unwrap();
    let peers: Vec<_> = seen.get_all("outrigger-peer-id").iter().collect();
    assert_eq!(peers, [mesh.id("web").as_str()]);
    assert!(!seen.contains_key("x-forwarded-client-cert"));
    // What the caller's app says of its own attempts goes on, so that nobody sends it again.
    assert_eq!(seen["tracestate"].as_bytes(), b"outrigger=a:7,kept=1,odd=\xff");
    assert_eq!(seen["grpc-previous-rpc-attempts"], "7");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn forged_identity_in_trailers_is_stripped_too() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let (seen, mut was_seen) = mpsc::unbounded_channel();
    app(&mesh, move |request, mut respond| {
        let seen = seen.clone();
        async move {
            let trailers = request.into_body().trailers().await.unwrap().unwrap();
            seen.send(trailers).unwrap();
            let _ = respond.send_response(Response::new(()), true);
        }
    });
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(grpc_request());
    let mut trailers = HeaderMap::new();
    trailers.insert("outrigger-peer-id", "spiffe://x/svc/admin".parse().unwrap());
    trailers.insert("x-kept", "1".parse().unwrap());
    send.send_trailers(trailers).unwrap();
    response.await.unwrap();
    let seen = was_seen.recv().await.unwrap();
    assert!(seen.contains_key("x-kept") && !seen.contains_key("outrigger-peer-id"), "{seen:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_cannot_speak_in_the_sidecars_name() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |_request, mut respond| async move {
        let head = Response::builder()
            .header("grpc-status", "14")
            .header("outrigger-reason", "overloaded")
            .body(())
            .unwrap();
        respond.send_response(head, true).unwrap();
    });
    let answer: Answer = mesh.client().await.call(grpc_request(), b"").await.unwrap();
    let (status, _, reason) = answer.status();
    assert_eq!((status.as_str(), reason.as_str()), ("14", ""));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_grpc_services_name_routes_a_call_to_an_address() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let request = http::Request::post("http://127.0.0.1:15001/echo.v1.Echo/Say").body(()).unwrap();
    let answer = mesh.client().await.call(request, b"x").await.unwrap();
    assert_eq!(answer.body, b"x");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_host_header_routes_a_call_without_an_authority() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    // h2 sends no `:authority` for what says that it is forwarded from HTTP/1.1.
    let request = http::Request::post("/other.v1.Other/Say")
        .version(http::Version::HTTP_11)
        .header("host", "echo.service.consul:80")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let answer = mesh.client().await.call(request, b"x").await.unwrap();
    assert_eq!((answer.body.as_slice(), answer.status().0.as_str()), (&b"x"[..], "0"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn interim_responses_go_on_before_the_answer() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |request, mut respond| async move {
        let hint = |link: &str| http::Response::builder().status(103).header("link", link).body(());
        respond.send_informational(hint("</a.css>").unwrap()).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        respond.send_informational(hint("</b.css>").unwrap()).unwrap();
        echo(request, respond).await;
    });
    let mut client = mesh.client().await;
    let request = http::Request::post("http://echo/page").body(()).unwrap();
    let (mut response, mut send) = client.open(request);
    send.send_data(Bytes::from_static(b"x"), true).unwrap();
    let mut links = Vec::new();
    while links.len() < 2 {
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        let interim = interim.unwrap().unwrap();
        assert_eq!(interim.status(), 103);
        links.push(interim.headers()["link"].to_str().unwrap().to_owned());
    }
    assert_eq!(links, ["</a.css>", "</b.css>"]);
    let answer = Answer::read(response.await.unwrap()).await.unwrap();
    assert_eq!((answer.head.status().as_u16(), answer.body.as_slice()), (200, &b"x"[..]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn more_interim_responses_than_anybody_needs_are_dropped() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |request, mut respond| async move {
        for _ in 0..100 {
            let hint = http::Response::builder().status(103).body(()).unwrap();
            respond.send_informational(hint).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        echo(request, respond).await;
    });
    let mut client = mesh.client().await;
    let request = http::Request::post("http://echo/page").body(()).unwrap();
    let (mut response, mut send) = client.open(request);
    send.send_data(Bytes::from_static(b"x"), true).unwrap();
    let mut interims = 0;
    let answer = std::future::poll_fn(|cx| {
        while let std::task::Poll::Ready(Some(Ok(_))) = response.poll_informational(cx) {
            interims += 1;
        }
        std::future::Future::poll(std::pin::Pin::new(&mut response), cx)
    });
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(interims, 16);
}
