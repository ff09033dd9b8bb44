"""MCP servers: the tools that agents may use, asked with the official SDK over streamable HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from adapters.core import aio
from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import deadline, remaining
from adapters.core.errors import AdapterError, Denied, Rejected, TimedOut, Unexpected, Unreachable
from adapters.core.http import MAX_BODY_BYTES
from adapters.core.model import Category, Health, Metric, Service, Setting, State, Unit
from adapters.core.redact import redact

FRESH_S = 2.0
TOOLS_SHOWN = 500
MAX_SERVERS = 50


class MCPServerConfig(BaseModel):
    """One MCP server: what it is called here, and its address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    url: str = Field(pattern=r"^https?://")


class MCPConfig(ServiceConfig):
    """The MCP servers agents may use."""

    servers: tuple[MCPServerConfig, ...] | None = Field(
        None,
        title="Servers",
        description='JSON list of {"name": …, "url": …}, or name=url pairs separated by commas.',
        max_length=MAX_SERVERS,
        json_schema_extra={"required": True},
    )

    tokens: SecretStr | None = Field(
        None, title="Tokens", description="name=token pairs separated by commas, for servers that ask for one."
    )

    def token(self, name: str) -> str | None:
        """The bearer token for one server, None where none is set."""
        text = self.tokens.get_secret_value() if self.tokens else ""
        pairs = (part.partition("=") for part in text.split(","))
        return next((token.strip() for known, _, token in pairs if known.strip() == name), None)

    @field_validator("servers", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value.strip().startswith("["):
                value = json.loads(value)
            else:
                pairs = (part.partition("=") for part in value.split(",") if part.strip())
                value = [{"name": name.strip(), "url": url.strip()} for name, _, url in pairs]
        return value or None


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool a server offers."""

    name: str
    description: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MCPServer:
    """One configured server and what it answered; ``error`` where it failed."""

    name: str
    url: str
    version: str = ""
    protocol: str = ""
    tools: tuple[Tool, ...] = ()
    latency_ms: float | None = None
    """Time of connecting, initialising and listing in milliseconds."""
    error: AdapterError | None = None


class MCP(Adapter[MCPConfig]):
    """All configured MCP servers together."""

    service = Service(
        slug="mcp",
        title="MCP servers",
        category=Category.AI,
        path="/platform/infrastructure/mcp",
        purpose="Offers agents their tools: search, files, whatever is connected.",
        affects="the tools agents can use",
        order=100,
    )

    def __init__(self, config: MCPConfig) -> None:
        super().__init__(config)
        self._lock = threading.Lock()
        self._last: tuple[float, tuple[MCPServer, ...]] | None = None

    def health(self) -> Health:
        """Initialise every server and list its tools; degraded where some fail. Raises where all do."""
        found = self.servers()
        failed = [server for server in found if server.error is not None]
        if not failed:
            return Health(State.HEALTHY, f"{len(found)} of {len(found)} servers answer.", _versions(found))
        names = ", ".join(server.name for server in failed[:5]) + (" and others" if len(failed) > 5 else "")
        error = failed[0].error
        assert error is not None
        if len(failed) == len(found):
            sentence = f"No MCP server answers ({names}): {error.sentence}"
            raise type(error)(sentence, detail=error.detail, advice=error.advice)
        sentence = f"{len(found) - len(failed)} of {len(found)} servers answer; not {names}: {error.sentence}"
        return Health(State.DEGRADED, sentence, _versions(found), detail=error.detail, advice=error.advice)

    def metrics(self) -> Sequence[Metric]:
        """Active servers (headline), tools in all, latency of each server."""
        found = self._recent()
        active = [server for server in found if server.error is None]
        latencies = [
            Metric(f"latency_{server.name}"[:64], f"Latency of {server.name}", server.latency_ms, Unit.MILLISECONDS)
            for server in active
            if server.latency_ms is not None
        ]
        return [
            Metric("active", "Active servers", len(active), headline=True, note=f"of {len(found)}"),
            Metric("tools", "Tools", sum(len(server.tools) for server in active)),
            *latencies,
        ]

    def settings(self) -> Sequence[Setting]:
        """For each server its address, version, protocol and number of tools."""
        return [
            Setting(name, value, group=server.name)
            for server in self._recent()
            for name, value in (
                ("address", redact(server.url)),
                ("version", server.version or "not said"),
                ("protocol", server.protocol or "none agreed"),
                ("tools", str(len(server.tools))),
                ("error", server.error.sentence if server.error else "none"),
            )
        ]

    def servers(self) -> tuple[MCPServer, ...]:
        """Every configured server, asked at once; one that hangs does not keep the others back."""
        self.require_config()
        with deadline():
            found = aio.run(self._ask_all())
        with self._lock:
            self._last = (time.monotonic(), found)
        return found

    def _recent(self) -> tuple[MCPServer, ...]:
        with self._lock:
            if self._last is not None and time.monotonic() - self._last[0] < FRESH_S:
                return self._last[1]
        return self.servers()

    async def _ask_all(self) -> tuple[MCPServer, ...]:
        seconds = max(0.05, remaining() - 0.3)  # time left for tidying up and for the answer's way back
        config = self.config
        asked = (_ask(server, config.token(server.name), seconds) for server in config.servers or ())
        return tuple(await asyncio.gather(*asked))


async def _ask(server: MCPServerConfig, token: str | None, seconds: float) -> MCPServer:
    start = time.perf_counter()
    try:
        async with asyncio.timeout(seconds):
            return await _converse(server, token, start)
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return MCPServer(server.name, server.url, error=_translate(server, token, error))


async def _converse(server: MCPServerConfig, token: str | None, start: float) -> MCPServer:
    headers = {"accept-encoding": "identity"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    transport = _Capped()
    async with httpx2.AsyncClient(
        transport=transport, headers=headers, timeout=httpx2.Timeout(3.0, connect=1.0)
    ) as http:
        try:
            async with Client(streamable_http_client(server.url, http_client=http), cache=None) as client:
                listed = await client.list_tools()
                info = client.server_info
                return MCPServer(
                    server.name,
                    server.url,
                    version=f"{info.name} {info.version}".strip() if info else "",
                    protocol=str(client.protocol_version),
                    tools=tuple(
                        Tool(tool.name, (tool.description or "")[:500], tuple(tool.input_schema.get("properties", {})))
                        for tool in listed.tools[:TOOLS_SHOWN]
                    ),
                    latency_ms=round((time.perf_counter() - start) * 1000, 2),
                )
        except Exception as error:
            # The SDK turns what the transport saw into a protocol error without its cause.
            if transport.cause is not None:
                raise transport.cause from error
            raise


class _Capped(httpx2.AsyncHTTPTransport):
    """A transport that cuts off answers over the size cap and remembers why a request failed."""

    def __init__(self) -> None:
        super().__init__(trust_env=False)
        self.cause: Exception | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await super().handle_async_request(request)
        except httpx2.HTTPError as error:
            self.cause = error
            raise
        status = response.status_code
        # 404 and 405 answer an optional question (a stream, an old session); 400 precedes the older handshake.
        if status in (401, 403) or status >= 500:
            self.cause = _Status(status)
        response.stream = _CappedStream(self, response.stream)
        return response


class _Status(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class _CappedStream(httpx2.AsyncByteStream):
    def __init__(self, transport: _Capped, inner: Any) -> None:
        self._transport = transport
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        try:
            async for chunk in self._inner:
                seen += len(chunk)
                if seen > MAX_BODY_BYTES:
                    raise Unexpected("The answer is larger than 8 MiB and was cut off.", detail=f"over {seen} bytes")
                yield chunk
        except (httpx2.HTTPError, AdapterError) as error:
            self._transport.cause = error
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _translate(server: MCPServerConfig, token: str | None, error: BaseException) -> AdapterError:
    first = next(_leaves(error), error)
    detail = redact(f"{type(first).__name__}: {first}", token)
    name = server.name
    match first:
        case AdapterError():
            return first
        case _Status(status=401 | 403 as status):
            return Denied(f"{name} refused the credentials (HTTP {status}).", detail=detail)
        case _Status(status=status):
            return Unexpected(f"{name} answered HTTP {status}.", detail=detail)
        case TimeoutError() | httpx2.TimeoutException() | asyncio.CancelledError():
            return TimedOut(f"{name} did not answer in time.", detail=detail)
        case httpx2.ConnectError() | httpx2.ReadError() | httpx2.WriteError():
            return Unreachable(f"{name} cannot be reached.", detail=detail)
        case MCPError() if "404" in str(first) or "not found" in str(first).lower():
            return Rejected(f"{name} has no MCP endpoint at this address.", detail=detail)
    return Unexpected(f"{name} does not speak MCP as expected.", detail=detail)


def _versions(found: Sequence[MCPServer]) -> str | None:
    return ", ".join(server.version for server in found if server.version)[:120] or None
