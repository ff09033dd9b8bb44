"""Task queues and workers of Temporal: found, read, and queues given a rate limit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from adapters.temporal_client import queues, schedules, workers
from adapters.temporal_client.queues import Limit, Queue
from adapters.temporal_client.workers import Workers
from operations import change
from operations.access import Actor, Permission, require
from operations.change import FieldError, Invalid, NotFound, Outcome
from operations.platform import Platform
from operations.workflow_audit import reasoned, recorded
from operations.workflow_catalogue import TASK_QUEUE
from operations.workflow_executions import adapter_of

PER_PAGE = 15
QUEUES_MOST = 100
SCHEDULES_ASKED = 40
RATE_MOST = 1_000_000.0
NAME_LETTERS = 200
FIND_EVERY = 30.0


@dataclass(frozen=True, slots=True)
class Found:
    """Names of queues, each with where it was found, and whether there may be more."""

    names: dict[str, tuple[str, ...]]
    cut: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of queues. ``sources`` by name: ours, workers, schedules, running workflows."""

    rows: tuple[Queue, ...]
    sources: dict[str, tuple[str, ...]]
    total: int
    page: int
    pages: int
    cut: bool


def find(platform: Platform, actor: Actor) -> Found:
    """At most 100 queues: ours, and those of workers, of 40 schedules and of running workflows. Raises AdapterError.

    Temporal has no list of its task queues: one that has neither a worker nor work now is not found.
    """
    require(actor, Permission.INFRA_VIEW)
    service = adapter_of(platform)
    space = service.config.namespace
    names: dict[str, list[str]] = {}

    def add(some: Any, source: str) -> None:
        for name in some:
            sources = names.setdefault(name, [])
            if name and source not in sources:
                sources.append(source)

    add((TASK_QUEUE, service.config.task_queue), "ours")
    add(service.call(lambda client: workers.named(client, space)), "workers")
    listed = service.call(lambda client: schedules.names(client, space))
    some = [one.id for one in listed.rows[:SCHEDULES_ASKED]]
    add((one.task_queue for one in service.call(lambda client: schedules.describe(client, space, some))), "schedules")
    known = list(names)
    used, more = service.call(lambda client: queues.in_use(client, space, known))
    add(used, "running workflows")
    cut = more or len(names) > QUEUES_MOST or len(listed.rows) > SCHEDULES_ASKED
    return Found({name: tuple(names[name]) for name in list(names)[:QUEUES_MOST] if name}, cut)


def listing(platform: Platform, actor: Actor, found: Found, words: str = "", page: int = 1) -> Listed:
    """A page of 15 of the queues found, by name. Raises Forbidden, AdapterError."""
    require(actor, Permission.INFRA_VIEW)
    service = adapter_of(platform)
    sought = words.strip().lower()
    names = sorted(name for name in found.names if sought in name.lower())
    pages = max(1, -(-len(names) // PER_PAGE))
    page = max(1, min(page, pages))
    shown = names[(page - 1) * PER_PAGE : page * PER_PAGE]
    rows = service.call(lambda client: queues.describe(client, service.config.namespace, shown))
    return Listed(rows, {name: found.names[name] for name in shown}, len(names), page, pages, found.cut)


def one(platform: Platform, actor: Actor, name: str) -> Queue:
    """One queue as it is now; a queue nobody knows is empty. Raises Forbidden, Invalid, AdapterError."""
    require(actor, Permission.INFRA_VIEW)
    _named(name)
    service = adapter_of(platform)
    return service.call(lambda client: queues.describe(client, service.config.namespace, [name]))[0]


def set_limit(
    platform: Platform, actor: Actor, name: str, rate: float | None, *, seen: int | None, reason: str,
    kind: str = "activity", request_id: str | None = None,
) -> Outcome:  # fmt: skip
    """Limit how many activities a queue hands out, in tasks per second; 0 blocks, None takes the limit away.

    ``seen`` is the limit's version that was seen (0: none was ever set). Read back before it counts.
    Raises Forbidden, Invalid, NotFound (nobody polls it and nothing waits), Conflict, AdapterError,
    StoreUnavailable.
    """
    require(actor, Permission.WORKFLOWS_OPERATE)
    _named(name)
    if kind != "activity":
        words = "Temporal limits the rate of activities only: a workflow queue's limit is refused by the server."
        raise Invalid([FieldError("kind", words, "activity")])
    if rate is not None and not (math.isfinite(rate) and 0 <= rate <= RATE_MOST):
        raise Invalid([FieldError("requests_per_second", f"{rate:g} is no rate", f"0 to {RATE_MOST:,.0f}, or none")])
    said = reasoned(reason)
    now = one(platform, actor, name)
    held = now.activity.limit
    if seen is not None and seen != held.version:
        raise change.Conflict({**facts(held), "version": held.version}, {"requests_per_second": rate, "version": seen})
    if rate is None and held.rate is None:
        raise Invalid([FieldError("requests_per_second", "No limit is set that could be taken away.", "a number")])
    if not _alive(now) and name not in find(platform, actor).names:
        raise NotFound(f"No worker polls a task queue {name}, and nothing waits on it.")
    service = adapter_of(platform)
    asked = {"requests_per_second": rate}
    action = "temporal.queue.limit" if rate is not None else "temporal.queue.unlimit"
    with recorded(platform, actor, action=action, subject=f"temporal:queue:{name}", reason=said, asked=asked,
                  request_id=request_id) as record:  # fmt: skip
        record.before = facts(held)
        identity = f"{actor.name} (Pilothouse)"
        done = service.call(
            lambda client: queues.set_limit(client, service.config.namespace, name, rate, said, identity)
        )
        record.after = facts(done)
    platform.readings.forget("temporal:queue")
    return Outcome(done.version)


def alive(platform: Platform, actor: Actor, names: tuple[str, ...] = ()) -> Workers:
    """Workers by heartbeat; where there are none, pollers of the queues named (none named: of ours).

    Raises Forbidden, AdapterError.
    """
    require(actor, Permission.INFRA_VIEW)
    service = adapter_of(platform)
    asked = names[:QUEUES_MOST] or tuple(dict.fromkeys((TASK_QUEUE, service.config.task_queue)))
    return service.call(lambda client: workers.alive(client, service.config.namespace, asked))


def facts(limit: Limit) -> dict[str, Any]:
    """A limit for the record of changes."""
    return {"requests_per_second": limit.rate, "reason": limit.reason, "by": limit.by}


def rate_of(text: str) -> float | None:
    """A rate as typed: "5", "0.5", "0"; nothing takes the limit away. Raises Invalid."""
    said = text.strip().replace(",", "")
    if not said:
        return None
    try:
        return float(said)
    except ValueError as error:
        allowed = f"0 to {RATE_MOST:,.0f}, or nothing for no limit"
        raise Invalid([FieldError("requests per second", f"{text[:40]!r} is no number", allowed)]) from error


def _alive(queue: Queue) -> bool:
    return any(half.pollers or half.backlog for half in (queue.workflow, queue.activity))


def _named(name: str) -> None:
    if not name.strip() or len(name) > NAME_LETTERS or "\x00" in name:
        raise Invalid([FieldError("queue", "is no name of a task queue", f"1 to {NAME_LETTERS} letters")])
