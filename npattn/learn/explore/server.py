"""The server of the explorer: on 127.0.0.1 alone, with a secret in the address. It writes nothing.

- GET /TOKEN/page is the page.
- POST /TOKEN/build has {"subject", "changes"} and gets the data of the page; POST /TOKEN/entry has {"name", "index",
  "is_gradient"} besides and gets one number. An error is {"error": text}.

Pages of other addresses can't read or send anything: they don't know the token, and Host and Origin are checked.
"""

from __future__ import annotations

import functools
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from npattn.learn.explore.page import Page, build, entry
from npattn.learn.explore.saved import document
from npattn.learn.explore.subjects import subjects

#: The address: no other machine reaches it.
HOST = "127.0.0.1"

#: The most bytes that a request can have, seconds that it can wait for the next byte, and requests at a time.
MOST_BYTES, SECONDS, AT_A_TIME = 65536, 10, 64

#: What the browser is told with each answer.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

KEYS = {"build": {"subject", "changes"}, "entry": {"subject", "changes", "name", "index", "is_gradient"}}


class Server(ThreadingTCPServer):
    """Serves the page until `shutdown`, or until an interrupt ends `serve_forever`.

    - port: 0 takes one that is free.

    Raises OSError for a port that is taken.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = AT_A_TIME

    def __init__(self, port: int = 0) -> None:
        self.token = secrets.token_urlsafe()
        self.document = document().encode()
        self.places = threading.BoundedSemaphore(AT_A_TIME)
        self.turn = threading.Lock()                          # one computation at a time
        self.page = functools.lru_cache(maxsize=4)(page_of)
        super().__init__((HOST, port), Handler)

    @property
    def host(self) -> str:
        return f"{HOST}:{self.server_address[1]}"

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{self.host}/{self.token}/page"

    @property
    def elsewhere(self) -> str:
        """What a wrong address is told. The secret is not in it."""
        return f"The page is not here. Open the whole address that the terminal shows: http://{self.host}/…/page"

    def warm_up(self) -> None:
        """Build each version and layer once: the first time takes longer."""
        for name, subject in subjects().items():
            if subject.group != "model":
                with self.turn:
                    build(name)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; close the connection where too many are open."""
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: the connection broke."""

    def computed(self, action: str, given: Any) -> dict[str, Any]:
        """Return the data of a page, or of one number. Raises ValueError for what can't be."""
        if not isinstance(given, dict) or not {"subject"} <= given.keys() <= KEYS[action]:
            raise ValueError(f"expected an object with {', '.join(sorted(KEYS[action]))}")
        with self.turn:
            page = self.page(json.dumps([given["subject"], given.get("changes")]))
            if action == "build":
                return page.as_dict()
            return entry(page, given.get("name"), given.get("index"), given.get("is_gradient") is True)


def page_of(text: str) -> Page:
    """Return the page of a subject and its changes, which are written as JSON."""
    subject, changes = json.loads(text)
    return build(subject, changes)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    timeout = SECONDS

    def do_GET(self) -> None:
        if not self.is_from_here():
            self.answer(403, "text/plain", self.server.elsewhere.encode())
        elif self.action() == "page":
            self.answer(200, "text/html", self.server.document)
        else:
            self.answer(404, "text/plain", self.server.elsewhere.encode())

    def do_POST(self) -> None:
        action = self.action()
        if not self.is_from_here() or not self.headers.get_all("Origin"):
            self.error(403, "this address is not served")
        elif action not in KEYS:
            self.error(404, "not found")
        elif self.headers.get_content_type() != "application/json":
            self.error(415, "expected application/json")
        elif not (size := self.headers.get("Content-Length", "")).isascii() or not size.isdigit():
            self.error(411, "expected Content-Length")
        elif len(size) > len(str(MOST_BYTES)) or int(size) > MOST_BYTES:
            self.error(413, f"expected at most {MOST_BYTES} bytes")
        else:
            self.compute(action, int(size))

    def compute(self, action: str, size: int) -> None:
        """Answer with the numbers, or with the error in words."""
        body = self.rfile.read(size)
        try:
            found = self.server.computed(action, json.loads(body))
        except (ValueError, RecursionError) as error:   # RecursionError: lists in lists in lists …
            self.error(400, str(error))
        except Exception as error:
            self.error(500, f"{type(error).__name__}: {error}")
        else:
            self.answer(200, "application/json", json.dumps(found, separators=(",", ":")).encode())

    def action(self) -> str:
        """Return what is asked for; an empty text where the token is wrong."""
        token, _, action = self.path.partition("?")[0].removeprefix("/").partition("/")
        is_known = secrets.compare_digest(token.encode(), self.server.token.encode())
        return action if is_known else ""

    def is_from_here(self) -> bool:
        """Whether the request is for this server, and no page of another address sends it."""
        host, origins = self.server.host, self.headers.get_all("Origin", [])
        return self.headers.get_all("Host") == [host] and origins in ([], [f"http://{host}"])

    def error(self, status: int, text: str) -> None:
        self.answer(status, "application/json", json.dumps({"error": text}).encode())

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        for key, value in HEADERS.items():
            self.send_header(key, value)
        super().end_headers()

    def version_string(self) -> str:
        return "npattn"

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""
