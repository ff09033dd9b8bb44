"""How far a tenant's run is: a bar, what it does now, its steps, and the way to the execution."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from adapters.core import AdapterError
from operations import change, tenant_moving
from operations.access import Forbidden
from operations.workflow_progress import COMPENSATED, COMPENSATING, DONE, FAILED, RUNNING, Progress
from pages.temporal_parts import common
from pages.widgets import cached, session, state, table
from pages.widgets.page import all_pages

T = TypeVar("T")
EVERY_SECONDS = 1.5
_TONE = {DONE: "completed", RUNNING: "running", FAILED: "failed", COMPENSATING: "pending", COMPENSATED: "canceled"}
_WORDS = {COMPENSATING: "Taking back", COMPENSATED: "Taken back"}
LABELS = {
    "id": "Id", "tenant": "Tenant", "name": "Name", "tier": "Tier", "email": "Mail address", "reason": "Reason",
    "wait_hours": "Waiting period",
}  # fmt: skip
"""Fields as the forms name them."""


def attempt(operation: Callable[[], T]) -> T | None:
    """Do it; None where it was refused: the page says why, and keeps what was typed."""
    try:
        return operation()
    except change.Invalid as error:
        for field in error.errors:
            allowed = f" Allowed: {state.plain(field.allowed)}." if field.allowed else ""
            label = LABELS.get(field.field, field.field)
            st.error(f"**{state.plain(label)}** {state.plain(field.message)}.{allowed}", icon=":material/error:")
    except change.StoreUnavailable as error:
        st.error(f"Not begun. {state.plain(str(error))}", icon=":material/database_off:")
    except Forbidden as error:
        st.error(state.plain(str(error)), icon=":material/lock:")
    except change.NotFound as error:
        st.error(state.plain(str(error)), icon=":material/search_off:")
    except AdapterError as error:
        st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
    return None


def address(workflow_id: str) -> str:
    """Where the execution is shown in full."""
    return f"/{all_pages()['temporal'].url}{common.executions(run=workflow_id)}"


def read(workflow_id: str, *, every: float = EVERY_SECONDS, wait: float = 0.25) -> Progress | None:
    """The run's progress, shared among everyone who looks; where it cannot be read the page says why."""
    who, platform = session.actor(), session.platform()
    return cached.shown(tenant_moving.reading(platform, who, workflow_id, every, wait), "its progress")


@cached.live(EVERY_SECONDS)
def live(workflow_id: str) -> None:
    """All of it, drawn anew as it goes on."""
    told = read(workflow_id)
    if told is not None:
        bar(told)
        steps(told)
    st.html(common.anchor(address(workflow_id), "Open the execution"))


def bar(told: Progress, sentence: str = "") -> None:
    """The share of the steps that is done, and what it does now; ``sentence`` where the caller says it better.

    Who may not read its words sees the steps counted.
    """
    counted = f"{told.done} of {len(told.steps)} steps" if told.steps else "Begins."
    st.progress(min(1.0, told.percent / 100), text=sentence or state.plain(told.sentence) or counted)


def steps(told: Progress) -> None:
    """Each step with its state and what came of it."""
    table.draw(
        ("Step", "State", "What came of it"),
        ((state.text(step.title), _state(step.state), state.text(step.detail or "–")) for step in told.steps),
        quiet=(0, 1),
    )


def _state(name: str) -> str:
    said = _WORDS.get(name) or state.words(name)
    return f"<span class='ph-run {_TONE.get(name, '')}'>{state.text(said)}</span>"
