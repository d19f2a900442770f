//! What a call hands on to the calls it makes: its trace and its deadline.
//!
//! The sidecars join a service's outgoing calls to the incoming one by exactly these headers, so
//! they pass unchanged, a repeated one as often as it came.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{
    Request,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

/// W3C Trace Context and W3C Baggage.
const CARRIED: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// What came with a call for the calls that follow from it.
#[derive(Clone, Debug, Default)]
pub struct Context {
    carried: Vec<(&'static str, MetadataValue<Ascii>)>,
    deadline: Option<Instant>,
}

impl Context {
    /// The context of a call that has just arrived.
    pub fn of<T>(incoming: &Request<T>) -> Self {
        let metadata = incoming.metadata();
        let carried = CARRIED
            .iter()
            .flat_map(|name| metadata.get_all(*name).iter().map(|value| (*name, value.clone())))
            .collect();
        // A time left that no clock reaches is no deadline.
        let deadline = time_left(metadata).and_then(|left| Instant::now().checked_add(left));
        Self { carried, deadline }
    }

    /// A call that follows from this one, with the time that is left of it.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.carried {
            request.metadata_mut().append(*name, value.clone());
        }
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        request
    }

    /// Whether the caller has stopped waiting.
    pub fn expired(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}

/// Reads `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2, "Timeout").
fn time_left(metadata: &MetadataMap) -> Option<Duration> {
    let value = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(headers: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in headers {
            request.metadata_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    #[tokio::test(start_paused = true)]
    async fn the_trace_is_handed_on_unchanged_and_nothing_else_is() {
        let context = Context::of(&incoming(&[
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "outrigger=d:1;a:1"),
            ("tracestate", "other=x"),
            ("baggage", "k=v"),
            ("authorization", "Bearer x"),
        ]));
        let outgoing = context.request(()).into_parts().0;
        assert_eq!(outgoing.get("traceparent").unwrap().len(), 55);
        let states: Vec<_> = outgoing.get_all("tracestate").iter().cloned().collect();
        assert_eq!(states, ["outrigger=d:1;a:1", "other=x"]);
        assert_eq!(outgoing.get("baggage").unwrap(), "k=v");
        assert_eq!(outgoing.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_shortened_by_the_time_already_spent() {
        let context = Context::of(&incoming(&[("grpc-timeout", "2S")]));
        tokio::time::advance(Duration::from_millis(1_500)).await;
        let metadata = context.request(()).into_parts().0;
        assert_eq!(time_left(&metadata), Some(Duration::from_millis(500)));
        assert!(!context.expired());
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(context.expired());
        assert_eq!(time_left(&context.request(()).into_parts().0), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_that_cannot_be_read_is_no_deadline() {
        for value in ["", "S", "5", "5x", "-5S", "+5S", "123456789S", "5 S"] {
            let context = Context::of(&incoming(&[("grpc-timeout", value)]));
            assert!(!context.request(()).metadata().contains_key("grpc-timeout"), "{value:?}");
        }
        let hours = Context::of(&incoming(&[("grpc-timeout", "99999999H")]));
        assert!(!hours.expired());
    }
}
