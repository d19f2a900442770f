//! A call's place at an endpoint: at the one of choice, or at the next that can be connected.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use tokio::time::Instant;

use super::Attempts;
use crate::fault::Fault;
use crate::outbound::balance::{Probing, Tried};
use crate::outbound::endpoint::{Endpoint, Sent};
use crate::resilience::breaker::Permit;
use crate::resilience::outcome::Outcome;
use crate::transport::pool::{ConnectStage, Lease};

/// One call goes to so many endpoints that cannot be connected before it is given up.
const PASSED_OVER: usize = 3;

/// One call looks at so many endpoints, those whose connections are full among them.
const LOOKED_AT: usize = 16;

/// A call's place at an endpoint.
pub(super) struct Place {
    pub(super) lease: Lease,
    pub(super) whom: Rc<str>,
    pub(super) sent: Sent,
    /// When it got it.
    pub(super) now: Instant,
}

/// An endpoint in whose load the call counts already.
pub(super) type Choice = (Rc<Endpoint>, Sent);

impl Attempts<'_> {
    /// A place for a call that was sent to nobody yet, at the endpoint of choice, where nothing has to
    /// be waited for: so most find theirs.
    ///
    /// # Errors
    /// The choice, to be connected, where there is one.
    #[inline(always)]
    pub(super) fn at_hand(&self, now: Instant) -> Result<Place, Option<Choice>> {
        if !self.tried.borrow().is_empty() {
            return Err(None);
        }
        let picked = self.upstream.pick(Tried::default(), self.hash, self.probing(), now);
        let choice = picked.and_then(|picked| self.counted(picked, now).ok());
        let (endpoint, sent) = choice.ok_or(None)?;
        match endpoint.pool.ready(now) {
            Some(lease) => Ok(self.place(lease, endpoint, sent, now)),
            None => Err(Some((endpoint, sent))),
        }
    }

    /// A place on a connection to an endpoint, the one of choice first where there is one. Those that
    /// cannot be connected are passed over: nothing was sent to them, so this is no retry.
    #[cold]
    pub(super) fn connect(
        &self,
        mut choice: Option<Choice>,
        may_repeat: bool,
        mut now: Instant,
    ) -> Pin<Box<impl Future<Output = Result<Place, Fault>>>> {
        // Boxed, as most calls do not come here.
        Box::pin(async move {
            let upstream = self.upstream;
            let mut avoided = self.tried.borrow().clone();
            let earlier = avoided.len();
            let (mut failed, mut full) = (0, None);
            while avoided.len() - earlier < LOOKED_AT && failed < PASSED_OVER {
                let chosen = choice.take().map(Ok);
                let Some(chosen) =
                    chosen.or_else(|| self.choose(&avoided, earlier, may_repeat, now))
                else {
                    break;
                };
                let (endpoint, sent) = match chosen {
                    Ok(chosen) => chosen,
                    Err(endpoint) => {
                        avoided.push(endpoint);
                        continue;
                    }
                };
                let leased = endpoint.pool.lease().await;
                now = Instant::now();
                match leased {
                    Ok(lease) => return Ok(self.place(lease, endpoint, sent, now)),
                    Err(fault) if fault.stage == ConnectStage::Full => {
                        sent.unsent();
                        full = Some(fault);
                    }
                    // The pool has told the upstream, which took the endpoint out.
                    Err(fault) => {
                        if sent.is_probe() {
                            sent.judge(Outcome::Down, now, || fault.message.to_string());
                        } else {
                            sent.unsent();
                        }
                        failed += 1;
                    }
                }
                avoided.push(endpoint);
            }
            Err(upstream.none_left(full, now))
        })
    }

    /// An endpoint, none of those that are avoided; the first so many of those had the call before,
    /// and may have it again where there is no other.
    fn choose(
        &self,
        avoided: &[Rc<Endpoint>],
        earlier: usize,
        may_repeat: bool,
        now: Instant,
    ) -> Option<Result<Choice, Rc<Endpoint>>> {
        // What has failed already is not risked again.
        let probing = if avoided.is_empty() { self.probing() } else { Probing::Last };
        let (sent, passed) = avoided.split_at(earlier);
        let pick = |sent| self.upstream.pick(Tried { sent, passed }, self.hash, probing, now);
        let picked =
            pick(sent).or_else(|| if may_repeat && earlier > 0 { pick(&[]) } else { None });
        picked.map(|picked| self.counted(picked, now))
    }

    /// Which endpoints that rest a first choice asks whether they are well: what cannot be sent again
    /// is not risked.
    fn probing(&self) -> Probing {
        match self.call.idempotency.may_repeat() {
            true => Probing::First,
            false => Probing::ByShare,
        }
    }

    /// Counts the call in the load of an endpoint from here on: one that is slow to connect is slow.
    ///
    /// # Errors
    /// The endpoint, where another worker has taken its last place since the choice.
    #[inline(always)]
    fn counted(
        &self,
        (endpoint, permit): (Rc<Endpoint>, Permit),
        now: Instant,
    ) -> Result<Choice, Rc<Endpoint>> {
        let limit = self.upstream.config.in_flight_per_endpoint.get();
        let of = (self.upstream.clone(), endpoint.clone(), self.method.clone());
        match Sent::new(of, (permit, limit), now, self.deadline) {
            Some(sent) => Ok((endpoint, sent)),
            None => {
                let now = endpoint.moment(now);
                self.upstream.record(&endpoint, permit, Outcome::Unknown, now);
                Err(endpoint)
            }
        }
    }

    #[inline(always)]
    fn place(&self, lease: Lease, endpoint: Rc<Endpoint>, sent: Sent, now: Instant) -> Place {
        let whom = endpoint.whom.clone();
        *self.last.borrow_mut() = Some(endpoint);
        Place { lease, whom, sent, now }
    }
}
