"""A local TCP server that behaves as badly as a real one can, for holding adapters to their contract.

``FaultyServer(behaviour)`` answers on 127.0.0.1 with one of :data:`FAULTS` or :data:`BODIES`; ``answer``
decides what a healthy answer is, so that one route can be good and another bad. ``no_leaks()``
asserts that nothing was left behind. HTTP-shaped where there is a request line, and usable for
other protocols for refuse, hang, drip, garbage, huge and reset.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FAULTS = ("refuse", "hang", "drip", "500", "401", "garbage", "huge", "reset")
"""What the network and the service may do: the fault list of the sandbox."""

BODIES = ("unexpected", "list", "invalid", "404")
"""Answers that arrive well and are not what was asked for."""

HUGE_BYTES = 100 * 1024 * 1024

Answer = tuple[int, Any]
"""Status, and a JSON value, or ``bytes``/``str`` to send as they are."""


def http_answer(status: int, body: Any, *, content_type: str | None = None) -> bytes:
    """A whole HTTP/1.1 answer with ``Connection: close``."""
    if isinstance(body, bytes):
        raw, kind = body, "application/octet-stream"
    elif isinstance(body, str):
        raw, kind = body.encode(), "text/plain"
    else:
        raw, kind = json.dumps(body).encode(), "application/json"
    head = (
        f"HTTP/1.1 {status} Status\r\nContent-Type: {content_type or kind}\r\n"
        f"Content-Length: {len(raw)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + raw


class FaultyServer:
    """Serve ``behaviour`` until closed. Use as a context manager.

    ``behaviour`` is a fault, a body, or ``"valid"`` (then ``answer(method, path)`` decides). With
    ``only(path)`` given, paths for which it is false are answered by ``answer`` whatever the behaviour.
    ``requests`` lists what was asked, as "GET /path?query".
    """

    def __init__(
        self,
        behaviour: str = "valid",
        *,
        answer: Callable[[str, str], Answer] | None = None,
        only: Callable[[str], bool] | None = None,
    ) -> None:
        self.behaviour = behaviour
        self.requests: list[str] = []
        self._answer = answer or (lambda method, path: (200, {}))
        self._only = only
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        # Bound and not listening is what refuses: the port stays ours, nobody else can answer on it.
        if behaviour != "refuse":
            self._listener.listen(128)
            self._start(self._accept)

    @property
    def url(self) -> str:
        """Base address, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultyServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut every connection, end every thread."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for conn in self._open:
                with contextlib.suppress(OSError):
                    conn.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="faulty-server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(conn)
            self._start(self._serve, conn)

    def _serve(self, conn: socket.socket) -> None:
        try:
            self._talk(conn)
        except OSError:
            pass  # the client went away, or close() cut it: both are part of the game
        finally:
            with self._lock:
                self._open.discard(conn)
            conn.close()

    def _talk(self, conn: socket.socket) -> None:
        if self.behaviour == "reset" and self._only is None:
            self._reset(conn)
            return
        if self.behaviour == "hang" and self._only is None:
            self._closing.wait()
            return
        line = self._read_request(conn)
        method, _, rest = line.partition(" ")
        path = rest.partition(" ")[0]
        if line:
            self.requests.append(f"{method} {path}")
        behaviour = self.behaviour
        if self._only is not None and not self._only(path):
            behaviour = "valid"
        self._behave(conn, behaviour, method, path)

    def _behave(self, conn: socket.socket, behaviour: str, method: str, path: str) -> None:
        if behaviour == "hang":
            self._closing.wait()
        elif behaviour == "reset":
            self._reset(conn)
        elif behaviour == "drip":
            for byte in http_answer(200, {"drip": "x" * 400}):
                conn.sendall(bytes([byte]))
                if self._closing.wait(1.0):
                    return
        elif behaviour == "garbage":
            conn.sendall(bytes(range(255, 0, -1)) * 8)
        elif behaviour == "huge":
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {HUGE_BYTES}\r\n\r\n"
            conn.sendall(head.encode() + b'{"x": "')
            block = b"x" * (1 << 18)
            for _ in range(HUGE_BYTES // len(block)):
                if self._closing.is_set():
                    return
                conn.sendall(block)
        else:
            status, body = {
                "500": (500, "<html><body>Internal Server Error</body></html>"),
                "401": (401, {"status": 401, "error": "Unauthorized"}),
                "404": (404, {"status": 404, "error": "Not Found"}),
                "unexpected": (200, {"surprise": {"nested": [1, "two", None]}}),
                "list": (200, [{"surprise": 1}, 2, "three"]),
                "invalid": (200, b'{"truncated": [1, 2, '),
            }.get(behaviour) or self._answer(method, path)
            kind = "application/json" if behaviour == "invalid" else None
            conn.sendall(http_answer(status, body, content_type=kind))

    def _read_request(self, conn: socket.socket) -> str:
        """The request line; the rest of the request is read and dropped. "" where there is none."""
        conn.settimeout(0.5)
        data = b""
        try:
            while b"\r\n\r\n" not in data and len(data) < 65536:
                block = conn.recv(65536)
                if not block:
                    break
                data += block
            head, _, body = data.partition(b"\r\n\r\n")
            length = next(
                (int(row.split(b":")[1]) for row in head.split(b"\r\n") if row.lower().startswith(b"content-length:")),
                0,
            )
            while len(body) < length:
                block = conn.recv(65536)
                if not block:
                    break
                body += block
        except TimeoutError:
            pass  # a protocol in which the server speaks first
        finally:
            conn.settimeout(None)
        return data.split(b"\r\n")[0].decode("latin-1")

    @staticmethod
    def _reset(conn: socket.socket) -> None:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        conn.close()


def open_sockets() -> set[str]:
    """The sockets this process has open, by inode."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(fd.readlink())
            if target.startswith("socket:"):
                found.add(target)
    return found


@contextlib.contextmanager
def no_leaks(
    *, seconds: float = 5.0, ignore_threads: tuple[str, ...] = ("adapter-loop", "asyncio_", "probe")
) -> Iterator[None]:
    """Assert that no thread and no socket made inside is left, at the latest ``seconds`` after.

    ``ignore_threads``: name prefixes of threads a process has once, whoever started them.
    """
    threads, sockets = set(threading.enumerate()), open_sockets()
    yield
    end = time.monotonic() + seconds
    while True:
        made = [t for t in threading.enumerate() if t not in threads and t.is_alive()]
        left = [t.name for t in made if not t.name.startswith(ignore_threads)]
        open_now = open_sockets() - sockets
        if not left and not open_now:
            return
        if time.monotonic() > end:
            raise AssertionError(f"left behind: threads {left}, sockets {sorted(open_now)}")
        threading.Event().wait(0.02)
