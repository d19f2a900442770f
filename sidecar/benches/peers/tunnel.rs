//! The second floor of the benchmark: a pair that carries bytes through mutual TLS 1.3 and reads none.
//!
//! What it costs is what TLS and the copying cost, whatever a proxy knows of HTTP. One thread; a
//! connection of its own for each that is accepted. Invariant: an end of one side is passed on to
//! the other.

use std::path::Path;
use std::rc::Rc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::{TlsAcceptor, TlsConnector};

mod tls;
use tls::{Failure, Tls};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A TLS record's most, each way.
const BUFFER: usize = 16 * 1024;

enum Side {
    Outbound(TlsConnector),
    Inbound(TlsAcceptor),
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [side, listen, next, certificates] = arguments.as_slice() else {
        return Err("usage: tunnel outbound|inbound LISTEN NEXT CERTIFICATES".into());
    };
    let tls = Tls::read(Path::new(certificates))?;
    let side = Rc::new(match side.as_str() {
        "outbound" => Side::Outbound(tls.connector()?),
        "inbound" => Side::Inbound(tls.acceptor()?),
        _ => return Err(format!("not a side: {side}").into()),
    });
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build_local(Default::default())?.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (near, _) = listener.accept().await?;
            let (side, next) = (Rc::clone(&side), next.clone());
            spawn_local(async move {
                let carried = carry(near, &side, &next).await;
                carried.inspect_err(|error| eprintln!("a connection ended: {error}"))
            });
        }
    })
}

async fn carry(near: TcpStream, side: &Side, next: &str) -> Result<(), Failure> {
    near.set_nodelay(true)?;
    let far = TcpStream::connect(next).await?;
    far.set_nodelay(true)?;
    match side {
        Side::Outbound(tls) => {
            copy(near, tls.connect(ServerName::try_from("echo")?, far).await?).await
        }
        Side::Inbound(tls) => copy(tls.accept(near).await?, far).await,
    }
}

async fn copy<A, B>(mut near: A, mut far: B) -> Result<(), Failure>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
    Ok(())
}
