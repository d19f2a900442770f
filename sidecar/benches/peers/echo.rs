//! The app behind every pair of the benchmark: a gRPC server that costs as little as it can.
//!
//! Answers each call with the bytes that it was sent, or, where the path ends with a number, with one
//! gRPC message of that many bytes; where it ends with `Stream`, each chunk goes back as it comes.
//! Invariant: every answer ends with the trailer `grpc-status: 0`.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;
const STREAMS: u32 = 4096;
const LARGEST: usize = 4 * 1024 * 1024;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let listen = std::env::args().nth(1).ok_or("usage: echo LISTEN")?;
    let listen: SocketAddr = listen.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (tcp, _) = listener.accept().await?;
            tcp.set_nodelay(true)?;
            spawn_local(async {
                let served = serve(tcp).await;
                served.inspect_err(|error| eprintln!("a connection ended: {error}"))
            });
        }
    })
}

async fn serve(tcp: TcpStream) -> Result<(), Failure> {
    let mut connection = server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .handshake(tcp)
        .await?;
    while let Some(stream) = connection.accept().await {
        let (request, respond) = stream?;
        spawn_local(async move {
            let answered = answer(request, respond).await;
            answered.inspect_err(|error| eprintln!("a call failed: {error}"))
        });
    }
    Ok(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), Failure> {
    let mut head = Response::new(());
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    let mut stream = if last == "Stream" {
        let mut stream = respond.send_response(head, false)?;
        echo(request.into_body(), &mut stream).await?;
        stream
    } else {
        let size = last.parse().ok();
        let sent = read(request.into_body()).await?;
        let message = match size {
            Some(size) if size <= LARGEST => message(size),
            _ => sent,
        };
        let mut stream = respond.send_response(head, false)?;
        write(&mut stream, message).await?;
        stream
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    Ok(stream.send_trailers(trailers)?)
}

/// Takes no more from the caller than it reads back.
async fn echo(mut body: RecvStream, stream: &mut SendStream<Bytes>) -> Result<(), Failure> {
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        let length = chunk.len();
        write(stream, chunk).await?;
        body.flow_control().release_capacity(length)?;
    }
    Ok(())
}

async fn read(mut body: RecvStream) -> Result<Bytes, Failure> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        if first.is_empty() {
            first = chunk;
        } else {
            more.put(chunk);
        }
    }
    if more.is_empty() {
        return Ok(first);
    }
    Ok(Bytes::from([first.as_ref(), more.as_ref()].concat()))
}

async fn write(stream: &mut SendStream<Bytes>, mut message: Bytes) -> Result<(), Failure> {
    stream.reserve_capacity(message.len());
    while !message.is_empty() {
        let room = match stream.capacity() {
            0 => poll_fn(|cx| stream.poll_capacity(cx)).await.ok_or("the stream was closed")??,
            room => room,
        };
        stream.send_data(message.split_to(room.min(message.len())), false)?;
    }
    Ok(())
}

/// A gRPC message: not compressed, then its length, then zeroes.
fn message(size: usize) -> Bytes {
    let mut message = BytesMut::zeroed(5 + size);
    message[1..5].copy_from_slice(&(size as u32).to_be_bytes());
    message.freeze()
}
