"""What a plain grpcio client relies on: client.py PORT AUTHORITY.

One JSON line a fact: {"fact": what, "fault": null or why it does not hold}.
"""

import json
import os
import queue
import sys
import time
import traceback
from concurrent import futures

import grpc

from stubs import UNLIMITED, messages, services

port, authority = sys.argv[1:]
options = [("grpc.default_authority", authority), *UNLIMITED]
channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
echo = services.EchoServiceStub(channel)
Ask = messages.Ask
SOON = 60  # seconds, for what is sure to come
MIB = 1024 * 1024
BINARY = bytes(range(256))
facts = []


def fact(check):
    facts.append(check)
    return check


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"found {found!r:.300}, expected {expected!r:.300}")


def fails(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call went well")


def until(what, ask):
    deadline = time.monotonic() + SOON
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.01)
    return answer


def held(token, field):
    """Asks until the app says that the call with this token has begun, or was cancelled."""
    def ask():
        answer = echo.Held(Ask(data=token), timeout=SOON)
        return answer if getattr(answer, field) else None
    return until(f"the held call is {field}", ask)


@fact
def unary_calls_come_back():
    for data in (b"", b"x", BINARY):
        equal(echo.Once(Ask(data=data), timeout=SOON).data, data)


@fact
def a_client_stream_arrives_whole():
    asks = [Ask(data=bytes(n)) for n in range(300)]
    answer = echo.Gather(iter(asks), timeout=SOON)
    equal((answer.count, answer.bytes), (300, sum(range(300))))
    equal(echo.Gather(iter([]), timeout=SOON).count, 0)


@fact
def a_server_stream_arrives_whole_and_in_order():
    answers = list(echo.Spread(Ask(answers=300, size=1000), timeout=SOON))
    equal([answer.count for answer in answers], list(range(300)))
    equal({len(answer.data) for answer in answers}, {1000})
    equal(list(echo.Spread(Ask(), timeout=SOON)), [])


@fact
def each_answer_comes_while_the_stream_is_open():
    asks = queue.Queue()
    answers = echo.Talk(iter(asks.get, None), timeout=SOON)
    for n in range(100):
        asks.put(Ask(data=b"%d" % n))
        equal(next(answers).data, b"%d" % n)
    asks.put(None)
    equal(next(answers, "the end"), "the end")


@fact
def sixteen_mebibytes_go_each_way_whole():
    data = os.urandom(16 * MIB)
    equal(echo.Once(Ask(data=data), timeout=SOON).data == data, True)
    large = Ask(data=data)
    equal([answer.data == data for answer in echo.Talk(iter([large, large]), timeout=SOON)], [True] * 2)


@fact
def compressed_messages_are_carried_each_way():
    gzip = grpc.Compression.Gzip
    data = BINARY * 4096
    equal(echo.Once(Ask(data=data, compress=True), timeout=SOON, compression=gzip).data, data)
    asks = [Ask(data=data, compress=True)] * 20
    equal(echo.Gather(iter(asks), timeout=SOON, compression=gzip).bytes, 20 * len(data))
    spread = echo.Spread(Ask(answers=20, size=MIB, compress=True), timeout=SOON, compression=gzip)
    equal(sum(len(answer.data) for answer in spread), 20 * MIB)


def told(metadata, prefix):
    """The x- part of metadata by key; values of one key in text are a list with commas (RFC 9110)."""
    found = {}
    for key, value in metadata:
        if key.startswith(prefix):
            found.setdefault(key.removeprefix(prefix), []).append(value)
    return {key: values if key.endswith("-bin") else ", ".join(values) for key, values in found.items()}


@fact
def binary_metadata_crosses_unharmed():
    given = [("x-text", "plain"), ("x-many", "a"), ("x-many", "b, c"), ("x-one-bin", BINARY),
             ("x-many-bin", b"\0"), ("x-many-bin", b"\xff\xfe"), ("x-empty-bin", b"")]
    _, call = echo.Once.with_call(Ask(), timeout=SOON, metadata=given)
    trailing = [pair for pair in call.trailing_metadata() if pair[0].startswith("x-trailer-")]
    equal(told(call.initial_metadata(), "x-"), told(given, "x-"))
    equal(told(trailing, "x-trailer-"), told(given, "x-"))


@fact
def every_status_comes_with_its_message_and_metadata():
    message = "\t не найдено ☺\r\n 100 %"
    for code in range(1, 17):
        error = fails(lambda: echo.Once(Ask(code=code, message=message), timeout=SOON,
                                        metadata=[("x-one-bin", BINARY)]))
        equal((error.code().value[0], error.details()), (code, message))
        equal(dict(error.trailing_metadata())["x-trailer-one-bin"], BINARY)


@fact
def a_status_after_messages_comes_after_them():
    answers = echo.Spread(Ask(answers=3, size=10, code=9, message="enough"), timeout=SOON)
    equal([next(answers).count for _ in range(3)], [0, 1, 2])
    error = fails(lambda: next(answers))
    equal((error.code(), error.details()), (grpc.StatusCode.FAILED_PRECONDITION, "enough"))


@fact
def what_the_app_does_not_know_is_unimplemented():
    for path in ("/echo.v1.EchoService/Nothing", "/nothing.v1.Service/Nothing"):
        error = fails(lambda: channel.unary_unary(path)(b"", timeout=SOON))
        equal(error.code(), grpc.StatusCode.UNIMPLEMENTED)


@fact
def a_cancelled_call_is_cancelled_in_the_app():
    calls = {
        b"once": lambda ask: echo.Once.future(ask, timeout=SOON),
        b"gather": lambda ask: echo.Gather.future(iter([ask]), timeout=SOON),
        b"spread": lambda ask: echo.Spread(ask, timeout=SOON),
        b"talk": lambda ask: echo.Talk(iter([ask]), timeout=SOON),
    }
    for name, call in calls.items():
        token = name + os.urandom(8)
        ongoing = call(Ask(data=token, hold=True))
        held(token, "begun")
        ongoing.cancel()
        held(token, "cancelled")


@fact
def a_stream_is_cancelled_between_its_answers():
    answers = echo.Spread(Ask(answers=100_000, size=1000), timeout=SOON)
    equal([next(answers).count for _ in range(3)], [0, 1, 2])
    answers.cancel()
    equal(fails(lambda: [*answers]).code(), grpc.StatusCode.CANCELLED)


@fact
def a_deadline_ends_the_call_on_both_sides():
    token = os.urandom(8)
    begun = time.monotonic()
    error = fails(lambda: echo.Once(Ask(data=token, hold=True), timeout=1.5))
    equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    equal(1.4 < time.monotonic() - begun < 20, True)
    told = held(token, "cancelled").seconds
    # gRPC's core rounds a timeout up.
    if not 0 < told <= 1.6:
        raise AssertionError(f"the app was told of {told} s")


@fact
def many_calls_at_a_time_on_one_connection():
    asks = [Ask(data=os.urandom(10_000), size=n * 1000) for n in range(100)]
    answers = [echo.Once.future(ask, timeout=SOON) for ask in asks]
    for ask, answer in zip(asks, answers):
        equal(answer.result().data == ask.data + bytes(ask.size), True)


# At the same time, as callers are: none may stand in another's way.
def run(check):
    try:
        check()
        fault = None
    except Exception as error:  # every fault is one to report
        fault = f"{error!r}\n{traceback.format_exc(limit=-3)}"
    return json.dumps({"fact": check.__name__, "fault": fault})


with futures.ThreadPoolExecutor(max_workers=len(facts)) as pool:
    for line in pool.map(run, facts):
        print(line, flush=True)
