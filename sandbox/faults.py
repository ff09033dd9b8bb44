"""A TCP proxy before every service of the sandbox, which can break the service on demand.

Eight faults: ``refuse`` (nobody listens), ``hang`` (accepted, never answered), ``drip`` (one byte a
second), ``500`` and ``401`` (the protocol's own way to say them), ``garbage``, ``huge`` (100 MB) and
``reset``. A fault hits connections that exist as well as new ones.

``python -m sandbox.faults PLAN.json`` runs the proxies and their control interface.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sandbox import replies


class Fault(StrEnum):
    """How a service can be broken."""

    REFUSE = "refuse"
    HANG = "hang"
    DRIP = "drip"
    ERROR = "500"
    DENIED = "401"
    GARBAGE = "garbage"
    HUGE = "huge"
    RESET = "reset"


HUGE_BYTES = 100 * 1024 * 1024
DRIP_SECONDS = 1.0
GARBAGE = random.Random(0).randbytes(2048)
_RST = struct.pack("ii", 1, 0)


@dataclass
class Traffic:
    """What went through one proxy since it started."""

    connections: int = 0
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


def _reset(transport: asyncio.Transport) -> None:
    """Close with RST instead of FIN."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    transport.abort()


class _Upstream(asyncio.Protocol):
    """The side towards the service."""

    def __init__(self, client: _Client) -> None:
        self.client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.client.linked(transport)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self.client.from_service(data)

    def eof_received(self) -> bool:
        if self.client.transport.can_write_eof() and not self.client.transport.is_closing():
            self.client.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.client.service_lost(error)

    def pause_writing(self) -> None:
        self.client.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.client.transport.is_closing():
            self.client.transport.resume_reading()


class _Client(asyncio.Protocol):
    """The side towards the client, and the fault it meets."""

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.upstream: asyncio.Transport | None = None
        self.fault: Fault | None = None
        self.reply: replies.Reply | None = None
        self.established = False
        self.early = b""
        self.ended = False
        self.writable = asyncio.Event()
        self.writable.set()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.proxy.clients.add(self)
        self.proxy.traffic.connections += 1
        if self.proxy.fault is not None:
            self.meet(self.proxy.fault)
            return
        self.transport.pause_reading()
        self.task = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _Upstream(self), "127.0.0.1", self.proxy.target_port
            )
        except OSError:
            _reset(self.transport)

    def linked(self, upstream: asyncio.Transport) -> None:
        upstream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.transport.is_closing() or self.fault is not None:
            upstream.abort()
            return
        self.upstream = upstream
        if self.early:
            upstream.write(self.early)
            self.early = b""
        if self.ended:
            upstream.write_eof()
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.fault is not None:
            if self.reply is not None:
                self._say(self.reply.received(data))
            return
        self.established = True
        traffic = self.proxy.traffic
        traffic.bytes_in += len(data)
        traffic.requests += self.proxy.counts(data)
        self.proxy.writes += data.startswith(_WRITING)
        if self.upstream is not None:
            self.upstream.write(data)
        else:
            self.early += data  # some loops deliver a first chunk although reading is paused

    def from_service(self, data: bytes) -> None:
        if self.fault is None:
            self.proxy.traffic.bytes_out += len(data)
            self.transport.write(data)

    def service_lost(self, error: Exception | None) -> None:
        if self.fault is None:
            if error is None:
                self.transport.close()
            else:
                _reset(self.transport)

    def eof_received(self) -> bool:
        if self.fault is not None:
            return False
        if self.upstream is None:
            self.ended = True
        elif self.upstream.can_write_eof() and not self.upstream.is_closing():
            self.upstream.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.proxy.clients.discard(self)
        self.writable.set()
        if self.task is not None:
            self.task.cancel()
        if self.upstream is not None:
            if error is None:
                self.upstream.close()
            else:
                self.upstream.abort()

    def pause_writing(self) -> None:
        self.writable.clear()
        if self.upstream is not None and self.fault is None:
            self.upstream.pause_reading()

    def resume_writing(self) -> None:
        self.writable.set()
        if self.upstream is not None and self.fault is None and not self.upstream.is_closing():
            self.upstream.resume_reading()

    def meet(self, fault: Fault) -> None:
        """Have this connection show the fault from now on."""
        self.fault = fault
        if self.upstream is not None:
            self.upstream.abort()
            self.upstream = None
        if fault in (Fault.REFUSE, Fault.RESET):
            _reset(self.transport)
            return
        if not self.transport.is_closing():
            self.transport.resume_reading()
        if fault is Fault.HANG:
            return
        protocol = self.proxy.protocol
        if fault in (Fault.ERROR, Fault.DENIED):
            self.reply = protocol.refusal(denied=fault is Fault.DENIED, established=self.established)
            self._say(self.reply.opening())
        elif fault is Fault.GARBAGE:
            self.reply = replies.Once(GARBAGE, speaks_first=protocol.speaks_first and not self.established)
            self._say(self.reply.opening())
        else:
            self.task = asyncio.ensure_future(self._drip() if fault is Fault.DRIP else self._flood())

    def _say(self, said: replies.Said) -> None:
        if said.data and not self.transport.is_closing():
            self.transport.write(said.data)
        if said.close and not self.transport.is_closing():
            # Half-close, so that a request still being sent does not turn the answer into a reset.
            if self.transport.can_write_eof():
                self.transport.write_eof()
            asyncio.get_running_loop().call_later(0.5, self.transport.close)

    async def _drip(self) -> None:
        for byte in self.proxy.protocol.endless():
            if self.transport.is_closing():
                return
            self.transport.write(bytes([byte]))
            await asyncio.sleep(DRIP_SECONDS)

    async def _flood(self) -> None:
        self.transport.write(self.proxy.protocol.huge_head(HUGE_BYTES))
        chunk, left = self.proxy.protocol.huge_chunk, HUGE_BYTES
        while left > 0 and not self.transport.is_closing():
            self.transport.write(chunk)
            left -= len(chunk)
            await self.writable.wait()
            await asyncio.sleep(0)
        self.transport.close()


