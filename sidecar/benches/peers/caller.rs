//! The benchmark's streaming caller: one call that sends so many bytes and reads them back at once.
//!
//! `caller ADDRESS BYTES` calls the echo app's `Stream` over plain HTTP/2. Invariant: it ends well
//! only when every byte came back, in its place, with the trailer `grpc-status: 0`.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream, client};
use http::Request;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

type Failure = Box<dyn std::error::Error>;

const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// A gRPC message, its prefix of five bytes included.
const MESSAGE: usize = 64 * 1024;
const PREFIX: usize = 5;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, bytes] = arguments.as_slice() else {
        return Err("usage: caller ADDRESS BYTES".into());
    };
    let messages = bytes.parse::<u64>()?.div_ceil(MESSAGE as u64);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build_local(Default::default())?.block_on(stream(address, messages))
}

async fn stream(address: &str, messages: u64) -> Result<(), Failure> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let (sender, connection) = client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake::<_, Bytes>(tcp)
        .await?;
    spawn_local(async {
        connection.await.inspect_err(|error| eprintln!("the connection ended: {error}"))
    });
    let request = Request::post("http://echo/echo.v1.EchoService/Stream")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, upload) = sender.ready().await?.send_request(request, false)?;
    let sent = spawn_local(async move { send(upload, messages).await.map_err(|e| e.to_string()) });
    let response = response.await?;
    if !response.status().is_success() {
        return Err(format!("the answer is {}", response.status()).into());
    }
    let received = receive(response.into_body(), messages).await;
    sent.await??;
    received?;
    println!("{} bytes each way", messages * MESSAGE as u64);
    Ok(())
}

/// The message of this number: none is like the one before it.
fn message(number: u64) -> Bytes {
    let mut message = BytesMut::zeroed(MESSAGE);
    message[1..PREFIX].copy_from_slice(&((MESSAGE - PREFIX) as u32).to_be_bytes());
    for (at, byte) in message[PREFIX..].iter_mut().enumerate() {
        *byte = at as u8;
    }
    message[PREFIX..PREFIX + 8].copy_from_slice(&number.to_be_bytes());
    message.freeze()
}

async fn send(mut upload: SendStream<Bytes>, messages: u64) -> Result<(), Failure> {
    for number in 0..messages {
        let mut message = message(number);
        while !message.is_empty() {
            upload.reserve_capacity(message.len());
            let Some(room) = poll_fn(|cx| upload.poll_capacity(cx)).await else {
                let reason = poll_fn(|cx| upload.poll_reset(cx)).await?;
                return Err(format!("message {number} met the end of the stream: {reason}").into());
            };
            let room = room?;
            upload.send_data(message.split_to(room.min(message.len())), false)?;
        }
    }
    Ok(upload.send_data(Bytes::new(), true)?)
}

async fn receive(mut body: RecvStream, messages: u64) -> Result<(), Failure> {
    let (mut number, mut expected) = (0, message(0));
    while let Some(chunk) = body.data().await {
        let mut chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        while !chunk.is_empty() {
            if expected.is_empty() {
                number += 1;
                expected = message(number);
            }
            let length = chunk.len().min(expected.len());
            if chunk.split_to(length) != expected.split_to(length) {
                return Err(format!("message {number} did not come back as it was sent").into());
            }
        }
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    if trailers.get("grpc-status").is_none_or(|status| status != "0") {
        return Err(format!("the call ended with {trailers:?}").into());
    }
    match number + 1 == messages && expected.is_empty() {
        true => Ok(()),
        false => Err(format!("only {number} of {messages} messages came back").into()),
    }
}
