//! Facts about DNS answers.

use hickory_server::proto::op::{Query, ResponseCode};
use hickory_server::proto::rr::{Name, RData, RecordType};
use serde_json::json;

use super::*;
use crate::agent::body::Fields;
use crate::agent::config::AgentConfig;
use crate::agent::service::{Origin, Service};

fn shared(instances: u8) -> Shared {
    let shared = Shared::new(&AgentConfig::default(), SystemTime::now()).unwrap();
    shared.with(Instant::now(), |state| {
        for number in 1..=instances {
            let body = json!({
                "ID": format!("web-{number}"), "Name": "web", "Port": 80,
                "Address": format!("10.0.0.{number}"), "Tags": [format!("v{number}")],
            });
            let fields = Fields::new(body.as_object().unwrap(), "x");
            let service = Service::from_definition(fields, Origin::Agent).unwrap();
            let local = state.catalog.local_name().to_owned();
            state.catalog.put_service(&local, service, &mut state.index).unwrap();
        }
    });
    shared
}

fn ask(shared: &Shared, name: &str, kind: RecordType) -> Answer {
    let name = Name::from_ascii(name).unwrap();
    shared.with(Instant::now(), |state| lookup::answer(state, &name, kind, SystemTime::UNIX_EPOCH))
}

#[test]
fn a_service_is_found_by_name_tag_datacenter_and_rfc_2782() {
    let shared = shared(2);
    for (name, count) in [
        ("web.service.consul.", 2),
        ("WEB.service.dc1.consul.", 2),
        ("v1.web.service.consul.", 1),
        ("_web._v2.service.consul.", 1),
        ("_web._tcp.service.consul.", 2),
    ] {
        let answer = ask(&shared, name, RecordType::SRV);
        assert_eq!(answer.code, ResponseCode::NoError, "{name}");
        assert_eq!(answer.answers.len(), count, "{name}");
    }
}

#[test]
fn an_srv_record_points_to_an_address_that_is_added() {
    let answer = ask(&shared(1), "web.service.consul.", RecordType::SRV);
    let RData::SRV(srv) = &answer.answers[0].data else { panic!("no SRV") };
    assert_eq!(srv.target.to_ascii(), "0a000001.addr.dc1.consul.");
    assert_eq!(srv.port, 80);
    assert_eq!(answer.additional[0].name, srv.target);
    let again = ask(&shared(1), "0a000001.addr.dc1.consul.", RecordType::A);
    assert_eq!(again.answers[0].data.ip_addr().unwrap().to_string(), "10.0.0.1");
}

#[test]
fn what_is_not_there_is_nxdomain_with_the_soa_and_other_zones_are_refused() {
    let shared = shared(1);
    for name in ["api.service.consul.", "v9.web.service.consul.", "web.service.dc2.consul."] {
        let answer = ask(&shared, name, RecordType::A);
        assert_eq!(answer.code, ResponseCode::NXDomain, "{name}");
        assert!(matches!(answer.authority[0].data, RData::SOA(_)));
    }
    let other_family = ask(&shared, "web.service.consul.", RecordType::AAAA);
    assert_eq!(other_family.code, ResponseCode::NoError);
    assert!(other_family.answers.is_empty());
    assert_eq!(ask(&shared, "example.com.", RecordType::A).code, ResponseCode::Refused);
}

#[test]
fn a_datagram_holds_three_records_without_edns_and_what_fits_with_it() {
    let shared = shared(40);
    let name = Name::from_ascii("web.service.consul.").unwrap();
    let question = Query::query(name, RecordType::SRV);
    let mut plain = ask(&shared, "web.service.consul.", RecordType::SRV);
    plain.fit(&question, None);
    assert_eq!((plain.answers.len(), plain.additional.len()), (3, 3));
    let mut wide = ask(&shared, "web.service.consul.", RecordType::SRV);
    wide.fit(&question, Some(1232));
    assert!(wide.answers.len() > 3 && wide.answers.len() < 40);
    assert_eq!(wide.answers.len(), wide.additional.len());
}
