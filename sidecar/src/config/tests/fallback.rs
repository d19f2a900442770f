//! A file of descriptors, and what can be wrong with a fallback because of it.

use std::fs;
use std::time::{Duration, SystemTime};

use insta::assert_snapshot;
use prost::Message;
use proto::user::v1::{GetUserResponse, User};
use tonic::Code;

use crate::config::{Config, Rung, Sources, load};

fn read(upstream: &str, descriptors: &[u8]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sidecar.toml");
    fs::write(folder.path().join("user.binpb"), descriptors).unwrap();
    let text = format!("[service]\nname = \"web\"\n[upstreams.user-service]\n{upstream}");
    fs::write(&file, text).unwrap();
    let place = format!("{}/", folder.path().display());
    load(&Sources { file: Some(file), ..Sources::default() }, SystemTime::now())
        .map(|loaded| loaded.config)
        .map_err(|problems| problems.to_string().replace(&place, ""))
}

/// What is wrong with an upstream that is described by our own protos.
fn problems(upstream: &str) -> String {
    read(upstream, proto::FILE_DESCRIPTOR_SET).err().unwrap_or("nothing".to_owned())
}

/// A route with descriptors and this fallback.
fn route(matches: &str, fallback: &str) -> String {
    format!(
        "descriptors = \"user.binpb\"\n[[upstreams.user-service.route]]\nmatch = {{ {matches} }}\n\
         fallback = [ {fallback} ]\n"
    )
}

const GET: &str = "path = \"/user.v1.UserService/GetUser\"";
const LIST: &str = "path = \"/user.v1.UserService/ListUsers\"";
const CREATE: &str = "path = \"/user.v1.UserService/CreateUser\"";

#[test]
fn a_ladder_is_read_in_its_order_and_the_answer_is_ready_to_go_out() {
    let fallback = r#"
        { upstream = "user-archive" }, { stale = "5m" }, { answer = '{"user": {"name": "nobody"}}' }"#;
    let config = read(&route(GET, fallback), proto::FILE_DESCRIPTOR_SET).unwrap();
    let upstream = config.upstreams.of(&"user-service".parse().unwrap());
    let message = GetUserResponse { user: Some(User { name: "nobody".into(), ..User::default() }) };
    let message = message.encode_to_vec();
    let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    framed.extend(message);
    assert_eq!(
        upstream.routes[0].fallback,
        [
            Rung::Upstream("user-archive".parse().unwrap()),
            Rung::Stale(Duration::from_secs(300)),
            Rung::Answer(framed.into()),
        ]
    );
    let methods = upstream.methods.as_ref().unwrap();
    assert!(methods.is_idempotent("/user.v1.UserService/GetUser"));
    assert!(!methods.is_idempotent("/user.v1.UserService/CreateUser"));
}

#[test]
fn a_status_needs_no_descriptors() {
    let upstream = "[[upstreams.user-service.route]]\n\
                    fallback = [{ status = \"unavailable\", message = \"later\" }]\n";
    let config = read(upstream, b"").unwrap();
    let upstream = config.upstreams.of(&"user-service".parse().unwrap());
    let expected = Rung::Status(Code::Unavailable, "later".to_owned());
    assert_eq!(upstream.routes[0].fallback, [expected]);
}

#[test]
fn a_fixed_answer_that_is_not_that_message_is_refused() {
    let wrong = |answer: &str| problems(&route(GET, &format!("{{ answer = '{answer}' }}")));
    assert_snapshot!(
        [
            wrong(r#"{"user": {"name": 5}}"#),
            wrong(r#"{"usr": {}}"#),
            wrong("nothing"),
            wrong("{} {}"),
            problems(&route(LIST, "{ answer = '{}' }")),
            problems(&route("path = \"/user.v1.UserService/Get\"", "{ answer = '{}' }")),
            problems(&route("prefix = \"/user.v1.UserService/\"", "{ answer = '{}' }")),
            problems(&route(GET, "{ answer = '{}' }").replacen(
                "descriptors = \"user.binpb\"\n",
                "",
                1
            )),
        ]
        .join("\n")
    );
}

#[test]
fn stale_answers_are_of_idempotent_methods_alone() {
    let bare = |matches: &str| {
        problems(&route(matches, "{ stale = \"5m\" }").replacen(
            "descriptors = \"user.binpb\"\n",
            "",
            1,
        ))
    };
    let described = |matches: &str| problems(&route(matches, "{ stale = \"5m\" }"));
    assert_eq!(described("prefix = \"/user.v1.UserService/\""), "nothing");
    assert_eq!(bare(GET), "nothing", "its reflection may tell");
    assert_snapshot!(
        [
            described(CREATE),
            described(LIST),
            described("prefix = \"/user.v1.UserService/Create\""),
            bare("prefix = \"/user.v1.UserService/\""),
            bare(""),
        ]
        .join("\n")
    );
}

#[test]
fn a_step_that_means_nothing_or_is_never_reached_is_told_with_its_line() {
    let fallback = "\n{ },\n{ upstream = \"b\", stale = \"1s\" },\n{ message = \"why\" },\n\
                    { upstream = \"user-service\" },\n{ upstream = \"User\" },\n{ status = \"ok\" },\n\
                    { status = \"internal\" },\n{ stale = \"5m\" }\n";
    let nine = ["{ upstream = \"b\" }"; 9].join(", ");
    assert_snapshot!([problems(&route(GET, fallback)), problems(&route(GET, &nine))].join("\n"));
}

#[test]
fn another_upstream_must_have_endpoints() {
    let upstream = "endpoints = [\"127.0.0.1:1\"]\nidentity = \"spiffe://td/svc/user\"\n\
                    [[upstreams.user-service.route]]\nfallback = [{ upstream = \"b\" }]\n\
                    [consul]\nenabled = false\n";
    let why = problems(upstream);
    let expected = "sidecar.toml:7: upstreams.user-service.route[0].fallback[0].upstream: found \
                    \"b\", of which no endpoints are known, although consul.enabled is false, \
                    expected upstreams.b.endpoints";
    assert!(why.lines().any(|line| line == expected), "{why}");
}

#[test]
fn a_file_of_descriptors_that_cannot_be_used_is_told() {
    let text = "descriptors = \"user.binpb\"\n";
    let with = |bytes: &[u8]| read(text, bytes).err().unwrap_or("nothing".to_owned());
    assert_snapshot!(
        [
            with(b""),
            with(b"not descriptors"),
            problems("descriptors = \"nowhere.binpb\"\n"),
            problems("descriptors = \".\"\n"),
            problems(&route(GET, "{ answer = '{}' }").replacen("user.binpb", "nowhere.binpb", 1)),
        ]
        .join("\n")
    );
}
