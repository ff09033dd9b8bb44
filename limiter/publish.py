"""The other end: writing policies to Redis. Used by the console's delivery, usable by tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from limiter import keys
from limiter.scripts import APPLY, PRUNE
from limiter.table import text

_NEWER = (
    "local k=tonumber(redis.call('HGET',KEYS[1],ARGV[1]) or '0') "
    "if tonumber(ARGV[2])>k then redis.call('HSET',KEYS[1],ARGV[1],ARGV[2]) return 1 end return 0"
)


class Missing(LookupError):
    """Redis does not have a key that it should have: it lost data."""


def apply(
    redis: Any,
    key: str,
    version: int,
    *,
    base: Mapping[str, Any] | None = None,
    remove_base: bool = False,
    overrides: Mapping[str, Mapping[str, Any] | None] | None = None,
    more_follows: bool = False,
    must_exist: bool = False,
) -> bool:
    """Set ``ratelimit:config:{key}`` and overrides to ``version`` and publish the key; whether anything was newer.

    ``overrides`` maps ``tenant:…``/``agent:…`` to a document, or to None to remove it. What is already there in the
    same or a newer version stays. For tenants' tiers the key is ``keys.TENANTS`` and each document ``{"tier": code}``;
    the code ``keys.REMOVED`` admits nothing of that tenant.
    ``more_follows`` writes without telling anybody, until a call without it: nobody sees the half of a large change.
    ``must_exist`` refuses a key Redis does not have, so that a part of it is not taken for the whole.
    Raises RedisError, Missing.
    """
    document = "-" if remove_base else "" if base is None else json.dumps({"key": key, **base, "version": version})
    pairs: list[str] = []
    for name, override in (overrides or {}).items():
        pairs += (name, "" if override is None else json.dumps({**override, "version": version}))
    names = (keys.config(key), keys.overrides(key), keys.changes(key))
    channel, known = "" if more_follows else keys.CHANNEL, "1" if must_exist else ""
    revision, changed = redis.eval(APPLY.text, 3, *names, version, document, channel, key, known, *pairs)
    if int(changed) < 0:
        raise Missing(key)
    # Its own slot, so its own step. Delivering again after a crash in between repairs it.
    if text(revision) != "0":
        redis.eval(_NEWER, 1, keys.VERSIONS, key, text(revision))
    return bool(int(changed))


def prune(redis: Any, key: str, names: Sequence[str], older_than_seconds: float) -> int:
    """Forget those of the named overrides that were removed that long ago; how many. Raises RedisError."""
    if not names:
        return 0
    seconds, micros = redis.time()
    before = int((int(seconds) - older_than_seconds) * 1e6) + int(micros)
    return int(redis.eval(PRUNE.text, 2, keys.overrides(key), keys.changes(key), before, *names))
