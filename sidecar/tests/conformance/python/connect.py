"""Stands between Connect's conformance runner and the program that it tests, and leads the calls to
a sidecar's port instead: connect.py server|client PORT PROGRAM [ARGUMENT...].

The runner talks over standard input and output, in messages with their length before them. The
port is a field of the last of them, and a field that is given twice has its last value: so the
port is appended.
"""

import ctypes
import shutil
import signal
import struct
import subprocess
import sys

SERVER_COMPAT_RESPONSE_PORT = 2
CLIENT_COMPAT_REQUEST_PORT = 7


def ends_with_its_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def varint(number):
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def lead(source, sink, field):
    """Passes one message on, its port replaced. False at the end."""
    length = source.read(4)
    if len(length) < 4:
        return False
    message = source.read(*struct.unpack(">I", length)) + varint(field << 3) + varint(port)
    sink.write(struct.pack(">I", len(message)) + message)
    sink.flush()
    return True


ends_with_its_parent()
mode, port, program = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
pipe = {"server": {"stdout": subprocess.PIPE}, "client": {"stdin": subprocess.PIPE}}[mode]
with subprocess.Popen(program, preexec_fn=ends_with_its_parent, **pipe) as process:
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    if mode == "server":
        lead(process.stdout, sys.stdout.buffer, SERVER_COMPAT_RESPONSE_PORT)
        sys.stdout.flush()
        shutil.copyfileobj(process.stdout, sys.stdout.buffer)
    else:
        while lead(sys.stdin.buffer, process.stdin, CLIENT_COMPAT_REQUEST_PORT):
            pass
        process.stdin.close()
sys.exit(process.returncode)
