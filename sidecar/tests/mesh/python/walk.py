"""A plain Python client: stubs from .proto files, one port, the service's name as authority.

walk.py PORT OUT PROTO_DIR...: prints what each call returned, one JSON object a line.
"""

import importlib
import json
import os
import sys

import grpc
from google.protobuf.json_format import MessageToDict
from grpc_tools import protoc

port, out, *folders = sys.argv[1:]
well_known = os.path.join(os.path.dirname(protoc.__file__), "_proto")
files = [f"{name}/v1/{name}.proto" for name in ("user", "product", "order")]
includes = [f"-I{folder}" for folder in [*folders, well_known]]
if protoc.main(["protoc", *includes, f"--python_out={out}", f"--grpc_python_out={out}", *files]):
    sys.exit("the stubs could not be made")
sys.path.insert(0, out)


def stub(name):
    options = [("grpc.default_authority", f"{name}-service")]
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
    services = importlib.import_module(f"{name}.v1.{name}_pb2_grpc")
    messages = importlib.import_module(f"{name}.v1.{name}_pb2")
    return getattr(services, f"{name.capitalize()}ServiceStub")(channel), messages


def tell(call, request):
    try:
        answer = MessageToDict(call(request, timeout=20))
    except grpc.RpcError as error:
        answer = {"code": error.code().name, "message": error.details()}
    print(json.dumps(answer), flush=True)


users, user = stub("user")
products, product = stub("product")
orders, order = stub("order")
tell(users.CreateUser, user.CreateUserRequest(email="ada@example.com", name="Ada", role=1))
tell(products.CreateProduct, product.CreateProductRequest(name="Lamp", price=19.99))
tell(orders.CreateOrder, order.CreateOrderRequest(user_id="1", product_id="1", quantity=2))
tell(orders.CreateOrder, order.CreateOrderRequest(user_id="404", product_id="1", quantity=1))
