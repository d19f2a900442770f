//! Carries an answer to the caller: over HTTP/2, or through hyper to an HTTP/1.1 caller.
//!
//! Invariant: every call that came in whole gets an answer, its own or a fault's, unless the
//! caller is gone.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request};
use http_body::Frame;

use super::control::Control;
use super::exchange::{Ended, Exchange};
use super::headers::{self, Dialect};
use super::record::{Record, Reporter};
use super::web::Messages;
use crate::fault::{Fault, Reason};
use crate::transport::body::{Body, Piece};
use crate::transport::pump::{End, Pump};

/// Interim responses (1xx) that go on, of one call.
const INTERIMS: usize = 16;

/// A call as it comes in.
pub struct Call {
    /// Its head.
    pub head: request::Parts,
    /// The rest of its request.
    pub body: Body,
    /// The worker's hand on it. None while an exchange has it.
    pub control: Option<Control>,
}

/// A request's head, to be sent.
pub fn take_head(head: &mut request::Parts) -> request::Parts {
    let (nothing, ()) = Request::new(()).into_parts();
    std::mem::replace(head, nothing)
}

/// What happens to each call of a connection: one of the two screens.
pub trait Screen: 'static {
    /// Sends the call on its way, or says why not.
    /// (Boxed: it is handed on many times.)
    fn call(self: Rc<Self>, call: Box<Call>) -> impl Future<Output = Prepared>;
}

/// A call as a screen leaves it: on its way, or refused.
pub struct Prepared {
    /// How the caller reads an answer.
    pub dialect: Dialect,
    /// Whether the answer has a head alone (HEAD).
    pub head_only: bool,
    /// Whose answers these are.
    pub edge: Edge,
    /// Its place in the metrics; none where it did not get far enough to be told apart.
    pub record: Option<Record>,
    /// The call on its way, or why not.
    /// (Boxed: it is handed on many times before it rests.)
    pub outcome: Result<Box<Exchange>, Ended>,
    /// Told every fault that the sidecar answers with.
    pub reporter: Reporter,
}

/// From which side an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// From the app: what it says in the sidecars' own name is taken off.
    App,
    /// From another sidecar.
    Mesh,
}

impl Edge {
    fn clean(self, headers: &mut HeaderMap) {
        if self == Edge::App {
            headers::strip_reserved(headers);
        }
    }
}

