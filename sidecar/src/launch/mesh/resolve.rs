//! From the keys of a `mesh.toml` to a mesh: counts the instances out, gives each its ports, and
//! refuses what no key alone can show to be wrong.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::keys::{FirstPort, IntentionKeys, Keys, ServiceKeys};
use super::{Instance, Intention, Local, Mesh};
use crate::config::Problem;
use crate::config::tree::{Node, Value};

/// The sidecar that a person's own client dials; a service of this name in the file replaces it.
const CLIENT: &str = "client";
const CLIENT_OUTBOUND: FirstPort = FirstPort(15001);
const CLIENT_ADMIN: FirstPort = FirstPort(15000);

pub(super) struct Resolver<'t> {
    tree: &'t Node,
    pub(super) problems: Vec<Problem>,
    /// Who has which port.
    ports: BTreeMap<u16, String>,
}

/// One table of the file: where it stands, and what it is called in a message.
#[derive(Clone, Copy)]
struct Table<'t> {
    node: &'t Node,
    name: &'static str,
}

impl<'t> Resolver<'t> {
    pub(super) fn new(tree: &'t Node, problems: Vec<Problem>) -> Self {
        Self { tree, problems, ports: BTreeMap::new() }
    }

    pub(super) fn mesh(&mut self, keys: Keys, mesh: &mut Mesh) {
        for (keys, table) in keys.service.into_iter().zip(self.tables("service")) {
            self.service(keys, table, mesh);
        }
        for (keys, table) in keys.intention.into_iter().zip(self.tables("intention")) {
            mesh.intentions.extend(self.intention(keys, table));
        }
        let root = Table { node: self.tree, name: "" };
        if mesh.instances.is_empty() && self.problems.is_empty() {
            self.problem(root, "", "found no [[service]], expected at least one".to_owned());
        }
        if let Ok(service) = CLIENT.parse()
            && mesh.instances.iter().all(|instance| instance.service != service)
        {
            let id = format!("{CLIENT}-1");
            let outbound = self.claim(root, "outbound", CLIENT_OUTBOUND, 0, &id);
            let admin = self.claim(root, "admin", CLIENT_ADMIN, 0, &id);
            if let Some((outbound, admin)) = outbound.zip(admin) {
                let (local, token_file) = (None, None);
                mesh.instances.push(Instance { id, service, local, outbound, admin, token_file });
            }
        }
    }

    fn service(&mut self, keys: ServiceKeys, table: Table<'t>, mesh: &mut Mesh) {
        for key in ["name", "outbound", "admin"] {
            self.required(table, key);
        }
        let local = ["command", "app", "inbound"];
        let given = local.map(|key| table.has(key));
        if given.contains(&true) && given.contains(&false) {
            let message = "found some of command, app and inbound, expected all three, \
                           or none for a sidecar without an app";
            self.problem(table, "", message.to_owned());
        }
        let Some(name) = keys.name else { return };
        if mesh.instances.iter().any(|instance| instance.service == name) {
            let message = format!("found \"{name}\" again, expected more instances of the first");
            self.problem(table, "name", message);
        }
        for nth in 0..keys.instances.0 {
            let id = format!("{name}-{}", nth + 1);
            let mut claim = |key, port: Option<FirstPort>| self.claim(table, key, port?, nth, &id);
            let ports = [
                claim("app", keys.app),
                claim("inbound", keys.inbound),
                claim("outbound", keys.outbound),
                claim("admin", keys.admin),
            ];
            let [app, inbound, Some(outbound), Some(admin)] = ports else { continue };
            let local = match (&keys.command, app, inbound) {
                (Some(command), Some(app), Some(inbound)) => {
                    let places = [
                        ("{app}", app.to_string()),
                        ("{inbound}", inbound.to_string()),
                        ("{outbound}", outbound.to_string()),
                        ("{admin}", admin.to_string()),
                        ("{instance}", id.clone()),
                    ];
                    let command = command.0.iter().map(|word| fill(word, &places)).collect();
                    let env = keys.env.iter();
                    let env = env.map(|(name, value)| (name.clone(), fill(value, &places)));
                    Some(Local { command, env: env.collect(), app, inbound })
                }
                _ => None,
            };
            let token_file = keys.token_file.as_ref().map(|file| mesh.dir.join(file));
            let service = name.clone();
            mesh.instances.push(Instance { id, service, local, outbound, admin, token_file });
        }
        if let Some(build) = keys.build
            && !mesh.builds.contains(&build)
        {
            mesh.builds.push(build);
        }
    }

    fn intention(&mut self, keys: IntentionKeys, table: Table<'t>) -> Option<Intention> {
        for key in ["source", "destination", "action"] {
            self.required(table, key);
        }
        let IntentionKeys { source, destination, action } = keys;
        Some(Intention { source: source?, destination: destination?, action: action? })
    }

    /// The address of the `nth` instance, counted up from the first; none: it cannot be had.
    fn claim(
        &mut self,
        table: Table<'t>,
        key: &'static str,
        FirstPort(first): FirstPort,
        nth: u16,
        id: &str,
    ) -> Option<SocketAddr> {
        let purpose = format!("the {key} port of {id}");
        let Some(port) = first.checked_add(nth) else {
            let message = format!("found {first}, which puts {purpose} above 65535");
            self.problem(table, key, message);
            return None;
        };
        if let Some(other) = self.ports.get(&port) {
            let message = format!("found {first}, which makes {port} {purpose}, but it is {other}");
            self.problem(table, key, message);
            return None;
        }
        self.ports.insert(port, purpose);
        Some((Ipv4Addr::LOCALHOST, port).into())
    }

    fn required(&mut self, table: Table<'t>, key: &'static str) {
        if !table.has(key) {
            self.problem(table, key, "left out, expected a value".to_owned());
        }
    }

    fn problem(&mut self, table: Table<'t>, key: &str, message: String) {
        let at = table.node.find([key]).unwrap_or(table.node);
        let key = match (table.name, key) {
            (name, "") => name.to_owned(),
            (name, key) => format!("{name}.{key}"),
        };
        self.problems.push(Problem { origin: at.origin.clone(), key, message });
    }

    /// The tables of `[[name]]` that could be read, as the reader gave them.
    fn tables(&self, name: &'static str) -> Vec<Table<'t>> {
        let tables = match self.tree.find([name]).map(|node| &node.value) {
            Some(Value::List(tables)) => tables.as_slice(),
            _ => &[],
        };
        let read = tables.iter().filter(|node| matches!(node.value, Value::Table(_)));
        read.map(|node| Table { node, name }).collect()
    }
}

impl Table<'_> {
    /// A key that was given, also with a wrong value: that is told already.
    fn has(&self, key: &str) -> bool {
        self.node.find([key]).is_some()
    }
}

fn fill(text: &str, places: &[(&str, String)]) -> String {
    places.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
}
