//! What the agent says of itself and of its cluster of one, and what it says of ACLs: that there
//! are none.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::answer::{ApiError, Reply, Routed};
use super::call::Call;
use super::router::Context;
use crate::agent::state::{CONSUL_VERSION, State};
use crate::api::intention::Action;

/// `/v1/acl/…`
pub(super) fn acl(_: &Context<'_>, _: &Call) -> Routed {
    ApiError::new(StatusCode::UNAUTHORIZED, "ACL support disabled").into()
}

/// `GET /v1/status/leader`
pub(super) fn leader(context: &Context<'_>, _: &Call) -> Routed {
    Routed::Done(Reply::json(context.write(|state, _, _| raft_address(state))))
}

/// `GET /v1/status/peers`
pub(super) fn peers(context: &Context<'_>, _: &Call) -> Routed {
    Routed::Done(Reply::json(context.write(|state, _, _| vec![Value::from(raft_address(state))])))
}

fn address(state: &State) -> String {
    state.catalog.local().map_or_else(String::new, |node| node.address.clone())
}

fn raft_address(state: &State) -> String {
    match address(state) {
        address if address.contains(':') => format!("[{address}]:8300"),
        address => format!("{address}:8300"),
    }
}

fn member(state: &State) -> Value {
    json!({
        "Name": state.catalog.local_name(),
        "Addr": address(state),
        "Port": 8301,
        "Tags": {
            "acls": "0",
            "build": format!("{CONSUL_VERSION}:outrigger"),
            "dc": state.datacenter,
            "ft_fs": "1",
            "ft_si": "1",
            "id": state.node_id,
            "port": "8300",
            "raft_vsn": "3",
            "role": "consul",
            "segment": "",
            "vsn": "2",
            "vsn_max": "3",
            "vsn_min": "2",
            "wan_join_port": "8302",
        },
        "Status": 1,
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    })
}

/// `GET /v1/agent/members`
pub(super) fn members(context: &Context<'_>, _: &Call) -> Routed {
    Routed::Done(Reply::json(context.write(|state, _, _| vec![member(state)])))
}

/// `GET /v1/agent/self`
pub(super) fn about(context: &Context<'_>, _: &Call) -> Routed {
    let body = context.write(|state, _, _| {
        let policy = match state.policy {
            Action::Allow => "",
            Action::Deny => "deny",
        };
        let services = state.catalog.local().map_or(0, |node| node.services.len());
        let checks = state.catalog.local().map_or(0, |node| node.checks.len());
        let meta: Map<String, Value> = state
            .catalog
            .local()
            .into_iter()
            .flat_map(|node| &node.meta)
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        json!({
            "Config": {
                "Datacenter": state.datacenter,
                "PrimaryDatacenter": state.datacenter,
                "NodeName": state.catalog.local_name(),
                "NodeID": state.node_id,
                "Revision": "outrigger",
                "Server": true,
                "Version": CONSUL_VERSION,
                "BuildDate": "1970-01-01T00:00:00Z",
                "BindAddr": address(state),
            },
            "DebugConfig": {
                "ACLsEnabled": false,
                "ConnectEnabled": true,
                "Datacenter": state.datacenter,
                "DefaultIntentionPolicy": policy,
                "DevMode": true,
                "NodeName": state.catalog.local_name(),
                "ServerMode": true,
            },
            "Coord": { "Adjustment": 0, "Error": 1.5, "Height": 1e-5, "Vec": [0, 0, 0, 0, 0, 0, 0, 0] },
            "Member": member(state),
            "Stats": {
                "agent": {
                    "check_monitors": "0",
                    "check_ttls": checks.to_string(),
                    "checks": checks.to_string(),
                    "services": services.to_string(),
                },
                "build": {
                    "prerelease": "",
                    "revision": "outrigger",
                    "version": CONSUL_VERSION,
                    "version_metadata": "embedded-development-agent",
                },
                "consul": {
                    "acl": "disabled",
                    "bootstrap": "true",
                    "leader": "true",
                    "leader_addr": raft_address(state),
                    "server": "true",
                },
            },
            "Meta": meta,
            "xDS": null,
        })
    });
    Routed::Done(Reply::json(body))
}
