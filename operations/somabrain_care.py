"""Care of SomaBrain's memories, tenant by tenant: sleep, and writes that did not arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from sqlalchemy import text

from adapters.core import utcnow
from adapters.core.http import NotSupported
from adapters.somabrain import SomaBrain
from adapters.somabrain_client.care import MAX_TTL_SECONDS, STATES
from adapters.somabrain_records import OutboxEvent
from operations import change, stopping
from operations.access import Actor, Permission
from operations.change import FieldError, Invalid, NotFound
from operations.platform import Platform
from operations.workflow_catalogue import ConsolidationInput, SleepInput

MAX_CONCURRENCY = 32
PAGE = 200
MAX_PAGES = 10
"""Of one tenant and status in one run: 2,000 events. The rest is for the next."""
STUCK_AFTER = timedelta(minutes=10)
"""An event that waits for longer than this is stuck rather than on its way."""
TENANTS_AT_ONCE = 2000
"""Of one page: what an activity answers stays far below what Temporal takes (2 MB).

Workflows decide by this and the next: change neither without ``workflow.patched``."""
MOST_TENANTS = 100_000
"""Of one run: its history names each twice, and stays below what Temporal keeps (50 MB)."""
TENANTS_UNPAGED = 10_000
"""Of a run that began before there were pages."""
_AT_WORK = (
    " FROM tenants WHERE somabrain_tenant IS NOT NULL AND status IN ('trial', 'active', 'past_due')"
    " AND (:every OR id = ANY(:wanted)) AND id > :after"
)
NO_OUTBOX = "This SomaBrain has no outbox that can be read or replayed."


@dataclass(frozen=True, slots=True)
class Charge:
    """A tenant to care for, and what SomaBrain calls it."""

    tenant: str
    known_as: str


@dataclass(frozen=True, slots=True)
class Cared:
    """What was done for one tenant, in words; ``unsupported`` says what this SomaBrain does not offer."""

    said: str = ""
    items: int = 0
    unsupported: str = ""


def check_sleep(given: SleepInput) -> None:
    """Raise change.Invalid, naming the fields, for what a sleep cycle cannot be run with."""
    errors = _checked(given.concurrency)
    if given.target not in STATES:
        errors.append(FieldError("target", "is not a mode of sleep", ", ".join(STATES)))
    if not 1 <= given.ttl_seconds <= MAX_TTL_SECONDS:
        errors.append(FieldError("ttl_seconds", "is out of range", f"1 to {MAX_TTL_SECONDS} seconds"))
    if errors:
        raise Invalid(errors)


def check_consolidation(given: ConsolidationInput) -> None:
    """Raise change.Invalid, naming the fields, for what a consolidation cannot be run with."""
    if errors := _checked(given.concurrency):
        raise Invalid(errors)


def _checked(concurrency: int) -> list[FieldError]:
    if 1 <= concurrency <= MAX_CONCURRENCY:
        return []
    return [FieldError("concurrency", "is out of range", f"1 to {MAX_CONCURRENCY} tenants at a time")]


def charges(
    platform: Platform, wanted: Sequence[str] = (), *, after: str = "", most: int = TENANTS_UNPAGED
) -> list[Charge]:
    """The tenants at work that SomaBrain knows, or those ``wanted``, by id, the first ``most`` beyond ``after``.

    Raises change.Invalid where one of the wanted is not among them, StoreUnavailable.
    """
    with platform.database.session(seconds=30) as session:
        rows = session.execute(
            text("SELECT id, somabrain_tenant" + _AT_WORK + " ORDER BY id LIMIT :most"),
            {"every": not wanted, "wanted": list(wanted), "after": after, "most": most},
        ).all()
    found = [Charge(row.id, row.somabrain_tenant) for row in rows]
    if missing := sorted(set(wanted) - {one.tenant for one in found}):
        named = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise Invalid([FieldError("tenants", f"SomaBrain knows no tenant at work called {named}", "tenants' ids")])
    return found


def beyond(platform: Platform, after: str) -> int:
    """How many tenants there are to care for beyond the id ``after``. Raises StoreUnavailable."""
    given = {"every": True, "wanted": [], "after": after}
    with platform.database.session(seconds=30) as session:
        return int(session.scalar(text("SELECT count(*)" + _AT_WORK), given) or 0)


def put_to_sleep(platform: Platform, who: Charge, target: str, ttl_seconds: int) -> Cared:
    """Bring one tenant's memory into a mode of sleep; again changes only how long it lasts. Raises AdapterError."""
    try:
        return Cared(_brain(platform).sleep(who.known_as, target, ttl_seconds), 1)
    except NotSupported as error:
        return Cared(unsupported=error.sentence)


def consolidate(platform: Platform, who: Charge) -> Cared:
    """Replay one tenant's events that failed or are stuck, at most 2,000 of each. Raises AdapterError."""
    try:
        replayed = _replay(platform, "failed", who.known_as) + _replay(platform, "pending", who.known_as)
    except NotSupported:
        return Cared(unsupported=NO_OUTBOX)
    return Cared(f"{replayed:,} replayed" if replayed else "nothing to replay", replayed)


def _replay(platform: Platform, status: str, known_as: str) -> int:
    brain, seen, replayed = _brain(platform), set[int](), 0
    offset = 0
    for _ in range(MAX_PAGES):
        stopping.check()
        page = brain.outbox(status, tenant=known_as, limit=PAGE, offset=offset)
        if page is None:
            raise NotSupported(NO_OUTBOX)
        ids = {one.id for one in page if one.tenant == known_as and _lost(one)} - seen
        if ids:
            replayed += brain.replay(ids, known_as)
            seen |= ids
        if len(page) < PAGE:
            break
        # What failed leaves the list when it is replayed, what waits stays on it.
        offset += len(page) if status == "pending" else len(page) - len(ids)
    return replayed


def _lost(one: OutboxEvent) -> bool:
    return one.status != "pending" or one.created_at is None or one.created_at < utcnow() - STUCK_AFTER


def replay_failed(platform: Platform, actor: Actor, seen: Sequence[int], *, reason: str = "") -> int:
    """Send the failed events a person saw once more; how many were. On record.

    Raises access.Forbidden without infra:operate, change.Invalid, change.NotFound where there is no outbox,
    AdapterError.
    """
    if not seen or len(seen) > PAGE:
        raise Invalid([FieldError("ids", "is not a number of events that can be replayed at once", f"1 to {PAGE}")])
    with change.door(
        platform, actor, Permission.INFRA_OPERATE, action="somabrain.replay", subject="service/somabrain", reason=reason
    ) as door:
        try:
            replayed = _brain(platform).replay(seen)
        except NotSupported as error:
            raise NotFound(NO_OUTBOX) from error
        door.audit(None, {"events": sorted(seen), "replayed": replayed})
    return replayed


def _brain(platform: Platform) -> SomaBrain:
    return cast(SomaBrain, platform.adapters["somabrain"])
