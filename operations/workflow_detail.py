"""One execution in detail, with its values only for those who may read them, and how far it is by its own word."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from adapters.core.errors import AdapterError
from adapters.temporal_client import control
from adapters.temporal_client import history as told
from adapters.temporal_client.control import NoAnswer
from adapters.temporal_client.executions import NoExecution
from adapters.temporal_client.history import Detail, Pending
from adapters.temporal_client.steps import Point, Step
from adapters.temporal_client.values import Failure, Value
from operations import change
from operations.access import Actor, Permission, require
from operations.platform import Platform
from operations.readings import Reading
from operations.workflow_catalogue import CATALOGUE
from operations.workflow_executions import adapter_of
from operations.workflow_progress import QUERY, STATES, WAITING, Progress
from operations.workflow_progress import Step as Planned

__all__ = [
    "Detail", "Failure", "NoAnswer", "NoExecution", "Pending", "Point", "Progress", "Step", "Value", "asked", "detail",
    "good_point", "missing", "own", "progress", "reading", "starts_with", "tell", "wordless",
]  # fmt: skip

LIVE_SECONDS = 2.0
CLOSED_SECONDS = 60.0
STEPS_MOST = 200
MASK = "••••"


def detail(platform: Platform, actor: Actor, workflow_id: str, run_id: str = "") -> Detail:
    """The execution as it is now; the latest run where none is named.

    Raises Forbidden, NotFound, AdapterError.
    """
    require(actor, Permission.INFRA_VIEW)
    try:
        return _for(actor, _read(platform, workflow_id, run_id))
    except NoExecution as error:
        raise change.NotFound(error.sentence) from error


def reading(platform: Platform, actor: Actor, workflow_id: str, run_id: str = "") -> Reading[Detail]:
    """The same, shared by all who look: every two seconds while it runs. Raises Forbidden."""
    require(actor, Permission.INFRA_VIEW)
    key = f"temporal:execution:{workflow_id}:{run_id}"
    found = platform.readings.get(key, lambda: _read(platform, workflow_id, run_id), LIVE_SECONDS)
    if found.value is not None and found.value.execution.status != "Running":
        platform.readings.get(key, lambda: _read(platform, workflow_id, run_id), CLOSED_SECONDS)
    return replace(found, value=None if found.value is None else _for(actor, found.value))


def missing(error: AdapterError | None) -> bool:
    """Whether a reading failed because there is no such execution."""
    return isinstance(error, NoExecution)


def asked(platform: Platform, actor: Actor, of: Detail) -> Reading[Progress]:
    """What one of the platform's own runs tells of its steps, shared by all who look; in words as for ``progress``.

    Raises Forbidden.
    """
    require(actor, Permission.INFRA_VIEW)
    one = of.execution
    found = platform.readings.get(
        f"temporal:progress:{one.id}:{one.run_id}",
        lambda: tell(platform, one.id, one.run_id),
        LIVE_SECONDS if one.status == "Running" else CLOSED_SECONDS,
        0.6,
    )
    return replace(found, value=None if found.value is None else wordless(actor, found.value))


def progress(platform: Platform, actor: Actor, workflow_id: str, run_id: str = "") -> Progress:
    """What the run answers to the query "progress"; for who may not read payloads without its words.

    Raises Forbidden, NoAnswer, AdapterError.
    """
    require(actor, Permission.INFRA_VIEW)
    return wordless(actor, tell(platform, workflow_id, run_id))


def tell(platform: Platform, workflow_id: str, run_id: str = "") -> Progress:
    """What a run answers to the query "progress", with its words: see ``wordless``. Raises NoAnswer, AdapterError."""
    adapter = adapter_of(platform)
    answer = adapter.call(lambda client: control.ask(client, adapter.config.namespace, workflow_id, run_id, QUERY))
    steps = answer.get("steps") if isinstance(answer, dict) else None
    if not isinstance(steps, list):
        raise NoAnswer("The workflow does not tell its progress.")
    return Progress([_planned(one) for one in steps[:STEPS_MOST] if isinstance(one, dict)], _text(answer, "sentence"))


def own(kind: str) -> bool:
    """Whether a type is one of the platform's own, which tell their progress."""
    return kind in CATALOGUE


def starts_with(kind: str) -> Permission:
    """What starting an execution of a type, and doing anything to one of the platform's own, needs."""
    found = CATALOGUE.get(kind)
    return found.permission if found else Permission.WORKFLOWS_OPERATE


def good_point(of: Detail) -> Point | None:
    """The last point before the step that went wrong last; without such a step the last decision."""
    bad = [step for step in of.steps if step.state in ("failed", "timed out") and step.decided_by]
    if bad:
        found = [point for point in of.points if point.event == bad[-1].decided_by]
        if found:
            return found[0]
    return of.points[-1] if of.points else None


def _read(platform: Platform, workflow_id: str, run_id: str) -> Detail:
    adapter = adapter_of(platform)
    return adapter.call(lambda client: told.detail(client, adapter.config.namespace, workflow_id, run_id))


def _for(actor: Actor, of: Detail) -> Detail:
    """The detail with every value masked, unless the actor may read payloads."""
    if actor.may(Permission.PAYLOADS_READ):
        return of
    return replace(
        of,
        input=_masked(of.input),
        result=_masked(of.result),
        failure=_silent(of.failure),
        pending=tuple(replace(one, failure=_silent(one.failure)) for one in of.pending),
        steps=tuple(
            replace(step, given=_masked(step.given), gave=_masked(step.gave), failure=_silent(step.failure))
            for step in of.steps
        ),
    )


def _masked(values: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(Value(MASK, one.encoding, readable=False) for one in values)


def _silent(failure: Failure | None) -> Failure | None:
    """A failure by its kind alone: its words may quote what was given."""
    if failure is None:
        return None
    return replace(failure, message=MASK, stack="", cause=_silent(failure.cause))


def wordless(actor: Actor, told: Progress) -> Progress:
    """The steps alone, unless the actor may read payloads: the words quote what was given and why a step failed."""
    if actor.may(Permission.PAYLOADS_READ):
        return told
    return Progress([replace(step, detail="") for step in told.steps])


def _planned(given: dict[str, Any]) -> Planned:
    names = {field.name for field in fields(Planned)}
    texts = {name: _text(given, name) for name in names if name not in ("needs", "started_at", "ended_at")}
    needs = given.get("needs")
    made = Planned(
        **texts,
        needs=[str(one)[:100] for one in needs[:50]] if isinstance(needs, list) else [],
        started_at=_text(given, "started_at") or None,
        ended_at=_text(given, "ended_at") or None,
    )
    made.state = made.state if made.state in STATES else WAITING
    return made


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    return "" if value is None else str(value)[:1000]
