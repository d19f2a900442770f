//! Every fault survives the trip through the libraries that carry it.

use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

fn verifiers() -> Vec<PeerFault> {
    let (a, b) = (id("spiffe://td/a"), id("spiffe://td/b"));
    vec![
        PeerFault::UnknownIssuer,
        PeerFault::Expired { not_after: at(1_700_000_000) },
        PeerFault::NotYetValid { not_before: at(1_900_000_000) },
        PeerFault::WrongIdentity { expected: a.clone(), found: b },
        PeerFault::NotSpiffe(NotSpiffe::ManyUris(2)),
        PeerFault::WrongTrustDomain { found: a, trusted: "other".to_owned() },
        PeerFault::Malformed("no certificate".to_owned()),
    ]
}

#[test]
fn what_a_verifier_says_comes_back_through_rustls_and_io() {
    for fault in verifiers() {
        let error = fault.clone().into_error(unix(at(1_800_000_000)));
        assert_eq!(PeerFault::from_error(&error), fault);
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        assert_eq!(PeerFault::from_io(&error), fault);
    }
}

#[test]
fn an_alert_is_known_by_its_text_alone() {
    for (alert, refusal) in [
        (AlertDescription::CertificateRequired, Refusal::NoCertificate),
        (AlertDescription::UnknownCA, Refusal::UnknownIssuer),
        (AlertDescription::CertificateExpired, Refusal::Expired),
        (AlertDescription::CertificateUnknown, Refusal::Identity),
        (AlertDescription::AccessDenied, Refusal::Identity),
        (AlertDescription::BadCertificate, Refusal::Certificate("bad_certificate")),
        (AlertDescription::ProtocolVersion, Refusal::Version),
        (AlertDescription::InternalError, Refusal::Other("InternalError".to_owned())),
    ] {
        let error = rustls::Error::AlertReceived(alert);
        assert_eq!(PeerFault::from_error(&error), PeerFault::Refused(refusal.clone()));
        let text_alone = io::Error::other(error.to_string());
        assert_eq!(PeerFault::from_io(&text_alone), PeerFault::Refused(refusal));
    }
    let other = io::Error::other("received fatal alert: Nonsense");
    assert_eq!(PeerFault::from_io(&other).label(), "tls");
}

#[test]
fn each_fault_has_a_label_of_its_own_from_the_closed_set() {
    let refusals = [
        Refusal::NoCertificate,
        Refusal::UnknownIssuer,
        Refusal::Expired,
        Refusal::Identity,
        Refusal::Certificate("bad_certificate"),
        Refusal::Version,
        Refusal::Other("InternalError".to_owned()),
    ];
    let mut faults = verifiers();
    faults.extend(refusals.map(PeerFault::Refused));
    faults.extend([
        PeerFault::NoCertificate,
        PeerFault::Version("Tls12NotOffered".to_owned()),
        PeerFault::Tls("end of file".to_owned()),
    ]);
    let mut labels: Vec<_> = faults.iter().map(PeerFault::label).collect();
    labels.sort_unstable();
    let mut known = PeerFault::LABELS;
    known.sort_unstable();
    assert_eq!(labels, known);
}

#[test]
fn a_fault_reads_as_a_plain_sentence() {
    let fault = PeerFault::Expired { not_after: at(1_700_000_000) };
    assert_eq!(fault.to_string(), "the peer's certificate expired at 2023-11-14T22:13:20Z");
    let fault =
        PeerFault::WrongIdentity { expected: id("spiffe://td/api"), found: id("spiffe://td/fake") };
    let text = "the peer is spiffe://td/fake, but spiffe://td/api was expected";
    assert_eq!(fault.to_string(), text);
}
