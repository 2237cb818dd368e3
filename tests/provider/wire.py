"""HTTP/1.1 on loopback: a thread for each connection, kept alive between calls.

It reads a `Request`, asks `meet` for a `Reply` and sends that; what it means is not its
business. `stop` cuts whatever is open, joins every thread, and raises what went wrong
in one of them: a client that went away is nothing wrong.
"""

import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

KEY_HEADERS = ("x-api-key", "authorization")
NEVER_KEPT = {*KEY_HEADERS, "proxy-authorization", "cookie"}
POLL = 0.02  # seconds; the most that `stop` waits for the loop


@dataclass(frozen=True, slots=True)
class Request:
    """One call as it came; only this record holds the key, and does not show it."""

    path: str  # without a query
    headers: dict[str, str] = field(repr=False)  # lower case, without the key
    raw: bytes = field(repr=False)
    key_header: str | None
    secret: str = field(repr=False)


class Reply(NamedTuple):
    """What to send. Status 0: nothing, the connection ends."""

    status: int
    headers: dict[str, str]
    parts: list[bytes]  # of a stream its events, else of the body
    is_stream: bool = False
    is_cut: bool = False  # the connection ends after half of the parts
    go_on: threading.Event | None = None  # before the other half is sent


Meet = Callable[[Request], Reply]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True
    server: "Server"

    def do_POST(self) -> None:
        reply = self.server.meet(self._request())
        self.close_connection |= reply.is_cut or not reply.status
        if reply.status:
            self._send_head(reply)
            self._send_parts(reply)

    do_GET = do_POST  # noqa: N815  # also theirs

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # theirs
        """The record of calls is the log."""

    def _request(self) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        name = next((name for name in KEY_HEADERS if name in headers), None)
        secret = headers[name].removeprefix("Bearer ") if name else ""
        kept = {n: value for n, value in headers.items() if n not in NEVER_KEPT}
        raw = self.rfile.read(int(headers.get("content-length", 0)))
        return Request(self.path.partition("?")[0], kept, raw, name, secret)

    def _send_head(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.is_stream:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(sum(map(len, reply.parts))))
        self.end_headers()

    def _send_parts(self, reply: Reply) -> None:
        half = len(reply.parts) // 2
        for part in reply.parts[:half]:
            self._send_part(part, reply)
        self.wfile.flush()
        if reply.is_cut:
            return
        if reply.go_on:
            reply.go_on.wait()
        for part in reply.parts[half:]:
            self._send_part(part, reply)
        if reply.is_stream:
            self.wfile.write(b"0\r\n\r\n")

    def _send_part(self, part: bytes, reply: Reply) -> None:
        if reply.is_stream:
            # Networks cut where they like: no client may take a chunk for an event.
            half = len(part) // 2
            for chunk in filter(None, (part[:half], part[half:])):  # none ends it
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                self.wfile.flush()
        else:
            self.wfile.write(part)


class Server(socketserver.ThreadingTCPServer):
    """Listens at once, answers from `start` to `stop`."""

    allow_reuse_address = True
    daemon_threads = False  # so that closing joins them
    request_queue_size = 1024

    def __init__(self, port: int, meet: Meet) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.meet = meet
        self.port: int = self.server_address[1]
        self._open: set[Any] = set()
        self._changing = threading.Lock()
        self._faults: list[BaseException] = []
        self._loop = threading.Thread(target=self.serve_forever, args=(POLL,))

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        self.shutdown()
        self._loop.join()
        with self._changing:
            for connection in self._open:
                with suppress(OSError):  # its client was quicker
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        if self._faults:
            raise self._faults[0]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._changing:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error and not isinstance(error, ConnectionError):
            self._faults.append(error)
