"""Workflow settings on their way to the workers, and repairing whatever Redis has differently.

``workflow:config:{type}`` is a JSON document with ``type``, ``timeout_seconds``, ``retry_attempts``,
``backoff_multiplier``, ``max_concurrent`` and ``version``. A type's document carries its own values only, null
where it inherits; ``workflow:config:default`` says every field. A reader puts one over the other: a change of the
default is then one message, however many types inherit it. ``workflow:invalidate`` carries the type's name.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from adapters.core import Unreachable
from models import WorkflowSettings
from operations import access, change, outbox
from operations.access import SYSTEM, Actor, Permission
from operations.loop import Loop
from operations.platform import Platform
from operations.workflow_rules import FIELDS

log = logging.getLogger(__name__)

TOPIC = "workflow.settings"
CHANNEL = "workflow:invalidate"
PREFIX = "workflow:config:"
NAMES = "workflow:configs"
"""Set of the types that have a document, so that finding those that should not be there needs no scan."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One type that Redis carries differently from PostgreSQL; None is "not there"."""

    type: str
    postgresql: dict[str, Any] | None
    redis: dict[str, Any] | None


def stored(session: Session, types: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """The rows by type, each as its document: ``type``, the four fields (None inherits) and ``version``."""
    query = select(WorkflowSettings)
    if types is not None:
        query = query.where(WorkflowSettings.type.in_([change.clean(one) for one in types]))
    return {row.type: document(row) for row in session.scalars(query.limit(10_000))}


def document(row: WorkflowSettings | Row[Any]) -> dict[str, Any]:
    """A row as the audit and the wire carry it."""
    return {"type": row.type, **{name: getattr(row, name) for name in FIELDS}, "version": row.version}


def key(type_: str) -> str:
    """Where a type's document is."""
    return PREFIX + type_


def read(platform: Platform, types: Sequence[str]) -> list[dict[str, Any] | None]:
    """The documents of several types as Redis has them, in one round trip. Raises RedisError."""
    found: Any = platform.redis.mget([key(one) for one in types])
    return [_parsed(raw) for raw in found]


@outbox.handler(TOPIC, system="Redis")
def deliver(platform: Platform, messages: Sequence[outbox.Message]) -> None:
    """Write a type's newest state; the order of commits holds because one key is delivered by one process at a time."""
    last = messages[-1].payload
    _write(platform, last["type"], last["document"])


def _write(platform: Platform, type_: str, document: dict[str, Any] | None) -> None:
    pipe = platform.redis.pipeline(transaction=True)
    if document is None:
        pipe.delete(key(type_))
        pipe.srem(NAMES, type_)
    else:
        pipe.set(key(type_), json.dumps(document))
        pipe.sadd(NAMES, type_)
    pipe.publish(CHANNEL, type_)
    pipe.execute()


def _parsed(raw: Any) -> dict[str, Any] | None:
    if raw is None:
        return None
    try:
        found = json.loads(raw)
    except ValueError:
        return {"unreadable": str(raw)[:200]}
    return found if isinstance(found, dict) else {"unreadable": str(raw)[:200]}


def reconcile(platform: Platform, actor: Actor = SYSTEM, *, repair: bool = True) -> list[Difference]:
    """Compare Redis with PostgreSQL and, with ``repair``, make Redis equal; what differed.

    Raises access.Forbidden, StoreUnavailable, Unreachable (Redis away).
    """
    access.require(actor, Permission.WORKFLOWS_CONFIGURE if repair else Permission.INFRA_VIEW)
    try:
        with platform.database.session() as session:
            wanted = stored(session)
        there: Any = platform.redis.smembers(NAMES)
        names = sorted({*wanted, *there})
        found = dict(zip(names, read(platform, names), strict=True)) if names else {}
        different = [name for name in names if wanted.get(name) != found[name] or name not in there]
        if repair:
            for name in different:
                _repair(platform, name)
    except RedisError as error:
        raise Unreachable(
            "Redis does not answer, so the workflow settings there could not be compared.", detail=repr(error)
        ) from error
    if different and repair:
        log.warning("%d workflow settings repaired in Redis: %s", len(different), ", ".join(different[:20]))
    return [Difference(name, wanted.get(name), found[name]) for name in different]


def _repair(platform: Platform, name: str) -> None:
    with platform.database.session() as session:
        outbox.hold(session, TOPIC, name)
        _write(platform, name, stored(session, [name]).get(name))


class Reconciler(Loop):
    """The thread that reconciles at the start and every minute."""

    def __init__(self, platform: Platform, every: float = 60.0, retry: float = 5.0) -> None:
        super().__init__(
            "workflow-reconciler", lambda: reconcile(platform), log, "workflow settings wait to be reconciled",
            every=every, retry=retry,
        )  # fmt: skip
