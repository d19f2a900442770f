use proptest::prelude::*;

use super::*;

fn method(name: &str, level: Option<i32>) -> Method {
    let options = level.map(|level| MethodOptions { idempotency_level: Some(level) });
    Method { name: name.to_owned(), options }
}

fn file(package: &str, service: &str, methods: Vec<Method>) -> Vec<u8> {
    let services = vec![Service { name: service.to_owned(), methods }];
    File { package: package.to_owned(), services }.encode_to_vec()
}

fn known(file: &[u8]) -> Methods {
    let mut methods = Methods::default();
    methods.add_file(file).unwrap();
    methods
}

#[test]
fn methods_are_idempotent_where_their_descriptor_says_so_and_only_there() {
    let methods = Methods::of_set(proto::FILE_DESCRIPTOR_SET).unwrap();
    for (path, expected) in [
        ("/user.v1.UserService/GetUser", true),
        ("/user.v1.UserService/ListUsers", true),
        ("/user.v1.UserService/UpdateUser", true),
        ("/user.v1.UserService/CreateUser", false),
        ("/order.v1.OrderService/GetOrder", true),
        ("/order.v1.OrderService/CreateOrder", false),
        ("/product.v1.ProductService/ListProducts", true),
        ("/user.v1.UserService/Nobody", false),
        ("user.v1.UserService/GetUser", false),
    ] {
        assert_eq!(methods.is_idempotent(path), expected, "{path}");
    }
}

#[test]
fn a_level_that_is_unknown_or_of_later_days_is_not_idempotent() {
    let methods = vec![
        method("None", None),
        method("Unknown", Some(0)),
        method("Later", Some(3)),
        method("Negative", Some(-1)),
        method("Safe", Some(1)),
    ];
    let methods = known(&file("p", "S", methods));
    assert_eq!(methods.len(), 1);
    assert!(methods.is_idempotent("/p.S/Safe"));
}

#[test]
fn a_service_without_a_package_has_its_name_alone() {
    assert!(known(&file("", "S", vec![method("M", Some(2))])).is_idempotent("/S/M"));
}

#[test]
fn what_is_no_name_is_no_path() {
    for (package, service, name) in [
        ("p", "S", "a/b"),
        ("p", "S", ""),
        ("p", "", "M"),
        ("p/q", "S", "M"),
        ("p", "S.T", "M"),
        ("p", "S", "M\r\n"),
        ("p", &"S".repeat(LONGEST), "M"),
    ] {
        assert!(known(&file(package, service, vec![method(name, Some(2))])).is_empty());
    }
}

#[test]
fn what_is_kept_of_one_upstream_is_bounded() {
    let methods = (0..100_000).map(|n| method(&format!("Method{n:06}"), Some(2))).collect();
    let file = file("p", "S", methods);
    let mut methods = known(&file);
    // Once more: what is known already takes no further room.
    methods.add_file(&file).unwrap();
    assert!(methods.bytes <= MOST_BYTES);
    assert!(methods.len() > 4_000, "{}", methods.len());
    let kept: usize = methods.idempotent.iter().map(|path| path.len()).sum();
    assert_eq!(kept, methods.bytes);
}

#[test]
fn a_file_that_is_none_takes_nothing_away() {
    let mut methods = known(&file("p", "S", vec![method("M", Some(2))]));
    assert!(methods.add_file(&[0x32, 0xff]).is_err());
    assert!(methods.is_idempotent("/p.S/M"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_of_any_kind_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Methods::default().add_file(&bytes);
        let _ = Methods::of_set(&bytes);
    }

    #[test]
    fn a_file_with_some_bytes_changed_does_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = proto::FILE_DESCRIPTOR_SET.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Methods::of_set(&bytes);
    }
}
