//! `mesh.toml`, parsed once: which processes there are, where each listens, who may call whom.
//! Every error of the file is told in one go, with its line. Past this module instances are
//! counted out, placeholders are filled in, and no two processes want the same port.

mod keys;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use consul::api::Action;

use self::keys::Keys;
pub(crate) use self::keys::Party;
use self::resolve::Resolver;
use crate::config::tree::Node;
use crate::config::{Origin, Problem, Problems, ServiceName, file, reader};

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
pub(crate) struct Intention {
    pub(crate) source: Party,
    pub(crate) destination: Party,
    pub(crate) action: Action,
}

impl Mesh {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, Problems> {
        let tree = file::read(path)?;
        // Commands may stand relative to the file, wherever `up` is called from.
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = std::path::absolute(dir.unwrap_or(Path::new("."))).map_err(|error| Problem {
            origin: Some(Origin::File { file: path.display().to_string().into(), line: None }),
            key: String::new(),
            message: format!("is in a folder that cannot be named: {error}"),
        })?;
        Self::parse(tree, dir)
    }

    fn parse(mut tree: Node, dir: PathBuf) -> Result<Self, Problems> {
        let (keys, problems) = reader::read::<Keys>(&mut tree);
        let mut resolver = Resolver::new(&tree, problems);
        let mut mesh =
            Self { dir, builds: Vec::new(), instances: Vec::new(), intentions: Vec::new() };
        resolver.mesh(keys, &mut mesh);
        Problems::none_of(resolver.problems).map(|()| mesh)
    }

    /// The services that the mesh may call, each once.
    pub(crate) fn called(&self) -> Vec<&str> {
        let with_app = self.instances.iter().filter(|instance| instance.local.is_some());
        let mut names: Vec<_> = with_app.map(|instance| instance.service.as_str()).collect();
        names.dedup();
        names
    }
}
