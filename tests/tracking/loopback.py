"""A wandb server on this machine, as far as its client needs one: what the real client sends is kept and can be read.

    with Loopback() as server:
        subprocess.run(command, env=os.environ | server.environ)
    server.runs["study/0123"].history

`fault` makes requests fail; `stop` and `start` take the server down and bring it back at the same address with what it
held. A GraphQL operation `Name` is answered by the method `op_Name(variables)`: a subclass adds what it needs, and
`unknown` lists the operations that nothing answered.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from loopback_artifacts import ServedArtifact
from loopback_reading import ReadingOperations
from loopback_runs import ServedRun

__all__ = ["Loopback", "ServedArtifact", "ServedRun"]

Answer = tuple[int, Any]
"""HTTP status, and bytes or what becomes JSON."""
NAME = re.compile(r"(?:query|mutation)\s+(\w+)")


def healthy(kind: str, name: str) -> int | None:
    return None


@dataclass
class Loopback(ReadingOperations):
    """The server: routes, faults, and an address that outlives a stop."""

    port: int = 0
    """0 takes a free one, which is kept from then on."""
    fault: Callable[[str, str], int | None] = healthy
    """Status to refuse a request with, or None. Asked with ("graphql", operation), ("stream", run id) or ("put", path
    of the file)."""
    operations: Counter[str] = field(default_factory=Counter)
    """Requests by GraphQL operation, "file_stream" or "put"."""
    keys: list[str] = field(default_factory=list)
    """Authorization headers that were seen, each once."""
    unknown: list[tuple[str, str, Any]] = field(default_factory=list)
    """Requests without an answer: operation, query, variables; or method, path, body."""
    errors: list[str] = field(default_factory=list)
    """Exceptions while answering."""

    def __post_init__(self) -> None:
        self._server: _Server | None = None
        self._lock = threading.RLock()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """What a client's environment needs."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40}

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Come (back) up at the same address, with everything that was held."""
        if self._server is None:
            self._server = _Server(("127.0.0.1", self.port), _Handler, self)
            self.port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Go down: open connections are cut, new ones are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut()
            self._server = None

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """One request, whole; requests are answered one after another."""
        with self._lock:
            if path == "/graphql":
                return self._graphql(json.loads(body))
            if found := re.fullmatch(r"/files/([^/]*)/([^/]+)/([^/]+)/file_stream", path):
                return self._stream(found[1], found[2], found[3], json.loads(body))
            if found := re.fullmatch(r"/storage/(.+)", path):
                return self._storage(method, found[1], body)
            if path.startswith("/sdk/otel/"):
                return 200, b""
            self.unknown.append((method, path, body[:200]))
            return 404, {}

    def _graphql(self, request: dict[str, Any]) -> Answer:
        query, variables = " ".join(request["query"].split()), request.get("variables") or {}
        found = NAME.search(query)
        name = request.get("operationName") or (found[1] if found else "?")
        self.operations[name] += 1
        if status := self.fault("graphql", name):
            return status, {"errors": [{"message": f"told to fail with {status}"}]}
        operation = getattr(self, f"op_{name}", None)
        if operation is None:
            self.unknown.append((name, query, variables))
            return 200, {"data": None, "errors": [{"message": f"this server does not know {name}"}]}
        return 200, {"data": operation(variables)}

    def _stream(self, entity: str, project: str, run_id: str, sent: dict[str, Any]) -> Answer:
        self.operations["file_stream"] += 1
        if status := self.fault("stream", run_id):
            return status, {"error": f"told to fail with {status}"}
        self.run_of(entity, project, run_id).receive(sent)
        return 200, {"limits": {}}

    def _storage(self, method: str, path: str, body: bytes) -> Answer:
        if method != "PUT":
            return (200, self.blobs[path]) if path in self.blobs else (404, {})
        self.operations["put"] += 1
        if status := self.fault("put", path):
            return status, {}
        self.keep(path, body)
        return 200, {}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], loopback: Loopback) -> None:
        self.loopback = loopback
        self.connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def cut(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # the client was first
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        self.server.connections.add(self.connection)
        try:
            super().handle()
        except OSError:  # a killed client, or a server that was stopped
            pass
        finally:
            self.server.connections.discard(self.connection)

    def respond(self) -> None:
        loopback, path = self.server.loopback, self.path.partition("?")[0]
        body = self._body()
        key = self.headers.get("authorization", "")
        if key and key not in loopback.keys:
            loopback.keys.append(key)
        try:
            status, content = loopback.answer(self.command, path, body)
        except Exception as problem:  # the client must get an answer, and the test has to see why it was this one
            loopback.errors.append(f"{self.command} {path}: {type(problem).__name__}: {problem}")
            status, content = 500, {"errors": [{"message": repr(problem)}]}
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)

    do_GET = do_POST = do_PUT = do_HEAD = respond

    def _body(self) -> bytes:
        chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        body = self._chunks() if chunked else self.rfile.read(int(self.headers.get("content-length") or 0))
        return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

    def _chunks(self) -> bytes:
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def log_message(self, format: str, *args: object) -> None:
        pass
