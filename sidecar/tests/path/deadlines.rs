//! How long a call may take, and who is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::faults::refused;
use super::net::{Answer, Mesh, app, echo, grpc_request, push, request};

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_ends_at_its_deadline_and_the_app_sees_it() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let (gone, is_gone) = oneshot::channel();
    let gone = std::rc::Rc::new(std::cell::Cell::new(Some(gone)));
    app(&mesh, move |_request, mut respond| {
        let gone = gone.clone();
        async move {
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            gone.take().unwrap().send((reset.unwrap(), Instant::now())).unwrap();
        }
    });
    let request = request().header("grpc-timeout", "100m").body(()).unwrap();
    let begin = Instant::now();
    let (status, message, reason) = refused(&mesh, request).await;
    assert_eq!((status.as_str(), reason.as_str()), ("4", "deadline_exceeded"), "{message}");
    let (code, at) = is_gone.await.unwrap();
    assert_eq!(code, h2::Reason::CANCEL);
    for elapsed in [begin.elapsed(), at - begin] {
        assert!(elapsed <= Duration::from_millis(101), "{elapsed:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_app_is_told_the_time_that_is_left_in_both_forms() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let (seen, mut was_seen) = mpsc::unbounded_channel();
    app(&mesh, move |request, respond| {
        seen.send(request.headers().clone()).unwrap();
        echo(request, respond)
    });
    let request = request().header("grpc-timeout", "2S").body(()).unwrap();
    let before = SystemTime::now();
    mesh.client().await.call(request, b"").await.unwrap();
    let seen = was_seen.recv().await.unwrap();
    let timeout = seen["grpc-timeout"].to_str().unwrap();
    let left = outrigger::call::deadline::parse(timeout.as_bytes()).unwrap();
    assert!(left <= Duration::from_secs(2) && left > Duration::from_millis(1900), "{timeout}");
    let member = seen["tracestate"].to_str().unwrap();
    let micros = member.strip_prefix("outrigger=d:").unwrap().split(';').next().unwrap();
    let at = UNIX_EPOCH + Duration::from_micros(micros.parse().unwrap());
    let left = at.duration_since(before).unwrap();
    assert!(left > Duration::from_millis(1900) && left < Duration::from_secs(4), "{left:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_bare_apps_own_call_inherits_the_deadline() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |_request, respond| async move {
        std::future::pending::<()>().await;
        drop(respond);
    });
    let at = SystemTime::now() + Duration::from_millis(300);
    let micros = at.duration_since(UNIX_EPOCH).unwrap().as_micros();
    let request =
        request().header("tracestate", format!("outrigger=d:{micros};a:0")).body(()).unwrap();
    let begin = Instant::now();
    let (status, _, reason) = refused(&mesh, request).await;
    assert_eq!((status.as_str(), reason.as_str()), ("4", "deadline_exceeded"));
    assert!(begin.elapsed() <= Duration::from_millis(310), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn expired_and_malformed_deadlines_never_reach_the_app() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |_request, _respond| async { panic!("the app was called") });
    for (value, status, reason) in [
        ("0m", "4", "deadline_exceeded"),
        ("5 S", "3", "malformed"),
        ("123456789S", "3", "malformed"),
    ] {
        let request = request().header("grpc-timeout", value).body(()).unwrap();
        let found = refused(&mesh, request).await;
        assert_eq!((found.0.as_str(), found.2.as_str()), (status, reason), "{value}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn without_a_deadline_the_response_timeout_holds() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, |_request, respond| async move {
        std::future::pending::<()>().await;
        drop(respond);
    });
    let begin = Instant::now();
    let (status, message, reason) = refused(&mesh, grpc_request()).await;
    assert_eq!((status.as_str(), reason.as_str()), ("4", "deadline_exceeded"));
    assert!(message.contains("response timeout"), "{message}");
    assert_eq!(begin.elapsed().as_secs(), 15);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_stands_still_before_its_answer_ends_at_the_idle_timeout() {
    let mesh = Mesh::with_app("[timeouts]\nhttp_idle = \"5s\"\n");
    mesh.serve_inbound();
    app(&mesh, |request, _respond| async move {
        let mut body = request.into_body();
        while let Some(Ok(piece)) = body.data().await {
            body.flow_control().release_capacity(piece.len()).unwrap();
        }
        std::future::pending().await
    });
    let mut client = mesh.client().await;
    let (response, mut send) = client.open(Request::post("http://echo/upload").body(()).unwrap());
    // While pieces come, nothing ends.
    for _ in 0..4 {
        push(&mut send, Bytes::from_static(b"piece")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let begin = Instant::now();
    let response = tokio::time::timeout(Duration::from_secs(60), response).await;
    let answer = Answer::read(response.expect("it does not end").unwrap()).await.unwrap();
    let (elapsed, said) = (begin.elapsed(), String::from_utf8(answer.body).unwrap());
    assert_eq!(answer.head.status(), 504, "{said}");
    assert!(said.contains("the idle timeout"), "{said}");
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?} after 3 s of silence");
}
