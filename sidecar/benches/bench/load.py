"""The rows of the benchmark, and h2load behind each. To add a row, write a line in ROWS.

No call is taken on trust: another client compares the answer byte for byte before and after each
row, and a round in which one call failed, or one byte of the answers is missing, ends the run.
"""

import subprocess
import time
from dataclasses import dataclass
from typing import Optional

from .processes import Refused, address, output

METHOD = "/echo.v1.EchoService/Echo"


@dataclass(frozen=True)
class Row:
    """One load. `answer` is the size of the answer's message; None: the request's own, echoed."""
    key: str
    name: str
    connections: int
    streams: int
    message: int = 100
    answer: Optional[int] = None
    rate: Optional[int] = None  # requests a second over all connections; None: as fast as it goes

    def path(self):
        return METHOD if self.answer is None else f"{METHOD}/{self.answer}"

    def body(self):
        # Field 1 as bytes, behind gRPC's prefix of five bytes.
        payload = bytes(i * 7 % 256 for i in range(self.message - 2))
        message = b"\x0a" + bytes([len(payload)]) + payload
        assert len(payload) < 128, "longer messages need a longer varint"
        return b"\0" + len(message).to_bytes(4, "big") + message

    def expected(self):
        if self.answer is None:
            return self.body()
        return b"\0" + self.answer.to_bytes(4, "big") + bytes(self.answer)


ROWS = [
    Row("10x10", "10 connections x 10 streams", connections=10, streams=10),
    Row("50x1", "50 connections x 1 stream", connections=50, streams=1),
    Row("sequential", "sequential: 1 connection x 1 stream", connections=1, streams=1),
    Row("64k", "64 KiB answers, 10 connections x 10 streams", connections=10, streams=10, answer=65536),
    Row("16x10", "16 connections x 10 streams", connections=16, streams=10),
    Row("steady", "2,000 requests a second over 10 connections", connections=10, streams=10, rate=2000),
]


@dataclass
class Round:
    """What h2load saw."""
    rate: float
    latency: list  # of each call, in us, ascending

    def percentile(self, per_mille):
        return self.latency[min(len(self.latency) - 1, len(self.latency) * per_mille // 1000)]


class Load:
    """Sends the rows' requests; its files are in the processes' folder."""

    def __init__(self, processes):
        self.processes = processes

    def arguments(self, row, port):
        body = self.processes.folder / f"{row.key}.grpc"
        if not body.exists():
            body.write_bytes(row.body())
        return ["-d", str(body), "-H", ":authority: echo", "-H", "content-type: application/grpc",
                "-H", "te: trailers", "-H", "user-agent: grpc-bench/1.0", f"http://{address(port)}{row.path()}"]

    def check(self, name, row, port):
        """One call by another client: the message comes back byte for byte, with its trailer."""
        deadline = time.monotonic() + 10
        while True:
            found = subprocess.run(["nghttp", *self.arguments(row, port)], capture_output=True, check=False)
            if found.stdout == row.expected():
                break
            # A pair may listen before it has met its other half.
            if time.monotonic() > deadline:
                raise Refused(f"{name}: the answer is not the message that was expected: {len(found.stdout)} "
                              f"bytes instead of {len(row.expected())}: {found.stdout[:80]!r}\n"
                              f"{found.stderr.decode(errors='replace')}{self.processes.logs(name)}")
            time.sleep(0.1)
        said = output(["nghttp", "-v", *self.arguments(row, port)], "a call").decode(errors="replace")
        if "grpc-status: 0" not in said:
            raise Refused(f"{name}: the answer has no trailer grpc-status: 0\n{said}")

    def round(self, name, row, port, requests):
        """Every call must have succeeded and every byte have come back."""
        times = self.processes.folder / "times"
        times.unlink(missing_ok=True)
        argv = ["h2load", "-t", "1", "-c", str(row.connections), "-m", str(row.streams), "-n", str(requests),
                f"--log-file={times}"]
        if row.rate:
            argv.append(f"--rps={row.rate // row.connections}")
        said = output(argv + self.arguments(row, port), "h2load").decode()
        line = {text.split(":")[0]: text for text in said.splitlines() if ":" in text}
        try:
            counts = {word: int(count) for count, word in
                      (pair.split() for pair in line["requests"].split(":")[1].split(","))}
            data = int(line["traffic"].rsplit("(", 1)[1].split(")")[0])
            rate = float(next(text for text in said.splitlines() if text.startswith("finished in")).split()[3])
        except (KeyError, ValueError, StopIteration, IndexError) as error:
            raise Refused(f"h2load's report is not understood ({error}):\n{said}") from error
        if counts["succeeded"] != requests or "0 3xx, 0 4xx, 0 5xx" not in line["status codes"]:
            raise Refused(f"{name}: calls failed:\n{said}{self.processes.logs(name)}")
        if data != requests * len(row.expected()):
            raise Refused(f"{name}: {data} bytes of answers instead of {requests * len(row.expected())}:\n{said}")
        return Round(rate, sorted(int(text.split()[2]) for text in times.read_text().splitlines()))
