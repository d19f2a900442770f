//! Intentions: their forms, precedence, wildcards.

use consul::api::{Action, HeaderMatch, Intention, PathMatch, Permission, Rule};
use serde_json::json;

use crate::target::{At, Settings, start};

async fn to(at: &At, destination: &str) -> Vec<Intention> {
    at.client.connect().intentions_to(destination).send().await.unwrap().value
}

async fn set(at: &At, source: &str, destination: &str, action: Action) {
    let rule = Rule::Action(action);
    at.client.connect().set_intention(source, destination, &rule).await.unwrap();
}

facts! {
    async fn an_intention_is_told_as_it_was_written(at: At) {
        set(&at, "int-a", "int-b", Action::Deny).await;
        let one = at.client.connect().intention("int-a", "int-b").await.unwrap().unwrap();
        assert_eq!((one.source.as_str(), one.destination.as_str()), ("int-a", "int-b"));
        assert_eq!(
            (one.source_namespace.as_str(), one.destination_namespace.as_str()),
            ("default", "default")
        );
        assert_eq!(one.rule, Rule::Action(Action::Deny));
        assert_eq!(one.precedence, 9);
        assert_eq!(to(&at, "int-b").await, std::slice::from_ref(&one));
        let all = at.client.connect().intentions().send().await.unwrap().value;
        assert!(all.contains(&one));
        set(&at, "int-a", "int-b", Action::Allow).await;
        assert_eq!(to(&at, "int-b").await[0].rule, Rule::Action(Action::Allow));
        at.client.connect().delete_intention("int-a", "int-b").await.unwrap();
        assert_eq!(at.client.connect().intention("int-a", "int-b").await.unwrap(), None);
        assert_eq!(to(&at, "int-b").await, []);
        at.client.connect().delete_intention("int-a", "int-b").await.unwrap();
    }

    async fn the_more_exact_intention_comes_first(at: At) {
        set(&at, "*", "prec", Action::Deny).await;
        set(&at, "prec-a", "prec", Action::Allow).await;
        set(&at, "prec-b", "prec", Action::Allow).await;
        let order: Vec<_> =
            to(&at, "prec").await.into_iter().map(|one| (one.source, one.precedence)).collect();
        assert_eq!(
            order,
            [("prec-a".to_owned(), 9), ("prec-b".to_owned(), 9), ("*".to_owned(), 8)]
        );
        assert!(at.client.connect().check("prec-a", "prec").await.unwrap());
        assert!(!at.client.connect().check("prec-c", "prec").await.unwrap());
    }

    async fn permissions_are_told_as_they_were_written(at: At) {
        let rule = Rule::Permissions(vec![
            Permission {
                action: Action::Allow,
                path: Some(PathMatch::Exact("/user.v1.UserService/GetUser".into())),
                headers: vec![
                    HeaderMatch {
                        name: "x-tenant".into(),
                        exact: "a".into(),
                        ..Default::default()
                    },
                    HeaderMatch {
                        name: "x-debug".into(),
                        present: true,
                        invert: true,
                        ..Default::default()
                    },
                ],
                methods: vec!["POST".into()],
                jwt: false,
            },
            Permission {
                action: Action::Deny,
                path: Some(PathMatch::Prefix("/user.v1.".into())),
                headers: vec![],
                methods: vec![],
                jwt: false,
            },
            Permission {
                action: Action::Allow,
                path: Some(PathMatch::Regex("/a.*b".into())),
                headers: vec![],
                methods: vec![],
                jwt: false,
            },
        ]);
        let defaults = json!({"Kind": "service-defaults", "Name": "l7", "Protocol": "grpc"});
        at.client.config().put(&defaults).await.unwrap();
        at.client.connect().set_intention("l7-a", "l7", &rule).await.unwrap();
        let told = to(&at, "l7").await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].rule, rule);
        assert_eq!(told[0].precedence, 9);
    }

    async fn permissions_need_a_protocol_with_paths(at: At) {
        let rule = json!({"SourceType": "consul", "Permissions": [{"Action": "allow", "HTTP": {"PathExact": "/"}}]});
        let path = "/v1/connect/intentions/exact?source=a&destination=l4-only";
        let raw = at.put(path, &rule.to_string()).await;
        raw.says(500, "service \"l4-only\" has protocol \"tcp\", which is incompatible with L7 intentions permissions");
    }

    async fn config_entries_and_intentions_are_the_same(at: At) {
        let entry = json!({
            "Kind": "service-intentions", "Name": "entry",
            "Sources": [{"Name": "entry-a", "Action": "allow"}, {"Name": "*", "Action": "deny"}],
        });
        at.client.config().put(&entry).await.unwrap();
        let sources: Vec<_> = to(&at, "entry").await.into_iter().map(|one| one.source).collect();
        assert_eq!(sources, ["entry-a", "*"]);
        set(&at, "entry-b", "entry", Action::Allow).await;
        let entry =
            at.client.config().entry("service-intentions", "entry").send().await.unwrap().value;
        assert_eq!(entry["Sources"].as_array().unwrap().len(), 3);
        let all = at.client.config().entries("service-intentions").send().await.unwrap().value;
        assert!(all.iter().any(|one| one["Name"] == "entry"));
        at.client.config().delete("service-intentions", "entry").await.unwrap();
        assert_eq!(to(&at, "entry").await, []);
        let gone = at.fetch("/v1/config/service-intentions/entry").await;
        gone.says(404, "Config entry not found for \"service-intentions\" / \"entry\"");
    }

    async fn an_intention_to_any_service_comes_after_those_to_one(at: At) {
        // On an agent of its own: it concerns every service there is.
        let Some(own) = start(at.kind, Settings::default()).await else { return };
        let at = &own.at;
        set(at, "*", "*", Action::Deny).await;
        set(at, "wild-a", "*", Action::Allow).await;
        set(at, "*", "wild", Action::Allow).await;
        set(at, "wild-a", "wild", Action::Deny).await;
        let told: Vec<_> = to(at, "wild")
            .await
            .into_iter()
            .map(|one| (one.source, one.destination, one.precedence))
            .collect();
        let expected = [("wild-a", "wild", 9), ("*", "wild", 8), ("wild-a", "*", 6), ("*", "*", 5)];
        let expected = expected.map(|(source, destination, precedence)| {
            (source.to_owned(), destination.to_owned(), precedence)
        });
        assert_eq!(told, expected);
        assert!(!at.client.connect().check("anyone", "elsewhere").await.unwrap());
        assert!(at.client.connect().check("wild-a", "elsewhere").await.unwrap());
        let by_source = at.fetch("/v1/connect/intentions/match?by=source&name=wild-a").await.json();
        assert_eq!(by_source["wild-a"].as_array().unwrap().len(), 4);
    }

    async fn a_wrong_intention_is_refused(at: At) {
        let path = "/v1/connect/intentions/exact?source=a&destination=wrong";
        let raw =
            at.put(path, &json!({"SourceType": "consul", "Action": "perhaps"}).to_string()).await;
        raw.says(500, "Sources[0].Action must be set to 'allow' or 'deny'");
        let raw = at.put("/v1/connect/intentions/exact?source=a", "{}").await;
        raw.says(500, "required query parameter 'destination' not set");
        let raw = at.fetch("/v1/connect/intentions/match?by=destination").await;
        raw.says(500, "required query parameter 'name' not set");
        let raw = at.fetch("/v1/connect/intentions/match?by=colour&name=x").await;
        raw.says(500, "'by' parameter must be one of 'source' or 'destination'");
        let raw = at.fetch("/v1/connect/intentions/exact?source=no&destination=body").await;
        raw.says(404, "Intention not found");
    }

    async fn a_write_moves_the_index_of_a_match(at: At) {
        let before = at.fetch("/v1/connect/intentions/match?by=destination&name=moved").await;
        set(&at, "m", "moved", Action::Allow).await;
        let after = at.fetch("/v1/connect/intentions/match?by=destination&name=moved").await;
        assert!(after.index() > before.index());
        assert_eq!(before.json(), json!({"moved": null}));
        assert_eq!(after.json()["moved"][0]["Action"], "allow");
    }
}
