"""A server of HTTP on loopback that knows ranges, cuts connections, and changes bytes."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PATIENCE_S = 20.0


class FileServer(ThreadingHTTPServer):
    """What it serves, and what it does to it. Keys of the dictionaries are names below `root`."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.ranges = True
        self.cut: dict[str, list[int]] = {}
        """At which bytes of the file the next connections end."""
        self.taken: Callable[[], bool] = lambda: True
        """Waited for before a connection ends: what a client has not read by then it throws away."""
        self.flip: dict[str, int] = {}
        """Which byte is sent changed."""
        self.extra: dict[str, bytes] = {}
        """What is sent behind the end."""
        self.answers: dict[str, int] = {}
        """Status instead of the file."""
        self.asked: Counter[str] = Counter()
        self.starts: list[tuple[str, int]] = []
        self.queries: set[str] = set()
        self.headers: list[dict[str, str]] = []
        self.connections: list[Any] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def get_request(self) -> Any:
        """Remember the connection, which may outlive many requests."""
        found = super().get_request()
        self.connections.append(found[0])
        return found

    def end(self) -> None:
        """Be gone."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who hangs up on it is none of its business."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, whole: bool) -> None:
        server, (path, _, query) = self.server, self.path.partition("?")
        name = path.lstrip("/")
        server.asked[name] += whole
        server.queries.add(query)
        server.headers.append(dict(self.headers.items()))
        file = server.root / name
        status = server.answers.get(name, 200 if file.is_file() else 404)
        if status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = bytearray(file.read_bytes()) + server.extra.get(name, b"")
        if name in server.flip:
            data[server.flip[name]] ^= 1
        start, total = 0, len(data)
        if server.ranges and (asked := self.headers.get("Range")):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start = int(first)
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = data[start : int(last) + 1 if last else total]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not whole:
            return
        server.starts.append((name, start))
        cuts = server.cut.get(name, [])
        if cuts and cuts[0] < start + len(data):
            if sent := data[: max(0, cuts.pop(0) - start)]:
                self.wfile.write(sent)
                self.wfile.flush()
                end = time.monotonic() + PATIENCE_S
                while not server.taken() and time.monotonic() < end:
                    time.sleep(0.01)
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(data)


@contextmanager
def serving(root: Path) -> Iterator[FileServer]:
    """A folder over HTTP."""
    server = FileServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.end()
        thread.join()
