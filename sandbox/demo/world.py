"""The demo world: who the tenants are and what happened to them in the last twelve months.

``world(seed, today)`` is a pure function: the same arguments give the same world on every machine.
Money is integer cents of US dollars, before tax unless said otherwise; times are UTC.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property

CURRENCY = "USD"
MONTHS = 12
KEYS = ("api_calls", "voice_minutes", "llm_tokens", "file_uploads", "memory_queries")
HARD = frozenset({"api_calls", "file_uploads"})
"""Keys whose limit refuses; the others let pass and count what is over."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A plan. ``price_cents`` per month, None where agreed individually; a limit of None is unlimited, 0 is none."""

    code: str
    name: str
    rank: int
    price_cents: int | None
    public: bool
    limits: dict[str, int | None]
    """Per rate-limit window of the key (see services' defaults: an hour, or a day for minutes and tokens)."""
    quotas: dict[str, float | None]
    """agents, users_per_agent, storage_gb."""


def _tier(code: str, name: str, rank: int, price: int | None, limits: tuple[int | None, ...],
          quotas: tuple[float | None, ...]) -> Tier:  # fmt: skip
    return Tier(code, name, rank, price, price is not None, dict(zip(KEYS, limits, strict=True)),
                dict(zip(("agents", "users_per_agent", "storage_gb"), quotas, strict=True)))  # fmt: skip


TIERS = (
    _tier("free", "Free", 1, 0, (100, 0, 10_000, 10, 50), (1, 3, 0.5)),
    _tier("starter", "Starter", 2, 2_900, (1_000, 60, 100_000, 50, 500), (5, 10, 5)),
    _tier("team", "Team", 3, 9_900, (10_000, 500, 1_000_000, 500, 5_000), (25, 50, 50)),
    _tier("enterprise", "Enterprise", 4, None, (None,) * 5, (None,) * 3),
)
TIER = {tier.code: tier for tier in TIERS}
METERED = {"voice_minutes": (1, 4), "llm_tokens": (10_000, 15)}
"""What is billed past a soft limit: (package size, cents per package)."""


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent of a tenant."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer. ``id`` is its slug, and its external id in Lago."""

    id: str
    name: str
    email: str
    country: str
    tier: str
    """Code of the tier it is on at the end (for a closed tenant: was on last)."""
    status: str
    """active, trial, past_due, suspended or closed."""
    created_at: datetime
    closed_at: datetime | None
    agents: tuple[Agent, ...]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A time a tenant spent on one plan."""

    id: str
    tenant_id: str
    plan: str
    amount_cents: int
    """Per month; for Enterprise what was agreed."""
    started_at: datetime
    ended_at: datetime | None
    status: str
    """active or terminated."""
    previous_id: str | None
    move: str
    """new, upgrade, downgrade."""


@dataclass(frozen=True, slots=True)
class Line:
    """One fee of an invoice."""

    kind: str
    """subscription or charge."""
    code: str
    """Plan code, or the metered key."""
    units: float
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a tenant was billed for one month (plan in arrears, usage past soft limits)."""

    id: str
    number: str
    sequential_id: int
    tenant_id: str
    subscription_id: str
    period_from: date
    period_to: date
    """Last day of the period, inclusive."""
    issued_on: date
    due_on: date
    lines: tuple[Line, ...]
    amount_cents: int
    status: str
    """finalized or voided."""
    payment_status: str
    """succeeded, pending or failed."""
    overdue: bool


@dataclass(frozen=True, slots=True)
class Payment:
    """One attempt to collect an invoice."""

    id: str
    invoice_id: str
    tenant_id: str
    at: datetime
    amount_cents: int
    status: str
    """succeeded or failed."""
    error: str
    """Why it failed, or ""."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant used of one key in one day: asked for and granted, of that past the limit, refused."""

    tenant_id: str
    key: str
    day: date
    amount: int
    over: int
    blocked: int


@dataclass(frozen=True, slots=True)
class Incident:
    """A time a service did not do well."""

    service: str
    state: str
    """degraded, down or no_answer."""
    started_at: datetime
    ended_at: datetime
    message: str


