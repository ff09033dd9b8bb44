"""The page of Redis: what its commands cost, and the slow ones."""

from datetime import UTC, datetime
from typing import cast

from adapters.core import Unit
from adapters.redis import CommandStats, Redis, SlowCommand
from pages.widgets import listing, state, table
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("redis", icon=":material/bolt:")
LIMITS = "Redis carries the rate limits of the whole platform; the policies themselves are set on the rate limits page."


def render() -> None:
    """Draw the page."""
    service(PAGE, monitor=_monitor, limits=LIMITS)


def _monitor(view: View) -> None:
    adapter = cast(Redis, view.adapter)
    listing.draw(
        view,
        "slowlog",
        "Slow commands",
        adapter.slowlog,
        ("When", "Took", "Command", "Client"),
        _slow,
        nothing="None over the server's threshold since it started.",
        quiet=(0, 3),
        right=(1,),
    )
    listing.draw(
        view,
        "command_stats",
        "Commands since the server started",
        adapter.command_stats,
        ("Command", "Calls", "Failed", "Per call", "In all"),
        _command,
        nothing="No command yet.",
        right=(1, 2, 3, 4),
    )


def _slow(one: SlowCommand) -> tuple[str, ...]:
    return (
        table.when(datetime.fromtimestamp(one.at, UTC)),
        state.number(one.took_us / 1000, Unit.MILLISECONDS),
        f"<code>{state.text(one.command)}</code>",
        state.text(one.client or "–"),
    )


def _command(one: CommandStats) -> tuple[str, ...]:
    return (
        f"<code>{state.text(one.name)}</code>",
        f"{one.calls:,}",
        f"{one.failed:,}",
        f"{one.per_call_us:,.1f} µs",
        state.number(one.total_us / 1000, Unit.MILLISECONDS),
    )
