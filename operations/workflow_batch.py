"""The same done to many executions at once: previewed, confirmed against what was previewed, run by Temporal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from adapters.core import utcnow
from adapters.temporal_client import batches, control
from adapters.temporal_client import executions as visible
from adapters.temporal_client.batches import Batch
from adapters.temporal_client.executions import Execution
from operations import change
from operations.access import Actor, Permission, require
from operations.change import FieldError, Invalid
from operations.platform import Platform
from operations.workflow_audit import recorded
from operations.workflow_catalogue import CATALOGUE
from operations.workflow_control import FAILED, NAME_LETTERS, SIGNALS, arguments, in_temporal
from operations.workflow_detail import starts_with
from operations.workflow_executions import adapter_of, count, cut, query_for
from operations.workflow_filters import PENDING, Filters

__all__ = ["ACTIONS", "Batch", "Preview", "preview", "progress", "start"]

ACTIONS = ("terminate", "cancel", "signal", "reset", "again")
ENDED = ("reset", "again")
"""What can be done to executions that have ended."""
AGAIN_MOST = 200
"""So many are run again at once: the console does it itself (operations/workflow_batch_again.py)."""
LISTED = 1000
"""Up to so many are named to Temporal one by one; more are named by the query."""
SHOWN = 50
DRIFT_LEAST, DRIFT_SHARE = 5, 0.1
"""How far the number may move between preview and start: 5, or a tenth if that is more."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a batch would touch, as it was when somebody looked."""

    action: str
    filters: Filters
    """With the moment of the preview: what starts later is not touched."""
    query: str
    total: int
    rows: tuple[Execution, ...]
    """The newest fifty."""
    all: tuple[tuple[str, str], ...]
    """Id and run id of every one; empty where there are more than a thousand."""
    at: datetime
    cut: bool = False
    """Whether more wait for a place than were named, and are not touched."""

    @property
    def name(self) -> str:
        """What is typed to confirm: the action and the number."""
        return f"{'run again' if self.action == 'again' else self.action} {self.total}"


def preview(platform: Platform, actor: Actor, filters: Filters, action: str) -> Preview:
    """How many and which executions the action would touch. Raises Forbidden, Invalid, AdapterError."""
    require(actor, Permission.WORKFLOWS_OPERATE)
    if action not in ACTIONS:
        raise Invalid([FieldError("action", "is not one", ", ".join(ACTIONS))])
    if not filters.any:
        raise Invalid([FieldError("filter", "is empty: a batch over everything is refused", "at least one filter")])
    if action == "again":
        if filters.status not in ("", *FAILED):
            raise Invalid([FieldError("status", f"{filters.status} did not fail", f"{', '.join(FAILED)} or any")])
        filters = replace(filters, status=filters.status or "Failed")
    if action not in ENDED:
        if filters.status not in ("", "Running", PENDING):
            raise Invalid([FieldError("status", f"{filters.status} has ended", "Running, Pending or any")])
        filters = replace(filters, status=filters.status or "Running")
    at = utcnow()
    # The span is counted back from now at each question: fixed here, both ends stay where they were.
    fixed = replace(filters, started_by=at)
    query = query_for(platform, fixed)
    adapter = adapter_of(platform)
    total = count(platform, actor, fixed)
    size = LISTED if total <= LISTED else SHOWN
    if action == "again" and total > AGAIN_MOST:
        words = f"matches {total:,} executions"
        raise Invalid([FieldError("filter", words, f"at most {AGAIN_MOST} are run again at once: narrow it")])
    rows = adapter.call(lambda client: visible.page(client, adapter.config.namespace, query, size=size)).rows
    if action == "again":
        rows = _latest(rows)
    complete = total <= LISTED
    # Visibility lags behind: what was listed is what is done.
    return Preview(
        action, fixed, query, len(rows) if complete else total, rows[:SHOWN],
        tuple((one.id, one.run_id) for one in rows) if complete else (), at, cut(platform, fixed),
    )  # fmt: skip


