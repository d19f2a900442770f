//! A scripted peer: the app, a caller or another sidecar, one frame at a time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use outrigger::transport::io::Io;
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::net::{Answer, Client, Mesh, app_address, grpc_request, inbound_address};
use super::wire::{ACK, DATA, Frame, Frames, GOAWAY, HEADERS, PING, SETTINGS, WINDOW_UPDATE};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// On paused time: nothing else is left to happen.
pub const IN_VAIN: Duration = Duration::from_secs(300);

/// Whose part the script plays behind the caller's sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    App,
    Sidecar,
}

pub const SEATS: [Seat; 2] = [Seat::App, Seat::Sidecar];

/// A mesh whose far end is scripted.
pub struct Stage {
    pub mesh: Mesh,
    pub seat: Seat,
    connections: UnboundedReceiver<DuplexStream>,
}

impl Stage {
    /// One attempt a call, so that each script sees what comes of it.
    pub fn new(seat: Seat) -> Self {
        Self::of(seat, Mesh::with_caller("[retry]\nattempts = 1"))
    }

    pub fn of(seat: Seat, mesh: Mesh) -> Self {
        let connections = match seat {
            Seat::App => {
                mesh.serve_inbound();
                mesh.net.listen(app_address())
            }
            Seat::Sidecar => mesh.net.listen(inbound_address()),
        };
        Self { mesh, seat, connections }
    }

    pub async fn client(&self) -> Client {
        self.mesh.client().await
    }

    /// The next connection, before HTTP/2.
    pub async fn connection(&mut self) -> Box<dyn Io> {
        let pipe = timeout(IN_VAIN, self.connections.recv()).await;
        let pipe = pipe.expect("nobody connects").unwrap();
        match self.seat {
            Seat::App => Box::new(pipe),
            Seat::Sidecar => {
                let tls = TlsAcceptor::from(self.mesh.identity("echo").server_config());
                Box::new(tls.accept(pipe).await.unwrap())
            }
        }
    }

    /// The next connection, greeted.
    pub async fn accept(&mut self) -> Peer {
        self.accept_with(&[]).await
    }

    /// The next connection, greeted with these settings.
    pub async fn accept_with(&mut self, settings: &[(u16, u32)]) -> Peer {
        let mut peer = Peer::new(self.connection().await);
        peer.send(&Frame::settings(settings)).await;
        peer.preface().await;
        peer
    }

    /// Serves whoever else connects, for ever.
    pub async fn serve(&mut self) -> Infallible {
        loop {
            let peer = self.accept().await;
            spawn_local(peer.serve());
        }
    }

    /// True while nobody else connects.
    pub fn is_quiet(&mut self) -> bool {
        self.connections.is_empty()
    }
}

/// One end of a connection.
pub struct Peer {
    frames: Frames<ReadHalf<Box<dyn Io>>>,
    write: WriteHalf<Box<dyn Io>>,
    inbox: VecDeque<Frame>,
}

impl Peer {
    pub fn new(io: Box<dyn Io>) -> Self {
        let (read, write) = tokio::io::split(io);
        Self { frames: Frames::new(read), write, inbox: VecDeque::new() }
    }

    /// A caller, beside the app: to the outbound side of `web`.
    pub async fn caller(mesh: &Mesh, settings: &[(u16, u32)]) -> Self {
        Self::greet(Box::new(mesh.raw()), settings).await
    }

    /// A caller from the mesh: to the inbound side of `echo`.
    pub async fn mesh_caller(mesh: &Mesh) -> Self {
        let pipe = mesh.net.connect(inbound_address()).unwrap();
        let config = mesh.identity("web").client_config(&mesh.id("echo"));
        let name = rustls::pki_types::ServerName::try_from("echo").unwrap();
        let tls = TlsConnector::from(config).connect(name, pipe).await.unwrap();
        Self::greet(Box::new(tls), &[]).await
    }

    async fn greet(io: Box<dyn Io>, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self::new(io);
        peer.write.write_all(PREFACE).await.unwrap();
        peer.send(&Frame::settings(settings)).await;
        peer
    }

    /// Reads the other end's preface.
    pub async fn preface(&mut self) {
        assert_eq!(self.frames.bytes(PREFACE.len()).await.unwrap(), PREFACE);
    }

