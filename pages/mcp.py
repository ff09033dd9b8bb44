"""The page of the MCP servers: each server, and the tools it offers."""

from typing import cast

import streamlit as st

from adapters.core import Unit
from adapters.mcp import MCP
from adapters.mcp_client.ask import MCPServer, Tool
from pages.widgets import listing, state
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("mcp", icon=":material/extension:")
LIMITS = "Tool calls count against the policy `api_calls`, per tier."


def render() -> None:
    """Draw the page."""
    service(PAGE, monitor=_monitor, limits=LIMITS)


def _monitor(view: View) -> None:
    servers = listing.known(view, "servers", "Servers", cast(MCP, view.adapter).servers, every=30.0)
    if servers is None:
        return
    listing.shown(
        servers,
        ("Server", "State", "Version", "Protocol", "Tools", "Latency"),
        _server,
        nothing="No server is configured.",
        right=(4, 5),
    )
    for one in servers:
        if one.error is not None:
            continue
        st.markdown(f"#### Tools of {state.plain(one.name)}")
        listing.shown(one.tools, ("Tool", "What it does", "Takes"), _tool, nothing="It offers none.")


def _server(one: MCPServer) -> tuple[str, ...]:
    said = "answers" if one.error is None else f"<b>fails</b><br><small>{state.text(one.error.sentence)}</small>"
    return (
        f"<b>{state.text(one.name)}</b>",
        said,
        state.text(one.version or "–"),
        state.text(one.protocol or "–"),
        str(len(one.tools)),
        "–" if one.latency_ms is None else state.number(one.latency_ms, Unit.MILLISECONDS),
    )


def _tool(one: Tool) -> tuple[str, ...]:
    return (
        f"<code>{state.text(one.name)}</code>",
        state.text(one.description[:300] or "–"),
        state.text(", ".join(one.parameters[:20]) or "nothing"),
    )
