//! Asks an upstream's reflection service for its descriptors, through this sidecar's own outbound
//! port: so the question is authorized, balanced, encrypted and counted as any call is.
//!
//! `grpc.reflection.v1`, or `v1alpha` where the server is older: the same messages under another
//! name. What comes back is bounded in number and in size.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream;
use http::Uri;
use http::uri::PathAndQuery;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::Methods;

/// For all that is asked of one upstream at a time.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Services of one upstream whose methods are asked for.
const SERVICES: usize = 64;

/// One answer, in bytes: what gRPC libraries take by default, so that no server sends more.
const LARGEST: usize = 4 << 20;

/// The paths by which reflection is asked, the newer one first.
pub(super) const VERSIONS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The upstream told.
    Known(Methods),
    /// It has no reflection service.
    NoReflection,
    /// It may tell another time.
    Failed(String),
}

/// Asks `upstream` once, by way of the port that `outbound` is.
pub(super) async fn ask(outbound: SocketAddr, upstream: &str, within: Duration) -> Reply {
    match timeout(within, by_any_version(outbound, upstream, within)).await {
        Ok(Ok(methods)) => Reply::Known(methods),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Reply::NoReflection,
        Ok(Err(status)) => Reply::Failed(format!("{:?}: {}", status.code(), status.message())),
        Err(_) => Reply::Failed(format!("no answer within {within:?}")),
    }
}

async fn by_any_version(
    outbound: SocketAddr,
    upstream: &str,
    within: Duration,
) -> Result<Methods, Status> {
    let unusable = |e: &dyn std::fmt::Display| Status::internal(e.to_string());
    let origin: Uri = format!("http://{upstream}").parse().map_err(|e| unusable(&e))?;
    let endpoint = Endpoint::from_shared(format!("http://{outbound}")).map_err(|e| unusable(&e))?;
    let channel = endpoint.origin(origin).connect().await;
    let channel = channel.map_err(|e| Status::unavailable(e.to_string()))?;
    let mut unimplemented = Status::unimplemented("");
    for version in VERSIONS {
        let mut reflection = Reflection { channel: channel.clone(), version, within };
        match reflection.methods().await {
            Err(status) if status.code() == Code::Unimplemented => unimplemented = status,
            answer => return answer,
        }
    }
    Err(unimplemented)
}

struct Reflection {
    channel: Channel,
    version: &'static str,
    within: Duration,
}

impl Reflection {
    async fn methods(&mut self) -> Result<Methods, Status> {
        let mut services = Vec::new();
        for answer in self.answers(vec![MessageRequest::ListServices(String::new())]).await? {
            match answer {
                MessageResponse::ListServicesResponse(list) => services.extend(list.service),
                MessageResponse::ErrorResponse(e) => {
                    return Err(Status::new(Code::from(e.error_code), e.error_message));
                }
                _ => {}
            }
        }
        let names = services.into_iter().map(|service| service.name);
        let questions: Vec<_> = names
            .filter(|name| !name.starts_with("grpc.reflection."))
            .take(SERVICES)
            .map(MessageRequest::FileContainingSymbol)
            .collect();
        let mut methods = Methods::default();
        if questions.is_empty() {
            return Ok(methods);
        }
        for answer in self.answers(questions).await? {
            // An error is of one service: others may be known.
            let MessageResponse::FileDescriptorResponse(found) = answer else { continue };
            for file in found.file_descriptor_proto {
                let added = methods.add_file(&file);
                added.map_err(|e| Status::data_loss(format!("a descriptor is none: {e}")))?;
            }
        }
        Ok(methods)
    }

    /// One answer to each question.
    async fn answers(
        &mut self,
        questions: Vec<MessageRequest>,
    ) -> Result<Vec<MessageResponse>, Status> {
        let count = questions.len();
        let questions = questions.into_iter().map(|message_request| ServerReflectionRequest {
            message_request: Some(message_request),
            ..ServerReflectionRequest::default()
        });
        let mut request = Request::new(stream::iter(questions.collect::<Vec<_>>()));
        request.set_timeout(self.within);
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let path = PathAndQuery::from_static(self.version);
        let mut told = grpc.streaming(request, path, codec).await?.into_inner();
        let (mut answers, mut size) = (Vec::new(), 0);
        while let Some(answer) = told.message().await? {
            let answer = answer.message_response;
            size += answer.as_ref().map_or(0, MessageResponse::encoded_len);
            if answers.len() >= count || size > LARGEST {
                return Err(Status::out_of_range("more was answered than was asked for"));
            }
            answers.extend(answer);
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests;
