//! What others rely on in the descriptor set: imports, options and the wire's own numbers.

use prost::Message as _;
use prost_types::method_options::IdempotencyLevel;

use super::FILE_DESCRIPTOR_SET;

fn descriptors() -> prost_types::FileDescriptorSet {
    prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// `package.Service/Method` of every method that has this level.
fn methods(level: IdempotencyLevel) -> Vec<String> {
    let mut found = Vec::new();
    for file in descriptors().file {
        for service in &file.service {
            for method in &service.method {
                if method.options.clone().unwrap_or_default().idempotency_level() == level {
                    let (package, service, name) = (file.package(), service.name(), method.name());
                    found.push(format!("{package}.{service}/{name}"));
                }
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_descriptor_set_holds_its_imports() {
    let names: Vec<_> = descriptors().file.iter().map(|file| file.name().to_owned()).collect();
    for import in ["google/protobuf/empty.proto", "google/protobuf/timestamp.proto"] {
        assert!(names.iter().any(|name| name == import), "{import} is not among {names:?}");
    }
}

#[test]
fn only_what_creates_is_unsafe_to_repeat() {
    assert_eq!(
        methods(IdempotencyLevel::IdempotencyUnknown),
        [
            "order.v1.OrderService/CreateOrder",
            "product.v1.ProductService/CreateProduct",
            "user.v1.UserService/BatchCreateUsers",
            "user.v1.UserService/CreateUser",
        ]
    );
    assert_eq!(
        methods(IdempotencyLevel::Idempotent),
        [
            "user.v1.UserService/DeleteUser",
            "user.v1.UserService/SyncUsers",
            "user.v1.UserService/UpdateUser",
        ]
    );
}

#[test]
fn an_absent_optional_field_is_told_from_an_empty_one() {
    let absent = super::user::v1::UpdateUserRequest { id: "1".to_owned(), ..Default::default() };
    let empty = super::user::v1::UpdateUserRequest { email: Some(String::new()), ..absent.clone() };
    assert_ne!(absent.encode_to_vec(), empty.encode_to_vec());
    let read = super::user::v1::UpdateUserRequest::decode(empty.encode_to_vec().as_slice());
    assert_eq!(read.unwrap().email.as_deref(), Some(""));
}
