"""What plain HTTP/1.1 clients rely on: web.py PORT. One JSON line a fact, as client.py says."""

import http.client
import json
import os
import socket
import sys
import time
import traceback

port = int(sys.argv[1])
SOON = 60  # seconds, for what is sure to come
MIB = 1024 * 1024
facts = []


def fact(check):
    facts.append(check)
    return check


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"found {found!r:.300}, expected {expected!r:.300}")


def connection():
    return http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)


def ask(client, method, target, body=None, headers={}, **more):
    client.request(method, target, body, {"Host": "web", **headers}, **more)
    answer = client.getresponse()
    return answer, answer.read()


def asked(method, target, body=None, headers={}, **more):
    return ask(connection(), method, target, body, headers, **more)


def counts():
    return json.loads(asked("GET", "/counts")[1])


def raw(request, end=False):
    """All that is said to these bytes until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), SOON) as stream:
        stream.sendall(request)
        if end:
            stream.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while more := stream.recv(65536):
                said += more
        except ConnectionResetError:
            pass
        return said


@fact
def many_requests_go_over_one_connection():
    client = connection()
    client.connect()
    stream = client.sock
    for n in range(100):
        answer, body = ask(client, "POST", "/echo", b"%d" % n)
        equal((answer.status, answer.version, body), (200, 11, b"%d" % n))
    equal(client.sock is stream, True)


@fact
def many_callers_share_few_connections_to_the_app():
    before = counts()["connections"]
    for _ in range(50):
        asked("GET", "/seen")
    if counts()["connections"] - before > 25:
        raise AssertionError("the app's connections are not used again")


@fact
def bodies_go_whole_each_way_in_either_framing():
    for size in (0, 1, 100_000, 16 * MIB):
        data = os.urandom(size)
        answer, body = asked("POST", "/keep", data)
        equal((answer.getheader("content-length"), body == data), (str(size), True))
        parts = [data[at:at + 70_000] for at in range(0, size, 70_000)]
        answer, body = asked("POST", "/keep", iter(parts), encode_chunked=True,
                             headers={"Transfer-Encoding": "chunked"})
        equal(body == data, True)


@fact
def a_part_comes_when_it_was_sent():
    client = connection()
    client.request("GET", "/drip", headers={"Host": "web"})
    answer = client.getresponse()
    equal(answer.read(5), b"first")
    equal(asked("GET", "/more")[1], b"done")
    equal(answer.read(), b"second")


@fact
def answers_without_a_body_have_none_and_the_connection_goes_on():
    client = connection()
    for method, target, status in (("GET", "/status/204", 204), ("GET", "/status/304", 304),
                                   ("HEAD", "/seen", 200), ("HEAD", "/cookies", 200)):
        answer, body = ask(client, method, target)
        equal((answer.status, body), (status, b""))
    for status in (200, 201, 301, 400, 404, 418, 429, 500, 503):
        answer, body = ask(client, "GET", f"/status/{status}")
        equal((answer.status, body), (status, b""))


@fact
def what_was_asked_is_what_the_app_sees():
    target = "/seen?a=%2F&b=%20+&c=a,b&d=[x]"
    answer, body = asked("PATCH", target, b"x", headers={
        "X-Text": "caf\xe9", "X-Empty": "", "Cookie": "a=1; b=2", "Authorization": "Basic eDp5",
        "Connection": "keep-alive, x-hop", "X-Hop": "only here", "Te": "trailers"})
    seen = json.loads(body)
    names = [name.lower() for name in seen["headers"][::2]]
    headers = dict(zip(names, seen["headers"][1::2]))
    equal((seen["method"], seen["target"]), ("PATCH", target))
    # What an app on HTTP/2 sees of it.
    headers.setdefault("host", headers.get(":authority"))
    equal([headers[name] for name in ("host", "x-text", "x-empty", "cookie", "authorization")],
          ["web", "caf\xe9", "", "a=1; b=2", "Basic eDp5"])
    equal("x-hop" in headers, False)


@fact
def each_cookie_stays_a_field_of_its_own():
    answer, _ = asked("GET", "/cookies")
    equal(answer.headers.get_all("set-cookie"), ["a=1; Path=/", "b=2, with a comma"])


@fact
def a_caller_that_expects_100_is_told_to_go_on():
    with socket.create_connection(("127.0.0.1", port), SOON) as stream:
        stream.sendall(b"POST /keep HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n"
                       b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        lines = stream.makefile("rb")
        equal(lines.readline(), b"HTTP/1.1 100 Continue\r\n")
        equal(lines.readline(), b"\r\n")
        stream.sendall(b"body")
        equal(lines.read().endswith(b"body"), True)


@fact
def an_answer_may_come_before_the_body():
    # More than any buffer on the way holds, of which nothing is read.
    said = raw(b"POST /early HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\n" + bytes(1000))
    equal(said.startswith(b"HTTP/1.1 413 "), True)


@fact
def a_final_answer_comes_after_hints():
    answer, body = asked("GET", "/hints")
    equal((answer.status, body), (200, b"after the hints"))


@fact
def trailers_cross_both_ways():
    said = raw(b"GET /trailers HTTP/1.1\r\nHost: web\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n")
    equal(b"\r\nx-after: all\r\n" in said.split(b"\r\n\r\n", 1)[1].lower(), True)
    said = raw(b"POST /seen HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n"
               b"Connection: close\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n")
    equal(b'"trailers":["x-sum","7"]' in said.lower(), True)


@fact
def pipelined_requests_are_answered_in_order():
    said = raw(b"".join(b"POST /echo HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\n\r\nbody-%d" % n
                        for n in range(5)) + b"GET /close HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
    places = [said.find(b"body-%d" % n) for n in range(5)] + [said.find(b"the last on this")]
    equal((min(places) > 0, places), (True, sorted(places)))


@fact
def a_caller_of_http_1_0_is_answered():
    said = raw(b"POST /keep HTTP/1.0\r\nHost: web\r\nContent-Length: 4\r\n\r\nbody")
    equal((said[:13], said[-8:]), (b"HTTP/1.0 200 ", b"\r\n\r\nbody"))
    said = raw(b"GET /trailers HTTP/1.0\r\nHost: web\r\n\r\n")
    equal((b"chunked" in said.lower(), said.endswith(b"\r\n\r\nbody")), (False, True))


@fact
def an_app_that_closes_its_connections_is_called_again():
    for _ in range(20):
        equal(asked("GET", "/close")[1], b"the last on this connection")


@fact
def an_upgrade_is_refused_in_words():
    answer, body = asked("GET", "/seen", headers={
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    equal((answer.status, "upgrade" in body.decode().lower()), (400, True))


@fact
def a_body_that_the_app_breaks_off_is_not_passed_for_whole():
    client = connection()
    client.request("GET", "/torn", headers={"Host": "web"})
    try:
        answer = client.getresponse()
        equal((answer.status, answer.read()[:9]), (502, b'{"error":'))
    except (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionResetError):
        pass


@fact
def a_caller_that_goes_away_is_seen_by_the_app():
    before = counts()["aborted"]
    with socket.create_connection(("127.0.0.1", port), SOON) as stream:
        stream.sendall(b"POST /echo HTTP/1.1\r\nHost: web\r\nContent-Length: 1000\r\n\r\npart")
        said = b""
        while b"part" not in said:
            said += stream.recv(65536)
    deadline = time.monotonic() + SOON
    while counts()["aborted"] == before:
        if time.monotonic() > deadline:
            raise AssertionError("the app never saw that its caller had gone")
        time.sleep(0.01)


SMUGGLED = b"GET /status/299 HTTP/1.1\r\nHost: web\r\n\r\n"


@fact
def what_could_be_read_in_two_ways_is_refused():
    post = b"POST /keep HTTP/1.1\r\nHost: web\r\n"
    for head in (
        b"Content-Length: 4\r\nContent-Length: 40\r\n",
        b"Content-Length: 4, 40\r\n",
        b"Content-Length: +4\r\n",
        b"Content-Length: 0x4\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"X-Folded: a\r\n  b\r\n",
        b"X-Nul: a\0b\r\n",
        b": nameless\r\n",
    ):
        said = raw(post + head + b"\r\n0\r\n\r\n" + SMUGGLED, end=True)
        if said and not said.startswith(b"HTTP/1.1 400 ") or b" 299 " in said:
            raise AssertionError(f"{head!r} was answered with {said!r:.300}")
    # Both framings: refused, or read by the chunks alone and nothing more on this connection.
    said = raw(post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, end=True)
    equal(said[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 200 ") and b" 299 " not in said, True)


@fact
def a_request_that_names_two_hosts_is_refused():
    said = raw(b"GET /seen HTTP/1.1\r\nHost: web\r\nHost: other\r\nConnection: close\r\n\r\n")
    equal(said[:13], b"HTTP/1.1 400 ")  # RFC 9112, 3.2


def run(check):
    try:
        check()
        fault = None
    except Exception as error:  # every fault is one to report
        fault = f"{error!r}\n{traceback.format_exc(limit=-3)}"
    return {"fact": check.__name__, "fault": fault}


for check in facts:
    print(json.dumps(run(check)), flush=True)
