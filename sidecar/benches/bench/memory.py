"""What each pair needs of memory: at rest, for a stream of 1 GiB each way, for connections that idle.

Each figure is of a fresh pair, so that no load before it is counted.
"""

import resource
import socket
import ssl
import subprocess

from .load import ROWS
from .processes import Refused, address, forget_peak, peak, resident

GIB = 1 << 30
CALLS = 100_000
PATIENCE = 120  # seconds for the stream: some proxies stall when both ways are full


def measure(site, load, peer, connections):
    """MB by side: at rest, the peak of the stream (why not, where it failed), the growth by idle connections."""
    return {
        "rest": fresh(site, load, peer, resting),
        "stream": fresh(site, load, peer, streaming),
        "idle": fresh(site, load, peer, lambda site, pair: idling(site, pair, connections)),
    }


def fresh(site, load, peer, figure):
    pair = peer.start(site, peer.name)
    try:
        load.check(peer.name, ROWS[0], pair.outbound)
        return figure(site, pair)
    except (OSError, Refused) as error:
        raise Refused(f"{peer.name}: {error}\n{site.processes.logs(peer.name)}") from error
    finally:
        site.processes.stop(pair.proxies.values())


def resting(_site, pair):
    return {side: resident(process) for side, process in pair.proxies.items()}


def streaming(site, pair):
    for process in pair.proxies.values():
        forget_peak(process)
    argv = [site.example("caller"), address(pair.outbound), str(GIB)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"it did not end within {PATIENCE} s"
    if done.returncode != 0:
        return done.stderr.strip()
    return {side: peak(process) for side, process in pair.proxies.items()}


def idling(site, pair, connections):
    """Every connection has carried one call before it idles; those to the inbound side are mutual TLS."""
    found, leaf = {}, site.authority.leaf("caller")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.load_verify_locations(leaf / "roots.pem")
    tls.load_cert_chain(leaf / "cert.pem", leaf / "key.pem")
    tls.set_alpn_protocols(["h2"])
    # Inbound first: a tunnel opens a connection there for each on the outbound side.
    for side, process in reversed(pair.proxies.items()):
        before, idle = resident(process), []
        try:
            for _ in range(connections):
                if side == "outbound":
                    idle.append(socket.create_connection(("127.0.0.1", pair.outbound), timeout=10))
                else:
                    plain = socket.create_connection(("127.0.0.1", pair.inbound), timeout=10)
                    idle.append(tls.wrap_socket(plain, server_hostname="echo"))
                one_call(idle[-1], side)
            found[side] = resident(process) - before
        finally:
            for connection in idle:
                connection.close()
    return found


def room_for(connections):
    """Lets this process and those that it starts open so many sockets, and as many again onward."""
    wanted = 2 * connections + 200
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < wanted:
        raise Refused(f"{connections} idle connections need {wanted} open files and {most} are allowed: "
                      f"raise the limit (ulimit -Hn) or lower --idle")
    soft = max(wanted, min(65536, most if most != resource.RLIM_INFINITY else 65536))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))


def one_call(connection, side):
    """An echo over HTTP/2, written by hand: frames of RFC 9113, header fields of RFC 7541 as literals."""
    row = ROWS[0]
    text = lambda value: bytes([len(value)]) + value.encode()
    fields = (b"\x83" + (b"\x86" if side == "outbound" else b"\x87")  # POST; http, https
              + b"\x04" + text(row.path()) + b"\x01" + text("echo")  # :path, :authority
              + b"\x0f\x10" + text("application/grpc") + b"\x00" + text("te") + text("trailers"))
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
                       + frame(1, 4, 1, fields) + frame(0, 1, 1, row.body()))
    answer, ended = b"", False
    stream = connection.makefile("rb")
    while not ended:
        head = stream.read(9)
        if len(head) < 9:
            raise Refused(f"the {side} side closed a connection in the middle of a call")
        kind, flags = head[3], head[4]
        payload = stream.read(int.from_bytes(head[:3], "big"))
        if kind == 4 and not flags & 1:
            connection.sendall(frame(4, 1, 0, b""))
        if kind == 0:
            answer += payload
        if kind in (3, 7):
            raise Refused(f"the {side} side ended a call with a frame of type {kind}: {payload!r}")
        ended = kind in (0, 1) and bool(flags & 1)
    if answer != row.expected():
        raise Refused(f"the {side} side answered {answer[:80]!r}, not the message that was sent")


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
