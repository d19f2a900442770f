//! `mesh.toml`, parsed once: which processes there are, where each listens, who may call whom.
//! Every error of the file is told in one go, with its line. Past this module instances are
//! counted out, placeholders are filled in, and no two processes want the same port.

mod reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::reader::{Reader, Table};
use crate::config::ServiceName;

/// The ports of the sidecar without an app that every mesh has.
const CLIENT: &str = "client";
const CLIENT_OUTBOUND: u16 = 15001;
const CLIENT_ADMIN: u16 = 15000;

/// A whole mesh on this machine.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// Where `mesh.toml` is: every command runs here.
    pub(crate) dir: PathBuf,
    /// Each command once, in the file's order.
    pub(crate) builds: Vec<String>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) intentions: Vec<Intention>,
}

/// One sidecar, and the app that it stands beside.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Its ID in Consul: the service's name and a number from 1.
    pub(crate) id: String,
    pub(crate) service: ServiceName,
    /// None: a caller only.
    pub(crate) local: Option<Local>,
    pub(crate) outbound: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// A file with this service's Consul token.
    pub(crate) token_file: Option<PathBuf>,
}

/// The app of an instance, and where the mesh calls it.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) app: SocketAddr,
    pub(crate) inbound: SocketAddr,
}

/// Who may call whom.
#[derive(Debug)]
#[expect(dead_code, reason = "written to Consul as soon as its client is there")]
pub(crate) struct Intention {
    pub(crate) source: Party,
    pub(crate) destination: Party,
    pub(crate) action: Action,
}

/// A service, or `*`: any.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Party(String);

impl Party {
    #[expect(dead_code, reason = "as above")]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Party {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<ServiceName>() {
            _ if text == "*" => Ok(Self(text)),
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(format!("{error}, or \"*\" for any")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Allow,
    Deny,
}

/// How many instances a service has: 1 to 100.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct Instances(u16);

impl TryFrom<i64> for Instances {
    type Error = &'static str;

    fn try_from(count: i64) -> Result<Self, Self::Error> {
        match u16::try_from(count) {
            Ok(count @ 1..=100) => Ok(Self(count)),
            _ => Err("expected a number from 1 to 100"),
        }
    }
}

/// A port that can be listened on and told to others.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct PortNumber(u16);

impl TryFrom<i64> for PortNumber {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        match u16::try_from(number) {
            Ok(port @ 1..) => Ok(Self(port)),
            _ => Err("expected a port from 1 to 65535"),
        }
    }
}

/// A program and its arguments.
#[derive(Deserialize)]
#[serde(try_from = "Vec<String>")]
struct Words(Vec<String>);

impl TryFrom<Vec<String>> for Words {
    type Error = &'static str;

    fn try_from(words: Vec<String>) -> Result<Self, Self::Error> {
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Self(words)),
            _ => Err("expected a program and its arguments, each a string of its own"),
        }
    }
}

