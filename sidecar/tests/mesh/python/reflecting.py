"""A grpcio server with reflection: the user service, of which no method does anything.

reflecting.py PORT OUT PROTO_DIR
"""

import importlib
import os
import sys
from concurrent import futures

import grpc
from grpc_reflection.v1alpha import reflection
from grpc_tools import protoc

port, out, folder = sys.argv[1:]
well_known = os.path.join(os.path.dirname(protoc.__file__), "_proto")
if protoc.main(["protoc", f"-I{folder}", f"-I{well_known}", f"--python_out={out}",
                f"--grpc_python_out={out}", "user/v1/user.proto"]):
    sys.exit("the stubs could not be made")
sys.path.insert(0, out)

messages = importlib.import_module("user.v1.user_pb2")
services = importlib.import_module("user.v1.user_pb2_grpc")

server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
services.add_UserServiceServicer_to_server(services.UserServiceServicer(), server)
name = messages.DESCRIPTOR.services_by_name["UserService"].full_name
reflection.enable_server_reflection((name, reflection.SERVICE_NAME), server)
if not server.add_insecure_port(f"127.0.0.1:{port}"):
    sys.exit("the port is taken")
server.start()
print("listening", flush=True)
server.wait_for_termination()
