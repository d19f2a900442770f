//! HTTP/1.1 callers and apps, and what is no HTTP at all.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

use super::net::{Mesh, app, app_address, echo, grpc_request, push};

async fn http1(mesh: &Mesh) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(mesh.raw())).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_http1_caller_is_carried_over_the_mesh() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |request, respond| async move {
        assert_eq!(request.uri(), "http://echo/say?x=1");
        assert!(!request.headers().contains_key("connection"));
        echo(request, respond).await;
    });
    let mut client = http1(&mesh).await;
    for _ in 0..3 {
        let request = http::Request::post("/say?x=1")
            .header("host", "echo")
            .header("connection", "keep-alive")
            .body(Full::new(Bytes::from_static(b"hello")))
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_http1_caller_gets_a_status_and_json_for_a_fault() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let mut client = http1(&mesh).await;
    let request =
        http::Request::get("/").header("host", "echo").body(Full::new(Bytes::new())).unwrap();
    let response = client.send_request(request).await.unwrap();
    // The peer sidecar answered, and its answer is HTTP's too.
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["outrigger-reason"], "app_unreachable");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["reason"], "app_unreachable");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upgrade_is_refused_in_words() {
    let mesh = Mesh::new();
    let mut client = http1(&mesh).await;
    let request = http::Request::get("/")
        .header("host", "echo")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 400);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("upgrade"), "{body:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_speaks_http1_is_called_in_it() {
    let http1 = Mesh::with_app("protocol = \"http1\"");
    http1.serve_inbound();
    let mut connections = http1.net.listen(app_address());
    spawn_local(async move {
        while let Some(mut pipe) = connections.recv().await {
            spawn_local(async move {
                let mut head = vec![0; 4096];
                loop {
                    let n = pipe.read(&mut head).await.unwrap_or(0);
                    if n == 0 {
                        return;
                    }
                    let text = String::from_utf8_lossy(&head[..n]).to_lowercase();
                    assert!(text.starts_with("post /echo.v1.echo/say http/1.1"), "{text}");
                    assert!(text.contains("host: echo"), "{text}");
                    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\nkeep-alive: timeout=5\r\n\r\n2\r\nok\r\n0\r\n\r\n";
                    pipe.write_all(answer).await.unwrap();
                }
            });
        }
    });
    let mut client = http1.client().await;
    for _ in 0..3 {
        let answer = client.call(grpc_request(), b"").await.unwrap();
        assert_eq!((answer.head.status().as_u16(), answer.body.as_slice()), (200, &b"ok"[..]));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn garbage_ends_the_connection_and_nothing_else() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut raw = mesh.raw();
    raw.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    raw.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    let answer = mesh.client().await.call(grpc_request(), b"x").await.unwrap();
    assert_eq!(answer.body, b"x");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn grpc_over_http1_is_refused_in_words() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut client = http1(&mesh).await;
    let request = http::Request::post("/echo.v1.Echo/Say")
        .header("host", "echo")
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from_static(b"\0\0\0\0\0")))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 400);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("gRPC needs HTTP/2"), "{body:?}");
}