@dataclass(frozen=True)
class World:
    """Everything, in a stable order."""

    seed: int
    today: date
    tiers: tuple[Tier, ...]
    tenants: tuple[Tenant, ...]
    subscriptions: tuple[Subscription, ...]
    invoices: tuple[Invoice, ...]
    payments: tuple[Payment, ...]
    usage: tuple[Usage, ...]
    incidents: tuple[Incident, ...]

    @cached_property
    def tenant(self) -> dict[str, Tenant]:
        """Tenants by id."""
        return {tenant.id: tenant for tenant in self.tenants}

    @cached_property
    def mrr_cents(self) -> int:
        """Monthly recurring revenue at the end: active subscriptions at their monthly amount."""
        return sum(one.amount_cents for one in self.subscriptions if one.status == "active")

    def mrr_at(self, moment: datetime) -> int:
        """Monthly recurring revenue in cents at a moment of the past."""
        return sum(
            one.amount_cents
            for one in self.subscriptions
            if one.started_at <= moment and (one.ended_at is None or moment < one.ended_at)
        )


_NAMES = (
    "Alder Robotics", "Bluefin Travel", "Cobalt Legal", "Dovetail Homes", "Everline Health", "Fernway Foods",
    "Gable & Sons", "Harborlight Books", "Ironwood Freight", "Juniper Dental", "Kestrel Air", "Lumen Academy",
    "Marrow Coffee", "Northgate Bank", "Orchard Media", "Pinecrest Hotels", "Quillon Design", "Redwater Energy",
    "Saltmarsh Games", "Tallis Insurance", "Umbra Security", "Vantage Motors", "Westlake Clinic", "Xylo Music",
    "Yardarm Logistics", "Zenith Optics", "Amberly Care", "Brindle Pets", "Copperfield Press", "Driftwood Surf",
    "Elmstead School", "Foxglove Florists", "Granite Peak", "Hollow Oak Farm", "Inkwell Studio", "Jasper Analytics",
    "Kingfisher Labs", "Larkspur Events", "Meridian Telecom", "Nettle & Thyme",
)  # fmt: skip
_COUNTRIES = ("US", "US", "DE", "GB", "FR", "NL", "CA", "ES", "PT", "SE")
_AGENTS = ("Ada", "Basil", "Cleo", "Dex", "Echo", "Finn", "Gaia", "Hugo", "Iris", "Juno", "Kai", "Luna", "Milo", "Nova",
           "Otis", "Pia", "Quinn", "Remy", "Sage", "Theo")  # fmt: skip
_JOBS = ("support", "sales", "intake", "research", "billing", "onboarding", "concierge", "analyst")
_TROUBLE = (
    ("postgresql", "degraded", "Replication slot keeps 3.1 GB of WAL."),
    ("redis", "down", "Connection refused."),
    ("redis", "degraded", "Memory at 94 % of its maximum."),
    ("temporal", "no_answer", "No answer within 3 s."),
    ("qdrant", "degraded", "Optimizer of collection 'memories' reports an error."),
    ("qdrant", "down", "Connection refused."),
    ("keycloak", "down", "The realm's discovery document answers 503."),
    ("lago", "degraded", "Answers took 2.4 s."),
    ("lago", "down", "Lago answered 502."),
    ("somabrain", "degraded", "SomaBrain says: degraded (memory circuit open)."),
    ("somabrain", "down", "SomaBrain says: critical."),
    ("somabrain", "degraded", "SomaBrain says: degraded (outbox 4,212 pending)."),
    ("whisper", "no_answer", "No answer within 3 s."),
    ("whisper", "down", "The model is not loaded."),
    ("kokoro", "degraded", "A one-word synthesis took 4.8 s."),
    ("mcp", "degraded", "1 of 2 servers does not answer."),
    ("s3", "degraded", "Answers took 1.9 s."),
    ("smtp", "down", "The server closed the connection: 421."),
)
_DECLINED = ("card_declined", "insufficient_funds", "expired_card", "processing_error")


