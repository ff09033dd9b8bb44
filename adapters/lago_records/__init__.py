"""What the Lago adapter hands out: plans, subscriptions, invoices and revenue. Money is integer cents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from typing import Any, Generic, TypeVar

from adapters.core.errors import Unexpected

T = TypeVar("T")

PER_MONTH: Mapping[str, Fraction] = {
    "weekly": Fraction(52, 12),
    "monthly": Fraction(1),
    "quarterly": Fraction(1, 3),
    "semiannual": Fraction(1, 6),
    "yearly": Fraction(1, 12),
}
"""How much of an interval's amount falls into a month."""


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """The part of a list that was read; ``total`` is what the service says there is."""

    items: tuple[T, ...]
    total: int
    truncated: bool
    """True where the service has more than was read."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan; ``amount_cents`` per ``interval``."""

    code: str
    name: str
    interval: str
    amount_cents: int
    currency: str
    pay_in_advance: bool
    description: str
    charges: int
    """How many usage-based charges it has."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer's subscription; ``amount_cents`` per the interval of its plan, None where Lago does not tell."""

    external_id: str
    customer_id: str
    plan_code: str
    status: str
    amount_cents: int | None
    currency: str | None
    started_at: datetime | None
    terminated_at: datetime | None
    previous_plan: str | None
    next_plan: str | None


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice."""

    id: str
    number: str
    customer_id: str
    customer_name: str
    issued_on: date
    due_on: date | None
    status: str
    payment_status: str
    overdue: bool
    total_cents: int
    currency: str


@dataclass(frozen=True, slots=True)
class MonthAmount:
    """An amount of one month in one currency; ``count`` of invoices where Lago tells."""

    month: date
    amount_cents: int
    currency: str
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Mrr:
    """Monthly recurring revenue per currency. What recurs, not what was invoiced."""

    cents: Mapping[str, int]
    estimated: bool
    """True where it was computed from subscriptions because Lago's own figure needs a licence."""
    truncated: bool = False
    subscriptions: int | None = None
    """Active subscriptions, where they were counted on the way."""

    @property
    def currency(self) -> str | None:
        """The currency of the largest amount; None where nothing recurs."""
        return max(sorted(self.cents), key=lambda code: self.cents[code], default=None)


def read(make: Callable[[Any], T], value: Any, what: str) -> T:
    """Build a record from an answer. Raises Unexpected where the answer has another shape."""
    try:
        return make(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        detail = f"{type(error).__name__}: {error}: {str(value)[:300]}"
        raise Unexpected(f"Lago answered {what} in an unexpected shape.", detail=detail) from error


def cents(value: Any) -> int:
    """An amount as integer cents; a fraction, as analytics may give, is rounded half to even. Raises TypeError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"not an amount in cents: {value!r}")
    return round(Fraction(str(value)))


def moment(value: str | None) -> datetime | None:
    """A moment as Lago writes it, None where there is none."""
    return datetime.fromisoformat(value) if value else None


def plan(row: Any) -> Plan:
    """A plan from Lago's JSON."""
    return Plan(
        code=str(row["code"]),
        name=str(row["name"]),
        interval=str(row["interval"]),
        amount_cents=cents(row["amount_cents"]),
        currency=str(row["amount_currency"]),
        pay_in_advance=bool(row.get("pay_in_advance")),
        description=str(row.get("description") or ""),
        charges=len(row.get("charges") or ()),
    )


def subscription(row: Any) -> Subscription:
    """A subscription from Lago's JSON."""
    amount = row.get("plan_amount_cents")
    return Subscription(
        external_id=str(row["external_id"]),
        customer_id=str(row["external_customer_id"]),
        plan_code=str(row["plan_code"]),
        status=str(row["status"]),
        amount_cents=None if amount is None else cents(amount),
        currency=row.get("plan_amount_currency"),
        started_at=moment(row.get("started_at")),
        terminated_at=moment(row.get("terminated_at")),
        previous_plan=row.get("previous_plan_code"),
        next_plan=row.get("next_plan_code"),
    )


def invoice(row: Any) -> Invoice:
    """An invoice from Lago's JSON."""
    customer = row.get("customer") or {}
    due = row.get("payment_due_date")
    return Invoice(
        id=str(row["lago_id"]),
        number=str(row["number"]),
        customer_id=str(customer.get("external_id") or ""),
        customer_name=str(customer.get("name") or customer.get("external_id") or ""),
        issued_on=date.fromisoformat(row["issuing_date"]),
        due_on=date.fromisoformat(due) if due else None,
        status=str(row["status"]),
        payment_status=str(row["payment_status"]),
        overdue=bool(row.get("payment_overdue")),
        total_cents=cents(row["total_amount_cents"]),
        currency=str(row["currency"]),
    )


def month_amount(row: Any) -> MonthAmount:
    """A row of an analytics answer."""
    count = row.get("invoices_count")
    return MonthAmount(
        month=date.fromisoformat(str(row["month"])[:10]),
        amount_cents=cents(row["amount_cents"]),
        currency=str(row["currency"]),
        count=None if count is None else int(count),
    )


def estimate_mrr(subscriptions: Iterable[Subscription], plans: Mapping[str, Plan]) -> dict[str, int]:
    """MRR per currency in cents: the amounts of active subscriptions, normalised to a month.

    A week counts 52/12 times, a quarter a third, half a year a sixth, a year a twelfth; the exact sum
    is rounded once, half to even. Subscriptions of a plan that is not among ``plans`` are left out.
    """
    totals: dict[str, Fraction] = {}
    for one in subscriptions:
        on = plans.get(one.plan_code)
        if one.status != "active" or on is None or on.interval not in PER_MONTH:
            continue
        amount = on.amount_cents if one.amount_cents is None else one.amount_cents
        currency = one.currency or on.currency
        totals[currency] = totals.get(currency, Fraction(0)) + amount * PER_MONTH[on.interval]
    return {currency: round(total) for currency, total in totals.items()}
