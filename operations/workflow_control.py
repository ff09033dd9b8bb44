"""What people do to executions: signal, cancel, terminate, reset, run again. On record before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from adapters.temporal_client import control
from adapters.temporal_client.control import AlreadyThere
from adapters.temporal_client.executions import NoExecution
from operations import change
from operations.access import Actor, Permission, require
from operations.change import FieldError, Invalid
from operations.platform import Platform
from operations.workflow_audit import Record, reasoned, recorded
from operations.workflow_catalogue import CATALOGUE, END_WAIT, KEEP_TENANT, OFFBOARDING
from operations.workflow_detail import Detail, detail, starts_with
from operations.workflow_executions import adapter_of

__all__ = ["FAILED", "SIGNALS", "AlreadyThere", "again", "arguments", "cancel", "reset", "signal", "terminate"]

FAILED = ("Failed", "TimedOut", "Terminated", "Canceled")
"""How a run ends that may be run again under the same id."""
SIGNALS: dict[str, dict[str, str]] = {
    OFFBOARDING: {
        END_WAIT: "End the waiting period: removing begins now.",
        KEEP_TENANT: "Call the offboarding off while it still waits.",
    }
}
"""Signals that the platform's own types know, and what each does."""
NAME_LETTERS = 255
INPUT_LETTERS = 100_000


def signal(
    platform: Platform, actor: Actor, workflow_id: str, run_id: str, name: str, given: str, reason: str,
    request_id: str | None = None,
) -> None:  # fmt: skip
    """Send a signal. ``given`` is JSON: nothing, one value, or a list of arguments in ``[…]``.

    Raises Forbidden, Invalid, NotFound (gone or ended), AdapterError.
    """
    of = _found(platform, actor, workflow_id, run_id, running=True)
    name = change.clean(name).strip()
    if not name or len(name) > NAME_LETTERS:
        raise Invalid([FieldError("signal", "needs a name", f"1 to {NAME_LETTERS} letters")])
    known = SIGNALS.get(of.execution.type)
    if of.execution.type in CATALOGUE and name not in (known or {}):
        raise Invalid([FieldError("signal", f"{of.execution.type} knows no {name}", ", ".join(known or {}) or "none")])
    values = control.payloads(arguments(given))
    adapter = adapter_of(platform)
    with _on_record(platform, actor, of, "signal", reason, {"signal": name}, request_id), _present():
        adapter.call(
            lambda c: control.signal(c, adapter.config.namespace, workflow_id, of.execution.run_id, name, values)
        )
    _forget(platform, workflow_id)


def cancel(
    platform: Platform, actor: Actor, workflow_id: str, run_id: str, reason: str, request_id: str | None = None
) -> None:
    """Ask it to end: its code may clean up first. Raises Forbidden, Invalid, NotFound, AdapterError."""
    of = _found(platform, actor, workflow_id, run_id, running=True)
    said, adapter = in_temporal(actor, reason), adapter_of(platform)
    with _on_record(platform, actor, of, "cancel", reason, {}, request_id), _present():
        adapter.call(lambda c: control.cancel(c, adapter.config.namespace, workflow_id, of.execution.run_id, said))
    _forget(platform, workflow_id)


def terminate(
    platform: Platform, actor: Actor, workflow_id: str, run_id: str, reason: str, request_id: str | None = None
) -> None:
    """End it at once: nothing is cleaned up. Raises Forbidden, Invalid, NotFound, AdapterError."""
    of = _found(platform, actor, workflow_id, run_id, running=True)
    said, adapter = in_temporal(actor, reason), adapter_of(platform)
    with _on_record(platform, actor, of, "terminate", reason, {}, request_id), _present():
        adapter.call(lambda c: control.terminate(c, adapter.config.namespace, workflow_id, of.execution.run_id, said))
    _forget(platform, workflow_id)


