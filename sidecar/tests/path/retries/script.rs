//! Two callees that answer as a script says, and what they saw.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::time::Instant;

use crate::path::net::{Answer, Mesh, address, grpc_request, inbound_address, sidecar};

/// What the callees saw: when, where, which head, which body.
pub type Seen = Rc<RefCell<Vec<(Instant, SocketAddr, HeaderMap, Vec<u8>)>>>;

/// How a callee answers a call.
#[derive(Clone, Debug)]
pub enum Does {
    Echo,
    Refuses,
    Resets,
    /// With this status in the head.
    Says(&'static [(&'static str, &'static str)]),
    /// With a head, and this status in trailers.
    Trails(&'static [(&'static str, &'static str)]),
    /// With a message, and this status in trailers.
    Begins(&'static [(&'static str, &'static str)]),
    Hangs,
    /// Echoes after a second.
    Slow,
    /// A head at once, and a message after a second.
    Streams,
}

/// Two endpoints that together answer as scripted, call for call; what comes after is echoed.
pub fn script(mesh: &Mesh, does: &[Does]) -> Seen {
    let both = [inbound_address(), address("127.0.0.2:21000")];
    mesh.endpoints(&both.map(|at| (at, "echo")));
    let (seen, script) = (Seen::default(), Rc::new(RefCell::new(does.to_vec())));
    for at in both {
        let (seen, script) = (seen.clone(), script.clone());
        sidecar(mesh, at, move |request, respond| {
            let does =
                if script.borrow().is_empty() { Does::Echo } else { script.borrow_mut().remove(0) };
            answer(does, at, seen.clone(), request, respond)
        });
    }
    seen
}

async fn answer(
    does: Does,
    at: SocketAddr,
    seen: Seen,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (when, head) = (Instant::now(), request.headers().clone());
    let place = seen.borrow().len();
    seen.borrow_mut().push((when, at, head, Vec::new()));
    let fields = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    };
    let head = || Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut body = request.into_body();
    match does {
        Does::Echo => return echo_kept(&seen, place, body, respond).await,
        Does::Refuses => respond.send_reset(h2::Reason::REFUSED_STREAM),
        Does::Resets => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        Does::Says(pairs) => {
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            let mut head = head();
            head.headers_mut().extend(fields(pairs));
            respond.send_response(head, true).unwrap();
        }
        Does::Trails(pairs) => {
            let mut send = respond.send_response(head(), false).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            send.send_trailers(fields(pairs)).unwrap();
        }
        Does::Begins(pairs) => {
            let mut send = respond.send_response(head(), false).unwrap();
            send.send_data(Bytes::from_static(b"message"), false).unwrap();
            send.send_trailers(fields(pairs)).unwrap();
        }
        Does::Slow => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            echo_kept(&seen, place, body, respond).await;
        }
        Does::Streams => {
            let mut send = respond.send_response(head(), false).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            send.send_data(Bytes::from_static(b"late"), false).unwrap();
            send.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
        }
        Does::Hangs => {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            assert_eq!(reason.unwrap(), h2::Reason::CANCEL);
            seen.borrow_mut()[place].3 = b"cancelled".to_vec();
        }
    }
}

async fn echo_kept(
    seen: &Seen,
    place: usize,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let mut whole = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        whole.extend_from_slice(&data);
    }
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut send = respond.send_response(head, false).unwrap();
    send.reserve_capacity(whole.len());
    send.send_data(Bytes::from(whole.clone()), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    send.send_trailers(trailers).unwrap();
    seen.borrow_mut()[place].3 = whole;
}

/// One call against a script: its answer, and what the callees saw.
pub async fn call(config: &str, does: &[Does]) -> (Answer, Seen, Mesh) {
    let mesh = Mesh::with_caller(config);
    let seen = script(&mesh, does);
    let answer = mesh.client().await.call(grpc_request(), b"asked").await.unwrap();
    (answer, seen, mesh)
}

pub const UNAVAILABLE: &[(&str, &str)] = &[("grpc-status", "14"), ("grpc-message", "busy")];
