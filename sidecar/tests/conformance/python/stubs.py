"""The stubs of echo.proto, made into a folder that goes with the program."""

import os
import sys
import tempfile

from grpc_tools import protoc

_made = tempfile.TemporaryDirectory()
_here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
if protoc.main(["protoc", f"-I{_here}", f"--python_out={_made.name}",
                f"--grpc_python_out={_made.name}", "echo/v1/echo.proto"]):
    sys.exit("the stubs could not be made")
sys.path.insert(0, _made.name)

from echo.v1 import echo_pb2 as messages  # noqa: E402
from echo.v1 import echo_pb2_grpc as services  # noqa: E402

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
