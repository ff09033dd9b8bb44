"""The page of SomaBrain: its parts, its sleep, and writes that are stuck on their way."""

from typing import cast

from adapters.core import Unit
from adapters.somabrain import SomaBrain
from adapters.somabrain_records import Component, OutboxEvent
from pages.somabrain_parts import care
from pages.widgets import listing, state, table
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("somabrain", icon=":material/neurology:")
LIMITS = "Memory queries are limited by the policy `memory_queries`, per tier and agent."
EVENTS = ("Since", "Tenant", "Topic", "Tries", "Last error")


def render() -> None:
    """Draw the page."""
    service(PAGE, monitor=_monitor, limits=LIMITS, more={care.FACE: care.draw})


def _monitor(view: View) -> None:
    adapter = cast(SomaBrain, view.adapter)
    told = listing.known(view, "report", "Parts", adapter.report, every=10.0)
    if told is not None:
        pending = "not told" if told.outbox_pending is None else f"{told.outbox_pending:,}"
        listing.facts(
            (
                ("Says", told.word, "its own word for its state"),
                ("Ready", "yes" if told.ready else "no", "whether it takes work"),
                ("Memory circuit", "open" if told.circuit_open else "closed", "open: memory is not asked for a while"),
                ("Outbox", f"{pending} waiting" if told.outbox_pending is not None else pending, "writes on their way"),
            )
        )
        listing.shown(
            told.components, ("Part", "State", "Response time"), _part, nothing="It names no parts.", right=(2,)
        )
    asleep = listing.known(view, "sleep", "Sleep", lambda: (adapter.sleep_state(),), every=30.0)
    if asleep is not None:
        one = asleep[0]
        listing.facts(
            (("State", "not told by this version" if one is None else one.state, "active, light, deep or freeze"),)
            + ((("Since", state.since(one.since), state.moment(one.since)),) if one and one.since else ())
        )
    for status, title in (("failed", "Writes that failed"), ("pending", "Writes that wait")):
        listing.draw(
            view,
            f"outbox:{status}",
            title,
            lambda status=status: adapter.outbox(status) or (),  # type: ignore[misc]
            EVENTS,
            _event,
            nothing="None, or this version has no outbox.",
            every=30.0,
            quiet=(0,),
            right=(3,),
        )


def _part(one: Component) -> tuple[str, ...]:
    took = "–" if one.response_time_ms is None else state.number(one.response_time_ms, Unit.MILLISECONDS)
    return state.text(one.name), state.text(one.says) if one.healthy else f"<b>{state.text(one.says)}</b>", took


def _event(one: OutboxEvent) -> tuple[str, ...]:
    return (
        table.when(one.created_at),
        state.text(one.tenant),
        f"<code>{state.text(one.topic)}</code>",
        str(one.retries),
        state.text(one.last_error[:200] or "–"),
    )
