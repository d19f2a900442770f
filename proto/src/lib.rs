//! The messages, clients and servers of the services, generated from this folder's `.proto` files.
//!
//! A module a package: `user.v1` is [`user::v1`]. What is here is what `buf lint` and
//! `buf breaking` passed; nothing is written by hand.

/// Declares the module of one package around the code generated for it.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        pub mod $name {
            /// Version 1.
            #[allow(missing_docs, unreachable_pub, clippy::all, clippy::expect_used, clippy::unwrap_used)]
            #[allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/", $file));
            }
        }
    };
}

package! {
    /// Orders: who ordered what, how many, and for how much.
    order, "order.v1.rs"
}
package! {
    /// Products: what can be ordered, and at which price.
    product, "product.v1.rs"
}
package! {
    /// Users: who they are, and the four call patterns of gRPC over them.
    user, "user.v1.rs"
}

/// All files with their imports, options and comments, as a serialized
/// `google.protobuf.FileDescriptorSet`: for reflection, and for what a method's
/// `idempotency_level` says of retries.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

#[cfg(test)]
mod tests;
