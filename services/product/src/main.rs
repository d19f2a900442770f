//! The product service: a bare gRPC server on loopback, with a store of its own.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    kit::run("product-service", 50052, proto::FILE_DESCRIPTOR_SET, product::start).await
}
