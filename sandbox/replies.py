"""What a broken service says, in the words of its protocol. Bytes only; no sockets here."""

from __future__ import annotations

import itertools
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """Bytes to send, and whether that was all."""

    data: bytes = b""
    close: bool = False


class Reply(ABC):
    """A conversation with one client that leads to a refusal."""

    def opening(self) -> Said:
        """What is said before the client says anything."""
        return Said()

    @abstractmethod
    def received(self, data: bytes) -> Said:
        """What is said to the client's next bytes."""


class Once(Reply):
    """The same bytes to whatever comes first, then the end."""

    def __init__(self, data: bytes, *, speaks_first: bool = False) -> None:
        self.data = data
        self.speaks_first = speaks_first
        self.done = False

    def opening(self) -> Said:
        return self.received(b"") if self.speaks_first else Said()

    def received(self, data: bytes) -> Said:
        if self.done:
            return Said()
        self.done = True
        return Said(self.data, close=True)


class Protocol(ABC):
    """One protocol's way to fail."""

    speaks_first = False
    huge_chunk = b"x" * 65536

    @abstractmethod
    def refusal(self, *, denied: bool, established: bool) -> Reply:
        """An internal error, or with ``denied`` a refusal of the credentials."""

    @abstractmethod
    def beginning(self) -> bytes:
        """A plausible start of an answer that never ends."""

    @abstractmethod
    def huge_head(self, size: int) -> bytes:
        """What announces an answer of ``size`` bytes."""

    def counts(self, data: bytes) -> int:
        """How many requests a chunk from the client begins."""
        return 1

    def endless(self) -> Iterator[int]:
        """The beginning, then filler for ever."""
        return itertools.chain(self.beginning(), itertools.cycle(b"x"))


class Http(Protocol):
    """HTTP/1.1."""

    _request = re.compile(rb"^(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) ")

    def refusal(self, *, denied: bool, established: bool) -> Reply:
        status, text = (401, "Unauthorized") if denied else (500, "Internal Server Error")
        body = f'{{"status":{status},"error":"{text}"}}'.encode()
        extra = 'WWW-Authenticate: Bearer realm="sandbox"\r\n' if denied else ""
        head = f"HTTP/1.1 {status} {text}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}"
        return Once(f"{head}Connection: close\r\n\r\n".encode() + body)

    def beginning(self) -> bytes:
        return b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{"result":"'

    def huge_head(self, size: int) -> bytes:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size + 11}\r\n\r\n"
        return head.encode() + b'{"result":"'

    def counts(self, data: bytes) -> int:
        return 1 if self._request.match(data) else 0


class Redis(Protocol):
    """RESP: one error per command."""

    _command = re.compile(rb"(?:^|\r\n)\*\d+\r\n\$")

    class _Errors(Reply):
        def __init__(self, line: bytes) -> None:
            self.line = line

        def received(self, data: bytes) -> Said:
            return Said(self.line * max(1, len(Redis._command.findall(data))))

    def refusal(self, *, denied: bool, established: bool) -> Reply:
        return self._Errors(b"-NOAUTH Authentication required.\r\n" if denied else b"-ERR internal error\r\n")

    def beginning(self) -> bytes:
        return b"$1000000\r\n"

    def huge_head(self, size: int) -> bytes:
        return b"$%d\r\n" % size

    def counts(self, data: bytes) -> int:
        return len(self._command.findall(data))


class Smtp(Protocol):
    """SMTP: 421 at the door, or a server that wants to know who one is."""

    speaks_first = True
    huge_chunk = (b"250-" + b"x" * 70 + b"\r\n") * 862

    class _WantsLogin(Reply):
        def opening(self) -> Said:
            return Said(b"220 sandbox ESMTP\r\n")

        def received(self, data: bytes) -> Said:
            verb = data[:4].upper()
            if verb == b"EHLO":
                return Said(b"250-sandbox\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n")
            if verb == b"QUIT":
                return Said(b"221 2.0.0 Bye\r\n", close=True)
            return Said(b"535 5.7.8 Authentication credentials invalid\r\n")

    def refusal(self, *, denied: bool, established: bool) -> Reply:
        if denied:
            return self._WantsLogin() if not established else Once(b"535 5.7.8 Authentication credentials invalid\r\n")
        return Once(b"421 4.3.0 Internal error, closing\r\n", speaks_first=not established)

    def beginning(self) -> bytes:
        return b"220-sandbox ESMTP "

    def huge_head(self, size: int) -> bytes:
        return b"220-sandbox\r\n"


class PostgreSQL(Protocol):
    """PostgreSQL's protocol 3: an ErrorResponse, after declining encryption."""

    class _Fatal(Reply):
        def __init__(self, code: str, text: str) -> None:
            fields = b"".join(
                kind + value.encode() + b"\0"
                for kind, value in ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", code), (b"M", text))
            )
            self.message = b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"

        def received(self, data: bytes) -> Said:
            if len(data) == 8 and data[4:] in (struct.pack("!i", 80877103), struct.pack("!i", 80877104)):
                return Said(b"N")
            return Said(self.message, close=True)

    def refusal(self, *, denied: bool, established: bool) -> Reply:
        if denied:
            return self._Fatal("28P01", 'password authentication failed for user "postgres"')
        return self._Fatal("XX000", "internal error")

    def beginning(self) -> bytes:
        return b"NR" + struct.pack("!ii", 1_000_000, 3)

    def huge_head(self, size: int) -> bytes:
        return b"NE" + struct.pack("!i", size) + b"SFATAL\0M"


class Grpc(Protocol):
    """gRPC over HTTP/2: an empty answer whose trailer carries the status."""

    _preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    _settings = b"\0\0\0\x04\0\0\0\0\0"
    _settings_ack = b"\0\0\0\x04\x01\0\0\0\0"
    huge_chunk = b"\0\x40\0\0\0\0\0\0\x01" + b"x" * 16384

    class _Status(Reply):
        def __init__(self, status: int, text: str) -> None:
            # HPACK without tables or Huffman: :status 200 is entry 8, the rest are literals.
            fields = [(b"content-type", b"application/grpc"), (b"grpc-status", b"%d" % status),
                      (b"grpc-message", text.encode())]  # fmt: skip
            self.block = b"\x88" + b"".join(
                b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields
            )
            self.buffer = b""
            self.started = False

        def received(self, data: bytes) -> Said:
            self.buffer += data
            out = b""
            if not self.started:
                self.started = True
                self.buffer = self.buffer.removeprefix(Grpc._preface)
                out += Grpc._settings
            while len(self.buffer) >= 9:
                size = int.from_bytes(self.buffer[:3], "big")
                kind, flags = self.buffer[3], self.buffer[4]
                stream = self.buffer[5:9]
                if size > 1 << 20:
                    return Said(out, close=True)
                if len(self.buffer) < 9 + size:
                    break
                payload, self.buffer = self.buffer[9 : 9 + size], self.buffer[9 + size :]
                if kind == 4 and not flags & 1:
                    out += Grpc._settings_ack
                elif kind == 6 and not flags & 1:
                    out += b"\0\0\x08\x06\x01\0\0\0\0" + payload
                elif kind == 1:
                    out += len(self.block).to_bytes(3, "big") + b"\x01\x05" + stream + self.block
            return Said(out)

    def refusal(self, *, denied: bool, established: bool) -> Reply:
        return self._Status(16, "Request unauthorized.") if denied else self._Status(13, "internal error")

    def beginning(self) -> bytes:
        return self._settings + b"\0\x40\0\0\0\0\0\0\x01"

    def huge_head(self, size: int) -> bytes:
        return self._settings + b"\0\0\x01\x01\x04\0\0\0\x01\x88"


PROTOCOLS: dict[str, Protocol] = {
    "http": Http(),
    "redis": Redis(),
    "smtp": Smtp(),
    "postgresql": PostgreSQL(),
    "grpc": Grpc(),
}
"""Protocols by the name a plan uses."""
