//! Which methods of an upstream may be called twice with the effect of once, as its descriptors
//! say (`idempotency_level`): pure.
//!
//! A method that nothing is said of is not idempotent. What is read comes from other processes, so
//! what is kept of it is bounded, and of a file nothing is decoded but what is asked for.

mod ask;
pub mod inquiry;

use std::collections::BTreeSet;

use prost::{DecodeError, Message};

use crate::resilience::idempotency::Idempotency;

/// Bytes of all paths that are kept of one upstream: some 4,000 methods, more than any service has.
const MOST_BYTES: usize = 256 << 10;

/// The longest path that is kept, in bytes.
const LONGEST: usize = 1024;

/// The idempotent methods of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Methods {
    /// `/pkg.Service/Method`.
    idempotent: BTreeSet<Box<str>>,
    bytes: usize,
}

impl Methods {
    /// What becomes of a call of this path that is made twice.
    pub fn idempotency(&self, path: &str) -> Idempotency {
        if self.is_idempotent(path) { Idempotency::Declared } else { Idempotency::Unknown }
    }

    /// Whether a call of this path may be sent twice.
    pub fn is_idempotent(&self, path: &str) -> bool {
        self.idempotent.contains(path)
    }

    /// How many may be.
    pub fn len(&self) -> usize {
        self.idempotent.len()
    }

    /// Whether none may be.
    pub fn is_empty(&self) -> bool {
        self.idempotent.is_empty()
    }

    /// Takes in what one file says, a `google.protobuf.FileDescriptorProto`.
    ///
    /// # Errors
    /// Where it is none; what was known before stays.
    pub fn add_file(&mut self, file: &[u8]) -> Result<(), DecodeError> {
        self.add(&File::decode(file)?);
        Ok(())
    }

    /// What a `google.protobuf.FileDescriptorSet` says.
    ///
    /// # Errors
    /// Where it is none.
    pub fn of_set(set: &[u8]) -> Result<Self, DecodeError> {
        let mut methods = Self::default();
        for file in FileSet::decode(set)?.files {
            methods.add(&file);
        }
        Ok(methods)
    }

    fn add(&mut self, file: &File) {
        for service in &file.services {
            for method in &service.methods {
                let level = method.options.as_ref().and_then(|options| options.idempotency_level);
                if !matches!(level, Some(NO_SIDE_EFFECTS | IDEMPOTENT)) {
                    continue;
                }
                if let Some(path) = path(&file.package, &service.name, &method.name) {
                    self.keep(path);
                }
            }
        }
    }

    fn keep(&mut self, path: String) {
        let bytes = self.bytes + path.len();
        if bytes <= MOST_BYTES && self.idempotent.insert(path.into()) {
            self.bytes = bytes;
        }
    }
}

/// Whether calls of this path are such as the sidecar asks an upstream's methods by.
pub fn is_question(path: &str) -> bool {
    ask::VERSIONS.contains(&path)
}

/// The path that calls of a method have (gRPC over HTTP/2, "Path"); none where these are no names.
fn path(package: &str, service: &str, method: &str) -> Option<String> {
    let is_name = |text: &str, dots| {
        let is_of_names = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (dots && b == b'.');
        text.bytes().all(is_of_names)
    };
    let is_path = is_name(package, true)
        && is_name(service, false)
        && is_name(method, false)
        && !service.is_empty()
        && !method.is_empty()
        && package.len() + service.len() + method.len() <= LONGEST;
    let dot = if package.is_empty() { "" } else { "." };
    is_path.then(|| format!("/{package}{dot}{service}/{method}"))
}

// What is asked of `google/protobuf/descriptor.proto`, by its field numbers. Fields that are not
// here are passed over unread: a decoded descriptor may be a hundred times its size on the wire.

const NO_SIDE_EFFECTS: i32 = 1;
const IDEMPOTENT: i32 = 2;

#[derive(Message)]
struct FileSet {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "4")]
    options: Option<MethodOptions>,
}

#[derive(Message)]
struct MethodOptions {
    #[prost(int32, optional, tag = "34")]
    idempotency_level: Option<i32>,
}

#[cfg(test)]
mod tests;
