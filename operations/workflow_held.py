"""What each worker holds now: every worker says so itself, in Redis, for as long as it lives."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError

from adapters.core import Unreachable
from operations import access
from operations.access import Actor, Permission
from operations.platform import Platform
from operations.workflow_rules import FIELDS, Settings

WORKERS = "workflow:workers"
"""Sorted set of worker identities by when they last said something."""
PREFIX = "workflow:worker:"
TTL_SECONDS = 15
SHOWN = 200
FORGOTTEN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class HeldBy:
    """One worker and the settings it would start a run with."""

    identity: str
    host: str
    pid: int
    task_queue: str
    at: datetime
    source: str
    """Where its values come from: "Redis", "last known" while Redis is away, or "PostgreSQL"."""
    settings: dict[str, Settings] = field(default_factory=dict)
    """By type it runs, and "default"."""


def tell(
    platform: Platform, identity: str, *, host: str, pid: int, task_queue: str, source: str,
    settings: Mapping[str, Settings],
) -> None:  # fmt: skip
    """Say what a worker holds now; forgotten after 15 s without another word. Raises RedisError."""
    now = time.time()
    said = {
        "identity": identity, "host": host, "pid": pid, "task_queue": task_queue, "at": now, "source": source,
        "types": {
            name: {**one.values(), "version": one.version, "default_version": one.default_version,
                   "sources": one.sources}
            for name, one in settings.items()
        },
    }  # fmt: skip
    pipe = platform.redis.pipeline(transaction=False)
    pipe.set(PREFIX + identity, json.dumps(said), ex=TTL_SECONDS)
    pipe.zadd(WORKERS, {identity: now})
    pipe.zremrangebyscore(WORKERS, "-inf", now - FORGOTTEN_SECONDS)
    pipe.execute()


def forget(platform: Platform, identity: str) -> None:
    """A worker that ends says so. Raises RedisError."""
    pipe = platform.redis.pipeline(transaction=False)
    pipe.delete(PREFIX + identity)
    pipe.zrem(WORKERS, identity)
    pipe.execute()


def held(platform: Platform, actor: Actor) -> list[HeldBy]:
    """Every worker that spoke within 15 s, by identity, at most 200. Raises access.Forbidden, Unreachable (Redis)."""
    access.require(actor, Permission.INFRA_VIEW)
    try:
        names: Any = platform.redis.zrevrange(WORKERS, 0, SHOWN - 1)
        raw: Any = platform.redis.mget([PREFIX + name for name in names]) if names else []
    except RedisError as error:
        raise Unreachable(
            "Redis does not answer, so what the workers hold is not known.", detail=repr(error)
        ) from error
    found = [_parsed(one) for one in raw if one is not None]
    return sorted((one for one in found if one is not None), key=lambda one: one.identity)


def _parsed(raw: str) -> HeldBy | None:
    try:
        said = json.loads(raw)
        settings = {
            str(name): Settings(
                str(name), **{field: one[field] for field in FIELDS}, version=one["version"],
                default_version=one["default_version"], sources=dict(one["sources"]),
            )
            for name, one in said["types"].items()
        }  # fmt: skip
        return HeldBy(
            str(said["identity"]), str(said["host"]), int(said["pid"]), str(said["task_queue"]),
            datetime.fromtimestamp(float(said["at"]), UTC), str(said["source"]), settings,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # a worker of another version speaks another way: it is not shown rather than shown wrong
