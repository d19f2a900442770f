//! The way to the app on loopback: h2c over a small pool, or HTTP/1.1 where the app speaks that.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::Request;
use http::request::Parts;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::admission::Place;
use crate::call::attempt::Answer;
use crate::call::{carry, headers, http1};
use crate::fault::{Fault, Reason};
use crate::outbound::mesh::dial;
use crate::transport::body::{Body, Pulled, Pulling};
use crate::transport::io::Dial;
use crate::transport::pool::{Connect, ConnectFault, ConnectStage, Lease, Opened, Pool, Settings};
use crate::transport::pump::Pump;

/// The app.
pub struct App {
    /// For people: `the app of "user-service" at 127.0.0.1:50051`.
    pub whom: Rc<str>,
    speaks: Speaks,
}

enum Speaks {
    Grpc(Rc<Pool>),
    Http1(Http1),
}

struct Http1 {
    to: ToApp,
    /// Connections that wait for their next call.
    spare: Rc<RefCell<Vec<SendRequest<Pulled>>>>,
    /// So many of them are kept.
    kept: usize,
}

/// A call that was handed to the app: where its answer comes from, and the rest of its request.
pub type Sent = Result<(Answer, Option<Pump>), Fault>;

/// Opens connections to the app.
pub struct ToApp {
    address: SocketAddr,
    within: Duration,
    dial: Rc<dyn Dial>,
}

impl ToApp {
    /// At this address.
    pub fn new(address: SocketAddr, within: Duration, dial: Rc<dyn Dial>) -> Self {
        Self { address, within, dial }
    }
}

impl Connect for ToApp {
    fn connect(&self) -> Pin<Box<dyn Future<Output = Result<Opened, ConnectFault>> + '_>> {
        Box::pin(async {
            let io = dial(&*self.dial, self.address, self.within).await?;
            Ok(Opened { io, not_after: None })
        })
    }
}

impl App {
    /// An app that speaks gRPC.
    pub fn grpc(service: &str, to: ToApp, settings: Rc<Settings>) -> Self {
        let whom = whom(service, to.address);
        Self { whom, speaks: Speaks::Grpc(Pool::new(Box::new(to), settings)) }
    }

    /// An app that speaks HTTP/1.1; so many connections are `kept` for the next call.
    pub fn http1(service: &str, to: ToApp, kept: usize) -> Self {
        let whom = whom(service, to.address);
        Self { whom, speaks: Speaks::Http1(Http1 { to, spare: Rc::default(), kept }) }
    }

    /// A place on a connection to the app, where nothing has to be waited for.
    pub fn ready(&self, now: Instant) -> Option<Lease> {
        match &self.speaks {
            Speaks::Grpc(pool) => pool.ready(now),
            Speaks::Http1(_) => None,
        }
    }

    /// Hands a call to the app on this connection.
    ///
    /// # Errors
    /// h2's, before anything was sent.
    pub fn send_on(
        &self,
        mut lease: Lease,
        head: &mut Parts,
        body: &mut Body,
        place: Place,
    ) -> Sent {
        let end = body.is_empty();
        let head = carry::take_head(head);
        let sent = lease.send(Request::from_parts(head, ()), end);
        let (answer, sink) = sent.map_err(|e| Fault::from_h2(format_args!("{}", self.whom), &e))?;
        lease.hold(place.sent());
        let upload = (!end).then(|| Pump::new(std::mem::replace(body, Body::Empty), sink));
        Ok((Answer::H2(answer, lease), upload))
    }

    /// Hands a call to the app once there is a connection.
    ///
    /// # Errors
    /// `app_unreachable` where nothing was sent.
    pub fn send(
        &self,
        head: &mut Parts,
        body: &mut Body,
        place: Place,
    ) -> Pin<Box<impl Future<Output = Sent>>> {
        // Boxed: a call's own future stays small.
        Box::pin(async move {
            match &self.speaks {
                Speaks::Grpc(pool) => {
                    let leased = pool.lease().await;
                    let lease = leased.map_err(|fault| self.unreachable(&fault))?;
                    self.send_on(lease, head, body, place)
                }
                Speaks::Http1(http1) => {
                    let body = std::mem::replace(body, Body::Empty);
                    self.send_http1(http1, carry::take_head(head), body, place).await
                }
            }
        })
    }

    async fn send_http1(&self, app: &Http1, mut head: Parts, body: Body, place: Place) -> Sent {
        http1::from_h2(&mut head)?;
        let mut sender = loop {
            let Some(mut spare) = app.spare.borrow_mut().pop() else {
                break self.open_http1(&app.to).await?;
            };
            if spare.ready().await.is_ok() {
                break spare;
            }
        };
        let (spare, kept) = (app.spare.clone(), app.kept);
        let pulling = Rc::new(Pulling::default());
        let body = Pulled::new(body, pulling.clone(), headers::strip_reserved);
        let place = place.pulled(pulling.clone());
        let answer = async move {
            let response = sender.send_request(Request::from_parts(head, body)).await?;
            place.answered();
            spawn_local(async move {
                // Ready again once the answer was read whole.
                if sender.ready().await.is_ok() && spare.borrow().len() < kept {
                    spare.borrow_mut().push(sender);
                }
            });
            Ok(response)
        };
        Ok((Answer::H1(Box::pin(answer), pulling), None))
    }

    async fn open_http1(&self, to: &ToApp) -> Result<SendRequest<Pulled>, Fault> {
        let opened = to.connect().await.map_err(|fault| self.unreachable(&fault))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(opened.io));
        let (sender, connection) = handshake.await.map_err(|e| {
            let message = format!("{} cannot be reached: {e}", self.whom);
            Fault::undelivered(Reason::AppUnreachable, message)
        })?;
        spawn_local(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn unreachable(&self, fault: &ConnectFault) -> Fault {
        if fault.stage == ConnectStage::Full {
            let message = format!("{} takes no more calls: {}", self.whom, fault.message);
            return Fault::undelivered(Reason::Overloaded, message);
        }
        let message = format!("{} cannot be reached: {}", self.whom, fault.message);
        Fault::undelivered(Reason::AppUnreachable, message)
    }
}

fn whom(service: &str, address: SocketAddr) -> Rc<str> {
    format!("the app of \"{service}\" at {address}").into()
}
