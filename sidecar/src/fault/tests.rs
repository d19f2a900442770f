//! Facts about faults as callers read them.

use super::*;

#[test]
fn a_message_is_percent_encoded_as_grpc_asks() {
    let fault = Fault::undelivered(Reason::NoRoute, "100 % of \"ü\"\n");
    assert_eq!(fault.trailers()["grpc-message"], "100 %25 of \"%C3%BC\"%0A");
    assert_eq!(fault.trailers()["grpc-status"], "12");
    assert_eq!(fault.trailers()["outrigger-reason"], "no_route");
}

#[test]
fn every_reason_is_found_by_its_name_and_has_a_label() {
    for reason in Reason::ALL {
        assert_eq!(Reason::named(reason.as_str().as_bytes()), Some(reason));
        assert!(crate::telemetry::labels::REASONS.contains(&reason.as_str()), "{reason:?}");
    }
    assert_eq!(Reason::named(b"made_up"), None);
}

#[test]
fn what_is_not_grpc_gets_an_http_status_and_json() {
    let response = Fault::undelivered(Reason::Denied, "no").http_response();
    assert_eq!(response.status(), 403);
    assert_eq!(response.body().as_ref(), br#"{"error":{"message":"no","reason":"denied"}}"#);
}
