"""The pairs of proxies that are measured. Each one's config is in benches/peers, with its ports open.

To add one, write a function like `envoy` and name it in PEERS.
"""

import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from .processes import Refused, address, brought, free_port
from .workloads import TRUST_DOMAIN

CONFIGS = Path(__file__).resolve().parents[1] / "peers"
SIDES = ("outbound", "inbound")


@dataclass(frozen=True)
class Peer:
    """A kind of pair. `start` starts one in front of the app; `needs` is what must be brought for it."""
    name: str
    start: Callable[["Site", str], "Pair"]
    needs: Optional[str] = None


@dataclass
class Pair:
    """A running pair: the ports of its two sides and their processes. Without proxies, the app alone."""
    outbound: int
    inbound: int
    proxies: dict = field(default_factory=dict)


@dataclass
class Site:
    """Where a pair is started."""
    processes: object
    authority: object
    app: int
    binaries: Path

    def example(self, name):
        return self.program(Path("examples") / name)

    def program(self, name):
        path = self.binaries / name
        if not path.is_file():
            raise Refused(f"{path} is missing: build it, or name another folder with --prebuilt")
        return str(path)

    def config(self, file, name, ports, **more):
        """One of benches/peers, filled in."""
        values = {side: ports[side] for side in SIDES} | more | {
            "app": self.app, "domain": TRUST_DOMAIN,
            "caller": self.authority.leaf("caller"), "echo": self.authority.leaf("echo")}
        return filled(CONFIGS / file, self.processes.folder / f"{name}-{file}", values)

    def pair(self, name, argv):
        """Starts both sides, the inbound one first; `argv(side, ports)` is a side's command."""
        ports = {side: free_port() for side in SIDES}
        proxies = {side: self.processes.spawn(f"{name}-{side}", argv(side, ports), ports[side])
                   for side in reversed(SIDES)}
        return Pair(ports["outbound"], ports["inbound"], {side: proxies[side] for side in SIDES})


def filled(template, path, values):
    """Writes a config to `path` with its places filled in."""
    path.write_text(string.Template(template.read_text().replace("${...}", "$${...}")).substitute(values))
    return str(path)


def direct(site, _name):
    return Pair(site.app, site.app)


def minimal(example):
    """A pair of our own, without a config: `example SIDE LISTEN NEXT CERTIFICATES`."""
    def start(site, name):
        def argv(side, ports):
            next_hop, leaf = (ports["inbound"], "caller") if side == "outbound" else (site.app, "echo")
            return [site.example(example), side, address(ports[side]), address(next_hop),
                    str(site.authority.leaf(leaf))]
        return site.pair(name, argv)
    return start


def outrigger(workers):
    def start(site, name):
        return site.pair(name, lambda side, ports: [
            site.program("outrigger"), "run", "--config",
            site.config(f"outrigger-{side}.toml", name, ports, workers=workers,
                        admin=free_port(), spare=free_port())])
    return start


def envoy(site, name):
    program = brought("envoy")
    return site.pair(name, lambda side, ports: [
        program, "-c", site.config(f"envoy-{side}.yaml", name, ports), "--concurrency", "1",
        "--disable-hot-restart", "--log-level", "warning"])


def haproxy(site, name):
    program = brought("haproxy")
    # -db: in the foreground, one process.
    return site.pair(name, lambda side, ports: [
        program, "-db", "-q", "-f", site.config(f"haproxy-{side}.cfg", name, ports)])


PEERS = [
    Peer("direct", direct),
    Peer("tunnel", minimal("tunnel")),
    Peer("floor", minimal("floor")),
    Peer("outrigger", outrigger(1)),
    Peer("haproxy", haproxy, needs="haproxy"),
    Peer("envoy", envoy, needs="envoy"),
]


def with_workers(counts):
    """One sidecar pair for each number of workers; that with one is plain `outrigger`."""
    return [Peer("outrigger" if n == 1 else f"outrigger-{n}", outrigger(n)) for n in counts]
