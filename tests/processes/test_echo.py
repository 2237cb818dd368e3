"""A provider that quotes the key everywhere: no file, and no name of one, holds it."""

import base64
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.driver import Farm

pytestmark = pytest.mark.processes

Quote = Callable[[str], str]
QUOTES: dict[str, Quote] = {
    "whole": lambda key: key,
    "its beginning": lambda key: key[:12],
    "its end": lambda key: f"req-{key[-12:]}",
    "in base64": lambda key: base64.b64encode(key.encode()).decode(),
}
ANSWER = {"type": "message", "content": [{"type": "text", "text": "hi"}]}
STATUSES = {200: "succeeded", 400: "failed"}


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was told of the key, in each place that becomes a record."""

    quote: Quote
    status: int

    def log_message(self, *_args: object) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        told = type(self).quote(self.headers["authorization"].split()[1])
        body: dict[str, object] = {**ANSWER, "model": told, "stop_reason": "end_turn"}
        if self.status != 200:
            error = {"type": "invalid_request_error", "message": f"{told} is bad"}
            body = {"type": "error", "error": error}
        raw = json.dumps(body).encode()
        self.send_response(self.status)
        for name in ("request-id", "anthropic-organization-id"):
            self.send_header(name, told)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def echo() -> Iterator[type[Echo]]:
    """Its handler, and a server of it at `echo.port`."""

    class Here(Echo):
        port = 0

    server = ThreadingHTTPServer(("127.0.0.1", 0), Here)
    Here.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Here
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("quote", QUOTES)
def test_what_a_provider_quotes_of_a_key_is_in_no_file(
    farm: Farm, echo: type[Echo], quote: str, status: int
) -> None:
    key = f"sk-ant-{secrets.token_hex(20)}"
    echo.quote, echo.status = QUOTES[quote], status
    farm.write(
        "farm.toml",
        f'[agents.ask]\nkind = "messages"\nmodel = "m"\n'
        f'base_url = "http://127.0.0.1:{echo.port}"\n',  # type: ignore[attr-defined]  # `Here` has it
    )
    farm.drop("a", prompt="x")

    farm.work(ANTHROPIC_API_KEY_1=key)

    assert farm.status_of("a") == STATUSES[status]
    told = QUOTES[quote](key)[4:36]
    found = [
        str(path)
        for path in farm.root.rglob("*")
        if told in path.name or (path.is_file() and told.encode() in path.read_bytes())
    ]
    assert found == []
    if status == 200:
        asked = farm.result("a")["asked"]
        assert asked["credential"] == "anthropic-1"
        assert Path(farm.state / "credentials").is_dir()
