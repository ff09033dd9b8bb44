"""Usage and revenue of the Lago stand-in, computed from its state each time they are asked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

from sandbox.standins.lago_objects import CURRENCY, add_months, amount_of, now, overdue, parse, period, stamp

Obj = dict[str, Any]

PER_MONTH = {
    "weekly": Fraction(52, 12),
    "monthly": Fraction(1),
    "quarterly": Fraction(1, 3),
    "semiannual": Fraction(1, 6),
    "yearly": Fraction(1, 12),
}
MAX_UNIQUE = 1000


def add_usage(state: Obj, subscription_id: str, metric: Obj, at: datetime, properties: Obj) -> None:
    """Count one event into the day it belongs to. Raises ValueError for a field that is no number."""
    kind, field = metric["aggregation_type"], metric.get("field_name")
    day = state["usage"].setdefault(subscription_id, {}).setdefault(metric["code"], {})
    entry = day.setdefault(at.date().isoformat(), {"units": 0, "events": 0})
    if kind == "count_agg":
        entry["units"] += 1
    elif kind == "unique_count_agg":
        seen = entry.setdefault("seen", [])
        value = str(properties.get(field, ""))
        if value not in seen and len(seen) < MAX_UNIQUE:
            seen.append(value)
        entry["units"] = len(seen)
    else:
        value = float(properties.get(field, 0) or 0)
        if kind == "max_agg":
            entry["units"] = max(entry["units"], value)
        elif kind == "latest_agg":
            entry["units"] = value
        else:
            entry["units"] += value
    entry["events"] += 1


def units(state: Obj, subscription_id: str, metric: Obj, start: datetime, end: datetime) -> tuple[float, int]:
    """Units and events of a metric from ``start`` up to and not including ``end``."""
    days = state["usage"].get(subscription_id, {}).get(metric["code"], {})
    first, last = start.date().isoformat(), end.date().isoformat()
    inside = [days[day] for day in sorted(days) if first <= day < last]
    events = sum(entry["events"] for entry in inside)
    if not inside:
        return 0, 0
    if metric["aggregation_type"] == "max_agg":
        return max(entry["units"] for entry in inside), events
    if metric["aggregation_type"] == "latest_agg":
        return inside[-1]["units"], events
    if metric["aggregation_type"] == "unique_count_agg":
        return len({value for entry in inside for value in entry.get("seen", [])}), events
    return sum(entry["units"] for entry in inside), events


def price(charge: Obj, amount: float) -> int:
    """What so many units cost under a charge, in cents, rounded half to even."""
    given, count = charge["properties"], Decimal(str(amount))
    model = charge["charge_model"]
    total = Decimal(0)
    if model == "package":
        paid = max(count - Decimal(str(given.get("free_units") or 0)), Decimal(0))
        size = Decimal(str(given.get("package_size") or 1))
        total = -(-paid // size) * Decimal(str(given.get("amount") or 0))
    elif model in ("graduated", "volume"):
        for step in given.get(f"{model}_ranges") or []:
            low = Decimal(str(step["from_value"]))
            high = Decimal(str(step["to_value"])) if step.get("to_value") is not None else count
            if count <= 0 or count < low:
                continue
            below = max(low - 1, Decimal(0))
            inside = min(count, high) - below if model == "graduated" else count if count <= high else Decimal(0)
            if inside > 0:
                total += inside * Decimal(str(step["per_unit_amount"])) + Decimal(str(step.get("flat_amount") or 0))
    elif model in ("percentage", "graduated_percentage"):
        total = count * Decimal(str(given.get("rate") or 0)) / 100
    else:
        total = count * Decimal(str(given.get("amount") or 0))
    cents = int((total * 100).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    return max(cents, int(charge.get("min_amount_cents") or 0))


def number(value: float) -> str:
    """Units as Lago writes them: a decimal string without an exponent."""
    return f"{value:.4f}".rstrip("0") + ("0" if f"{value:.4f}".rstrip("0").endswith(".") else "")


def usage(state: Obj, sub: Obj, start: datetime, end: datetime) -> Obj:
    """A customer's usage under one subscription in one billing period."""
    on = state["plans"][sub["plan_code"]]
    lines = []
    for charge in on["charges"]:
        metric = state["billable_metrics"].get(charge["billable_metric_code"])
        if metric is None:
            continue
        amount, events = units(state, sub["external_id"], metric, start, end)
        lines.append(
            {
                "units": number(amount),
                "total_aggregated_units": number(amount),
                "events_count": events,
                "amount_cents": price(charge, amount),
                "amount_currency": on["amount_currency"],
                "charge": {
                    "lago_id": charge["lago_id"],
                    "charge_model": charge["charge_model"],
                    "invoice_display_name": charge["invoice_display_name"],
                },
                "billable_metric": {key: metric[key] for key in ("lago_id", "name", "code", "aggregation_type")},
                "filters": [],
                "grouped_usage": [],
            }
        )
    total = sum(line["amount_cents"] for line in lines)
    return {
        "from_datetime": stamp(start),
        "to_datetime": stamp(end - timedelta(seconds=1)),
        "issuing_date": end.date().isoformat(),
        "lago_invoice_id": None,
        "currency": on["amount_currency"],
        "amount_cents": total,
        "taxes_amount_cents": 0,
        "total_amount_cents": total,
        "charges_usage": lines,
    }


