"""smtplib clients whose connection is made in time and whose server may say only so much."""

from __future__ import annotations

import smtplib
import socket
import ssl
from typing import Any, BinaryIO

from adapters.core.deadline import remaining
from adapters.core.errors import Unexpected

CONNECT_SECONDS = 1.0
MAX_SAID_BYTES = 64 * 1024


def tls(*, verify: bool) -> ssl.SSLContext:
    """A context that checks the server's certificate, unless told not to."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Lines:
    """The lines a server says, at most 64 KiB of them in one conversation."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self._seen = 0

    def readline(self, limit: int = -1) -> bytes:
        line = self._inner.readline(limit)
        self._seen += len(line)
        if self._seen > MAX_SAID_BYTES:
            raise Unexpected("The mail server never stops talking and was cut off.", detail=f"over {self._seen} bytes")
        return line

    def close(self) -> None:
        self._inner.close()


class _Bounded(smtplib.SMTP):
    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        # smtplib checks certificates against the host its constructor was given, and ours connects later.
        self._host = host
        return super().connect(host, port, source_address)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Lines(self.sock.makefile("rb"))
        return super().getreply()


class _Client(_Bounded):
    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return _connected(host, port)


class _TlsClient(_Bounded, smtplib.SMTP_SSL):
    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self.context.wrap_socket(_connected(host, port), server_hostname=host)


def _connected(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), min(CONNECT_SECONDS, remaining()))
    sock.settimeout(remaining())
    return sock


def client(*, implicit_tls: bool, verify_tls: bool) -> smtplib.SMTP:
    """A client that is not connected yet. Its ``connect`` and all that follows obey the present deadline."""
    # The name said in EHLO: the fully qualified one would need a DNS question without a deadline.
    if implicit_tls:
        return _TlsClient(local_hostname="pilothouse", context=tls(verify=verify_tls))
    return _Client(local_hostname="pilothouse")
