"""One MCP server, asked with the official SDK over streamable HTTP that is bounded in time and size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpcore2  # noqa: F401  httpx2 loads it with the first request, and everything on the loop would wait for it
import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from pydantic import BaseModel, ConfigDict, Field

from adapters.core.errors import AdapterError, Denied, Rejected, TimedOut, Unexpected, Unreachable
from adapters.core.http import MAX_BODY_BYTES, tls_context
from adapters.core.redact import redact

TOOLS_SHOWN = 500


class MCPServerConfig(BaseModel):
    """One MCP server: what it is called here, and its address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    url: str = Field(pattern=r"^https?://")


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


async def ask(server: MCPServerConfig, token: str | None, seconds: float) -> MCPServer:
    """Initialise one server and list its tools within ``seconds``; a failure is in the answer, never raised."""
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
        # Made once for all: reading the certificates takes longer than asking, and holds up every server on the loop.
        super().__init__(verify=tls_context(True), trust_env=False)
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
