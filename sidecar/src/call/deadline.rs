//! The time that a call has left: `grpc-timeout` parsed, shortened and written again.
//!
//! The instant of arrival is an argument, so that the time a call spends in this process is taken
//! off what it hands on.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

/// The header that a timeout comes in.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// gRPC over HTTP/2, "Timeout": at most 8 digits and a unit.
pub fn parse(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut n = 0u64;
    for digit in digits {
        n = n * 10 + u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// What a request's headers say of its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// The caller set none.
    None,
    /// Counted from the arrival of the request.
    After(Duration),
    /// Not in gRPC's form.
    Malformed,
}

/// Reads `grpc-timeout`.
pub fn read(headers: &HeaderMap) -> Timeout {
    match headers.get(&GRPC_TIMEOUT) {
        None => Timeout::None,
        Some(value) => parse(value.as_bytes()).map_or(Timeout::Malformed, Timeout::After),
    }
}

/// Writes what is left until `deadline`; rounded down, so that no hop has longer than the one
/// before it.
pub fn write(headers: &mut HeaderMap, deadline: Instant, now: Instant) {
    let left = deadline.saturating_duration_since(now);
    headers.insert(GRPC_TIMEOUT, spelled(left));
}

/// In the finest unit whose number has at most 8 digits.
fn spelled(left: Duration) -> HeaderValue {
    const UNITS: [(u128, u8); 6] = [
        (1, b'n'),
        (1_000, b'u'),
        (1_000_000, b'm'),
        (1_000_000_000, b'S'),
        (60_000_000_000, b'M'),
        (3_600_000_000_000, b'H'),
    ];
    let nanos = left.as_nanos();
    for (per_unit, unit) in UNITS {
        let n = nanos / per_unit;
        if n < 100_000_000 {
            let mut digits = itoa::Buffer::new();
            let mut value = Vec::with_capacity(9);
            value.extend_from_slice(digits.format(n as u64).as_bytes());
            value.push(unit);
            return HeaderValue::from_bytes(&value)
                .unwrap_or_else(|_| HeaderValue::from_static("0n"));
        }
    }
    // Longer than 11,000 years.
    HeaderValue::from_static("99999999H")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_unit_is_read() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("5u", Duration::from_micros(5)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_in_grpcs_form_is_refused() {
        for text in ["", "1", "S", "123456789S", "-1S", "1.5S", " 1S", "1s", "1 S"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_never_more_than_what_is_left(nanos in 0u64..) {
            let left = Duration::from_nanos(nanos);
            let read = parse(spelled(left).as_bytes()).unwrap();
            prop_assert!(read <= left);
            // Rounding loses less than one in 10,000,000, or a nanosecond's unit.
            prop_assert!((left - read).as_nanos() <= u128::from(nanos / 1_000_000 + 1));
        }
    }
}
