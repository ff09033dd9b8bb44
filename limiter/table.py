"""The policies in a process's memory, and how documents from Redis become them. No I/O here."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from sys import intern
from typing import Any

from limiter.keys import TENANTS
from limiter.model import KeyPolicies, Rule, parse_base

log = logging.getLogger(__name__)
_ODD = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a document that is none can raise."""
_announced = lru_cache(16)(json.loads)
_based = lru_cache(16)(parse_base)
"""Limiters of one process hear the same at the same moment, and read it once."""
MOST_CHANGES = 500
"""Changes fetched one by one; more are read by scanning the whole key."""


def text(value: Any) -> str:
    """A reply as text, whatever the client's decoding."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@dataclass(slots=True)
class Loaded:
    """How far one key is loaded: revisions are the server's, see apply.lua."""

    revision: int = 0
    epoch: int = 0


@dataclass(slots=True)
class Fetched:
    """A reply of fetch.lua."""

    config: str
    revision: int
    epoch: int
    more: bool
    """Single changes are not enough: everything is to be read."""
    changed: list[tuple[str, str]]
    now_ms: int = 0
    """The server's time when it answered, 0 where it was not asked."""

    @classmethod
    def parse(cls, reply: Sequence[Any]) -> Fetched:
        """From the raw reply."""
        rest = [text(part) for part in reply[5:]]
        return cls(
            text(reply[0]),
            int(float(text(reply[1]))),
            int(float(text(reply[2]))),
            bool(int(reply[3])),
            list(zip(rest[::2], rest[1::2], strict=True)),
            int(text(reply[4])),
        )


@dataclass(slots=True)
class Table:
    """All policies and the tenants' tiers, as last read. Read by every decision, written by one loader.

    ``generation`` grows with every change, so that what was derived from the table can be kept until then.
    """

    keys: dict[str, KeyPolicies] = field(default_factory=dict)
    tiers: dict[str, str] = field(default_factory=dict)
    loaded: dict[str, Loaded] = field(default_factory=dict)
    generation: int = 0
    complete: bool = False
    """True once everything was read at least once."""
    refused: dict[str, str] = field(default_factory=dict)
    """Documents that could not be understood, by name: the last good rule stays in force."""
    missing: dict[str, str] = field(default_factory=dict)
    """Keys that Redis names and whose rule could never be read, with why: nobody knows what their limits are."""
    _interned: dict[Rule, Rule] = field(default_factory=dict)

    def stale(self, versions: dict[str, int]) -> list[str]:
        """Keys whose revision in Redis is not the one loaded."""
        return [key for key, revision in versions.items() if self.at(key).revision != revision]

    def at(self, key: str) -> Loaded:
        """How far a key is loaded."""
        return self.loaded.get(key) or Loaded()

    def follow(self, message: str) -> str | None:
        """Take over a change as it was announced on keys.CHANGES; the key it brought up to date, or None.

        Only a change that follows directly on what is loaded is taken; anything else, and anything odd, is fetched.
        """
        try:
            key, before, revision, epoch, config, pairs = _announced(message)
            at = self.loaded.get(key)
            if at is None or not before or at.revision != int(float(before)) or at.epoch != int(float(epoch)):
                return None
            items = list(pairs) if pairs else []  # an empty Lua table is written {}
            changed = list(zip(items[::2], items[1::2], strict=True))
            fetched = Fetched(config, int(float(revision)), int(float(epoch)), False, changed)
            if not all(isinstance(part, str) for part in (config, *items)):
                return None
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None
        self.apply(key, fetched)
        return str(key)

    def needs_scan(self, key: str, fetched: Fetched) -> bool:
        """Whether single changes are not enough: first load, too many, or Redis lost and regained the key."""
        return fetched.more or self.at(key).epoch != fetched.epoch or key not in self.loaded

    def apply(self, key: str, fetched: Fetched, everything: Iterable[tuple[str, str]] | None = None) -> None:
        """Take over what was fetched; ``everything`` replaces all overrides, else only changed ones are touched.

        A key is removed by a revision that is empty. One that Redis does not have any more was lost, which is no
        reason to lift its limits: what was known stays.
        """
        self.missing.pop(key, None)
        if key == TENANTS:
            self._apply_tenants(fetched.changed if everything is None else everything, fresh=everything is not None)
        else:
            self._apply_key(key, fetched, everything)
        self.loaded[key] = Loaded(fetched.revision, fetched.epoch)
        self.generation += 1

    def _apply_tenants(self, items: Iterable[tuple[str, str]], *, fresh: bool) -> None:
        tiers = {} if fresh else self.tiers
        for tenant, document in items:
            try:
                tier = json.loads(document).get("tier") if document else None
                known = None if tier is None else intern(tier)
            except _ODD as error:
                self._refuse(f"{TENANTS} {tenant}", error)
                known = self.tiers.get(tenant)
            else:
                self.refused.pop(f"{TENANTS} {tenant}", None)
            if known is None:
                tiers.pop(tenant, None)
            else:
                tiers[tenant] = known
        self.tiers = tiers

    def _apply_key(self, key: str, fetched: Fetched, everything: Iterable[tuple[str, str]] | None) -> None:
        known = self.keys.get(key, KeyPolicies())
        policies = known if everything is None else KeyPolicies()
        try:
            base, tiers = _based(fetched.config) if fetched.config else (None, {})
            policies.base, policies.tiers = base, dict(tiers)
            self.refused.pop(key, None)
        except _ODD as error:
            self._refuse(key, error)
            policies.base, policies.tiers = known.base, known.tiers
            if known.base is None:
                self.missing[key] = repr(error)[:200]
        for name, document in fetched.changed if everything is None else everything:
            try:
                parsed = json.loads(document) if document else {"deleted": True}
                rule = None if parsed.get("deleted") else Rule.parse(parsed)
                # Overrides are mostly alike: thousands of them share a handful of Rule objects.
                policies.put(name, None if rule is None else self._interned.setdefault(rule, rule))
                self.refused.pop(f"{key} {name}", None)
            except _ODD as error:
                self._refuse(f"{key} {name}", error)
                policies.keep(name, known)
        if len(self._interned) > 20_000:
            self._interned.clear()
        if policies.base is None and not (policies.tiers or policies.tenants or policies.agents):
            self.keys.pop(key, None)
        else:
            self.keys[key] = policies

    def unread(self, key: str, error: Exception) -> None:
        """Note that a key could not be read; what was known of it stays in force."""
        if key not in self.loaded:
            self.missing[key] = repr(error)[:200]

    def forget_missing(self, versions: Mapping[str, int]) -> None:
        """Keys that Redis does not name any more are not missed: there never was anything known of them."""
        for key in [key for key in self.missing if key not in versions]:
            self.missing.pop(key)

    def _refuse(self, name: str, error: Exception) -> None:
        log.error("policy %s is not understood and not applied: %r", name, error)
        if len(self.refused) < 100:
            self.refused[name] = repr(error)