def reset(
    platform: Platform, actor: Actor, workflow_id: str, run_id: str, event: int, reason: str,
    request_id: str | None = None,
) -> str:  # fmt: skip
    """Begin a new run that repeats the history up to one of its points and decides anew there; its run id.

    Raises Forbidden, Invalid (no such point), NotFound, AdapterError.
    """
    of = _found(platform, actor, workflow_id, run_id)
    point = next((one for one in of.points if one.event == event), None)
    if point is None:
        allowed = ", ".join(str(one.event) for one in of.points[-20:])
        raise Invalid([FieldError("event", f"{event} is no point to reset to", allowed or "none yet")])
    said, adapter, run = in_temporal(actor, reason), adapter_of(platform), of.execution.run_id
    told = {"event": event, "before": point.before}
    with _on_record(platform, actor, of, "reset", reason, told, request_id) as record, _present():
        made = adapter.call(lambda c: control.reset(c, adapter.config.namespace, workflow_id, run, event, said))
        record.after = {"run": made}
    _forget(platform, workflow_id)
    return made


def again(
    platform: Platform, actor: Actor, workflow_id: str, run_id: str, reason: str, request_id: str | None = None
) -> str:
    """Start one that failed once more, with the same input, under the same id, as a new run; its run id.

    Raises Forbidden, Invalid (it did not fail), NotFound, AlreadyThere (it runs again or has completed since),
    AdapterError.
    """
    of = _found(platform, actor, workflow_id, run_id)
    one = of.execution
    require(actor, starts_with(one.type))
    if one.status not in FAILED:
        raise Invalid([FieldError("status", f"is {one.status}", ", ".join(FAILED))])
    adapter, space = adapter_of(platform), adapter_of(platform).config.namespace
    with _on_record(platform, actor, of, "again", reason, {}, request_id) as record:
        with _present():
            first = adapter.call(lambda c: control.started(c, space, one.id, one.run_id))
        made = adapter.call(
            lambda c: control.start(
                c, space, kind=one.type, workflow_id=one.id, task_queue=one.task_queue,
                given=list(first.input.payloads), again=first,
            )
        )  # fmt: skip
        record.after = {"run": made}
    _forget(platform, workflow_id)
    return made


def arguments(given: str, field: str = "input") -> Sequence[Any]:
    """Arguments from JSON as people write it: nothing is none, a list is all of them, anything else is one.

    Raises Invalid saying where the JSON is wrong.
    """
    text = given.strip()
    if not text:
        return []
    if len(text) > INPUT_LETTERS:
        raise Invalid([FieldError(field, "is too long", f"at most {INPUT_LETTERS:,} letters")])
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise Invalid([FieldError(field, "is nested too deep")]) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, letter {error.colno}"
        raise Invalid([FieldError(field, f"is not JSON: {error.msg} at {where}", 'such as ["acme", 3]')]) from error
    except ValueError as error:
        raise Invalid([FieldError(field, str(error), "numbers without NaN and Infinity")]) from error
    return value if isinstance(value, list) else [value]


def _no_constant(name: str) -> Any:
    raise ValueError(f"holds {name}, which is not JSON")


def in_temporal(actor: Actor, reason: str) -> str:
    """The reason as Temporal keeps it, with the name of who gave it. Raises Invalid."""
    return f"{reasoned(reason)} ({actor.name}, Pilothouse)"


@contextmanager
def _present() -> Iterator[None]:
    try:
        yield
    except NoExecution as error:
        raise change.NotFound(error.sentence) from error


def _found(platform: Platform, actor: Actor, workflow_id: str, run_id: str, *, running: bool = False) -> Detail:
    """The execution that something is to be done to; the run as named, or else the latest."""
    require(actor, Permission.WORKFLOWS_OPERATE)
    of = detail(platform, actor, workflow_id, run_id)
    require(actor, starts_with(of.execution.type))
    if running and of.execution.status != "Running":
        raise change.NotFound(f"The execution {workflow_id} has ended.")
    return of


def _on_record(
    platform: Platform, actor: Actor, of: Detail, verb: str, reason: str, asked: dict[str, Any], request_id: str | None
) -> AbstractContextManager[Record]:
    one = of.execution
    return recorded(
        platform, actor, action=f"temporal.execution.{verb}", subject=f"temporal:execution:{one.id}", reason=reason,
        asked={"run": one.run_id, "type": one.type, "status": one.status, **asked}, request_id=request_id,
    )  # fmt: skip


def _forget(platform: Platform, workflow_id: str) -> None:
    """Have the next look read anew: the execution itself and every list it may stand in."""
    platform.readings.forget(f"temporal:execution:{workflow_id}:")
    platform.readings.forget("temporal:executions:")
