//! Facts about the settings: what is accepted, and how the rest is refused.

use super::*;

fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_vars(|name| {
        vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    })
}

fn tcp(host: &str, port: u16, tls: bool) -> Address {
    Address::Tcp { host: host.into(), port, tls }
}

#[test]
fn addresses_are_read_in_each_of_consuls_forms() {
    for (text, expected) in [
        ("10.0.0.1:8501", tcp("10.0.0.1", 8501, false)),
        ("http://consul.internal:80", tcp("consul.internal", 80, false)),
        ("https://consul.internal", tcp("consul.internal", 8500, true)),
        ("localhost", tcp("localhost", 8500, false)),
        ("[::1]:8500", tcp("::1", 8500, false)),
        ("http://[::1]", tcp("::1", 8500, false)),
        ("unix:///run/consul.sock", Address::Unix("/run/consul.sock".into())),
    ] {
        assert_eq!(text.parse::<Address>(), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_address_is_refused_with_what_was_expected() {
    for text in ["ftp://x:1", "unix://relative", "host:99999", "host:", ":8500", "a b", "u@h:1"] {
        let error = read(&[("CONSUL_HTTP_ADDR", text)]).unwrap_err();
        assert_eq!(error.setting, "CONSUL_HTTP_ADDR");
        assert!(error.to_string().contains("host:port"), "{error}");
    }
}

#[test]
fn an_address_prints_in_the_form_it_is_read_in() {
    for text in ["http://[::1]:8500", "https://h:1", "unix:///x"] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
    }
}

#[test]
fn every_standard_variable_is_honoured() {
    let config = read(&[
        ("CONSUL_HTTP_ADDR", "consul:8501"),
        ("CONSUL_HTTP_SSL", "true"),
        ("CONSUL_HTTP_SSL_VERIFY", "false"),
        ("CONSUL_HTTP_TOKEN_FILE", "/t"),
        ("CONSUL_CACERT", "/ca"),
        ("CONSUL_CAPATH", "/cas"),
        ("CONSUL_CLIENT_CERT", "/c"),
        ("CONSUL_CLIENT_KEY", "/k"),
        ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
        ("CONSUL_NAMESPACE", "team"),
        ("CONSUL_PARTITION", "part"),
    ])
    .unwrap();
    assert_eq!(config.address, tcp("consul", 8501, true));
    assert!(!config.tls.verify);
    assert!(matches!(&config.token, Token::File(path) if path.as_os_str() == "/t"));
    assert_eq!(config.tls.ca_file.as_deref(), Some("/ca".as_ref()));
    assert_eq!(config.tls.ca_path.as_deref(), Some("/cas".as_ref()));
    assert_eq!(config.tls.client, Some(("/c".into(), "/k".into())));
    assert_eq!(config.tls.server_name.as_deref(), Some("server.dc1.consul"));
    assert_eq!(config.namespace.as_deref(), Some("team"));
    assert_eq!(config.partition.as_deref(), Some("part"));
}

#[test]
fn an_empty_environment_means_the_local_agent_and_no_token() {
    let config = read(&[("CONSUL_HTTP_ADDR", "")]).unwrap();
    assert_eq!(config.address, tcp("127.0.0.1", 8500, false));
    assert!(matches!(config.token, Token::Anonymous));
    assert!(config.tls.verify);
}

#[test]
fn a_token_in_a_variable_wins_over_the_file_and_is_not_printed() {
    let config =
        read(&[("CONSUL_HTTP_TOKEN", "s3cret"), ("CONSUL_HTTP_TOKEN_FILE", "/t")]).unwrap();
    assert!(matches!(&config.token, Token::Secret(secret) if secret == "s3cret"));
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn a_wrong_flag_and_half_a_client_certificate_are_named() {
    let error = read(&[("CONSUL_HTTP_SSL_VERIFY", "maybe")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "CONSUL_HTTP_SSL_VERIFY: found \"maybe\", expected true or false"
    );
    let error = read(&[("CONSUL_CLIENT_CERT", "/c")]).unwrap_err();
    assert_eq!(error.setting, "CONSUL_CLIENT_KEY");
    let error = read(&[("CONSUL_CLIENT_KEY", "/k")]).unwrap_err();
    assert_eq!(error.setting, "CONSUL_CLIENT_CERT");
}
