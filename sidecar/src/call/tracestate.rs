//! The `tracestate` member by which a bare app carries its caller's deadline to its own calls.
//!
//! Inbound writes `outrigger=d:<deadline, µs since the epoch>;a:<attempt>` (W3C Trace Context,
//! "tracestate"); the app hands it on unread; outbound takes it off again. Both clocks are one
//! host's. Nothing of it ever goes on the wire to another host.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The header (W3C Trace Context).
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const KEY: &[u8] = b"outrigger=";

/// W3C Trace Context: a list has at most 32 members.
const MEMBERS: usize = 32;

/// What the member says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// When the caller's time is up, on this host's clock.
    pub deadline: Option<SystemTime>,
    /// How many attempts came before this one: above 0, the call is itself a retry.
    pub attempt: u32,
}

/// Takes the member out of the headers; every other member is kept, in its order.
pub fn take(headers: &mut HeaderMap) -> Option<Hop> {
    if !headers.contains_key(&TRACESTATE) {
        return None;
    }
    let mut hop = None;
    let mut kept = Vec::new();
    for member in members(headers) {
        match member.strip_prefix(KEY) {
            Some(value) => hop = hop.or_else(|| Some(parse(&String::from_utf8_lossy(value)))),
            None => join(&mut kept, member),
        }
    }
    if hop.is_some() {
        set(headers, &kept);
    }
    hop
}

/// Puts the member first, as W3C asks of whoever changed its own; one that was there is replaced.
pub fn put(headers: &mut HeaderMap, hop: &Hop) {
    take(headers);
    let mut text = Vec::from(KEY);
    let since_epoch = hop.deadline.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    if let Some(at) = since_epoch {
        text.extend_from_slice(b"d:");
        text.extend_from_slice(itoa::Buffer::new().format(at.as_micros() as u64).as_bytes());
        text.push(b';');
    }
    text.extend_from_slice(b"a:");
    text.extend_from_slice(itoa::Buffer::new().format(hop.attempt).as_bytes());
    for member in members(headers).take(MEMBERS - 1) {
        join(&mut text, member);
    }
    set(headers, &text);
}

/// Every member of every value, as bytes: one that is no text hides no other.
fn members(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(&TRACESTATE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

fn join(list: &mut Vec<u8>, member: &[u8]) {
    if !list.is_empty() {
        list.push(b',');
    }
    list.extend_from_slice(member);
}

fn set(headers: &mut HeaderMap, text: &[u8]) {
    match HeaderValue::from_bytes(text) {
        Ok(value) if !text.is_empty() => {
            headers.insert(TRACESTATE, value);
        }
        _ => {
            headers.remove(&TRACESTATE);
        }
    }
}

/// Lenient: what cannot be read says nothing.
fn parse(value: &str) -> Hop {
    let mut hop = Hop::default();
    for part in value.split(';') {
        match part.split_once(':') {
            Some(("d", micros)) => {
                let micros = micros.parse().ok().map(Duration::from_micros);
                hop.deadline = micros.and_then(|since| UNIX_EPOCH.checked_add(since));
            }
            Some(("a", attempt)) => hop.attempt = attempt.parse().unwrap_or(0),
            _ => {}
        }
    }
    hop
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| (TRACESTATE, value.parse().unwrap()));
        values.collect()
    }

    #[test]
    fn what_was_put_is_taken_and_the_rest_is_kept() {
        let mut map = headers(&["a=1, b=2", "c=3"]);
        let hop = Hop { deadline: Some(UNIX_EPOCH + Duration::from_micros(77)), attempt: 2 };
        put(&mut map, &hop);
        assert_eq!(map["tracestate"], "outrigger=d:77;a:2,a=1,b=2,c=3");
        assert_eq!(take(&mut map), Some(hop));
        assert_eq!(map["tracestate"], "a=1,b=2,c=3");
        assert_eq!(take(&mut map), None);
    }

    #[test]
    fn a_lone_member_leaves_no_header_behind() {
        let mut map = headers(&["outrigger=a:0"]);
        assert_eq!(take(&mut map), Some(Hop::default()));
        assert!(map.is_empty());
    }

    #[test]
    fn without_our_member_the_header_is_left_as_it_came() {
        let mut map = headers(&["a=1 ,  b=2"]);
        assert_eq!(take(&mut map), None);
        assert_eq!(map["tracestate"], "a=1 ,  b=2");
    }

    proptest! {
        #[test]
        fn no_value_panics(text in "[ -~]{0,200}") {
            let mut map = headers(&[&text]);
            take(&mut map);
            put(&mut map, &Hop::default());
            prop_assert!(take(&mut map).is_some());
        }
    }
}
