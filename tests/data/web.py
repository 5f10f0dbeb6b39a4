"""A web server of shards for tests, in a thread, that fails on purpose."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


class Web(ThreadingHTTPServer):
    """Serves a folder; ``asked`` counts requests by path.

    Attributes:
        broken: answers left to spoil by path, in turn: a status code, "cut" (half the bytes), "flip" (a wrong byte),
            "endless" (no length told) or an address to redirect to.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.asked = folder, Counter[str]()
        self.broken: dict[str, list[int | str]] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may leave early."""


@contextmanager
def web(folder: Path) -> Iterator[Web]:
    """The server, while the block lasts."""
    with Web(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Web  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked[path] += 1
        faults = self.server.broken.get(path, [])
        fault = faults.pop(0) if faults else None
        file = self.server.folder / path.lstrip("/")
        if isinstance(fault, int) or not file.is_file():
            self.send_error(fault if isinstance(fault, int) else 404)
            return
        if fault is not None and "://" in fault:
            self.send_response(302)
            self.send_header("Location", fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = file.read_bytes()
        self.send_response(200)
        if fault != "endless":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "flip":
            content = content[:700] + bytes([content[700] ^ 1]) + content[701:]
        self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass
