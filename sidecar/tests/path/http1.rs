//! HTTP/1.1 callers and apps, and what is no HTTP at all.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

use super::net::{Mesh, app, app_address, echo, grpc_request};

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
