//! What is asked, and how answers and refusals are read.

use std::fs;

use consul::{
    Client, Config, Error, Token,
    api::{Action, PathMatch, Permission, Rule},
};

use crate::server::{Server, answer};

#[tokio::test]
async fn names_are_encoded_and_the_scope_is_asked_of_every_request() {
    let server = Server::new(|_, _| answer(200, 1, "[]"));
    let config = Config {
        datacenter: Some("dc2".into()),
        namespace: Some("team a".into()),
        ..server.listen().await
    };
    let client = Client::new(config).unwrap();
    client.health().service("a/../b?c").passing().send().await.unwrap();
    client.health().service("x").datacenter("dc3").send().await.unwrap();
    let lines: Vec<_> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/health/service/a%2F..%2Fb%3Fc?passing&dc=dc2&ns=team%20a",
            "GET /v1/health/service/x?dc=dc3&ns=team%20a",
        ]
    );
}

#[tokio::test]
async fn the_token_goes_out_and_follows_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "first\n").unwrap();
    let server = Server::new(|_, _| answer(200, 1, "[]"));
    let config = Config { token: Token::File(path.clone()), ..server.listen().await };
    let client = Client::new(config).unwrap();
    client.health().service("x").send().await.unwrap();
    fs::write(&path, "the second\n").unwrap();
    client.health().service("x").send().await.unwrap();
    let tokens: Vec<_> = server.asked().into_iter().map(|asked| asked.token.unwrap()).collect();
    assert_eq!(tokens, ["first", "the second"]);
}

#[tokio::test]
async fn a_token_that_no_header_can_hold_is_refused_unseen() {
    let server = Server::new(|_, _| answer(200, 1, "[]"));
    let config = Config { token: Token::Secret("s3c\nret".into()), ..server.listen().await };
    let error = Client::new(config).unwrap().health().service("x").send().await.unwrap_err();
    assert!(matches!(error, Error::Request { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3c"));
}

#[tokio::test]
async fn refusals_keep_consuls_words() {
    let server = Server::new(|before, _| match before {
        0 => answer(403, 1, "ACL not found"),
        1 => answer(404, 1, "unknown service ID: x"),
        2 => answer(500, 1, "No cluster leader\n"),
        _ => answer(200, 1, "{\"not\": \"a list\"}"),
    });
    let client = server.client().await;
    let ask = async || client.health().service("x").send().await.unwrap_err();
    let forbidden = ask().await;
    assert!(forbidden.is_forbidden() && forbidden.to_string().contains("ACL not found"));
    assert!(ask().await.is_not_found());
    let leaderless = ask().await;
    assert!(leaderless.is_outage());
    assert_eq!(
        leaderless.to_string(),
        "GET /v1/health/service/x: Consul answers 500: No cluster leader"
    );
    let decode = ask().await;
    assert!(matches!(decode, Error::Decode { .. }), "{decode:?}");
    assert!(decode.to_string().contains("GET /v1/health/service/x"), "{decode}");
}

#[tokio::test]
async fn null_is_an_empty_list_wherever_go_writes_it() {
    let server = Server::new(|before, _| match before {
        0 => answer(200, 1, "null"),
        1 => answer(200, 1, "{\"x\": null}"),
        2 => answer(
            200,
            1,
            r#"[{"Node": {"Node": "n", "Address": "10.0.0.1", "Meta": null},
                "Service": {"ID": "a", "Service": "a", "Tags": null, "Meta": null, "Port": 1,
                            "Address": "", "Weights": null, "Proxy": null, "Unknown": 1},
                "Checks": null}]"#,
        ),
        _ => answer(200, 1, r#"{"ActiveRootID": "", "TrustDomain": "", "Roots": null}"#),
    });
    let client = server.client().await;
    assert!(client.health().service("x").send().await.unwrap().value.is_empty());
    assert!(client.connect().intentions_to("x").send().await.unwrap().value.is_empty());
    let entries = client.health().service("x").send().await.unwrap().value;
    assert_eq!(entries[0].address(), "10.0.0.1");
    assert!(client.agent().roots().send().await.unwrap().value.roots.is_empty());
}

#[tokio::test]
async fn a_permission_with_a_token_of_its_own_is_told() {
    let server = Server::new(|_, _| {
        answer(
            200,
            1,
            r#"{"b": [{"SourceName": "a", "DestinationName": "b", "Action": "", "Permissions": [
                {"Action": "allow", "HTTP": {"PathPrefix": "/"}, "JWT": {"Providers": []}}
            ]}]}"#,
        )
    });
    let intentions = server.client().await.connect().intentions_to("b").send().await.unwrap().value;
    let expected = Permission {
        action: Action::Allow,
        path: Some(PathMatch::Prefix("/".into())),
        headers: vec![],
        methods: vec![],
        jwt: true,
    };
    assert_eq!(intentions[0].rule, Rule::Permissions(vec![expected]));
}

#[tokio::test]
async fn an_intention_that_cannot_be_understood_is_an_error_and_not_an_allow() {
    for body in [
        r#"{"b": [{"SourceName": "a", "DestinationName": "b", "Action": ""}]}"#,
        r#"{"b": [{"SourceName": "a", "DestinationName": "b", "Action": "maybe"}]}"#,
        r#"{"b": [{"SourceName": "a", "DestinationName": "b", "Permissions": [
            {"Action": "allow", "HTTP": {"PathExact": "/a", "PathPrefix": "/b"}}]}]}"#,
    ] {
        let server = Server::new(move |_, _| answer(200, 1, body));
        let error = server.client().await.connect().intentions_to("b").send().await.unwrap_err();
        assert!(matches!(error, Error::Decode { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_intention_is_written_in_consuls_form() {
    let server = Server::new(|_, _| answer(200, 1, "true"));
    let client = server.client().await;
    client.connect().set_intention("*", "b", &Rule::Action(Action::Deny)).await.unwrap();
    let asked = server.asked().remove(0);
    assert_eq!(asked.line, "PUT /v1/connect/intentions/exact?source=%2A&destination=b");
    assert_eq!(asked.body, r#"{"SourceType":"consul","Action":"deny"}"#);
}
