//! Runs one probe of a check and says what it found, in Consul's words. A probe ends within its
//! timeout and reads no more than Consul keeps of an output.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::check::{MAX_OUTPUT, Status, Target, cut};

/// Runs a probe.
pub(super) async fn run(target: &Target, timeout: Duration) -> (Status, String) {
    let result = tokio::time::timeout(timeout, probe(target)).await;
    match result {
        Ok(Ok((status, output))) => (status, cut(&output)),
        Ok(Err(error)) => (Status::Critical, cut(&error)),
        Err(_) => (Status::Critical, timed_out(target)),
    }
}

fn timed_out(target: &Target) -> String {
    match target {
        Target::Tcp(address) => format!("dial tcp {address}: i/o timeout"),
        Target::Http { url, method, .. } => format!(
            "{method} {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        ),
        Target::Grpc(_) => {
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned()
        }
    }
}

async fn probe(target: &Target) -> Result<(Status, String), String> {
    match target {
        Target::Tcp(address) => {
            dial(address).await?;
            Ok((Status::Passing, format!("TCP connect {address}: Success")))
        }
        Target::Http { url, method, headers, body } => http(url, method, headers, body).await,
        Target::Grpc(target) => grpc(target).await,
    }
}

async fn dial(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {address}: {reason}")
    })
}

async fn http(
    url: &str,
    method: &str,
    headers: &std::collections::BTreeMap<String, Vec<String>>,
    body: &str,
) -> Result<(Status, String), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{method} {url:?}: {error}");
    let uri: Uri = url.parse().map_err(|error| failed(&error))?;
    let host = uri.host().ok_or_else(|| failed(&"no host in request URL"))?;
    let authority = match uri.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    let stream = dial(&address).await.map_err(|error| failed(&error))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(method).uri(path);
    let has = |name: &str| headers.keys().any(|key| key.eq_ignore_ascii_case(name));
    if !has("host") {
        request = request.header(header::HOST, authority);
    }
    if !has("user-agent") {
        request = request.header(header::USER_AGENT, "Consul Health Check");
    }
    if !has("accept") {
        request = request.header(header::ACCEPT, "text/plain, text/*, */*");
    }
    for (name, values) in headers {
        for value in values {
            request = request.header(name.as_str(), value.as_str());
        }
    }
    let request = request
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body.to_owned())))
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        let mut kept = Vec::new();
        let mut stream = response.into_body();
        while let Some(Ok(frame)) = stream.frame().await {
            if let Ok(data) = frame.into_data() {
                let room = MAX_OUTPUT - kept.len();
                kept.extend_from_slice(&data[..data.len().min(room)]);
            }
            if kept.len() == MAX_OUTPUT {
                break;
            }
        }
        Ok::<_, String>((status, String::from_utf8_lossy(&kept).into_owned()))
    };
    // The connection is driven here and dropped with the probe: no task outlives its timeout.
    let driven = async {
        match connection.await {
            Err(error) => failed(&error),
            // Closed in order: what was received is still to be read.
            Ok(()) => std::future::pending().await,
        }
    };
    let (status, output) = tokio::select! {
        result = exchange => result?,
        error = driven => return Err(error),
    };
    let verdict = match status {
        StatusCode::TOO_MANY_REQUESTS => Status::Warning,
        status if status.is_success() => Status::Passing,
        _ => Status::Critical,
    };
    Ok((verdict, format!("HTTP {method} {url}: {status} Output: {output}")))
}

async fn grpc(target: &str) -> Result<(Status, String), String> {
    let (address, service) = target.split_once('/').unwrap_or((target, ""));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| error.to_string())?;
    dial(address).await.map_err(|error| {
        format!(
            "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: {error}\""
        )
    })?;
    let channel = endpoint.connect().await.map_err(|error| {
        format!("rpc error: code = Unavailable desc = connection error: {error}")
    })?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel)
        .check(request)
        .await
        .map_err(|status| {
            format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
        })?
        .into_inner();
    match ServingStatus::try_from(answer.status) {
        Ok(ServingStatus::Serving) => {
            Ok((Status::Passing, format!("gRPC check {target}: success")))
        }
        Ok(other) => Err(format!("gRPC {target} serving status: {}", other.as_str_name())),
        Err(_) => Err(format!("gRPC {target} serving status: {}", answer.status)),
    }
}

#[cfg(test)]
#[path = "probe/tests.rs"]
mod tests;
