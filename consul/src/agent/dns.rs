//! Consul's DNS over UDP and TCP: names are answered from the catalog, with a TTL of 0; what lies
//! outside of `consul.` is refused. A UDP answer is cut to what its asker can take.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{
    Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode,
};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::Instant;

use super::state::Shared;

#[path = "dns/answer.rs"]
mod answer;
#[path = "dns/lookup.rs"]
mod lookup;

use answer::Answer;

/// How long a TCP connection may be silent.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers that a TCP connection may have waiting to be written.
const TCP_PENDING: usize = 32;
/// How often a free port is tried for both UDP and TCP.
const PORT_ATTEMPTS: usize = 16;

/// Both sockets of one address.
pub(super) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    /// Where both listen.
    pub(super) address: SocketAddr,
}

/// Listens on UDP and TCP at one port; port 0 takes one that both have free.
pub(super) async fn bind(wanted: SocketAddr) -> io::Result<Sockets> {
    let mut attempts = if wanted.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let udp = UdpSocket::bind(wanted).await?;
        let address = udp.local_addr()?;
        match TcpListener::bind(address).await {
            Ok(tcp) => return Ok(Sockets { udp, tcp, address }),
            Err(error) if attempts == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

/// Serves until it is dropped.
pub(super) async fn serve(sockets: Sockets, shared: Arc<Shared>) {
    let mut server = Server::new(Handler { shared });
    server.register_socket(sockets.udp);
    server.register_listener(sockets.tcp, TCP_TIMEOUT, TCP_PENDING);
    if let Err(error) = server.block_until_done().await {
        tracing::error!(%error, "the agent's DNS ended");
    }
}

struct Handler {
    shared: Arc<Shared>,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut responder: R,
    ) -> ResponseInfo {
        let now = SystemTime::now();
        let answer = self.answer(request, now);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = answer.code;
        metadata.authoritative = answer.code != ResponseCode::Refused;
        metadata.recursion_available = false;
        let mut builder = MessageResponseBuilder::from_message_request(request);
        let mut edns = Edns::new();
        edns.set_max_payload(request.max_payload());
        if request.edns.is_some() && metadata.authoritative {
            builder.edns(&edns);
        }
        let response =
            builder.build(metadata, &answer.answers, &answer.authority, [], &answer.additional);
        match responder.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "a DNS answer was not sent");
                let mut metadata =
                    Metadata::new(request.metadata.id, MessageType::Response, OpCode::Query);
                metadata.response_code = ResponseCode::ServFail;
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}

impl Handler {
    fn answer(&self, request: &Request, now: SystemTime) -> Answer {
        if request.metadata.op_code != OpCode::Query {
            return Answer::of(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return Answer::of(ResponseCode::FormErr) };
        let question = info.query.original();
        let mut answer = self.shared.with(Instant::now(), |state| {
            lookup::answer(state, question.name(), question.query_type(), now)
        });
        if info.protocol == Protocol::Udp {
            let payload = request.edns.as_ref().map(|_| request.max_payload());
            answer.fit(question, payload);
        }
        answer
    }
}

#[cfg(test)]
#[path = "dns/tests.rs"]
mod tests;
