//! The order service: a bare gRPC server on loopback, with a store of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    kit::run("order-service", 50053, proto::FILE_DESCRIPTOR_SET, order::start).await
}