    /// Writes a frame. What comes meanwhile is kept, and who is gone is written to in vain.
    pub async fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.encode()).await;
    }

    /// Writes frames that arrive together.
    pub async fn send_all(&mut self, frames: &[Frame]) {
        let bytes: Vec<_> = frames.iter().flat_map(Frame::encode).collect();
        self.send_bytes(&bytes).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let Self { frames, write, inbox } = self;
        let mut writing = pin!(async {
            let _ = write.write_all(bytes).await;
            let _ = write.flush().await;
        });
        loop {
            tokio::select! {
                biased;
                () = &mut writing => return,
                frame = frames.frame() => match frame {
                    Some(frame) => inbox.push_back(frame),
                    None => return,
                },
            }
        }
    }

    /// Writes bytes and reads nothing; false where they are not taken.
    pub async fn cram(&mut self, bytes: &[u8]) -> bool {
        let writing = async {
            self.write.write_all(bytes).await?;
            self.write.flush().await
        };
        matches!(timeout(Duration::from_secs(1), writing).await, Ok(Ok(())))
    }

    /// The next frame, or none at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        match self.inbox.pop_front() {
            Some(frame) => Some(frame),
            None => timeout(IN_VAIN, self.frames.frame()).await.expect("waited in vain"),
        }
    }

    /// The next frame of a call; SETTINGS and PING are answered meanwhile, windows ignored.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut frame = self.frame().await?;
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK != 0 => {}
                SETTINGS => self.send(&Frame::new(SETTINGS, ACK, 0, &[])).await,
                PING => {
                    frame.flags = ACK;
                    self.send(&frame).await;
                }
                WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    /// The next frame of a call, which is of this kind.
    pub async fn expect(&mut self, kind: u8) -> Frame {
        let frame = self.next().await.expect("the connection has ended");
        assert_eq!(frame.kind, kind, "{frame:?}");
        frame
    }

    /// The head of the next call: its stream.
    pub async fn head(&mut self) -> u32 {
        self.expect(HEADERS).await.stream
    }

    /// The next call, its request read whole.
    pub async fn request(&mut self) -> u32 {
        let mut frame = self.expect(HEADERS).await;
        let stream = frame.stream;
        while !frame.is_end() {
            frame = self.next().await.expect("the connection has ended");
            assert_eq!(frame.stream, stream, "{frame:?}");
        }
        stream
    }

    /// What comes of DATA until nothing more does, on any stream.
    pub async fn drain_data(&mut self) -> usize {
        let mut bytes = 0;
        while let Some(frame) = self.soon().await {
            if frame.kind == DATA {
                bytes += frame.payload.len();
            }
        }
        bytes
    }

    /// The next frame of a call that comes within a moment.
    pub async fn soon(&mut self) -> Option<Frame> {
        timeout(Duration::from_secs(1), self.next()).await.ok().flatten()
    }

    /// Answers a call whole, with a body.
    pub async fn answer(&mut self, stream: u32, body: &[u8]) {
        let frames = [
            head(stream),
            Frame::data(stream, body),
            Frame::headers(stream, &[("grpc-status", "0")]).end(),
        ];
        self.send_all(&frames).await;
    }

    /// Answers each call that comes, until none came for a while.
    pub async fn serve(mut self) {
        while let Some(frame) = self.soon().await {
            if frame.kind == HEADERS {
                self.answer(frame.stream, b"x").await;
            }
        }
    }

    /// Everything until the connection ends; its GOAWAY's code, where it said one.
    pub async fn ended(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
            }
        }
        code
    }

    /// Ends its own direction, and goes on reading.
    pub async fn end(&mut self) {
        let _ = self.write.shutdown().await;
    }
}

/// The head of an answer.
pub fn head(stream: u32) -> Frame {
    Frame::headers(stream, &[(":status", "200"), ("content-type", "application/grpc")])
}

/// The head of a call to `echo`.
pub fn call(stream: u32) -> Frame {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "echo"),
        (":path", "/echo.v1.Echo/Say"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    Frame::headers(stream, &fields)
}

/// The whole answer of a call, however it ends.
pub async fn answer_of(response: h2::client::ResponseFuture) -> Answer {
    let answer = async { Answer::read(response.await.unwrap()).await.unwrap() };
    timeout(IN_VAIN, answer).await.expect("the call hangs")
}

/// The status and the sidecar's reason of a call, however it ends.
pub async fn told(response: h2::client::ResponseFuture) -> (String, String) {
    let (status, _, reason) = answer_of(response).await.status();
    (status, reason)
}

/// What a caller reads where its call broke.
pub fn reset() -> (String, String) {
    ("14".into(), "upstream_reset".into())
}

/// What a caller reads where its call went well.
pub fn fine() -> (String, String) {
    ("0".into(), String::new())
}

/// A call without a request body: its answer.
pub fn ask(client: &mut Client) -> h2::client::ResponseFuture {
    client.send.send_request(grpc_request(), true).unwrap().0
}

/// Room for one call alone, so that one that is left shows in the next.
pub fn room_for_one() -> Mesh {
    let one = "[limits]\nopen_streams = 1\nin_flight = 1\nin_flight_per_endpoint = 1\n\
               [retry]\nattempts = 1";
    Mesh::with(one, "[limits]\nopen_streams = 1")
}

/// The sum of a metric's series.
pub fn gauge(metrics: &outrigger::telemetry::metrics::Metrics, name: &str) -> f64 {
    let text = Mesh::scrape(metrics);
    let of = text.lines().filter(|line| line.starts_with(name));
    of.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}