impl Mesh {
    /// Reads the file. The errors are lines of `file:line: what`, in the file's order.
    pub(crate) fn read(path: &Path) -> Result<Self, Vec<String>> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| vec![format!("{}: {error}", path.display())])?;
        // Commands may stand relative to the file, wherever `up` is called from.
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = std::path::absolute(dir)
            .map_err(|error| vec![format!("{}: {error}", path.display())])?;
        Self::parse(&text, &path.display().to_string(), dir)
    }

    fn parse(text: &str, file: &str, dir: PathBuf) -> Result<Self, Vec<String>> {
        let reader = Reader::new(file, text);
        let mut mesh =
            Self { dir, builds: Vec::new(), instances: Vec::new(), intentions: Vec::new() };
        if let Some(mut root) = reader.root() {
            let mut claims = Claims::default();
            for table in root.tables("service") {
                mesh.service(table, &mut claims);
            }
            for table in root.tables("intention") {
                mesh.intentions.extend(intention(table));
            }
            if mesh.instances.is_empty() && reader.is_clean() {
                root.error("no [[service]] in it: there is nothing to run");
            }
            mesh.client(&mut root, &mut claims);
            root.finish();
        }
        reader.finish().map(|()| mesh)
    }

    fn service(&mut self, mut table: Table<'_>, claims: &mut Claims) {
        let name: Option<ServiceName> = table.required("name");
        let build: Option<String> = table.optional("build");
        let command: Option<Words> = table.optional("command");
        let env: BTreeMap<String, String> = table.optional("env").unwrap_or_default();
        let Instances(count) = table.optional("instances").unwrap_or(Instances(1));
        let app: Option<PortNumber> = table.optional("app");
        let inbound: Option<PortNumber> = table.optional("inbound");
        let outbound: Option<PortNumber> = table.required("outbound");
        let admin: Option<PortNumber> = table.required("admin");
        let token_file: Option<PathBuf> = table.optional("token_file");
        let together = ["command", "app", "inbound"].map(|key| table.has(key));
        if together.contains(&true) && together.contains(&false) {
            table.error(
                "`command`, `app` and `inbound` belong together: \
                 give all three, or none for a sidecar without an app",
            );
        }
        if let Some(name) = &name
            && self.instances.iter().any(|instance| instance.service == *name)
        {
            table.error(&format!("a second service `{name}`: give the first one more `instances`"));
        }
        if let (Some(name), Some(outbound), Some(admin)) = (name, outbound, admin) {
            for nth in 0..count {
                let id = format!("{name}-{}", nth + 1);
                let mut claim =
                    |port: PortNumber, kind| claims.claim(&mut table, port, nth, &id, kind);
                let ports = match (app, inbound) {
                    (Some(app), Some(inbound)) => claim(app, "app").zip(claim(inbound, "inbound")),
                    _ => None,
                };
                let own = claim(outbound, "outbound").zip(claim(admin, "admin"));
                let Some((outbound, admin)) = own else { continue };
                let local = command.as_ref().zip(ports).map(|(command, (app, inbound))| {
                    let fill = |text: &String| {
                        text.replace("{app}", &app.to_string())
                            .replace("{inbound}", &inbound.to_string())
                            .replace("{outbound}", &outbound.to_string())
                            .replace("{admin}", &admin.to_string())
                            .replace("{instance}", &id)
                    };
                    let command = command.0.iter().map(fill).collect();
                    let env = env.iter().map(|(key, value)| (key.clone(), fill(value))).collect();
                    Local { command, env, app, inbound }
                });
                let (service, token_file) = (name.clone(), token_file.clone());
                let token_file = token_file.map(|file| self.dir.join(file));
                self.instances.push(Instance { id, service, local, outbound, admin, token_file });
            }
        }
        if let Some(build) = build
            && !self.builds.contains(&build)
        {
            self.builds.push(build);
        }
        table.finish();
    }

    /// The sidecar that a person's own client dials, unless the file describes it itself.
    fn client(&mut self, root: &mut Table<'_>, claims: &mut Claims) {
        let Ok(service) = CLIENT.parse::<ServiceName>() else { return };
        if self.instances.iter().any(|instance| instance.service == service) {
            return;
        }
        let id = format!("{CLIENT}-1");
        let mut claim = |port, kind| claims.claim(root, PortNumber(port), 0, &id, kind);
        let ports = claim(CLIENT_OUTBOUND, "outbound").zip(claim(CLIENT_ADMIN, "admin"));
        if let Some((outbound, admin)) = ports {
            let instance = Instance { id, service, local: None, outbound, admin, token_file: None };
            self.instances.push(instance);
        }
    }
}

fn intention(mut table: Table<'_>) -> Option<Intention> {
    let source = table.required("source");
    let destination = table.required("destination");
    let action = table.required("action");
    table.finish();
    Some(Intention { source: source?, destination: destination?, action: action? })
}

/// Who wants which port.
#[derive(Default)]
struct Claims(BTreeMap<u16, String>);

impl Claims {
    /// The address of the `nth` instance's port, counted up from `first`.
    fn claim(
        &mut self,
        table: &mut Table<'_>,
        PortNumber(first): PortNumber,
        nth: u16,
        id: &str,
        kind: &'static str,
    ) -> Option<SocketAddr> {
        let purpose = format!("the {kind} port of {id}");
        let Some(port) = first.checked_add(nth) else {
            table.error_at(kind, &format!("{purpose} would be above 65535"));
            return None;
        };
        if let Some(other) = self.0.get(&port) {
            table.error_at(kind, &format!("{purpose} would be {port}, which is {other}"));
            return None;
        }
        self.0.insert(port, purpose);
        Some((Ipv4Addr::LOCALHOST, port).into())
    }
}
