//! What a mesh is made of: the process of each app and each sidecar, the ports that they listen
//! on, and what shows that they are ready. Nothing is started here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::children::{Process, Role};
use super::consul::{self, Consul};
use super::mesh::{Instance, Mesh};
use super::ports::{Port, Transport};
use super::ready::{Probe, Wanted};

/// How long an app may take to end.
const APP_GRACE: Duration = Duration::from_secs(10);

/// A sidecar leaves Consul, which takes 6 s at most, and then drains for 30 s.
const SIDECAR_GRACE: Duration = Duration::from_secs(40);

/// The app of an instance; none for a caller only.
pub(super) fn app(instance: &Instance) -> Option<Process> {
    let local = instance.local.as_ref()?;
    Some(Process {
        name: instance.id.clone(),
        role: Role::App,
        command: local.command.iter().map(OsString::from).collect(),
        env: local.env.clone(),
        without: consul::SECRETS,
        grace: APP_GRACE,
    })
}

/// The sidecar of an instance.
pub(super) fn sidecar(instance: &Instance, consul: &Consul, outrigger: &Path) -> Process {
    let mut command = vec![outrigger.into(), OsString::from("run")];
    let mut flag = |name: &str, value: &str| command.push(format!("--{name}={value}").into());
    flag("service", instance.service.as_str());
    flag("set", &format!("service.id={}", instance.id));
    if let Some(local) = &instance.local {
        flag("app", &local.app.to_string());
        flag("inbound", &local.inbound.to_string());
    }
    flag("outbound", &instance.outbound.to_string());
    flag("admin", &instance.admin.to_string());
    let (flags, without) = consul.sidecar(instance.token_file.as_deref());
    command.extend(flags);
    Process {
        name: sidecar_name(instance),
        role: if instance.local.is_some() { Role::Sidecar } else { Role::Caller },
        command,
        env: BTreeMap::new(),
        without,
        grace: SIDECAR_GRACE,
    }
}

pub(super) fn sidecar_name(instance: &Instance) -> String {
    format!("{} sidecar", instance.id)
}

/// What must be ready before the mesh is.
pub(super) fn wanted(mesh: &Mesh) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for instance in &mesh.instances {
        if let Some(local) = &instance.local {
            wanted.push(Wanted { name: instance.id.clone(), probe: Probe::Connects(local.app) });
        }
        let probe = Probe::Answers(instance.admin, "/ready");
        wanted.push(Wanted { name: sidecar_name(instance), probe });
    }
    wanted
}

/// Every port that the apps and sidecars listen on.
pub(super) fn ports(mesh: &Mesh) -> Vec<Port> {
    let mut ports = Vec::new();
    for instance in &mesh.instances {
        let local = instance.local.as_ref();
        let own = [
            ("app", local.map(|local| local.app)),
            ("inbound", local.map(|local| local.inbound)),
            ("outbound", Some(instance.outbound)),
            ("admin", Some(instance.admin)),
        ];
        for (purpose, addr) in own {
            let Some(addr) = addr else { continue };
            let purpose = format!("the {purpose} port of {}", instance.id);
            ports.push(Port { addr, transport: Transport::Tcp, purpose });
        }
    }
    ports
}
