"""The echo service on grpcio: app.py PORT. Says "listening" when it does."""

import collections
import sys
import threading
from concurrent import futures

import grpc

from stubs import UNLIMITED, messages, services


class Echo(services.EchoServiceServicer):
    def __init__(self):
        self.lock = threading.Lock()
        self.begun = collections.Counter()
        self.cancelled = collections.Counter()
        self.seconds = {}

    def greet(self, context):
        """Metadata of the caller's that begins with x- comes back, before the answers and after."""
        given = [pair for pair in context.invocation_metadata() if pair[0].startswith("x-")]
        context.send_initial_metadata(given)
        context.set_trailing_metadata([(f"x-trailer-{key[2:]}", value) for key, value in given])

    def obey(self, ask, context):
        if ask.hold:
            self.hold(ask, context)
        if ask.code:
            code = next(code for code in grpc.StatusCode if code.value[0] == ask.code)
            context.abort(code, ask.message)

    def hold(self, ask, context):
        ended = threading.Event()
        if context.add_callback(ended.set):
            with self.lock:
                self.begun[ask.data] += 1
                self.seconds[ask.data] = context.time_remaining() or 0
            ended.wait()
        with self.lock:
            self.cancelled[ask.data] += 1
        context.abort(grpc.StatusCode.CANCELLED, "held until it was cancelled")

    def Once(self, ask, context):
        if ask.compress:
            context.set_compression(grpc.Compression.Gzip)
        self.greet(context)
        self.obey(ask, context)
        return messages.Answer(data=ask.data + bytes(ask.size))

    def Gather(self, asks, context):
        self.greet(context)
        answer = messages.Answer()
        for ask in asks:
            self.obey(ask, context)
            answer.count += 1
            answer.bytes += len(ask.data)
        return answer

    def Spread(self, ask, context):
        if ask.compress:
            context.set_compression(grpc.Compression.Gzip)
        self.greet(context)
        for count in range(ask.answers):
            yield messages.Answer(data=bytes(ask.size), count=count)
        self.obey(ask, context)

    def Talk(self, asks, context):
        self.greet(context)
        for count, ask in enumerate(asks):
            self.obey(ask, context)
            yield messages.Answer(data=ask.data + bytes(ask.size), count=count)

    def Held(self, ask, context):
        with self.lock:
            return messages.HeldAnswer(begun=self.begun[ask.data], cancelled=self.cancelled[ask.data],
                                       seconds=self.seconds.get(ask.data, 0))


server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=UNLIMITED)
services.add_EchoServiceServicer_to_server(Echo(), server)
if not server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}"):
    sys.exit("the port is taken")
server.start()
print("listening", flush=True)
server.wait_for_termination()
