//! What of a call goes to whichever endpoint it is sent to, and the copy of its head that further
//! attempts are made of.

use std::future::Future;
use std::pin::Pin;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, Request, Uri};
use tokio::time::Instant;

use crate::call::carry::Call;
use crate::call::exchange::{Ended, Exchange};
use crate::call::headers::PREVIOUS_ATTEMPTS;
use crate::outbound::endpoint::Count;
use crate::outbound::expired;

/// What of a call goes to whichever endpoint it is sent to.
pub(in crate::outbound) struct Going {
    pub(in crate::outbound) call: Box<Call>,
    pub(in crate::outbound) in_upstream: Option<Count>,
    /// Another answer is looked for where the upstream fails: what it takes is kept.
    pub(in crate::outbound) has_fallback: bool,
}

/// A request's head, kept to be sent again.
pub(super) struct Copy {
    verb: Verb,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Going {
    /// What an attempt had of it that has ended.
    pub(in crate::outbound) fn take_back(&mut self, exchange: Exchange) {
        let (control, in_upstream, body) = exchange.into_rest();
        (self.call.control, self.call.body) = (Some(control), body);
        self.in_upstream = in_upstream;
    }

    /// What a call to `upstream` waits for before it is sent.
    pub(in crate::outbound) async fn until<T>(
        &self,
        deadline: Option<Instant>,
        upstream: &str,
        waiting: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Ended> {
        let Some(control) = &self.call.control else { return Ok(waiting.await) };
        let waited = control.until(deadline, waiting).await?;
        waited.ok_or_else(|| expired(&format!("before \"{upstream}\" was connected")).into())
    }
}

impl Copy {
    pub(super) fn of(head: &Parts) -> Self {
        let mut headers = Vec::with_capacity(head.headers.len());
        for (name, value) in &head.headers {
            headers.push((name.clone(), value.clone()));
        }
        Self { verb: head.method.clone(), uri: head.uri.clone(), headers }
    }

    /// The head of a further attempt, before which so many came.
    pub(super) fn head(&self, before: u32) -> Parts {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = self.verb.clone();
        head.uri = self.uri.clone();
        head.version = http::Version::HTTP_2;
        head.headers = HeaderMap::with_capacity(self.headers.len() + 2);
        for (name, value) in &self.headers {
            head.headers.append(name, value.clone());
        }
        head.headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(before));
        head
    }
}