def start(
    platform: Platform, actor: Actor, seen: Preview, *, confirmed: str, reason: str, signal_name: str = "",
    given: str = "", to_first: bool = False, request_id: str | None = None,
) -> str:  # fmt: skip
    """Begin the batch that was previewed, and return its job's id; running again is not one of Temporal's.

    ``confirmed`` is what was typed. Raises Forbidden; Invalid where the number has moved far since the preview or was
    not typed; AdapterError.
    """
    agreed(actor, seen, confirmed)
    values = []
    if seen.action == "signal":
        signal_name = change.clean(signal_name).strip()
        if not signal_name or len(signal_name) > NAME_LETTERS:
            raise Invalid([FieldError("signal", "needs a name", f"1 to {NAME_LETTERS} letters")])
        known = SIGNALS.get(seen.filters.type, {})
        if seen.filters.type in CATALOGUE and signal_name not in known:
            said = f"{seen.filters.type} knows no {signal_name}"
            raise Invalid([FieldError("signal", said, ", ".join(known) or "none")])
        values = control.payloads(arguments(given))
    said, adapter = in_temporal(actor, reason), adapter_of(platform)
    now = _still(platform, seen)
    if abs(now - seen.total) > max(DRIFT_LEAST, DRIFT_SHARE * seen.total):
        raise Invalid(
            [FieldError("count", f"{now:,} match now, {seen.total:,} were previewed: look again before you go on")]
        )
    asked = {
        "batch": seen.action, "query": seen.query, "previewed": seen.total, "matching": now,
        "first": [f"{one.id} {one.run_id}" for one in seen.rows[:SHOWN]],
        **({"signal": signal_name} if signal_name else {}),
    }  # fmt: skip
    with recorded(
        platform, actor, action=f"temporal.batch.{seen.action}", subject="temporal:batch", reason=reason, asked=asked,
        request_id=request_id,
    ) as record:  # fmt: skip
        job = adapter.call(
            lambda client: batches.start(
                client, adapter.config.namespace, action=seen.action, reason=said,
                query=seen.query, executions=seen.all, signal_name=signal_name, given=values, to_first=to_first,
            )
        )  # fmt: skip
        record.after = {"job": job}
    platform.readings.forget("temporal:executions:")
    return job


def agreed(actor: Actor, seen: Preview, confirmed: str) -> None:
    """Raise Forbidden, or Invalid where what was typed is not the preview's name, or there is nothing in it."""
    require(actor, Permission.WORKFLOWS_OPERATE)
    for kind in (seen.filters.type,) if seen.filters.type else CATALOGUE:
        require(actor, starts_with(kind))
    if confirmed.strip() != seen.name:
        raise Invalid([FieldError("confirm", "is not what was asked for", seen.name)])
    if not seen.total:
        raise Invalid([FieldError("filter", "matches nothing", "at least one execution")])


def progress(platform: Platform, actor: Actor, job: str) -> Batch:
    """How far a batch is. Raises Forbidden, AdapterError."""
    require(actor, Permission.INFRA_VIEW)
    adapter = adapter_of(platform)
    return adapter.call(lambda client: batches.progress(client, adapter.config.namespace, job))


def _still(platform: Platform, seen: Preview) -> int:
    """How many match now, by the very question of the preview."""
    adapter = adapter_of(platform)
    return adapter.call(lambda client: visible.count(client, adapter.config.namespace, seen.query))


def actions(filters: Filters) -> Sequence[str]:
    """What makes sense for the filters: only running ones can be ended or signaled, only failed ones run again."""
    if not filters.status:
        return ACTIONS
    if filters.status in ("Running", PENDING):
        return ACTIONS[:-1]
    return ("again", "reset") if filters.status in FAILED else ("reset",)


def _latest(rows: Sequence[Execution]) -> tuple[Execution, ...]:
    """Of each id the run that began last: only that one can be run again."""
    found: dict[str, Execution] = {}
    for one in rows:
        before = found.get(one.id)
        if before is None or (one.started_at or utcnow()) > (before.started_at or utcnow()):
            found[one.id] = one
    return tuple(found.values())
