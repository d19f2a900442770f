//! The user service: a bare gRPC server on loopback, with a store of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    kit::run("user-service", 50051, proto::FILE_DESCRIPTOR_SET, user::start).await
}