/// How many calls of `web` ended with this status.
fn ended(mesh: &Mesh, status: &str) -> usize {
    let status = format!("grpc_status=\"{status}\"");
    Mesh::scrape(&mesh.web_metrics)
        .lines()
        .filter(|line| line.starts_with("outrigger_requests_total{") && line.contains(&status))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_http1_caller_that_goes_after_the_head_has_given_up() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |_request, mut respond| async move {
        let mut send = respond.send_response(http::Response::new(()), false).unwrap();
        push(&mut send, Bytes::from_static(b"a piece")).await.unwrap();
        std::future::pending::<()>().await;
        drop(send);
    });
    let mut raw = mesh.raw();
    raw.write_all(b"GET / HTTP/1.1\r\nhost: echo\r\n\r\n").await.unwrap();
    let mut read = [0; 4096];
    let n = raw.read(&mut read).await.unwrap();
    assert!(read[..n].starts_with(b"HTTP/1.1 200"));
    assert_eq!((ended(&mesh, "NONE"), ended(&mesh, "CANCELLED")), (0, 0));
    drop(raw);
    for _ in 0..100 {
        if ended(&mesh, "CANCELLED") == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not counted as given up: {}", Mesh::scrape(&mesh.web_metrics));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_http1_answer_that_went_out_whole_was_not_given_up() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    // The end comes in a frame of its own, which nobody waits for behind a stated length.
    app(&mesh, |request, mut respond| async move {
        let length = request.uri().path().trim_start_matches('/');
        let head = http::Response::builder().header("content-length", length).body(()).unwrap();
        let mut send = respond.send_response(head, false).unwrap();
        push(&mut send, Bytes::from_static(b"seven b")).await.unwrap();
        tokio::task::yield_now().await;
        send.send_data(Bytes::new(), true).unwrap();
    });
    let mut client = http1(&mesh).await;
    for n in 1..=3 {
        let request =
            http::Request::get("/7").header("host", "echo").body(Full::new(Bytes::new())).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "seven b");
        assert_eq!((ended(&mesh, "NONE"), ended(&mesh, "CANCELLED")), (n, 0));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_offer_of_http2_is_not_taken_and_the_call_goes_on() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |request, respond| async move {
        for name in ["upgrade", "http2-settings", "connection"] {
            assert!(!request.headers().contains_key(name), "{name}");
        }
        echo(request, respond).await;
    });
    let mut client = http1(&mesh).await;
    let request = http::Request::post("/")
        .header("host", "echo")
        .header("connection", "Upgrade, HTTP2-Settings")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAEAAEAAAAIAAAAB")
        .body(Full::new(Bytes::from_static(b"hello")))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_names_two_hosts_is_refused() {
    let mesh = Mesh::new();
    let mut raw = mesh.raw();
    raw.write_all(b"GET / HTTP/1.1\r\nhost: echo\r\nhost: other\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("names one host"), "{answer}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn cookies_reach_an_http1_app_in_one_line() {
    let mesh = Mesh::with_app("protocol = \"http1\"");
    mesh.serve_inbound();
    let mut connections = mesh.net.listen(app_address());
    let app = spawn_local(async move {
        let mut pipe = connections.recv().await.unwrap();
        let mut head = vec![0; 4096];
        let n = pipe.read(&mut head).await.unwrap();
        pipe.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&head[..n]).to_lowercase()
    });
    let mut client = mesh.client().await;
    let request = super::net::request().header("cookie", "a=1").header("cookie", "b=2");
    client.call(request.body(()).unwrap(), b"").await.unwrap();
    let head = app.await.unwrap();
    assert!(head.contains("cookie: a=1; b=2\r\n"), "{head}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whoever_connects_during_a_drain_is_still_answered() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut held = mesh.client().await;
    let (answer, _send) = held.open(grpc_request());
    answer.await.unwrap();
    mesh.web.drain(outrigger::telemetry::labels::Direction::Outbound);
    let mut client = http1(&mesh).await;
    // As a client does that connects first and thinks then.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let request =
        http::Request::post("/").header("host", "echo").body(Full::new(Bytes::from_static(b"x")));
    let response = client.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "x");
    let answer = mesh.client().await.call(grpc_request(), b"x").await.unwrap();
    assert_eq!(answer.body, b"x");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_grpc_web_caller_reads_a_fault_as_a_grpc_status() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let request = || {
        let request = http::Request::post("http://echo/echo.v1.Echo/Say").header("host", "echo");
        request.header("content-type", "application/grpc-web+proto")
    };
    let mut client = http1(&mesh).await;
    let answer =
        client.send_request(request().body(Full::new(Bytes::new())).unwrap()).await.unwrap();
    let over_h2 = mesh.client().await.call(request().body(()).unwrap(), b"").await.unwrap();
    for head in [answer.headers(), over_h2.head.headers()] {
        assert_eq!(head["content-type"], "application/grpc-web+proto");
        assert_eq!(head["grpc-status"], "14");
        assert_eq!(head["outrigger-reason"], "app_unreachable");
    }
    assert_eq!((answer.status().as_u16(), over_h2.head.status().as_u16()), (200, 200));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_http1_caller_that_reads_nothing_is_idle_too() {
    let mesh = Mesh::with_caller("[timeouts]\nhttp_idle = \"3s\"");
    mesh.serve_inbound();
    let (gone, mut is_gone) = tokio::sync::watch::channel(false);
    app(&mesh, move |_request, mut respond| {
        let gone = gone.clone();
        async move {
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            while push(&mut send, Bytes::from(vec![7; 64 * 1024])).await.is_ok() {}
            gone.send(true).unwrap();
        }
    });
    let mut raw = mesh.raw();
    raw.write_all(b"GET / HTTP/1.1\r\nhost: echo\r\n\r\n").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(15), is_gone.wait_for(|gone| *gone));
    assert!(ended.await.is_ok(), "the app still waits for a caller that reads nothing");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_grpc_web_answer_that_has_begun_ends_with_its_status_in_the_body() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |_request, mut respond| async move {
        let mut send = respond.send_response(http::Response::new(()), false).unwrap();
        push(&mut send, Bytes::from_static(b"\0\0\0\0\x03one")).await.unwrap();
        std::future::pending::<()>().await;
        drop(send);
    });
    let request = || {
        let request = http::Request::post("http://echo/echo.v1.Echo/Say").header("host", "echo");
        let request = request.header("content-type", "application/grpc-web+proto");
        request.header("grpc-timeout", "1S")
    };
    let over_h2 = mesh.client().await.call(request().body(()).unwrap(), b"").await.unwrap();
    let mut client = http1(&mesh).await;
    let answer = client.send_request(request().body(Full::new(Bytes::new())).unwrap()).await;
    let over_h1 = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
    for body in [&over_h2.body[..], &over_h1[..]] {
        let trailers = body.strip_prefix(b"\0\0\0\0\x03one\x80").unwrap();
        assert!(String::from_utf8_lossy(trailers).contains("grpc-status: 4\r\n"), "{body:?}");
    }
}