def stable_id(*parts: object) -> str:
    """A UUID that depends on the parts alone."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "pilothouse.test/" + "/".join(map(str, parts))))


def _rng(*parts: object) -> random.Random:
    return random.Random("/".join(map(str, parts)))


def _at(day: date, seconds: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=seconds)


def month_start(day: date, back: int = 0) -> date:
    """First day of the month ``back`` months before the one ``day`` is in."""
    index = day.year * 12 + day.month - 1 - back
    return date(index // 12, index % 12 + 1, 1)


@cache
def world(seed: int, today: date) -> World:
    """The world of a seed as it stands on the morning of ``today``."""
    tenants: list[Tenant] = []
    subscriptions: list[Subscription] = []
    for number, name in enumerate(_NAMES):
        tenant, path = _life(seed, today, number, name)
        tenants.append(tenant)
        subscriptions += path
    usage = tuple(row for tenant in tenants for row in _usage(seed, today, tenant, subscriptions))
    invoices, payments = _billing(seed, today, tenants, subscriptions, usage)
    tenants = [_with_status(tenant, invoices) for tenant in tenants]
    return World(
        seed, today, TIERS, tuple(tenants), tuple(subscriptions), tuple(invoices), tuple(payments), usage,
        tuple(_incidents(seed, today)),
    )  # fmt: skip


def usage_of_day(seed: int, tenant: Tenant, plan: str, day: date) -> list[Usage]:
    """A tenant's usage of one day on a plan; days after a world's end are found with it too."""
    rng = _rng(seed, "usage", tenant.id, day.toordinal())
    taste = _rng(seed, "taste", tenant.id)
    size = taste.lognormvariate(0, 0.5)
    likes = {key: taste.uniform(0.4, 1.5) for key in KEYS}
    growth = 1 + 0.6 * min(1.0, max(0, (day - tenant.created_at.date()).days) / 300)
    weekday = 0.45 if day.weekday() >= 5 else 1.0
    rows = []
    for key in KEYS:
        limit = TIER[plan].limits[key]
        windows = 1 if key in ("voice_minutes", "llm_tokens") else 24
        reference = {"api_calls": 24_000, "voice_minutes": 900, "llm_tokens": 2_500_000, "file_uploads": 700,
                     "memory_queries": 9_000}[key]  # fmt: skip
        usual = reference if limit is None else limit * (0.55 if windows == 1 else 0.12 * windows)
        wanted = int(usual * size * likes[key] * growth * weekday * rng.uniform(0.6, 1.35))
        if rng.random() < 0.015:
            wanted = int(wanted * rng.uniform(2.2, 4))
        if limit is None:
            rows.append(Usage(tenant.id, key, day, wanted, 0, 0))
            continue
        if limit == 0:
            # Voice is not part of the plan: the few who try are refused.
            rows.append(Usage(tenant.id, key, day, 0, 0, rng.choice((0, 0, 0, 1, 3)) if key == "voice_minutes" else 0))
            continue
        ceiling = limit * windows
        peak = wanted / (ceiling * (0.5 if windows > 1 else 1))
        beyond = int(wanted * min(0.35, max(0.0, peak - 1) * 0.5))
        if key in HARD:
            rows.append(Usage(tenant.id, key, day, wanted - beyond, 0, beyond))
        else:
            rows.append(Usage(tenant.id, key, day, wanted, max(beyond, wanted - ceiling, 0), 0))
    return rows


def _life(seed: int, today: date, number: int, name: str) -> tuple[Tenant, list[Subscription]]:
    """A tenant and the plans it went through."""
    rng = _rng(seed, "life", name)
    slug = name.lower().replace(" & ", "-").replace(" ", "-")
    first = month_start(today, MONTHS)
    if number < 20:
        created = first - timedelta(days=rng.randrange(5, 200))
    else:
        created = first + timedelta(days=rng.randrange(3, (today - first).days - 4))
    plans = _path(number, rng)
    closed: date | None = None
    moments = [created]
    for _ in plans[1:]:
        earliest = max(moments[-1] + timedelta(days=21), first)
        room = (today - earliest).days - 3
        if room < 5:
            break
        moments.append(earliest + timedelta(days=rng.randrange(1, max(2, room * 2 // 3))))
    plans = plans[: len(moments)]
    if number in (17, 28) and (today - moments[-1]).days > 45:
        closed = moments[-1] + timedelta(days=rng.randrange(30, (today - moments[-1]).days - 7))
    path: list[Subscription] = []
    agreed = rng.randrange(15, 60) * 10_000
    for step, (plan, start) in enumerate(zip(plans, moments, strict=True)):
        end = moments[step + 1] if step + 1 < len(moments) else closed
        price = TIER[plan].price_cents
        rank = TIER[plan].rank
        before = TIER[plans[step - 1]].rank if step else rank
        path.append(
            Subscription(
                id=f"sub_{slug}_{step + 1}",
                tenant_id=slug,
                plan=plan,
                amount_cents=agreed if price is None else price,
                started_at=_at(start, rng.randrange(8 * 3600, 18 * 3600)),
                ended_at=None if end is None else _at(end, rng.randrange(8 * 3600)),
                status="active" if end is None else "terminated",
                previous_id=path[-1].id if path else None,
                move="new" if not step else "upgrade" if rank > before else "downgrade",
            )
        )
    for step in range(1, len(path)):
        path[step - 1] = _ending(path[step - 1], path[step].started_at)
    limit = TIER[plans[-1]].quotas["agents"]
    count = rng.randrange(6, 16) if limit is None else rng.randrange(1, min(int(limit), 12) + 1)
    agents = tuple(
        Agent(f"{slug}-agent-{index + 1}", f"{agent} ({rng.choice(_JOBS)})")
        for index, agent in enumerate(rng.sample(_AGENTS, count))
    )
    status = "closed" if closed else "trial" if (today - created).days < 14 and plans[-1] != "free" else "active"
    tenant = Tenant(slug, name, f"accounts@{slug}.test", rng.choice(_COUNTRIES), plans[-1], status,
                    path[0].started_at, path[-1].ended_at, agents)  # fmt: skip
    return tenant, path


def _ending(subscription: Subscription, at: datetime) -> Subscription:
    from dataclasses import replace

    return replace(subscription, ended_at=at)


def _path(number: int, rng: random.Random) -> list[str]:
    """The plans of the number-th tenant: most stay, some climb, a few step down."""
    if number in (3, 13, 23, 38):
        return ["enterprise"] if number == 13 else ["team", "enterprise"]
    if number % 4 == 0:
        return rng.choice((["team"], ["starter", "team"], ["free", "starter", "team"]))
    if number % 4 == 1:
        return rng.choice((["starter"], ["free", "starter"], ["team", "starter"]))
    if number % 4 == 2:
        return rng.choice((["free"], ["free"], ["starter", "free"]))
    return rng.choice((["starter"], ["free"], ["free", "starter"], ["starter"]))


def _plan_on(path: list[Subscription], day: date) -> Subscription | None:
    found = None
    for one in path:
        if one.started_at.date() <= day and (one.ended_at is None or day <= one.ended_at.date()):
            found = one
    return found


def _usage(seed: int, today: date, tenant: Tenant, subscriptions: list[Subscription]) -> list[Usage]:
    path = [one for one in subscriptions if one.tenant_id == tenant.id]
    rows: list[Usage] = []
    day = max(month_start(today, MONTHS), tenant.created_at.date())
    while day < today:
        current = _plan_on(path, day)
        if current is not None:
            rows += usage_of_day(seed, tenant, current.plan, day)
        day += timedelta(days=1)
    return rows


def _billing(
    seed: int, today: date, tenants: list[Tenant], subscriptions: list[Subscription], usage: tuple[Usage, ...]
) -> tuple[list[Invoice], list[Payment]]:
    over: dict[tuple[str, date, str], int] = {}
    for row in usage:
        if row.over and row.key in METERED:
            index = (row.tenant_id, month_start(row.day), row.key)
            over[index] = over.get(index, 0) + row.over
    invoices: list[Invoice] = []
    payments: list[Payment] = []
    for back in range(MONTHS, 0, -1):
        start, after = month_start(today, back), month_start(today, back - 1)
        end = after - timedelta(days=1)
        for place, tenant in enumerate(tenants):
            path = [one for one in subscriptions if one.tenant_id == tenant.id]
            current = _plan_on(path, end) or _last_in(path, start, end)
            if current is None or current.plan == "free":
                continue
            invoice = _invoice(seed, today, place, tenant, current, start, end, over, len(invoices) + 1)
            invoices.append(invoice)
            payments += _payments(seed, today, invoice)
    return invoices, payments


def _last_in(path: list[Subscription], start: date, end: date) -> Subscription | None:
    """The subscription that ended within a month, for its last bill."""
    ended = [one for one in path if one.ended_at is not None and start <= one.ended_at.date() <= end]
    return ended[-1] if ended else None


def _invoice(seed: int, today: date, place: int, tenant: Tenant, current: Subscription, start: date, end: date,
             over: dict[tuple[str, date, str], int], sequential: int) -> Invoice:  # fmt: skip
    days = (end - start).days + 1
    first = max(start, current.started_at.date())
    last = min(end, current.ended_at.date()) if current.ended_at else end
    share = ((last - first).days + 1) / days
    lines = [Line("subscription", current.plan, round(share, 4), round(current.amount_cents * share))]
    for key, (package, cents) in METERED.items():
        units = over.get((tenant.id, start, key), 0)
        if units:
            lines.append(Line("charge", key, units, -(-units // package) * cents))
    issued = end + timedelta(days=1)
    due = issued + timedelta(days=14 if current.plan != "enterprise" else 30)
    draw = _rng(seed, "paid", tenant.id, start).random()
    troubled = place in (6, 21, 33)
    status = "voided" if draw > 0.992 else "finalized"
    recent = (today - issued).days < 3
    if status == "voided":
        paid = "pending"
    elif (troubled and (today - issued).days < 75) or (draw > 0.97 and (today - issued).days < 60):
        paid = "failed"
    elif (recent and draw > 0.3) or (current.plan == "enterprise" and today < due and draw > 0.2):
        paid = "pending"
    else:
        paid = "succeeded"
    return Invoice(
        id=stable_id(seed, "invoice", tenant.id, start), number=f"PH-{issued:%Y%m}-{sequential:04d}",
        sequential_id=sequential, tenant_id=tenant.id, subscription_id=current.id, period_from=start, period_to=end,
        issued_on=issued, due_on=due, lines=tuple(lines), amount_cents=sum(line.amount_cents for line in lines),
        status=status, payment_status=paid,
        overdue=status == "finalized" and paid != "succeeded" and due < today,
    )  # fmt: skip


def _payments(seed: int, today: date, invoice: Invoice) -> list[Payment]:
    rng = _rng(seed, "payment", invoice.id)
    tries: list[tuple[date, str]] = []
    if invoice.payment_status == "succeeded":
        if rng.random() < 0.08:
            tries.append((invoice.issued_on + timedelta(days=1), "failed"))
        tries.append((min(invoice.issued_on + timedelta(days=rng.randrange(1, 6)), today), "succeeded"))
    elif invoice.payment_status == "failed":
        tries = [(invoice.issued_on + timedelta(days=days), "failed") for days in (1, 4, 8)]
    return [
        Payment(
            id=stable_id(invoice.id, "payment", number), invoice_id=invoice.id, tenant_id=invoice.tenant_id,
            at=_at(day, rng.randrange(86_000)), amount_cents=invoice.amount_cents, status=status,
            error=rng.choice(_DECLINED) if status == "failed" else "",
        )
        for number, (day, status) in enumerate(tries)
        if day <= today
    ]  # fmt: skip


def _with_status(tenant: Tenant, invoices: list[Invoice]) -> Tenant:
    """A tenant that owes for long is past due, one that owes for two months is suspended."""
    from dataclasses import replace

    if tenant.status == "closed":
        return tenant
    owed = sum(one.overdue for one in invoices if one.tenant_id == tenant.id)
    return replace(tenant, status="suspended" if owed >= 2 else "past_due") if owed else tenant


def _incidents(seed: int, today: date) -> list[Incident]:
    """About three a month, the last ones recent; never two of one service at once."""
    found: list[Incident] = []
    free_from: dict[str, datetime] = {}
    day = month_start(today, MONTHS)
    while day < today:
        rng = _rng(seed, "incident", day.toordinal())
        if rng.random() < 0.1 or (today - day).days in (1, 5, 13, 22):
            service, state, message = rng.choice(_TROUBLE)
            start = _at(day, rng.randrange(6 * 3600, 20 * 3600))
            minutes = rng.choice((3, 6, 9, 14, 22, 41, 75)) if state != "degraded" else rng.choice((8, 17, 35, 64, 140))
            end = start + timedelta(minutes=minutes, seconds=rng.randrange(60))
            if free_from.get(service, start) <= start:
                found.append(Incident(service, state, start, end, message))
                free_from[service] = end
        day += timedelta(days=1)
    return found
