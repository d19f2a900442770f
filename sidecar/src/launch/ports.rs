//! Which of the mesh's ports are taken before anything is started, and by whom. The holder is
//! told where the system tells (Linux: `/proc`), and only for what this user may see.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// Bytes of a holder's command line that are shown.
const COMMAND: usize = 120;

/// A port that the mesh is about to listen on.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) addr: SocketAddr,
    pub(crate) transport: Transport,
    /// For the person: `the admin port of user-service-1`.
    pub(crate) purpose: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// A port that is not to be had.
#[derive(Debug)]
pub(crate) struct Taken {
    port: Port,
    error: std::io::Error,
    holder: Option<Holder>,
}

/// The process that listens on a port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pid: u32,
    command: String,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Port { addr, transport, purpose } = &self.port;
        let udp = if *transport == Transport::Udp { "/udp" } else { "" };
        write!(f, "{addr}{udp} ({purpose}): ")?;
        match &self.holder {
            Some(Holder { pid, command }) => write!(f, "taken by process {pid}: {command}"),
            None => write!(f, "{}", self.error),
        }
    }
}

/// Those of `ports` that cannot be listened on. Each is tried and given back at once.
pub(crate) fn taken(ports: impl IntoIterator<Item = Port>) -> Vec<Taken> {
    let try_one = |port: Port| {
        let tried = match port.transport {
            Transport::Tcp => TcpListener::bind(port.addr).map(drop),
            Transport::Udp => UdpSocket::bind(port.addr).map(drop),
        };
        let error = tried.err()?;
        let holder = holder(port.addr, port.transport);
        Some(Taken { port, error, holder })
    };
    ports.into_iter().filter_map(try_one).collect()
}

fn holder(addr: SocketAddr, transport: Transport) -> Option<Holder> {
    let tables = match transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let inodes: Vec<String> = tables
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| inodes(&table, addr.port(), transport))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let pid = fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
        let mut links = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        links
            .any(|fd| {
                fs::read_link(fd.path()).is_ok_and(|link| inodes.iter().any(|i| *link == **i))
            })
            .then_some(pid)
    })?;
    Some(Holder { pid, command: command(pid)? })
}

/// The inodes of the sockets in a table of `/proc/net` (proc(5)) that hold `port`.
fn inodes(table: &str, port: u16, transport: Transport) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        let (_, at) = local.rsplit_once(':')?;
        let here = u16::from_str_radix(at, 16).ok()? == port;
        (here && (transport == Transport::Udp || state == LISTEN)).then_some(inode)
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// The command line of a process, cut to a length that fits an error message.
pub(crate) fn command(pid: u32) -> Option<String> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = raw
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    let mut line = words.join(" ");
    if line.is_empty() {
        line = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
    }
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    Some(match line.char_indices().nth(COMMAND) {
        Some((end, _)) => line[..end].chars().map(printable).chain(['…']).collect(),
        None => line.chars().map(printable).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(addr: SocketAddr) -> Port {
        Port { addr, transport: Transport::Tcp, purpose: "the app of x-1".to_owned() }
    }

    #[test]
    fn only_a_listening_socket_on_the_port_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:5209 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
            1: 0100007F:5209 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n   \
            2: 0100007F:5210 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n";
        assert_eq!(inodes(table, 0x5209, Transport::Tcp), [4711]);
        assert_eq!(inodes("garbage\n : : :\n", 1, Transport::Tcp), [0u64; 0]);
    }

    #[test]
    fn a_free_port_is_free_again_after_the_look() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        assert!(taken([port(addr)]).is_empty());
        TcpListener::bind(addr).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_taken_port_names_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let found = taken([port(addr)]);
        let text = found[0].to_string();
        let pid = std::process::id();
        assert!(
            text.starts_with(&format!("{addr} (the app of x-1): taken by process {pid}: ")),
            "{text}"
        );
    }
}
