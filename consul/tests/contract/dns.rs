//! DNS queries over UDP and TCP.

use std::{net::IpAddr, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::target::At;

const LIMIT: Duration = Duration::from_secs(10);

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

impl At {
    /// Asks over UDP.
    pub(crate) async fn dig(&self, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.dns).await.unwrap();
        let message = question(name, kind);
        socket.send(&message.to_vec().unwrap()).await.unwrap();
        let mut buffer = [0; 4096];
        let length = timeout(LIMIT, socket.recv(&mut buffer)).await.unwrap().unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(answer.metadata.id, message.metadata.id);
        answer
    }

    /// Asks over TCP.
    pub(crate) async fn dig_tcp(&self, name: &str, kind: RecordType) -> Message {
        let mut stream = TcpStream::connect(self.dns).await.unwrap();
        let bytes = question(name, kind).to_vec().unwrap();
        stream.write_u16(bytes.len() as u16).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let length = timeout(LIMIT, stream.read_u16()).await.unwrap().unwrap();
        let mut buffer = vec![0; length.into()];
        timeout(LIMIT, stream.read_exact(&mut buffer)).await.unwrap().unwrap();
        Message::from_vec(&buffer).unwrap()
    }
}

/// The addresses among the answers.
pub(crate) fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// Port and target of the SRV answers.
pub(crate) fn targets(message: &Message) -> Vec<(u16, String)> {
    message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some((srv.port, srv.target.to_ascii())),
            _ => None,
        })
        .collect()
}

/// Whether the answer denies that the name exists, and says by which zone.
pub(crate) fn is_nxdomain_with_soa(message: &Message) -> bool {
    message.metadata.response_code == ResponseCode::NXDomain
        && message.authorities.iter().any(|record| matches!(record.data, RData::SOA(_)))
}
