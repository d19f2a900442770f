//! What a person is told once the mesh is ready: where everything listens, and three commands to
//! try that work as they are typed.

use std::fmt::Write;
use std::net::SocketAddr;

use super::mesh::{Instance, Mesh};

/// The table and the commands. `dns`: where Consul's DNS answers.
pub(crate) fn render(mesh: &Mesh, dns: SocketAddr) -> String {
    let mut rows = vec![["SERVICE", "APP", "INBOUND", "OUTBOUND", "ADMIN"].map(str::to_owned)];
    rows.extend(mesh.instances.iter().map(row));
    let widths: Vec<usize> =
        (0..5).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or_default()).collect();
    let mut text = String::from("\n");
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    commands(mesh, dns, &mut text);
    text
}

fn row(instance: &Instance) -> [String; 5] {
    let none = || "-".to_owned();
    [
        instance.id.clone(),
        instance.local.as_ref().map_or_else(none, |local| local.app.to_string()),
        instance.local.as_ref().map_or_else(none, |local| local.inbound.to_string()),
        instance.outbound.to_string(),
        instance.admin.to_string(),
    ]
}

fn commands(mesh: &Mesh, dns: SocketAddr, text: &mut String) {
    let caller = mesh.instances.iter().find(|instance| instance.local.is_none());
    let service = mesh.instances.iter().find(|instance| instance.local.is_some());
    let (Some(caller), Some(service)) = (caller, service) else { return };
    let (name, outbound, admin) = (&service.service, caller.outbound, caller.admin);
    let _ = write!(
        text,
        "\nTry, in another terminal:\n  \
           grpcurl -plaintext -authority {name} {outbound} list\n  \
           dig +short -p {} @{} {name}.service.consul SRV\n  \
           curl -s http://{admin}/metrics\n\n",
        dns.port(),
        dns.ip(),
    );
}
