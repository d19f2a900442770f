//! What Consul answers to a name: `[tag.]svc.service[.dc].consul`, `_svc._tag.service.consul`,
//! `svc.connect.consul`, `svc.virtual.consul`, `node.node.consul`, `<hex ip>.addr.consul`, the zone itself, and PTR.
//! Pure: the catalog and the time are arguments.

use std::net::IpAddr;
use std::time::SystemTime;

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};

use super::answer::Answer;
use crate::agent::catalog::{Node, Topic};
use crate::agent::check::Status;
use crate::agent::service::Service;
use crate::agent::state::State;

const ZONE: &str = "consul.";

/// Answers a question.
pub(super) fn answer(state: &State, name: &Name, kind: RecordType, now: SystemTime) -> Answer {
    let question = Question { state, name, kind, now };
    let labels: Vec<String> =
        name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        ["consul"] => question.zone(),
        [inner @ .., "consul"] => question.inside(inner).unwrap_or_else(|| question.unknown()),
        [.., "arpa"] if kind == RecordType::PTR => {
            question.pointer().unwrap_or_else(|| question.unknown())
        }
        _ => Answer::of(ResponseCode::Refused),
    }
}

#[derive(Clone, Copy)]
struct Question<'a> {
    state: &'a State,
    name: &'a Name,
    kind: RecordType,
    now: SystemTime,
}

type Found<'a> = (&'a Node, &'a Service);

