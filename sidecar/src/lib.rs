//! A sidecar for gRPC services in Consul.
