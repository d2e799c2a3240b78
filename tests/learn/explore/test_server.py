"""The server of the explorer: what it answers, to whom, and what no request can do."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npattn.learn.explore import Page, build, entry, server, subjects
from npattn.learn.explore.saved import document
from npattn.learn.explore.server import HEADERS, Server


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


class Answer:
    def __init__(self, connection: HTTPConnection) -> None:
        found = connection.getresponse()
        self.status, self.headers, self.body = found.status, dict(found.getheaders()), found.read()
        connection.close()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(served: Server, method: str, path: str, body: Any = None, **headers: str | None) -> Answer:
    """Send a request as the page does; a header that is None is left out, and _ stands for - in its name."""
    connection = HTTPConnection("127.0.0.1", served.server_address[1], timeout=20)
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    size = None if data is None else str(len(data))
    given = {"Host": served.host, "Content_Length": size} | headers
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in given.items():
        if value is not None:
            connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(data)
    return Answer(connection)


def post(served: Server, action: str, body: Any, **headers: str | None) -> Answer:
    usual = {"Origin": f"http://{served.host}", "Content_Type": "application/json"}
    return ask(served, "POST", f"/{served.token}/{action}", body, **usual | headers)


def test_the_page_is_the_document(served: Server) -> None:
    answer = ask(served, "GET", f"/{served.token}/page?subject=v7")
    assert (answer.status, answer.body.decode()) == (200, document())
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert HEADERS.items() <= answer.headers.items() and answer.headers["Server"] == "npattn"
    assert HEADERS == {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "frame-ancestors 'none'; form-action 'none'",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    assert served.address == f"http://127.0.0.1:{served.server_address[1]}/{served.token}/page"
    assert served.socket.getsockname()[0] == "127.0.0.1"


def test_build_and_entry_are_those_of_python(served: Server) -> None:
    changes = {"numbers": {"X": {"0,0": 2.0}}, "switches": {"no_sqrt_D": True}}
    page = build("v4", changes)
    answer = post(served, "build", {"subject": "v4", "changes": changes})
    assert (answer.status, answer.json) == (200, page.as_dict())
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    body = {"subject": "v4", "changes": changes, "name": "E", "index": [0, 1]}
    assert post(served, "entry", body).json == entry(page, "E", [0, 1])
    assert post(served, "entry", body | {"is_gradient": True}).json == entry(page, "E", [0, 1], True)
    assert post(served, "build", {"subject": "v1"}).json == build("v1").as_dict()


def test_a_page_is_built_once_for_its_entries(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, bool]] = []

    def noted(subject: str, changes: Any) -> Page:
        calls.append((subject, served.turn.locked()))
        return build(subject, changes)

    monkeypatch.setattr(server, "build", noted)
    for index in ([0, 0], [0, 1]):
        changes = {"numbers": {"X": {"0,1": 0.5}}}
        post(served, "entry", {"subject": "v2", "changes": changes, "name": "X", "index": index})
    assert calls == [("v2", True)] and not served.turn.locked()


@pytest.mark.parametrize(("action", "body", "error"), [
    ("build", {"subject": "v99"}, "subject: expected one of v1, v2"),
    ("build", {"subject": "v4", "changes": {"numbers": {"X": {"0,9": 1}}}}, "numbers.X: expected an index into (2, 4)"),
    ("entry", {"subject": "v4", "name": "E"}, "index: expected an index into"),
    ("entry", {"subject": "v4", "name": "no", "index": [0]}, "name: expected one of Q, X"),
    ("build", {"subject": "embedding", "changes": {"numbers": {"ids": {"0": 3}}}}, "ids: expected ids from 0 to 2"),
    ("build", [], "expected an object with changes, subject"),
    ("build", {}, "expected an object with changes, subject"),
    ("build", {"subject": "v4", "name": "E"}, "expected an object with changes, subject"),
    ("entry", {"subject": "v4", "more": 1}, "expected an object with changes, index, is_gradient, name, subject"),
    ("build", b"", "Expecting value"), ("build", b"{", "Expecting property name"), ("build", b"\xff", "'utf-8' codec"),
    ("build", b"[" * 60000, "maximum recursion depth"),
])  # fmt: skip
def test_what_is_wrong_is_said(served: Server, action: str, body: Any, error: str) -> None:
    answer = post(served, action, body)
    assert answer.status == 400 and answer.json["error"].startswith(error)


def test_an_error_of_the_code_is_an_answer(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(subject: str, changes: Any) -> Any:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(server, "build", fail)
    answer = post(served, "build", {"subject": "v3", "changes": {"part": ""}})
    assert (answer.status, answer.json) == (500, {"error": "ZeroDivisionError: by zero"})


HERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(("headers", "status", "error"), [
    ({"Origin": None}, 403, "this address is not served"),
    ({"Origin": "null"}, 403, "this address is not served"),
    ({"Origin": "http://example.org"}, 403, "this address is not served"),
    ({"Origin": HERE}, 403, "this address is not served"),
    ({"Host": None}, 403, "this address is not served"),
    ({"Host": "example.org"}, 403, "this address is not served"),
    ({"Host": "localhost"}, 403, "this address is not served"),
    ({"Content_Type": "text/plain"}, 415, "expected application/json"),
    ({"Content_Type": None}, 415, "expected application/json"),
    ({"Content_Length": None}, 411, "expected Content-Length"),
    ({"Content_Length": "-1"}, 411, "expected Content-Length"),
    ({"Content_Length": "²"}, 411, "expected Content-Length"),
    ({"Content_Length": "65537"}, 413, "expected at most 65536 bytes"),
    ({"Content_Length": "9" * 5000}, 413, "expected at most 65536 bytes"),
])  # fmt: skip
def test_other_requests_are_refused(served: Server, headers: dict[str, str], status: int, error: str) -> None:
    answer = post(served, "build", None, **headers)
    assert (answer.status, answer.json) == (status, {"error": error})
    assert HEADERS.items() <= answer.headers.items()


def test_a_body_of_the_largest_size_is_read(served: Server) -> None:
    body = json.dumps({"subject": "v1"}).encode().ljust(65536)
    assert post(served, "build", body).status == 200


@pytest.mark.parametrize(("path", "headers", "status"), [
    ("/{token}", {}, 404), ("/", {}, 404), ("/page", {}, 404), ("/{token}x/page", {}, 404), ("/{token}/build", {}, 404),
    ("/{token}/../page", {}, 404), ("/ä/page", {}, 404),
    ("/{token}/page", {"Host": "example.org"}, 403), ("/{token}/page", {"Origin": "http://example.org"}, 403),
])  # fmt: skip
def test_other_pages_are_refused(served: Server, path: str, headers: dict[str, str], status: int) -> None:
    """With a sentence that leads to the page, without the secret."""
    answer = ask(served, "GET", path.format(token=served.token).replace("ä", "%C3%A4"), **headers)
    place = f"http://{served.host}/…/page"
    text = f"The page is not here. Open the whole address that the terminal shows: {place}"
    assert (answer.status, answer.body.decode()) == (status, text) and served.token not in text
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_a_wrong_token_gets_no_numbers(served: Server) -> None:
    answer = ask(served, "POST", "/x/build", {"subject": "v1"}, Origin=f"http://{served.host}")
    assert (answer.status, answer.json) == (404, {"error": "not found"})
    assert len(served.token) >= 40
    with Server() as other:
        assert other.token != served.token


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT"])
def test_only_get_and_post(served: Server, method: str) -> None:
    answer = ask(served, method, f"/{served.token}/page")
    assert answer.status == 501 and HEADERS.items() <= answer.headers.items()


def malformed(rng: np.random.Generator, served: Server) -> bytes:
    """Return a request that is wrong in one of many ways."""
    host, token = served.host, served.token
    noise = rng.bytes(int(rng.integers(1, 300)))
    post = f"POST /{token}/build HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
    post += "Content-Type: application/json\r\n"
    letters = list(b'{}[]":,0123456789.eE-"subject"v5changesnumbers\\u')
    body = bytes(rng.choice(letters, int(rng.integers(1, 200))).tolist())
    lines = "X: x\r\n" * 200
    kinds = (
        noise,
        noise + b"\r\n\r\n",
        b"GET /" + noise + b" HTTP/1.1\r\n\r\n",
        f"GET /{token[::-1]}/page HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(),
        f"GET /{token}/page HTTP/1.1\r\nHost: example.org\r\n\r\n".encode(),
        f"GET /{token}/page HTTP/1.1\r\nHost: {host}\r\nHost: example.org\r\n\r\n".encode(),
        f"GET /{token}/page HTTP/1.1\r\nHost: {host}\r\nX: {'x' * 70000}\r\n\r\n".encode(),
        f"GET /{token}/page HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode(),
        f"GET /{token}/page HTTP/9.9\r\nHost: {host}\r\n\r\n".encode(),
        f"GET /{'x' * 70000} HTTP/1.1\r\n\r\n".encode(),
        f"{post.replace(f'http://{host}', 'http://example.org')}Content-Length: 2\r\n\r\n{{}}".encode(),
        f"{post}Content-Length: 10\r\n\r\n{{}}".encode(),
        f"{post}Content-Length: {len(noise)}\r\n\r\n".encode() + noise,
        f"{post}Content-Length: {len(body)}\r\n\r\n".encode() + body,
        f"{post}Transfer-Encoding: chunked\r\n\r\nffff\r\n".encode(),
    )
    return kinds[int(rng.integers(len(kinds)))]


def test_a_thousand_malformed_requests_do_no_harm(
    served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng, place = np.random.default_rng(0), served.server_address
    for number in range(1000):
        with socket.create_connection(place, timeout=20) as client, contextlib.suppress(ConnectionError):
            client.sendall(malformed(rng, served))
            if number % 10 == 0:
                continue                                      # the reader hangs up
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
            assert b" 200 " not in answer.partition(b"\r\n")[0] and served.token.encode() not in answer
            assert b"matrices" not in answer and b"Traceback" not in answer
    assert post(served, "build", {"subject": "v1"}).status == 200
    assert list(tmp_path.iterdir()) == [] and capfd.readouterr() == ("", "")


def test_connections_that_say_nothing_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold all places until their time is over, and one connection more is closed at once."""
    monkeypatch.setattr(server.Handler, "timeout", 0.4)
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        silent = [socket.create_connection(found.server_address, timeout=20) for _ in range(server.AT_A_TIME)]
        with socket.create_connection(found.server_address, timeout=20) as more:
            more.settimeout(0.2)                              # before the others end
            assert more.recv(1) == b""
        assert [client.recv(1) for client in silent] == [b""] * server.AT_A_TIME
        for client in silent:
            client.close()
        assert ask(found, "GET", f"/{found.token}/page").status == 200
        found.shutdown()
        thread.join()


def test_all_but_the_model_is_built_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, bool]] = []
    with Server() as found:
        monkeypatch.setattr(server, "build", lambda name: calls.append((name, found.turn.locked())))
        found.warm_up()
        assert calls == [(name, True) for name in subjects() if name != "g2p"] and not found.turn.locked()


def test_the_limits_are_moderate() -> None:
    assert (server.HOST, server.MOST_BYTES, server.SECONDS, server.AT_A_TIME) == ("127.0.0.1", 65536, 10, 64)
    assert server.Handler.timeout == 10 and Server.request_queue_size == 64
    assert Server.daemon_threads and Server.allow_reuse_address


def test_a_port_can_be_chosen() -> None:
    with Server() as first:
        port = first.server_address[1]
        with pytest.raises(OSError, match="in use"):
            Server(port)
    with Server(port) as second:
        assert second.host == f"127.0.0.1:{port}"