impl Question<'_> {
    fn inside(&self, labels: &[&str]) -> Option<Answer> {
        let kinds = ["service", "connect", "node", "addr", "virtual"];
        let is_kind = |label: &&str| kinds.contains(label);
        let (path, kind, datacenter) = match labels {
            [path @ .., kind] if is_kind(kind) => (path, *kind, None),
            [path @ .., kind, datacenter] | [path @ .., kind, datacenter, "dc"]
                if is_kind(kind) =>
            {
                (path, *kind, Some(*datacenter))
            }
            _ => return None,
        };
        let here = &self.state.datacenter;
        if datacenter.is_some_and(|other| !other.eq_ignore_ascii_case(here)) {
            return None;
        }
        match (kind, path) {
            ("addr", [hex]) => self.address(hex),
            ("node", [_, ..]) => self.node(&path.join(".")),
            ("virtual", [name]) => {
                let mut answer = Answer::of(ResponseCode::NoError);
                let address = self.state.catalog.virtual_ip(name)?.to_string();
                self.add_address(&mut answer.answers, self.name, &address);
                Some(answer)
            }
            ("connect", [.., name]) => self.service(&Topic::Connect((*name).to_owned()), None),
            ("service", [name]) => self.service(&Topic::Service((*name).to_owned()), None),
            ("service", [name, tag]) if name.starts_with('_') && tag.starts_with('_') => {
                // RFC 2782: the protocol's place holds a tag, and `_tcp` none.
                let tag = Some(&tag[1..]).filter(|tag| *tag != "tcp");
                self.service(&Topic::Service(name[1..].to_owned()), tag)
            }
            ("service", [tag, name]) => {
                self.service(&Topic::Service((*name).to_owned()), Some(tag))
            }
            _ => None,
        }
    }

    fn service(&self, topic: &Topic, tag: Option<&str>) -> Option<Answer> {
        let mut found: Vec<Found<'_>> = self
            .state
            .catalog
            .instances_ignoring_case(topic)
            .into_iter()
            .filter(|(node, service)| node.status_of(&service.id) != Status::Critical)
            .filter(|(_, service)| {
                tag.is_none_or(|tag| service.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
            })
            .collect();
        if found.is_empty() {
            return None;
        }
        fastrand::shuffle(&mut found);
        let mut answer = Answer::of(ResponseCode::NoError);
        for (node, service) in found {
            if self.kind == RecordType::SRV {
                self.add_srv(&mut answer, node, service)?;
            } else {
                let address =
                    if service.address.is_empty() { &node.address } else { &service.address };
                self.add_address(&mut answer.answers, self.name, address);
            }
        }
        if answer.answers.is_empty() {
            answer.authority.push(self.soa()?);
        }
        Some(answer)
    }

    fn add_srv(&self, answer: &mut Answer, node: &Node, service: &Service) -> Option<()> {
        let node_name = self.node_name(node)?;
        let (target, address) = match service.address.as_str() {
            "" => (node_name.clone(), node.address.parse().ok()),
            address => match address.parse::<IpAddr>() {
                Ok(ip) => (self.name_of(&format!("{}.addr", hex(ip)))?, Some(ip)),
                Err(_) => (Name::from_ascii(format!("{address}.")).ok()?, None),
            },
        };
        let weight = match node.status_of(&service.id) {
            Status::Warning => service.weights.1,
            _ => service.weights.0,
        };
        let weight = u16::try_from(weight).unwrap_or(1);
        let srv = SRV::new(1, weight, service.port, target.clone());
        let record = record(self.name, RData::SRV(srv));
        if answer.answers.contains(&record) {
            return Some(());
        }
        answer.answers.push(record);
        answer.additional.extend(address.map(|ip| record_of(&target, ip)));
        answer.additional.extend(texts(&node_name, node));
        Some(())
    }

    fn add_address(&self, records: &mut Vec<Record>, name: &Name, address: &str) {
        let found = match address.parse::<IpAddr>() {
            Ok(ip) if self.wants(ip) => record_of(name, ip),
            Ok(_) => return,
            Err(_) => match Name::from_ascii(format!("{address}.")) {
                Ok(target) => record(name, RData::CNAME(CNAME(target))),
                Err(_) => return,
            },
        };
        if !records.contains(&found) {
            records.push(found);
        }
    }

    /// Every kind but A and AAAA takes addresses of both families.
    fn wants(&self, ip: IpAddr) -> bool {
        match self.kind {
            RecordType::A => ip.is_ipv4(),
            RecordType::AAAA => ip.is_ipv6(),
            _ => true,
        }
    }

    fn node(&self, name: &str) -> Option<Answer> {
        let node =
            self.state.catalog.nodes.values().find(|node| node.name.eq_ignore_ascii_case(name))?;
        let mut answer = Answer::of(ResponseCode::NoError);
        if self.kind != RecordType::TXT {
            self.add_address(&mut answer.answers, self.name, &node.address);
        }
        let texts = texts(self.name, node);
        if matches!(self.kind, RecordType::TXT | RecordType::ANY) {
            answer.answers.extend(texts);
        } else {
            answer.additional.extend(texts);
        }
        Some(answer)
    }

    fn address(&self, text: &str) -> Option<Answer> {
        let ip = match text.len() {
            8 => IpAddr::from(u32::from_str_radix(text, 16).ok()?.to_be_bytes()),
            32 => IpAddr::from(u128::from_str_radix(text, 16).ok()?.to_be_bytes()),
            _ => return None,
        };
        let mut answer = Answer::of(ResponseCode::NoError);
        let section = if self.wants(ip) { &mut answer.answers } else { &mut answer.additional };
        section.push(record_of(self.name, ip));
        Some(answer)
    }

    fn zone(&self) -> Answer {
        let mut answer = Answer::of(ResponseCode::NoError);
        let Some(node) = self.state.catalog.local() else { return self.unknown() };
        let (Some(name), Some(soa)) = (self.node_name(node), self.soa()) else {
            return self.unknown();
        };
        let server = record(self.name, RData::NS(NS(name.clone())));
        match self.kind {
            RecordType::SOA => {
                answer.answers.push(soa);
                answer.authority.push(server);
            }
            RecordType::NS => answer.answers.push(server),
            _ => return self.unknown(),
        }
        answer.additional.extend(node.address.parse().ok().map(|ip| record_of(&name, ip)));
        answer
    }

    fn pointer(&self) -> Option<Answer> {
        let ip = self.name.parse_arpa_name().ok()?.addr().to_string();
        let mut answer = Answer::of(ResponseCode::NoError);
        let nodes = &self.state.catalog.nodes;
        for node in nodes.values() {
            if node.address == ip {
                answer.answers.push(record(self.name, RData::PTR(PTR(self.node_name(node)?))));
            }
        }
        for service in nodes.values().flat_map(|node| node.services.values()) {
            if service.address == ip && service.kind.is_empty() {
                let target = self.name_of(&format!("{}.service", service.name))?;
                let found = record(self.name, RData::PTR(PTR(target)));
                if !answer.answers.contains(&found) {
                    answer.answers.push(found);
                }
            }
        }
        (!answer.answers.is_empty()).then_some(answer)
    }

    /// NXDOMAIN with the zone's SOA.
    fn unknown(&self) -> Answer {
        let mut answer = Answer::of(ResponseCode::NXDomain);
        answer.authority.extend(self.soa());
        answer
    }

    /// The SOA, whose serial number is the time, as in Consul.
    fn soa(&self) -> Option<Record> {
        let since = self.now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let serial = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        let server = Name::from_ascii("ns.consul.").ok()?;
        let owner = Name::from_ascii("hostmaster.consul.").ok()?;
        let soa = SOA::new(server, owner, serial, 3600, 600, 86400, 0);
        Some(record(&Name::from_ascii(ZONE).ok()?, RData::SOA(soa)))
    }

    fn node_name(&self, node: &Node) -> Option<Name> {
        self.name_of(&format!("{}.node", node.name))
    }

    fn name_of(&self, inner: &str) -> Option<Name> {
        Name::from_ascii(format!("{inner}.{}.{ZONE}", self.state.datacenter)).ok()
    }
}

fn hex(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{:08x}", u32::from(ip)),
        IpAddr::V6(ip) => format!("{:032x}", u128::from(ip)),
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), 0, data)
}

fn record_of(name: &Name, ip: IpAddr) -> Record {
    record(
        name,
        match ip {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        },
    )
}

/// A node's metadata; a key of `rfc1035-` stands for a text of its own (Consul's convention).
fn texts(name: &Name, node: &Node) -> Vec<Record> {
    node.meta
        .iter()
        .map(|(key, value)| {
            let own = key.to_lowercase().starts_with("rfc1035-");
            let text = if own { value.clone() } else { format!("{key}={value}") };
            // A character string holds at most 255 bytes.
            let end = text.floor_char_boundary(255);
            record(name, RData::TXT(TXT::new(vec![text[..end].to_owned()])))
        })
        .collect()
}
