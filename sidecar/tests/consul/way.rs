//! A way to Consul on which some questions get lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The question for the default action.
const AUTHORIZE: &[u8] = b" /v1/agent/connect/authorize";

/// Passes bytes on, save the questions for the default action once they are to get lost.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    loses: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Way {
    pub(crate) async fn to(consul: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (loses, lost) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (begin, tell) = (loses.clone(), lost.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let Ok(server) = TcpStream::connect(consul).await else { continue };
                connections.spawn(pass(client, server, begin.clone(), tell.clone()));
            }
        });
        Self { address, loses, lost, _task: task }
    }

    /// From now on nobody learns the default action.
    pub(crate) fn lose_authorize(&self) {
        self.loses.store(true, Ordering::Relaxed);
    }

    /// Whether a question got lost.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

/// One connection, both ways.
async fn pass(client: TcpStream, server: TcpStream, loses: Arc<AtomicBool>, lost: Arc<AtomicBool>) {
    let (mut questions, mut to_client) = client.into_split();
    let (mut answers, mut to_server) = server.into_split();
    let up = async {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let length = questions.read(&mut piece).await.unwrap_or(0);
            let question = &piece[..length];
            let asks = question.windows(AUTHORIZE.len()).any(|bytes| bytes == AUTHORIZE);
            if length == 0 {
                return;
            } else if asks && loses.load(Ordering::Relaxed) {
                lost.store(true, Ordering::Relaxed);
            } else if to_server.write_all(question).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        _ = copy(&mut answers, &mut to_client) => {}
    }
}
