"""The MCP adapter on real servers built with the official SDK."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.core import State
from adapters.core.probe import probe
from adapters.mcp import MCP, MCPConfig
from sandbox.inprocess import Services


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = Services(tmp_path)
    yield made
    made.close()


def adapter(services: Services) -> MCP:
    pairs = ",".join(f"{name}={services.url(f'mcp-{name}')}/mcp" for name in ("calendar", "files"))
    return MCP(MCPConfig.model_validate({"servers": pairs}))


def test_well_servers_are_active_with_their_tools(services: Services) -> None:
    made = adapter(services)
    sample = probe(made)
    assert sample.health.state is State.HEALTHY, sample.health
    headline = sample.headline
    assert headline is not None
    assert (headline.name, headline.value) == ("active", 2)
    tools = {tool.name for server in made.servers() for tool in server.tools}
    assert {"list_events", "read_file"} <= tools
    assert len([m for m in sample.metrics if m.name.startswith("latency_")]) == 2
    assert {s.group for s in made.settings()} == {"calendar", "files"}


def test_certificates_are_read_once_and_not_for_every_server(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes as long as asking, and all servers are asked on one loop: fifty would hold each other up for seconds."""
    reads: list[int] = []
    real = ssl.SSLContext.load_verify_locations

    def counted(self: ssl.SSLContext, *args: Any, **more: Any) -> None:
        reads.append(1)
        real(self, *args, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", counted)
    made = adapter(services)
    for _ in range(2):
        assert {server.error for server in made.servers()} == {None}
    assert len(reads) <= 1


@pytest.mark.parametrize("fault", ["refuse", "hang", "drip", "500", "401", "garbage", "huge", "reset"])
def test_one_broken_server_degrades_and_is_named(services: Services, fault: str) -> None:
    made = adapter(services)
    services.fault("mcp-files", fault)
    sample = probe(made)
    assert sample.health.state is State.DEGRADED, sample.health
    assert "files" in sample.health.message
    assert sample.headline is not None
    assert sample.headline.value == 1


def test_all_broken_is_down(services: Services) -> None:
    made = adapter(services)
    services.fault("mcp-files", "500")
    services.fault("mcp-calendar", "500")
    health = probe(made).health
    assert (health.state, health.kind) == (State.DOWN, "Unexpected")


def test_servers_are_read_from_text_or_json() -> None:
    by_text = MCPConfig.model_validate({"servers": "a=http://a/mcp, b=http://b/mcp"})
    by_json = MCPConfig.model_validate(
        {"servers": '[{"name":"a","url":"http://a/mcp"},{"name":"b","url":"http://b/mcp"}]'}
    )
    assert by_text == by_json
    assert MCPConfig.model_validate({"servers": []}).missing() == ("servers",)
    with pytest.raises(ValidationError):
        MCPConfig.model_validate({"servers": "a=file:///etc/passwd"})
