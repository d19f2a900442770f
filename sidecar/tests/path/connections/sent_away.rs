//! Peers and apps that send their callers away as soon as they come, or between two calls.

use std::cell::Cell;
use std::rc::Rc;

use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use super::super::net::{Mesh, app_address, echo, grpc_request, inbound_address};

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_restarts_between_calls_costs_none() {
    let mesh = Mesh::new();
    mesh.serve_inbound();
    let mut client = mesh.client().await;
    for _ in 0..5 {
        // Each life of the app serves one connection, which it ends with GOAWAY.
        let mut connections = mesh.net.listen(app_address());
        let life = spawn_local(async move {
            let pipe = connections.recv().await.unwrap();
            let mut server = h2::server::handshake(pipe).await.unwrap();
            let (request, respond) = server.accept().await.unwrap().unwrap();
            let call = spawn_local(echo(request, respond));
            server.graceful_shutdown();
            while server.accept().await.is_some() {}
            call.await.unwrap();
        });
        let answer = client.call(grpc_request(), b"x").await.unwrap();
        assert_eq!(answer.status().0, "0", "{:?}", answer.status());
        life.await.unwrap();
    }
}

/// When a peer says that it takes no calls.
#[derive(Clone, Copy, Debug)]
enum Goaway {
    WithItsGreeting,
    /// The greeting is read before it comes.
    ATurnLater,
}

/// A peer that greets whoever comes and sends them away. It counts them, and is gone after a
/// thousand.
fn serve_away(mesh: &Mesh, when: Goaway) -> Rc<Cell<usize>> {
    // RFC 9113 §6.5, §6.8: no setting, and no stream was or will be taken.
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut connections = mesh.net.listen(inbound_address());
    let acceptor = TlsAcceptor::from(mesh.identity("echo").server_config());
    let count = Rc::new(Cell::new(0));
    let accepted = count.clone();
    spawn_local(async move {
        while let Some(pipe) = connections.recv().await {
            accepted.set(accepted.get() + 1);
            if accepted.get() == 1000 {
                return;
            }
            let acceptor = acceptor.clone();
            spawn_local(async move {
                let mut tls = acceptor.accept(pipe).await.unwrap();
                tls.write_all(SETTINGS).await.unwrap();
                let away = async move {
                    tls.write_all(GOAWAY).await.unwrap();
                    // It goes on reading: what ends the connection is the other side.
                    let _ = tokio::io::copy(&mut tls, &mut tokio::io::sink()).await;
                };
                match when {
                    Goaway::WithItsGreeting => away.await,
                    Goaway::ATurnLater => drop(spawn_local(away)),
                }
            });
        }
    });
    count
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_sends_everyone_away_is_tried_a_bounded_number_of_times() {
    // One connection more than a pool has.
    for (when, most) in [(Goaway::WithItsGreeting, 1), (Goaway::ATurnLater, 17)] {
        let mesh = Mesh::with_caller("[retry]\nattempts = 1");
        let count = serve_away(&mesh, when);
        let answer = mesh.client().await.call(grpc_request(), b"x").await.unwrap();
        assert_eq!(answer.status().0, "14", "{:?}", answer.status());
        assert!(count.get() <= most, "{} connections for one call, {when:?}", count.get());
    }
}
