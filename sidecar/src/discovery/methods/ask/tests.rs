use std::net::Ipv4Addr;
use std::pin::Pin;

use futures_util::Stream;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::{Response, Streaming};
use tonic_reflection::pb::v1::server_reflection_server::{
    ServerReflection, ServerReflectionServer,
};
use tonic_reflection::pb::v1::{FileDescriptorResponse, ListServiceResponse, ServiceResponse};
use tonic_reflection::server::Builder;

use super::*;

/// Longer than a starved machine takes: nothing here is about time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on loopback, for as long as this is kept.
struct Served {
    address: SocketAddr,
    task: AbortHandle,
}

impl Served {
    async fn new(router: Router) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = router.serve_with_incoming(TcpIncoming::from(listener));
        let task = tokio::spawn(async move { served.await.unwrap() }).abort_handle();
        Self { address, task }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn ours() -> Builder<'static> {
    Builder::configure().register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
}

fn all() -> Reply {
    Reply::Known(Methods::of_set(proto::FILE_DESCRIPTOR_SET).unwrap())
}

#[tokio::test]
async fn a_tonic_service_with_reflection_tells_its_methods() {
    let server = Server::builder().add_service(ours().build_v1().unwrap());
    let served = Served::new(server).await;
    assert_eq!(ask(served.address, "user-service", PATIENCE).await, all());
}

#[tokio::test]
async fn a_server_that_knows_the_older_reflection_alone_tells_them_too() {
    let server = Server::builder().add_service(ours().build_v1alpha().unwrap());
    let served = Served::new(server).await;
    assert_eq!(ask(served.address, "user-service", PATIENCE).await, all());
}

#[tokio::test]
async fn a_server_without_reflection_says_so() {
    let (_, health) = tonic_health::server::health_reporter();
    let served = Served::new(Server::builder().add_service(health)).await;
    assert_eq!(ask(served.address, "user-service", PATIENCE).await, Reply::NoReflection);
}

#[tokio::test]
async fn where_nobody_listens_the_question_fails_and_may_be_asked_again() {
    let address = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    let Reply::Failed(why) = ask(address, "user-service", PATIENCE).await else {
        panic!("it answered")
    };
    assert!(why.starts_with("Unavailable"), "{why}");
}

/// A server that means harm, or is broken.
#[derive(Clone, Copy)]
enum Odd {
    /// Answers a question without end.
    Endless,
    /// Gives a file that is none.
    Garbage,
    /// Lists a service, then says that it does not know it.
    Forgetful,
    /// Lists more services than are asked for.
    Many,
}

type Answers = Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ServerReflection for Odd {
    type ServerReflectionInfoStream = Answers;

    async fn server_reflection_info(
        &self,
        asked: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        use futures_util::StreamExt;
        let odd = *self;
        let answers = asked.into_inner().flat_map(move |question| {
            let question = question.ok().and_then(|question| question.message_request);
            let response = |message| ServerReflectionResponse {
                message_response: Some(message),
                ..ServerReflectionResponse::default()
            };
            let of = |files| {
                let found = FileDescriptorResponse { file_descriptor_proto: files };
                response(MessageResponse::FileDescriptorResponse(found))
            };
            let listed = |names: Vec<String>| {
                let service = names.into_iter().map(|name| ServiceResponse { name }).collect();
                response(MessageResponse::ListServicesResponse(ListServiceResponse { service }))
            };
            let is_list = matches!(question, Some(MessageRequest::ListServices(_)));
            let answer = match odd {
                Odd::Many if is_list => listed((0..1000).map(|n| format!("p.S{n}")).collect()),
                _ if is_list => listed(vec!["p.S".to_owned()]),
                Odd::Garbage => of(vec![vec![0x32, 0xff]]),
                Odd::Forgetful => {
                    let error_message = "p.S: not found".to_owned();
                    response(MessageResponse::ErrorResponse(
                        tonic_reflection::pb::v1::ErrorResponse { error_code: 5, error_message },
                    ))
                }
                Odd::Endless | Odd::Many => of(Vec::new()),
            };
            let again = if matches!(odd, Odd::Endless) { usize::MAX } else { 1 };
            stream::iter(std::iter::repeat_n(Ok(answer), again))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tokio::test]
async fn a_server_that_means_harm_is_asked_within_bounds() {
    for (odd, expected) in [
        (Odd::Endless, Reply::Failed("OutOfRange: more was answered than was asked for".into())),
        (Odd::Forgetful, Reply::Known(Methods::default())),
        (Odd::Many, Reply::Known(Methods::default())),
    ] {
        let served =
            Served::new(Server::builder().add_service(ServerReflectionServer::new(odd))).await;
        assert_eq!(ask(served.address, "user-service", PATIENCE).await, expected);
    }
    let garbage = ServerReflectionServer::new(Odd::Garbage);
    let served = Served::new(Server::builder().add_service(garbage)).await;
    let Reply::Failed(why) = ask(served.address, "user-service", PATIENCE).await else { panic!() };
    assert!(why.starts_with("DataLoss: a descriptor is none"), "{why}");
}
