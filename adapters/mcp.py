"""MCP servers: the tools that agents may use, asked with the official SDK over streamable HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from typing import Any

from pydantic import Field, SecretStr, field_validator

from adapters.core import aio
from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import deadline, remaining
from adapters.core.model import Category, Health, Metric, Service, Setting, State, Unit
from adapters.core.redact import redact
from adapters.mcp_client.ask import MCPServer, MCPServerConfig, ask

FRESH_S = 2.0
MAX_SERVERS = 50


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
        asked = (ask(server, config.token(server.name), seconds) for server in config.servers or ())
        return tuple(await asyncio.gather(*asked))


def _versions(found: Sequence[MCPServer]) -> str | None:
    return ", ".join(server.version for server in found if server.version)[:120] or None