def past_usage(state: Obj, sub: Obj, count: int) -> list[Obj]:
    """Usage of the last completed billing periods in which the subscription ran, newest first."""
    interval = state["plans"][sub["plan_code"]]["interval"]
    began = parse(sub["started_at"]) if sub["started_at"] else now()
    start, _ = period(interval, now())
    found = []
    while len(found) < count and start > began:
        end = start
        start, _ = period(interval, end - timedelta(seconds=1))
        found.append(usage(state, sub, start, end))
    return found


def months(count: int) -> list[datetime]:
    """The first instants of the last so many months, the present one last."""
    first = now().replace(day=1, hour=0, minute=0, second=0)
    return [add_months(first, -back) for back in reversed(range(count))]


def label(month: datetime) -> str:
    """A month as analytics write it."""
    return month.strftime("%Y-%m-%dT00:00:00.000Z")


def mrr(state: Obj, count: int, currency: str | None) -> list[Obj]:
    """Monthly recurring revenue at the end of each month: plan amounts normalised to a month."""
    found = []
    for month in months(count):
        end = min(add_months(month, 1), now() + timedelta(seconds=1))
        totals: dict[str, Fraction] = defaultdict(Fraction)
        for sub in state["subscriptions"].values():
            on = state["plans"].get(sub["plan_code"])
            if not on or not sub["started_at"] or parse(sub["started_at"]) >= end:
                continue
            if sub["terminated_at"] and parse(sub["terminated_at"]) < end:
                continue
            totals[on["amount_currency"]] += amount_of(state, sub) * PER_MONTH[on["interval"]]
        if not totals:
            totals[currency or CURRENCY] = Fraction(0)
        found += [
            {"month": label(month), "amount_cents": round(total), "currency": money}
            for money, total in sorted(totals.items())
            if currency in (None, money)
        ]
    return found


def by_month(state: Obj, count: int, currency: str | None, customer: str | None, *, date: str) -> dict[str, list[Obj]]:
    """Finalized invoices of the last months, by the month of one of their dates."""
    wanted = {month.strftime("%Y-%m"): label(month) for month in months(count)}
    found: dict[str, list[Obj]] = {name: [] for name in wanted.values()}
    for invoice in state["invoices"].values():
        month = wanted.get(invoice[date][:7])
        if month is None or invoice["status"] != "finalized":
            continue
        if currency in (None, invoice["currency"]) and customer in (None, invoice["_customer"]):
            found[month].append(invoice)
    return found


def gross_revenue(state: Obj, count: int, currency: str | None, customer: str | None) -> list[Obj]:
    """What was invoiced per month and currency."""
    found = []
    for month, invoices in by_month(state, count, currency, customer, date="issuing_date").items():
        for money in sorted({i["currency"] for i in invoices}):
            mine = [i for i in invoices if i["currency"] == money]
            found.append(
                {
                    "month": month,
                    "amount_cents": sum(i["total_amount_cents"] for i in mine),
                    "currency": money,
                    "invoices_count": len(mine),
                }
            )
    return found


def overdue_balance(state: Obj, count: int, currency: str | None, customer: str | None) -> list[Obj]:
    """What is unpaid past its due date, per month it was due in."""
    found, today = [], now().date()
    for month, invoices in by_month(state, count, currency, customer, date="payment_due_date").items():
        late = [i for i in invoices if overdue(i, today)]
        found += [
            {
                "month": month,
                "amount_cents": sum(i["total_due_amount_cents"] for i in late if i["currency"] == money),
                "currency": money,
                "lago_invoice_ids": [i["lago_id"] for i in late if i["currency"] == money],
            }
            for money in sorted({i["currency"] for i in late})
        ]
    return found


def invoice_collection(state: Obj, count: int, currency: str | None) -> list[Obj]:
    """Invoices per month and payment status."""
    found = []
    for month, invoices in by_month(state, count, currency, None, date="issuing_date").items():
        for money, status in sorted({(i["currency"], i["payment_status"]) for i in invoices}):
            mine = [i for i in invoices if (i["currency"], i["payment_status"]) == (money, status)]
            found.append(
                {
                    "month": month,
                    "payment_status": status,
                    "invoices_count": len(mine),
                    "amount_cents": sum(i["total_amount_cents"] for i in mine),
                    "currency": money,
                }
            )
    return found


def invoiced_usage(state: Obj, count: int, currency: str | None) -> list[Obj]:
    """What was invoiced for usage, per month and billable metric."""
    found = []
    for month, invoices in by_month(state, count, currency, None, date="issuing_date").items():
        totals: Counter[tuple[str, str]] = Counter()
        for invoice in invoices:
            for fee in invoice["_fees"]:
                if fee["item"]["type"] == "charge":
                    totals[invoice["currency"], fee["item"]["code"]] += fee["amount_cents"]
        found += [
            {"month": month, "code": code, "amount_cents": amount, "currency": money}
            for (money, code), amount in sorted(totals.items())
        ]
    return found
