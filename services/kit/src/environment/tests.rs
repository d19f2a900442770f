//! Which values are taken, and how the others are refused.

use super::*;

fn default_address() -> SocketAddr {
    "127.0.0.1:50051".parse().unwrap()
}

#[test]
fn what_is_not_set_has_a_default() {
    let empty = Environment::from_variables([]);
    assert_eq!(empty.address(default_address()).unwrap(), default_address());
    assert_eq!(empty.database("user.db").unwrap(), Database::Sqlite("user.db".into()));
    assert_eq!(empty.outbound().unwrap(), "http://127.0.0.1:15001");
}

#[test]
fn an_address_off_the_loopback_is_refused() {
    let read = |value| Environment::from_variables([("ADDR", value)]).address(default_address());
    assert!(read("127.0.0.1:0").is_ok());
    assert!(read("[::1]:50051").is_ok());
    for refused in
        ["0.0.0.0:50051", "10.0.0.1:50051", "localhost", "127.0.0.1", "127.0.0.1:70000", ""]
    {
        let error = read(refused).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("ADDR: found {refused:?}, expected a loopback")),
            "{error}"
        );
    }
}

#[test]
fn a_database_is_a_file_or_a_server() {
    let read = |value| Environment::from_variables([("DATABASE_URL", value)]).database("x.db");
    let file = |path: &str| Ok(Database::Sqlite(path.into()));
    assert_eq!(read("sqlite:target/mesh/user.db"), file("target/mesh/user.db"));
    assert_eq!(read("sqlite:/var/lib/user.db"), file("/var/lib/user.db"));
    assert_eq!(read("sqlite:///var/lib/user.db"), file("/var/lib/user.db"));
    assert!(matches!(read("postgres://u:p@127.0.0.1/users"), Ok(Database::Postgres(_))));
    for refused in ["", "user.db", "sqlite:", "sqlite::memory:", "sqlite:a?mode=ro", "mysql://h/d"]
    {
        let error = read(refused).unwrap_err().to_string();
        let says = format!("DATABASE_URL: found {refused:?}, expected sqlite:PATH or postgres://");
        assert!(error.starts_with(&says), "{error}");
    }
}

#[test]
fn a_password_is_never_shown() {
    let read = |value| Environment::from_variables([("DATABASE_URL", value)]).database("x.db");
    let error = read("postgre://me:secret@host/d").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    let database = read("postgres://me:secret@host/d").unwrap();
    assert!(!format!("{database} {database:?}").contains("secret"));
}

#[test]
fn an_outbound_that_is_no_port_is_refused() {
    let read = |value| Environment::from_variables([("OUTBOUND", value)]).outbound();
    assert!(read("http://127.0.0.1:15013").is_ok());
    for refused in
        ["", "127.0.0.1:15013", "https://127.0.0.1:1", "http://127.0.0.1", "http://h:1/p"]
    {
        let error = read(refused).unwrap_err().to_string();
        assert!(error.starts_with(&format!("OUTBOUND: found {refused:?}, expected")), "{error}");
    }
}
