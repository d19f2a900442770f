//! An upstream's methods and messages, from a file of descriptors.

use std::path::Path;
use std::sync::Arc;

use prost_reflect::{DescriptorPool, MethodDescriptor};

use crate::discovery::methods::Methods;

/// A set of descriptors is hardly ever larger than 1 MiB; a wrong path may be anything.
const LARGEST: u64 = 16 << 20;

/// What a file describes.
pub(super) struct Described {
    pool: DescriptorPool,
    /// Those that are idempotent.
    pub(super) methods: Arc<Methods>,
}

impl Described {
    /// Reads a `google.protobuf.FileDescriptorSet`.
    ///
    /// # Errors
    /// Why it cannot be used, in words that follow the path.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let cannot = |e: std::io::Error| format!("which cannot be read: {e}");
        let length = std::fs::metadata(path).map_err(cannot)?.len();
        if length > LARGEST {
            return Err(format!("of {length} bytes, expected descriptors of at most 16 MiB"));
        }
        let set = std::fs::read(path).map_err(cannot)?;
        let odd = |e: &dyn std::fmt::Display| {
            format!(
                "which is no set of descriptors with all its imports ({e}), expected what \
                 `buf build -o` or `protoc --include_imports --descriptor_set_out` writes"
            )
        };
        let pool = DescriptorPool::decode(set.as_slice()).map_err(|e| odd(&e))?;
        if pool.services().next().is_none() {
            return Err("which describes no service".to_owned());
        }
        let methods = Methods::of_set(&set).map_err(|e| odd(&e))?;
        Ok(Self { pool, methods: Arc::new(methods) })
    }

    /// The method that calls of this path are for.
    pub(super) fn method(&self, path: &str) -> Option<MethodDescriptor> {
        let (service, name) = path.strip_prefix('/')?.split_once('/')?;
        let service = self.pool.get_service_by_name(service)?;
        service.methods().find(|method| method.name() == name)
    }

    /// Whether a method whose path begins so is idempotent and answers with one message.
    pub(super) fn keeps_any(&self, prefix: &str) -> bool {
        let services = self.pool.services();
        services.flat_map(|service| service.methods().collect::<Vec<_>>()).any(|method| {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            path.starts_with(prefix)
                && !method.is_server_streaming()
                && self.methods.is_idempotent(&path)
        })
    }
}