_WRITING = (b"PUT ", b"POST ", b"PATCH ", b"DELETE ")


class Proxy:
    """One service's proxy: 127.0.0.1:``port`` in front of 127.0.0.1:``target_port``."""

    def __init__(self, service: str, port: int, target_port: int, protocol: str = "http") -> None:
        self.service = service
        self.port = port
        self.target_port = target_port
        self.protocol: replies.Protocol = replies.PROTOCOLS[protocol]
        self.counts: Callable[[bytes], int] = self.protocol.counts
        self.fault: Fault | None = None
        self.traffic = Traffic()
        self.writes = 0
        """HTTP requests that may have changed something, at least; other protocols are not looked into."""
        self.clients: set[_Client] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Client(self), "127.0.0.1", self.port, backlog=512
        )

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for client in list(self.clients):
            client.transport.abort()

    async def set(self, fault: Fault | str | None) -> None:
        """Break the service in this way, or with None make it whole. Hits open connections too."""
        wanted = Fault(fault) if fault is not None else None
        was, self.fault = self.fault, wanted
        if wanted is Fault.REFUSE:
            if self._server is not None:
                self._server.close()
                self._server = None
        elif self._server is None:
            await self.start()
        for client in list(self.clients):
            if client.fault is not None or (wanted is None and was is not None):
                _reset(client.transport)
            elif wanted is not None:
                client.meet(wanted)


def control(proxies: dict[str, list[Proxy]], token: str) -> Any:
    """The control interface, an ASGI application.

    ``GET /faults``; ``PUT /faults/{service}`` with ``{"fault": name or null}``; ``DELETE /faults`` mends
    everything; ``GET /traffic`` counts what the console and its worker asked of each service.
    """
    import hmac

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    def problem(status: int, text: str) -> JSONResponse:
        return JSONResponse({"status": status, "error": text}, status)

    def denied(request: Request) -> JSONResponse | None:
        given = request.headers.get("authorization", "").encode()
        return None if hmac.compare_digest(given, f"Bearer {token}".encode()) else problem(401, "Wrong token.")

    def state() -> JSONResponse:
        return JSONResponse({slug: group[0].fault for slug, group in proxies.items()})

    async def faults(request: Request) -> JSONResponse:
        refused = denied(request)
        if refused is None and request.method == "DELETE":
            for proxy in itertools.chain(*proxies.values()):
                await proxy.set(None)
        return refused or state()

    async def change(request: Request) -> JSONResponse:
        if refused := denied(request):
            return refused
        group = proxies.get(request.path_params["service"])
        if group is None:
            return problem(404, f"No such service; there are {', '.join(proxies)}.")
        try:
            fault = (await request.json())["fault"]
            for proxy in group:
                await proxy.set(fault)
        except (ValueError, KeyError, TypeError):
            return problem(422, f'The body must be {{"fault": …}} with null or one of {", ".join(Fault)}.')
        return state()

    async def traffic(request: Request) -> JSONResponse:
        counted = {
            slug: {name: sum(getattr(proxy.traffic, name) for proxy in group) for name in vars(group[0].traffic)}
            for slug, group in proxies.items()
        }
        return denied(request) or JSONResponse(counted)

    return Starlette(
        routes=[
            Route("/faults", faults, methods=["GET", "DELETE"]),
            Route("/faults/{service}", change, methods=["PUT"]),
            Route("/traffic", traffic),
        ]
    )


async def main(plan: dict[str, Any]) -> None:
    """Run the proxies of a plan ``{"control": port, "token": …, "proxies": {service: {port, target, protocol}}}``."""
    from sandbox.hosting import serve_until_signalled

    proxies: dict[str, list[Proxy]] = {}
    for name, entry in plan["proxies"].items():
        # mcp-calendar and mcp-files are one service, mcp, and break together.
        slug = name.partition("-")[0]
        proxies.setdefault(slug, []).append(Proxy(name, entry["port"], entry["target"], entry["protocol"]))
    everyone = list(itertools.chain(*proxies.values()))
    for proxy in everyone:
        await proxy.start()
    await serve_until_signalled([(control(proxies, plan["token"]), plan["control"])])
    for proxy in everyone:
        await proxy.stop()


if __name__ == "__main__":
    from sandbox.hosting import run

    run(main(json.loads(Path(sys.argv[1]).read_text())))
