//! The `tracestate` member by which a bare app carries its caller's deadline to its own calls.
//!
//! Inbound writes `outrigger=d:<deadline, µs since the epoch>;a:<attempt>` (W3C Trace Context,
//! "tracestate"); the app hands it on unread; outbound takes it off again. Both clocks are one
//! host's. Nothing of it ever goes on the wire to another host.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const KEY: &str = "outrigger=";

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
    let mut kept = String::new();
    let mut ours = false;
    for value in headers.get_all(&TRACESTATE) {
        // A value that is no text is not ours to mend: it is left as it came.
        let text = value.to_str().ok()?;
        for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            if let Some(value) = member.strip_prefix(KEY) {
                ours = true;
                hop = hop.or_else(|| Some(parse(value)));
            } else {
                if !kept.is_empty() {
                    kept.push(',');
                }
                kept.push_str(member);
            }
        }
    }
    if ours {
        set(headers, &kept);
    }
    hop
}

/// Puts the member first, as W3C asks of whoever changed its own; one that was there is replaced.
pub fn put(headers: &mut HeaderMap, hop: &Hop) {
    take(headers);
    let mut text = String::from(KEY);
    let since_epoch = hop.deadline.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    if let Some(at) = since_epoch {
        text.push_str("d:");
        text.push_str(itoa::Buffer::new().format(at.as_micros() as u64));
        text.push(';');
    }
    text.push_str("a:");
    text.push_str(itoa::Buffer::new().format(hop.attempt));
    let others = headers
        .get_all(&TRACESTATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .take(MEMBERS - 1);
    for member in others {
        text.push(',');
        text.push_str(member);
    }
    set(headers, &text);
}

fn set(headers: &mut HeaderMap, text: &str) {
    match HeaderValue::from_str(text) {
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
