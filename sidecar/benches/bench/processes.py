"""The processes of one run: started, watched and ended, and what each has used of the machine.

All of them end with the run, however it ends.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
BRING = ROOT / "sidecar" / "tests" / "peers" / "bring"


class Refused(Exception):
    """Why the run cannot go on, in words for whoever started it."""


def address(port):
    return f"127.0.0.1:{port}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def need(program, package):
    if shutil.which(program) is None:
        raise Refused(f"{program} is missing: install the Debian package {package}, or put it on the PATH")


def brought(name):
    """The path of a program that `tests/peers/bring` brings."""
    done = subprocess.run([str(BRING), name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(f"{name} is missing, and {BRING.relative_to(ROOT)} cannot bring it:\n{done.stderr.strip()}")
    return done.stdout.strip()


def need_h2load():
    """Finds h2load, and nghttp beside it, or has them brought."""
    if shutil.which("h2load") is None or shutil.which("nghttp") is None:
        os.environ["PATH"] += os.pathsep + str(Path(brought("h2load")).resolve().parent)
    need("nghttp", "nghttp2-client")


def output(argv, what):
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise Refused(f"{what} failed: {' '.join(argv)}\n{said}")
    return done.stdout


class Processes:
    """What was started, with its logs in `folder`."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def start(self, name, argv, stdout=None):
        """Starts a process; what it says is added to its log."""
        # A sidecar reads OUTRIGGER_* as config: what is measured is what peers/ says.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("OUTRIGGER_")}
        with self.log(name).open("ab") as sink:
            process = subprocess.Popen(argv, stdout=stdout or sink, stderr=sink, env=environment,
                                       start_new_session=True)
        self.running.append(process)
        return process

    def log(self, name):
        return self.folder / f"{name}.log"

    def spawn(self, name, argv, port):
        """Starts a process and waits until it listens on `port`."""
        log, process = self.log(name), self.start(name, argv)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise Refused(f"{name} ended with {process.returncode} before it listened on {address(port)}:\n"
                              f"{log.read_text(errors='replace')}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            time.sleep(0.02)
        raise Refused(f"{name} does not listen on {address(port)} after 20 s:\n{log.read_text(errors='replace')}")

    def logs(self, prefix):
        return "".join(f"--- {log.name}\n{log.read_text(errors='replace')}"
                       for log in sorted(self.folder.glob(f"{prefix}-*.log")))

    def stop(self, processes=None):
        ended = list(self.running if processes is None else processes)
        for process in ended:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        for process in ended:
            process.wait()
        self.running = [process for process in self.running if process not in ended]


def cpu_time(process):
    """Seconds of CPU, user and system, that a process has used, its ended threads too."""
    # The clock that clock_getcpuclockid(3) names: in ns, where /proc/PID/stat counts in 10 ms.
    return time.clock_gettime((~process.pid << 3) | 2)


def worker_times(process):
    """Seconds of CPU of each thread that is called a worker."""
    found = {}
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("worker-"):
            found[name] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def resident(process):
    """MB of memory in use."""
    return status(process, "VmRSS")


def peak(process):
    """MB of memory in use at the most since `forget_peak`."""
    return status(process, "VmHWM")


def forget_peak(process):
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM


def status(process, key):
    for text in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if text.startswith(f"{key}:"):
            return int(text.split()[1]) / 1024
    return 0.0


def machine():
    cpu = next((text.split(":", 1)[1].strip() for text in Path("/proc/cpuinfo").read_text().splitlines()
                if text.startswith("model name")), os.uname().machine)
    return f"{cpu}, {os.cpu_count()} cores, {os.uname().sysname} {os.uname().release}"