/// Carries the answer of a call over HTTP/2. A caller that gives up ends the call at once.
pub async fn over_h2<S: Screen>(screen: Rc<S>, call: Box<Call>, mut respond: SendResponse<Bytes>) {
    let Some(Prepared { dialect, head_only, edge, mut record, outcome, reporter }) = ({
        // Made here: handed in, it would be moved from place to place.
        let mut prepare = pin!(screen.call(call));
        poll_fn(|cx| {
            // Asked first: a call that was given up before it was looked at goes nowhere.
            if respond.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            prepare.as_mut().poll(cx).map(Some)
        })
        .await
    }) else {
        return;
    };
    let mut set_status = |status| {
        if let Some(record) = &mut record {
            record.set_status(status);
        }
    };
    let refuse = |fault: &Fault, respond: &mut SendResponse<Bytes>| {
        reporter.fault(fault);
        answer(fault, &dialect, head_only, respond);
        dialect.status_of(fault)
    };
    let mut exchange = match outcome {
        Ok(exchange) => exchange,
        Err(Ended::CallerGone) => return,
        Err(Ended::Fault(fault)) => return set_status(refuse(&fault, &mut respond)),
    };
    let mut interims = 0;
    let head = poll_fn(|cx| {
        // gRPC has none.
        while dialect == Dialect::Http
            && let Some(mut interim) = exchange.poll_interim(cx)
        {
            // No window holds them back: more than a few are dropped, like large ones.
            interims += 1;
            if interims <= INTERIMS
                && exchange.check_size(headers::list_size(interim.headers())).is_ok()
            {
                edge.clean(interim.headers_mut());
                let _ = respond.send_informational(interim);
            }
        }
        match exchange.poll_head(cx, &dialect) {
            Poll::Pending => respond.poll_reset(cx).map(|_| Err(Ended::CallerGone)),
            ready => ready,
        }
    });
    let (parts, body) = match head.await {
        Ok(head) => head,
        Err(Ended::CallerGone) => return,
        Err(Ended::Fault(fault)) => return set_status(refuse(&fault, &mut respond)),
    };
    let mut response = Response::from_parts(parts, ());
    edge.clean(response.headers_mut());
    let answered = exchange.answered();
    if dialect == Dialect::Grpc && answered.has_length {
        // gRPC has no use for it, and an answer that breaks off short of it would be malformed: the
        // caller would not read the status that says why.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    let end = body.is_empty();
    let mut status = answered.status;
    let Ok(sink) = respond.send_response(response, end) else { return };
    if end {
        return set_status(status);
    }
    let mut pump = Pump::new(body, sink);
    pump.follow(Messages::of(&dialect));
    let outcome = poll_fn(|cx| {
        exchange.poll_side(cx)?;
        let before = pump.moved();
        let polled = pump.poll(cx, &mut |trailers| {
            status = exchange.trailed(trailers)?.or(status);
            edge.clean(trailers);
            Ok(())
        });
        if pump.moved() != before {
            exchange.attempt().progressed();
        }
        exchange.attempt().set_stalled_down(pump.is_stalled());
        match polled {
            Poll::Pending => pump.sink().poll_reset(cx).map(|_| Err(Ended::CallerGone)),
            Poll::Ready(End::Whole) => Poll::Ready(Ok(())),
            Poll::Ready(End::Sink(_)) => Poll::Ready(Err(Ended::CallerGone)),
            Poll::Ready(End::Refused(fault)) => Poll::Ready(Err(fault.into())),
            Poll::Ready(End::Source(e)) => Poll::Ready(Err(exchange.attempt().broken(&e).into())),
        }
    });
    match outcome.await {
        Ok(()) => {
            set_status(status);
            record.iter_mut().for_each(|record| record.set_end(exchange.attempt().now()));
        }
        Err(Ended::CallerGone) => {}
        Err(Ended::Fault(fault)) => {
            reporter.fault(&fault);
            set_status(dialect.status_of(&fault));
            break_off(&fault, &dialect, &mut pump);
        }
    }
}

/// Answers with a fault before there was a head. A caller that is gone needs none.
#[cold]
fn answer(fault: &Fault, dialect: &Dialect, head_only: bool, respond: &mut SendResponse<Bytes>) {
    if let Some(response) = trailers_only(fault, dialect) {
        let _ = respond.send_response(response, true);
        return;
    }
    let (parts, body) = fault.http_response().into_parts();
    let sent = respond.send_response(Response::from_parts(parts, ()), head_only);
    if let (Ok(mut sink), false) = (sent, head_only) {
        let _ = sink.send_data(body, true);
    }
}

/// A fault as the whole answer, where the caller reads a gRPC status.
fn trailers_only(fault: &Fault, dialect: &Dialect) -> Option<Response<()>> {
    match dialect {
        Dialect::Grpc => Some(fault.grpc_response(HeaderValue::from_static("application/grpc"))),
        Dialect::GrpcWeb(own) => Some(fault.grpc_response(own.clone())),
        Dialect::Http => None,
    }
}

/// Ends an answer that has begun.
#[cold]
fn break_off(fault: &Fault, dialect: &Dialect, pump: &mut Pump) {
    let web = pump.messages().and_then(|messages| messages.trailers(fault));
    let sink = pump.sink();
    match (dialect, web) {
        (Dialect::Grpc, _) => drop(sink.send_trailers(fault.trailers())),
        (_, Some(trailers)) => drop(sink.send_data(trailers, true)),
        (_, None) => sink.send_reset(h2::Reason::INTERNAL_ERROR),
    }
}

/// Carries the answer of a call to hyper, for an HTTP/1.1 caller.
pub async fn over_h1<S: Screen>(screen: Rc<S>, call: Box<Call>) -> Response<H1Answer> {
    let Prepared { dialect, head_only, edge, record, outcome, reporter } = screen.call(call).await;
    let mut answer = H1Answer { state: State::Whole(Bytes::new()), edge, record, reporter };
    let outcome = match outcome {
        Ok(mut exchange) => {
            let head = poll_fn(|cx| exchange.poll_head(cx, &dialect)).await;
            head.map(|head| (head, exchange))
        }
        Err(ended) => Err(ended),
    };
    match outcome {
        Ok(((mut parts, body), exchange)) => {
            edge.clean(&mut parts.headers);
            headers::strip_hop_by_hop(&mut parts.headers);
            parts.version = http::Version::HTTP_11;
            let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
            let left = length.and_then(|length| length.parse().ok());
            let messages = Messages::of(&dialect);
            answer.state = State::Open(Box::new(Open { body, exchange, owed: 0, left, messages }));
            if head_only
                || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            {
                answer.set_status(None);
            }
            answer.note_end();
            Response::from_parts(parts, answer)
        }
        Err(ended) => {
            let fault = match ended {
                Ended::Fault(fault) => fault,
                // hyper drops what is written to it.
                Ended::CallerGone => broke_off(),
            };
            answer.reporter.fault(&fault);
            answer.set_status(dialect.status_of(&fault));
            // gRPC itself is refused here for coming over HTTP/1.1, and reads no status from it.
            let web = trailers_only(&fault, &dialect).filter(|_| dialect != Dialect::Grpc);
            let (parts, body) = match web {
                Some(response) => response.map(|()| Bytes::new()).into_parts(),
                None => fault.http_response().into_parts(),
            };
            answer.state = State::Whole(body);
            Response::from_parts(parts, answer)
        }
    }
}

fn broke_off() -> Fault {
    Fault::after_send(Reason::Malformed, "the request broke off before its end")
}

/// An answer's body as hyper pulls it.
pub struct H1Answer {
    state: State,
    edge: Edge,
    record: Option<Record>,
    reporter: Reporter,
}

enum State {
    Whole(Bytes),
    Open(Box<Open>),
}

struct Open {
    body: Body,
    exchange: Box<Exchange>,
    owed: usize,
    /// Of the length that its head states, after which hyper asks for nothing more.
    left: Option<u64>,
    messages: Option<Messages>,
}

impl H1Answer {
    /// An answer that goes out whole was not given up. (gRPC does not come over HTTP/1.1: there is
    /// no status but HTTP's.)
    fn note_end(&mut self) {
        if let State::Open(open) = &self.state
            && (open.body.is_end() || open.left == Some(0))
        {
            self.set_status(None);
        }
    }

    fn set_status(&mut self, status: Option<u8>) {
        if let Some(record) = &mut self.record {
            record.set_status(status);
        }
    }
}

impl http_body::Body for H1Answer {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        let Open { body, exchange, owed, left, messages } = match &mut this.state {
            State::Open(open) => &mut **open,
            State::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
        };
        let owed_now = std::mem::take(owed);
        exchange.attempt().polled(None);
        if owed_now > 0 {
            body.release(owed_now);
            exchange.attempt().progressed();
        }
        // hyper asks for more only once it has room: until then the piece is owed, and stalls.
        exchange.attempt().set_stalled_down(false);
        let fault = match exchange.poll_side(cx) {
            Err(Ended::Fault(fault)) => fault,
            Err(Ended::CallerGone) => broke_off(),
            Ok(()) => match ready!(body.poll_piece(cx)) {
                None => {
                    this.set_status(None);
                    return Poll::Ready(None);
                }
                Some(Ok(Piece::Data(data))) => {
                    *owed = data.len();
                    if let Some(messages) = messages {
                        messages.pass(&data);
                    }
                    *left = left.map(|left| left.saturating_sub(data.len() as u64));
                    exchange.attempt().set_stalled_down(true);
                    this.note_end();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Ok(Piece::Trailers(mut trailers))) => {
                    this.edge.clean(&mut trailers);
                    this.set_status(None);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Some(Err(e)) => exchange.attempt().broken(&e),
            },
        };
        let web = messages.as_ref().filter(|_| left.is_none());
        let web = web.and_then(|messages| messages.trailers(&fault));
        this.reporter.fault(&fault);
        this.set_status(web.as_ref().map(|_| fault.code() as u8));
        if let Some(trailers) = web {
            this.state = State::Whole(Bytes::new());
            return Poll::Ready(Some(Ok(Frame::data(trailers))));
        }
        // hyper closes the connection without the last chunk.
        Poll::Ready(Some(Err(fault)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Whole(bytes) => bytes.is_empty(),
            State::Open(open) => open.body.is_end(),
        }
    }
}
