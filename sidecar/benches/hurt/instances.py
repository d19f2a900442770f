"""What is hurt: a proxy beside the caller and three instances, each an app and its proxy.

    load -> the caller's proxy -> mutual TLS 1.3 -> an instance's proxy -> its app

All know each other by static addresses, so that what is compared is the proxies and no discovery.
To add a peer, write a line in PEERS.
"""

import itertools
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from bench.pairs import filled
from bench.processes import Refused, address, brought, output
from bench.workloads import TRUST_DOMAIN

CONFIGS = Path(__file__).resolve().parent
INSTANCES = 3


@dataclass(frozen=True)
class Peer:
    """A kind of proxy: the configs of its two sides, and how it is started with one."""
    name: str
    outbound: str
    inbound: str
    argv: Callable[["Site", str], list]
    needs: Optional[str] = None


def outrigger(site, config):
    return [site.program("outrigger"), "run", "--config", config]


def envoy(_site, config):
    # Two workers, as ours has by default; -l: no word of each connection that fails.
    return [brought("envoy"), "-c", config, "--concurrency", "2", "--disable-hot-restart", "-l", "error"]


BESIDE_APP = "../peers/envoy-inbound.yaml"
PEERS = [
    Peer("outrigger", "outrigger-outbound.toml", "outrigger-inbound.toml", outrigger),
    Peer("envoy-common", "envoy-common.yaml", BESIDE_APP, envoy, needs="envoy"),
    Peer("envoy-best", "envoy-best.yaml", BESIDE_APP, envoy, needs="envoy"),
]

# Below the range that the system takes its own from: while nobody listens on a port, whoever tries it
# again and again could be given it as its own end.
_PORTS = itertools.count(20_000)


def free_port():
    for port in _PORTS:
        if port > 32_000:
            raise Refused("no port from 20000 to 32000 is free")
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Spot:
    """A process that ends and is started again, in the same place."""

    def __init__(self, processes, name, argv, port):
        self.processes, self.name, self.argv, self.port = processes, name, argv, port
        self.process = processes.spawn(name, argv, port)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.processes.stop([self.process])

    def leave(self, patience=10):
        """Asks it to end; returns when it has."""
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired as still:
            raise Refused(f"{self.name} does not end {patience} s after SIGTERM") from still

    def start(self):
        """Returns at once: whoever calls it meets it as it comes."""
        self.process = self.processes.start(self.name, self.argv)


class Authority:
    """A CA of one run alone, and the leaves that it issued, each in a folder of its own."""

    def __init__(self, outrigger, folder):
        self.outrigger, self.folder = outrigger, folder
        domain = TRUST_DOMAIN.removeprefix("spiffe://").split("/")[0]
        output([outrigger, "certs", "init", "--dir", str(folder), "--trust-domain", domain], "making a CA")

    def leaf(self, name):
        """The folder with a workload's cert.pem, key.pem and roots.pem."""
        leaf = self.folder / name
        if not leaf.exists():
            leaf.mkdir()
            output([self.outrigger, "certs", "issue", f"{TRUST_DOMAIN}/{name}", "--dir", str(self.folder),
                    "--out", str(leaf)], f"making a leaf for {name}")
            (leaf / f"{name}.pem").rename(leaf / "cert.pem")
            (leaf / f"{name}-key.pem").rename(leaf / "key.pem")
            (leaf / "roots.pem").write_bytes((self.folder / "ca.pem").read_bytes())
        return leaf


@dataclass
class Instance:
    app: Spot
    proxy: Spot


@dataclass
class Site:
    """Where all of it is started."""
    processes: object
    binaries: Path
    keys: Path

    def __post_init__(self):
        self.authority = Authority(self.program("outrigger"), self.keys)

    def program(self, name):
        path = self.binaries / name
        if not path.is_file():
            raise Refused(f"{path} is missing: build it, or name another folder with --prebuilt")
        return str(path)

    def example(self, name):
        return self.program(Path("examples") / name)

    def spot(self, peer, name, config, port, values):
        values = values | {"domain": TRUST_DOMAIN, "admin": free_port(), "spare": free_port(),
                           "caller": self.authority.leaf("caller"), "echo": self.authority.leaf("echo")}
        path = self.processes.folder / f"{name}{Path(config).suffix}"
        spot = Spot(self.processes, name, peer.argv(self, filled(CONFIGS / config, path, values)), port)
        spot.admin = values["admin"]
        return spot

    def start(self, peer, name):
        """The instances, and the proxy beside the caller."""
        instances, ports = [], {}
        for number in range(INSTANCES):
            app, inbound = free_port(), free_port()
            ports[f"inbound_{number}"] = inbound
            spot = Spot(self.processes, f"{name}-app-{number}", [self.example("app"), address(app)], app)
            proxy = self.spot(peer, f"{name}-inbound-{number}", peer.inbound, inbound,
                              {"app": app, "inbound": inbound})
            instances.append(Instance(spot, proxy))
        outbound = free_port()
        values = ports | {"outbound": outbound}
        return instances, self.spot(peer, f"{name}-outbound", peer.outbound, outbound, values)
