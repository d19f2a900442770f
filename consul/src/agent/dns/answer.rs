//! A DNS answer, and how it is made to fit a datagram: without EDNS at most three records in 512
//! bytes, with it what the asker announced. Consul sets no TC bit by default, nor do we.

use hickory_server::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{Name, RData, Record};

/// How many records a UDP answer without EDNS holds (Consul's `udp_answer_limit`).
const UDP_ANSWERS: usize = 3;
/// The size of a UDP answer without EDNS (RFC 1035, 4.2.1).
const UDP_SIZE: usize = 512;
/// What an OPT record takes.
const OPT_SIZE: usize = 11;

/// The sections of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authority: Vec<Record>,
    pub(super) additional: Vec<Record>,
}

impl Answer {
    /// An answer without records.
    pub(super) fn of(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), authority: Vec::new(), additional: Vec::new() }
    }

    /// Drops records until a datagram holds the rest. `payload`: what the asker announced by EDNS.
    pub(super) fn fit(&mut self, question: &Query, payload: Option<u16>) {
        let room = payload.map_or(UDP_SIZE, |payload| usize::from(payload) - OPT_SIZE);
        let before = self.answers.len();
        if payload.is_none() {
            self.answers.truncate(UDP_ANSWERS);
        }
        if self.answers.len() < before {
            self.drop_orphans();
        }
        while self.size(question) > room {
            if self.answers.pop().is_none() {
                self.additional.clear();
                return;
            }
            self.drop_orphans();
        }
    }

    /// Keeps of the additional records those that an answer points to.
    fn drop_orphans(&mut self) {
        let targets: Vec<&Name> = self
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(&srv.target),
                _ => None,
            })
            .collect();
        self.additional
            .retain(|record| record.data.ip_addr().is_some() && targets.contains(&&record.name));
    }

    fn size(&self, question: &Query) -> usize {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.add_query(question.clone());
        message.add_answers(self.answers.iter().cloned());
        message.add_authorities(self.authority.iter().cloned());
        message.add_additionals(self.additional.iter().cloned());
        message.to_vec().map_or(usize::MAX, |bytes| bytes.len())
    }
}
