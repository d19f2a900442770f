//! What HTTP/2 forbids: each breach ends its stream or its connection, its call is answered with a
//! reason, and the next call is served.

use super::super::net::{Mesh, app, echo, grpc_request};
use super::peer::{Peer, SEATS, Seat, Stage, answer_of, ask, call, fine, head, told};
use super::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PRIORITY,
    PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, literal,
};

/// What one end does; `id` is a stream that is open.
type Deed = fn(u32) -> Vec<Frame>;

/// Breaches that no connection survives, whoever commits them.
const OF_THE_CONNECTION: [(&str, Deed); 13] = [
    ("DATA on no stream", |_| vec![Frame::data(0, b"x")]),
    ("DATA on an idle stream", |_| vec![Frame::data(1001, b"x")]),
    ("RST_STREAM on no stream", |_| vec![Frame::rst(0, 8)]),
    ("RST_STREAM on an idle stream", |_| vec![Frame::rst(1001, 8)]),
    ("RST_STREAM too short", |id| vec![Frame::new(RST_STREAM, 0, id, &[0; 3])]),
    ("PING on a stream", |id| vec![Frame::new(PING, 0, id, &[0; 8])]),
    ("PING too short", |_| vec![Frame::new(PING, 0, 0, &[0; 7])]),
    ("GOAWAY on a stream", |id| vec![Frame::new(GOAWAY, 0, id, &[0; 8])]),
    ("CONTINUATION of nothing", |id| vec![Frame::new(CONTINUATION, END_HEADERS, id, &[])]),
    ("HEADERS on no stream", |_| vec![Frame::headers(0, &[("x", "y")])]),
    ("a header block that is none", |id| {
        vec![Frame::new(HEADERS, END_HEADERS | END_STREAM, id, &[0xff, 0xff, 0xff, 0xff, 0xff])]
    }),
    // Of the stream by RFC 9113 §8.1.1, which may be taken for one of the connection (§5.4.1).
    ("a name in capitals", |id| vec![Frame::headers(id, &[(":status", "200"), ("X-Y", "z")])]),
    ("PUSH_PROMISE", |id| {
        vec![Frame::new(
            PUSH_PROMISE,
            END_HEADERS,
            id,
            &[&[0, 0, 0, 2], &literal(&[])[..]].concat(),
        )]
    }),
];

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_callee_that_breaks_the_connections_rules_is_left_and_its_calls_are_answered() {
    for seat in SEATS {
        for (name, deed) in OF_THE_CONNECTION {
            for after_head in [false, true] {
                let mut stage = Stage::new(seat);
                let mut client = stage.client().await;
                let calls = [client.open(grpc_request()), client.open(grpc_request())];
                let mut peer = stage.accept().await;
                let streams = [peer.head().await, peer.head().await];
                if after_head {
                    peer.send(&head(streams[0])).await;
                }
                peer.send_all(&deed(streams[0])).await;
                for (response, _send) in calls {
                    let (status, message, reason) = answer_of(response).await.status();
                    assert_eq!(reason, "upstream_reset", "{seat:?}, {name}: {message}");
                    assert!(["13", "14"].contains(&status.as_str()), "{name}: {status}, {message}");
                }
                assert!(peer.ended().await.is_some(), "{seat:?}, {name}: it is not told");
                let next = ask(&mut client);
                let mut peer = stage.accept().await;
                let stream = peer.head().await;
                peer.answer(stream, b"x").await;
                assert_eq!(told(next).await, fine(), "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_caller_that_breaks_the_connections_rules_is_left_alone() {
    let mut stage = Stage::new(Seat::App);
    let mut client = stage.client().await;
    let bystander = ask(&mut client);
    let mut app = stage.accept().await;
    let unharmed = app.head().await;
    for (name, deed) in OF_THE_CONNECTION {
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        caller.send(&call(1)).await;
        let stream = app.head().await;
        caller.send_all(&deed(1)).await;
        assert!(caller.ended().await.is_some(), "{name}: it is not told");
        assert_eq!(app.expect(RST_STREAM).await.stream, stream, "{name}");
    }
    app.answer(unharmed, b"x").await;
    assert_eq!(told(bystander).await, fine());
}

/// Answers that are none (RFC 9113 §8.1.1), on a stream whose request is still open.
const OF_THE_STREAM: [(&str, Deed); 4] = [
    ("a head without a status", |id| vec![Frame::headers(id, &[("x", "y")])]),
    ("a pseudo-header after a header", |id| {
        vec![Frame::headers(id, &[("x", "y"), (":status", "200")])]
    }),
    ("a header of a connection", |id| {
        vec![Frame::headers(id, &[(":status", "200"), ("connection", "close")])]
    }),
    ("trailers that are not the end", |id| {
        vec![head(id), Frame::headers(id, &[("grpc-status", "0")])]
    }),
];

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_is_none_fails_its_call_alone() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut client = stage.client().await;
        let bystander = ask(&mut client);
        let mut peer = stage.accept().await;
        let unharmed = peer.head().await;
        for (name, deed) in OF_THE_STREAM {
            let (response, _send) = client.open(grpc_request());
            let stream = peer.head().await;
            peer.send_all(&deed(stream)).await;
            let (status, message, reason) = answer_of(response).await.status();
            let told = (status.as_str(), reason.as_str());
            assert_eq!(told, ("13", "upstream_reset"), "{seat:?}, {name}: {message}");
            let reset = peer.expect(RST_STREAM).await;
            assert_eq!((reset.stream, reset.code()), (stream, PROTOCOL_ERROR), "{name}");
        }
        peer.answer(unharmed, b"x").await;
        assert_eq!(told(bystander).await, fine(), "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn frames_of_a_callee_after_its_end_harm_no_other_call() {
    let deeds: [(&str, Deed); 3] = [
        ("DATA", |id| vec![Frame::data(id, b"more")]),
        ("HEADERS", |id| vec![Frame::headers(id, &[("grpc-status", "0")]).end()]),
        ("RST_STREAM", |id| vec![Frame::rst(id, 2)]),
    ];
    for seat in SEATS {
        for (name, deed) in deeds {
            let mut stage = Stage::new(seat);
            let mut client = stage.client().await;
            let response = ask(&mut client);
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            peer.answer(stream, b"x").await;
            assert_eq!(answer_of(response).await.body, b"x");
            peer.send_all(&deed(stream)).await;
            peer.send(&Frame::new(PRIORITY, 0, stream, &[0, 0, 0, 0, 1])).await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            let next = ask(&mut client);
            // Whether it costs the connection is h2's to say (§5.1 allows both).
            let mut found = None;
            while let Some(frame) = peer.soon().await
                && found.is_none()
            {
                found = (frame.kind == HEADERS).then_some(frame.stream);
            }
            if let Some(stream) = found {
                peer.answer(stream, b"y").await;
            } else {
                peer = stage.accept().await;
                let stream = peer.head().await;
                peer.answer(stream, b"y").await;
            }
            assert_eq!(answer_of(next).await.body, b"y", "{seat:?}, {name}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn data_of_a_caller_after_its_end_goes_nowhere() {
    for seat in SEATS {
        let mut stage = Stage::new(seat);
        let mut caller = Peer::caller(&stage.mesh, &[]).await;
        caller.send_all(&[call(1), Frame::data(1, b"one").end()]).await;
        let mut peer = stage.accept().await;
        let stream = peer.head().await;
        assert!(peer.expect(DATA).await.is_end());
        caller.send(&Frame::data(1, b"two")).await;
        let told = caller.next().await.unwrap();
        // RFC 9113 §5.1 calls it STREAM_CLOSED.
        assert_eq!((told.kind, told.code()), (GOAWAY, PROTOCOL_ERROR), "{told:?}");
        // The app gets none of it, and is not left at work.
        let reset = peer.expect(RST_STREAM).await;
        assert_eq!(reset.stream, stream, "{seat:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_is_none_reaches_no_app_and_ends_alone() {
    let bad: [(&str, &[(&str, &str)]); 7] = [
        ("no method", &[(":scheme", "http"), (":authority", "echo"), (":path", "/")]),
        ("no path", &[(":method", "POST"), (":scheme", "http"), (":authority", "echo")]),
        ("an empty path", &[(":method", "POST"), (":scheme", "http"), (":path", "")]),
        (
            "a header of a connection",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("connection", "close")],
        ),
        ("te", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("te", "gzip")]),
        (
            "a pseudo-header of answers",
            &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":status", "200")],
        ),
        (
            "a pseudo-header twice",
            &[(":method", "GET"), (":method", "PUT"), (":scheme", "http"), (":path", "/")],
        ),
    ];
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    let mut caller = Peer::caller(&mesh, &[]).await;
    let mut id = 1;
    for (name, fields) in bad {
        caller.send(&Frame::headers(id, fields).end()).await;
        let told = caller.expect(RST_STREAM).await;
        assert_eq!((told.stream, told.code()), (id, PROTOCOL_ERROR), "{name}");
        id += 2;
    }
    caller.send(&call(id).end()).await;
    assert_eq!(caller.expect(HEADERS).await.stream, id);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_breaks_its_length_never_looks_whole_to_the_app() {
    for seat in SEATS {
        for (length, end) in [("10", true), ("1", false)] {
            let mut stage = Stage::new(seat);
            let mut caller = Peer::caller(&stage.mesh, &[]).await;
            let fields = [
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", "echo"),
                (":path", "/echo.v1.Echo/Say"),
                ("content-type", "application/grpc"),
                ("content-length", length),
            ];
            caller.send(&Frame::headers(1, &fields)).await;
            let mut peer = stage.accept().await;
            peer.head().await;
            let data = Frame::data(1, b"three");
            caller.send(&if end { data.end() } else { data }).await;
            assert_eq!(caller.expect(RST_STREAM).await.code(), PROTOCOL_ERROR);
            let mut frame = peer.next().await.unwrap();
            while frame.kind == DATA {
                assert!(!frame.is_end(), "{seat:?}, {length}: {frame:?}");
                frame = peer.next().await.unwrap();
            }
            assert_eq!(frame.kind, RST_STREAM, "{frame:?}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_breaks_its_length_never_looks_whole_to_the_caller() {
    for seat in SEATS {
        for (length, end) in [("10", true), ("1", false)] {
            let mut stage = Stage::new(seat);
            let mut caller = Peer::caller(&stage.mesh, &[]).await;
            caller.send(&call(1)).await;
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            let data = Frame::data(stream, b"three");
            let head = Frame::headers(stream, &[(":status", "200"), ("content-length", length)]);
            peer.send_all(&[head, if end { data.end() } else { data }]).await;
            assert_eq!(peer.expect(RST_STREAM).await.code(), PROTOCOL_ERROR);
            caller.expect(HEADERS).await;
            let mut last = caller.next().await.unwrap();
            while last.kind == DATA {
                assert!(!last.is_end(), "{seat:?}, {length}: {last:?}");
                last = caller.next().await.unwrap();
            }
            // The trailers that the sidecar ends it with.
            assert!(last.kind == HEADERS && last.is_end(), "{last:?}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_callers_stream_id_that_is_not_its_to_use_ends_its_connection() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    app(&mesh, echo);
    // An even one; one that is lower than the last.
    for ids in [&[2][..], &[5, 3]] {
        let mut caller = Peer::caller(&mesh, &[]).await;
        for id in ids {
            caller.send(&call(*id)).await;
        }
        assert_eq!(caller.ended().await, Some(PROTOCOL_ERROR), "{ids:?}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_h2_takes_for_a_breach_of_the_connection_costs_each_of_its_calls_one_answer() {
    // By RFC 9113 §8.1.1 these are errors of the stream, which may be taken for more (§5.4.1).
    let deeds: [Deed; 2] = [
        |id| vec![Frame::data(id, b"before the head")],
        |id| vec![Frame::headers(id, &[(":status", "ok")])],
    ];
    for seat in SEATS {
        for deed in deeds {
            let mut stage = Stage::new(seat);
            let mut client = stage.client().await;
            let calls = [ask(&mut client), ask(&mut client)];
            let mut peer = stage.accept().await;
            let stream = peer.head().await;
            peer.send_all(&deed(stream)).await;
            for call in calls {
                assert_eq!(told(call).await, ("14".into(), "upstream_reset".into()), "{seat:?}");
            }
            assert_eq!(peer.ended().await, Some(PROTOCOL_ERROR));
        }
    }
}
