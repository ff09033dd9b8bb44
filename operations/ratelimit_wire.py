"""Policies on their way to Redis, and repairing whatever differs there."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import select, text

from adapters.core import AdapterError, Unreachable
from limiter import keys, publish
from limiter.model import KEY_PATTERN
from limiter.table import text as decoded
from models import RateLimitKey, Tenant
from operations import access, change, outbox
from operations.access import SYSTEM, Actor, Permission
from operations.loop import Loop
from operations.platform import Platform
from operations.ratelimit_rules import base_document, override_document, override_name
from operations.ratelimit_values import STORED, to_policy

log = logging.getLogger(__name__)
TOPIC = "ratelimit"
CHUNK = 500
SHOWN = 200
PRUNED_AFTER_SECONDS = 86400
"""How long Redis remembers a removed override, so that a message that was long on its way cannot bring it back."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that Redis carries differently from PostgreSQL; None is "not there"."""

    key: str
    name: str
    """ "policy", "tenant:…", "agent:…", a tenant under @tenants; "name" for a key that cannot be one, "type" for one
    that is stored as something else."""
    postgresql: Any
    redis: Any


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a comparison found: the first 200 differences, how many in all, and whether they were repaired."""

    differences: tuple[Difference, ...]
    total: int
    repaired: bool


@outbox.handler(TOPIC, system="Redis")
def deliver(platform: Platform, messages: Sequence[outbox.Message]) -> None:
    """Write a key's changes to Redis in order of commit; older ones never replace newer ones.

    Where Redis does not have the key it is new, or was lost: all of it is written, as a part would be taken for the
    whole, and where other keys are missing too, everything.
    """
    try:
        for message in messages:
            p = message.payload
            publish.apply(
                platform.redis, p["key"], int(p["version"]), base=p.get("base"), remove_base=bool(p.get("remove")),
                overrides=p.get("overrides"), must_exist=True,
            )  # fmt: skip
    except publish.Missing:
        _restore(platform, messages[0].payload["key"])


def _restore(platform: Platform, key: str) -> None:
    named = {decoded(name) for name in platform.redis.hkeys(keys.VERSIONS)}
    with platform.database.session() as session:
        known = set(session.scalars(text("SELECT key FROM rate_limit_keys")))
    if known - named - {key}:
        log.warning("Redis has lost policies: everything is compared")
        reconcile(platform)
    else:
        _reconcile_key(platform, key, True)


def tier_of(tier: str, status: str, lifecycle: Mapping[str, Any] | None) -> str | None:
    """The tier that limiters know a tenant by, from its row: its own, or REMOVED, or None once it is closed."""
    if status == "closed":
        return None
    removing = status == "offboarding" and bool((lifecycle or {}).get("waited"))
    return keys.REMOVED if removing else tier


def owe_tier(door: change.Door, version: int, tenant: str, tier: str | None) -> None:
    """Owe Redis the tier a tenant is on now, None for a tenant that is no more, as ``version`` of all tiers."""
    payload = {"key": keys.TENANTS, "version": version, "overrides": {tenant: {"tier": tier} if tier else None}}
    door.publish(TOPIC, keys.TENANTS, payload)


def reconcile(platform: Platform, actor: Actor = SYSTEM, *, repair: bool = True) -> Reconciled:
    """Compare Redis with PostgreSQL and, with ``repair``, make Redis equal.

    Raises access.Forbidden, StoreUnavailable, Unreachable (Redis away).
    """
    access.require(actor, Permission.RATELIMIT_EDIT if repair else Permission.RATELIMIT_VIEW)
    found: list[Difference] = []
    try:
        found += _right_types(platform.redis, keys.VERSIONS, {keys.VERSIONS: "hash"}, repair)
        named = set() if found and not repair else {decoded(name) for name in platform.redis.hkeys(keys.VERSIONS)}
        with platform.database.session() as session:
            known = set(session.scalars(text("SELECT key FROM rate_limit_keys")))
        for key in sorted(named | known):
            if key not in known and key != keys.TENANTS and not KEY_PATTERN.fullmatch(key):
                found += _remove_stray(platform.redis, key, repair)
                continue
            right = {keys.config(key): "string", keys.overrides(key): "hash", keys.changes(key): "zset"}
            wrong = _right_types(platform.redis, key, right, repair)
            found += wrong
            if repair or not wrong:
                found += _reconcile_key(platform, key, repair)
    except RedisError as error:
        raise Unreachable(
            "Redis does not answer, so its policies could not be compared.", detail=repr(error)
        ) from error
    if found and repair:
        log.warning("%d differences between Redis and PostgreSQL repaired", len(found))
    return Reconciled(tuple(found[:SHOWN]), len(found), repair and bool(found))


def _remove_stray(redis: Any, key: str, repair: bool) -> list[Difference]:
    """A name in Redis that no key can have: nothing here wrote it, so nothing of it is kept."""
    if repair:
        for name in (keys.config(key), keys.overrides(key), keys.changes(key)):
            redis.delete(name)
        redis.hdel(keys.VERSIONS, key)
    return [Difference(key[:80], "name", None, "not the name of a key")]


def _right_types(redis: Any, key: str, right: Mapping[str, str], repair: bool) -> list[Difference]:
    """What is stored as a type that cannot hold it; removed, with ``repair``, to be written anew."""
    found = []
    for name, wanted in right.items():
        there = decoded(redis.type(name))
        if there not in (wanted, "none"):
            found.append(Difference(key, "type", wanted, there))
            if repair:
                redis.delete(name)
    return found


def _reconcile_key(platform: Platform, key: str, repair: bool) -> list[Difference]:
    with platform.database.session(seconds=30) as session:
        if repair:
            session.execute(
                text("INSERT INTO rate_limit_keys (key) VALUES (:key) ON CONFLICT DO NOTHING"), {"key": key}
            )
        counter = select(RateLimitKey.version).where(RateLimitKey.key == key)
        version = session.scalar(counter.with_for_update() if repair else counter) or 0
        base: dict[str, Any] | None = None
        if key == keys.TENANTS:
            rows = session.execute(select(Tenant.id, Tenant.tier_code, Tenant.status, Tenant.lifecycle))
            tiers = {row.id: tier_of(row.tier_code, row.status, row.lifecycle) for row in rows}
            wanted = {tenant: {"tier": tier} for tenant, tier in tiers.items() if tier is not None}
        else:
            base = base_document(session, key)
            own = select(STORED).where(STORED.c.key == key, STORED.c.scope.in_(("TENANT", "AGENT")))
            policies = map(to_policy, session.execute(own))
            wanted = {override_name(policy): override_document(policy) for policy in policies}
        stored, overrides, removed, newest = _stored(platform.redis, key)
        differences = [
            Difference(key, name, wanted.get(name), overrides.get(name))
            for name in sorted(wanted.keys() | overrides.keys())
            if wanted.get(name) != overrides.get(name)
        ]
        base_differs = key != keys.TENANTS and base != stored
        # A key that was deleted is told too: an emptied Redis says nothing of it, and limiters keep what they know.
        lost = repair and bool(base or wanted) and platform.redis.zscore(keys.changes(key), "@") is None
        owed = repair and (bool(wanted) or key != keys.TENANTS)
        unseen = owed and not platform.redis.hexists(keys.VERSIONS, key)
        if base_differs:
            differences.insert(0, Difference(key, "policy", base, stored))
        if repair and (differences or unseen or lost):
            version = max(version, newest) + 1
            session.execute(
                text("UPDATE rate_limit_keys SET version = :version WHERE key = :key"), {"version": version, "key": key}
            )
            session.flush()
            # Under the key's lock: a change committed meanwhile waits, and gets a later version.
            names = (
                sorted(wanted.keys() | overrides.keys())
                if lost
                else [item.name for item in differences if item.name != "policy"]
            )
            starts = range(0, max(len(names), 1), CHUNK)
            for start in starts:
                publish.apply(
                    platform.redis, key, version, base=base if not start and key != keys.TENANTS else None,
                    remove_base=not start and base is None and key != keys.TENANTS,
                    overrides={name: wanted.get(name) for name in names[start : start + CHUNK]},
                    more_follows=start != starts[-1],
                )  # fmt: skip
        if repair:
            for start in range(0, len(removed), CHUNK):
                publish.prune(platform.redis, key, removed[start : start + CHUNK], PRUNED_AFTER_SECONDS)
        return differences


def _stored(redis: Any, key: str) -> tuple[dict[str, Any] | None, dict[str, Any], list[str], int]:
    """The base document, the overrides, which were removed, and the newest version Redis has; versions left out."""
    newest = int(redis.zscore(keys.changes(key), "@base") or 0)
    raw = redis.get(keys.config(key))
    base: dict[str, Any] | None = None
    if raw is not None:
        base = _document(raw)
        newest = max(newest, _version(base))
        base.pop("version", None)
    overrides: dict[str, Any] = {}
    removed: list[str] = []
    for name, value in redis.hscan_iter(keys.overrides(key), count=1000):
        document = _document(value)
        newest = max(newest, _version(document))
        if document.get("deleted"):
            removed.append(decoded(name))
        else:
            document.pop("version", None)
            overrides[decoded(name)] = document
    return base, overrides, removed, newest


def _document(raw: Any) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        return {"unreadable": decoded(raw)[:200]}
    return found if isinstance(found, dict) else {"unreadable": decoded(raw)[:200]}


def _version(document: dict[str, Any]) -> int:
    version = document.get("version")
    return version if isinstance(version, int) else 0


class Reconciler(Loop):
    """The thread that reconciles at the start and every minute, and brings usage and, more often, signals home."""

    def __init__(self, platform: Platform, every: float = 60.0, signals_every: float = 5.0) -> None:
        from operations import ratelimit_signals

        super().__init__(
            "ratelimit-reconciler", self._once, log, "rate limits wait to be reconciled",
            every=signals_every, retry=5.0,
        )  # fmt: skip
        self._platform, self._between, self._due = platform, every, 0.0
        self._signals = ratelimit_signals.Collector(platform)

    def _once(self) -> None:
        from operations import ratelimit_usage

        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._between
            try:
                reconcile(self._platform)
                ratelimit_usage.collect(self._platform)
            except AdapterError:
                self._due = 0.0  # somebody is away: again as soon as they may be back
                raise
        self._signals.collect()
