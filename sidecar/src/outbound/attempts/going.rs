//! What of a call goes to whichever endpoint it is sent to, and the copy of its head that further
//! attempts are made of.

use std::future::Future;
use std::pin::Pin;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method as Verb, Request, Uri};
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

/// A request's head, kept to be sent again. Few are: its headers are copied as bytes, since to
/// share each name and value, and to let go of them, costs more.
pub(super) struct Copy {
    verb: Verb,
    uri: Uri,
    fields: Vec<u8>,
}

impl Going {
    /// What an attempt had of it that has ended.
    #[cold]
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
    /// Of a head whose list of headers has about this size.
    pub(super) fn of(head: &Parts, size: usize) -> Self {
        let mut fields = Vec::with_capacity(size);
        for (name, value) in &head.headers {
            push(&mut fields, name, value);
        }
        Self { verb: head.method.clone(), uri: head.uri.clone(), fields }
    }

    /// The head of a further attempt, before which so many came.
    pub(super) fn head(&self, before: u32) -> Parts {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = self.verb.clone();
        head.uri = self.uri.clone();
        head.version = http::Version::HTTP_2;
        let mut fields = self.fields.as_slice();
        while let Some((name, value)) = pop(&mut fields) {
            head.headers.append(name, value);
        }
        head.headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(before));
        head
    }
}

/// A field: whether it is sensitive, the lengths of its name and its value, and both.
fn push(fields: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let (is_sensitive, name, value) = (value.is_sensitive(), name.as_str(), value.as_bytes());
    let mut lengths = [is_sensitive.into(); 9];
    lengths[1..5].copy_from_slice(&(name.len() as u32).to_ne_bytes());
    lengths[5..].copy_from_slice(&(value.len() as u32).to_ne_bytes());
    fields.extend_from_slice(&lengths);
    fields.extend_from_slice(name.as_bytes());
    fields.extend_from_slice(value);
}

fn pop(fields: &mut &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let (is_sensitive, rest) = fields.split_first()?;
    let (name, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(u32::from_ne_bytes(*name) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_ne_bytes(*value) as usize)?;
    *fields = rest;
    // What h2 lets in, and so each name that is one.
    let name = HeaderName::from_lowercase(name).ok()?;
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(*is_sensitive != 0);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_every_header_as_it_was() {
        let mut secret = HeaderValue::from_static("Bearer x");
        secret.set_sensitive(true);
        let long = HeaderValue::from_bytes(&[b'\xff'; 70_000]).unwrap();
        let request = Request::put("http://echo/a?b")
            .header("content-type", "application/grpc")
            .header("authorization", secret)
            .header(HeaderName::from_lowercase(b"x\"y").unwrap(), "odd")
            .header("x-twice", "one")
            .header("x-twice", "")
            .header("x-long-bin", long);
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut again = Copy::of(&head, 0).head(1);
        assert_eq!(again.headers.remove(PREVIOUS_ATTEMPTS).unwrap(), "1");
        assert_eq!((again.method, again.uri), (head.method, head.uri));
        assert_eq!(again.headers, head.headers);
        assert!(again.headers["authorization"].is_sensitive());
        assert!(!again.headers["x-twice"].is_sensitive());
    }
}
