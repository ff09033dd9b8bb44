"""The other end: writing policies to Redis. Used by the console's delivery, usable by tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from limiter import keys
from limiter.scripts import APPLY
from limiter.table import text

_NEWER = (
    "local k=tonumber(redis.call('HGET',KEYS[1],ARGV[1]) or '0') "
    "if tonumber(ARGV[2])>k then redis.call('HSET',KEYS[1],ARGV[1],ARGV[2]) return 1 end return 0"
)


def apply(
    redis: Any,
    key: str,
    version: int,
    *,
    base: Mapping[str, Any] | None = None,
    remove_base: bool = False,
    overrides: Mapping[str, Mapping[str, Any] | None] | None = None,
) -> bool:
    """Set ``ratelimit:config:{key}`` and overrides to ``version`` and publish the key; whether anything was newer.

    ``overrides`` maps ``tenant:…``/``agent:…`` to a document, or to None to remove it. What is already there in the
    same or a newer version stays. For tenants' tiers the key is ``keys.TENANTS`` and each document ``{"tier": code}``;
    the code ``keys.REMOVED`` admits nothing of that tenant.
    Raises RedisError.
    """
    document = "-" if remove_base else "" if base is None else json.dumps({"key": key, **base, "version": version})
    pairs: list[str] = []
    for name, override in (overrides or {}).items():
        pairs += (name, "" if override is None else json.dumps({**override, "version": version}))
    names = (keys.config(key), keys.overrides(key), keys.changes(key))
    revision, changed = redis.eval(APPLY.text, 3, *names, version, document, keys.CHANNEL, key, *pairs)
    # Its own slot, so its own step. Delivering again after a crash in between repairs it.
    if text(revision) != "0":
        redis.eval(_NEWER, 1, keys.VERSIONS, key, text(revision))
    return bool(int(changed))
