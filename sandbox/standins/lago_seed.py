"""The demo world as Lago would hold it: plans, metrics, customers, and a year of invoices."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sandbox.standins import lago_objects as make

if TYPE_CHECKING:
    from sandbox.demo.world import Invoice, World

Obj = dict[str, Any]

METRICS = {
    "api_calls": ("API calls", "units"),
    "voice_minutes": ("Voice minutes past the limit", "over"),
    "llm_tokens": ("LLM tokens past the limit", "over"),
    "file_uploads": ("File uploads", "units"),
    "memory_queries": ("Memory queries", "units"),
}
"""Billable metrics by code: name, and which property of the console's usage events is summed."""


def seeded_state(world: World) -> Obj:
    """The state of a Lago that billed the world's tenants until its today. Deterministic."""
    state = make.empty_state()
    began = min(t.created_at for t in world.tenants) if world.tenants else make.now()
    _catalogue(state, world, began)
    for tenant in world.tenants:
        given = {"external_id": tenant.id, "name": tenant.name, "email": tenant.email, "country": tenant.country}
        owner = make.customer(state, given, created=tenant.created_at, lago_id=make.ident("customer", tenant.id))
        owner["metadata"] = [
            make.metadata(
                {"id": make.ident("metadata", tenant.id), "key": "tier", "value": tenant.tier}, owner["created_at"]
            )
        ]
        state["customers"][tenant.id] = owner
    _subscriptions(state, world)
    _usage(state, world)
    for invoice in world.invoices:
        state["invoices"][invoice.id] = _invoice(state, invoice)
    for paid in world.payments:
        made = make.payment(state, state["invoices"][paid.invoice_id], status=paid.status, at=paid.at, lago_id=paid.id)
        state["payments"][paid.id] = made
    return state


def _catalogue(state: Obj, world: World, began: datetime) -> None:
    from sandbox.demo.world import METERED

    for code, (name, unit) in METRICS.items():
        given = {"name": name, "code": code, "aggregation_type": "sum_agg", "field_name": unit}
        state["billable_metrics"][code] = make.billable_metric(given, created=began, lago_id=make.ident("metric", code))
    for tier in world.tiers:
        charges = []
        for code in METRICS:
            charge: Obj = {"id": make.ident("charge", tier.code, code), "billable_metric_code": code}
            if code in METERED and tier.price_cents:
                size, cents = METERED[code]
                terms = {"amount": f"{cents / 100:.2f}", "package_size": size, "free_units": 0}
                charge |= {"charge_model": "package", "properties": terms}
            charges.append(charge)
        given = {
            "name": tier.name,
            "code": tier.code,
            "interval": "monthly",
            # What Enterprise pays is agreed with each customer and stands on its subscription.
            "amount_cents": tier.price_cents or 0,
            "amount_currency": make.CURRENCY,
            "description": f"The {tier.name} tier",
            "charges": charges,
        }
        state["plans"][tier.code] = make.plan(state, given, created=began, lago_id=make.ident("plan", tier.code))
    created = make.stamp(began)
    state["coupons"]["welcome"] = {
        "lago_id": make.ident("coupon", "welcome"),
        "name": "Welcome",
        "code": "welcome",
        "description": None,
        "coupon_type": "percentage",
        "amount_cents": None,
        "amount_currency": None,
        "reusable": False,
        "limited_plans": False,
        "plan_codes": [],
        "limited_billable_metrics": False,
        "billable_metric_codes": [],
        "percentage_rate": "20.0",
        "frequency": "once",
        "frequency_duration": None,
        "expiration": "no_expiration",
        "expiration_at": None,
        "created_at": created,
        "terminated_at": None,
    }
    state["add_ons"]["onboarding"] = {
        "lago_id": make.ident("add_on", "onboarding"),
        "name": "Onboarding",
        "invoice_display_name": "Onboarding",
        "code": "onboarding",
        "amount_cents": 50_000,
        "amount_currency": make.CURRENCY,
        "description": "Setting up with one of our engineers",
        "created_at": created,
        "taxes": [],
    }


def _subscriptions(state: Obj, world: World) -> None:
    plans = {one.id: one.plan for one in world.subscriptions}
    for one in world.subscriptions:
        on, owner = state["plans"][one.plan], state["customers"][one.tenant_id]
        given: Obj = {"external_id": one.id, "name": on["name"]}
        if one.amount_cents != on["amount_cents"]:
            given["plan_overrides"] = {"amount_cents": one.amount_cents}
        made = make.subscription(owner, on, given, started=one.started_at, lago_id=make.ident("sub", one.id))
        made["previous_plan_code"] = plans.get(one.previous_id or "")
        if one.ended_at is not None:
            made |= {"status": "terminated", "terminated_at": make.stamp(one.ended_at)}
        state["subscriptions"][made["lago_id"]] = made


def _usage(state: Obj, world: World) -> None:
    """Units per subscription, metric and day: what is metered past a limit, all of the rest."""
    from sandbox.demo.world import METERED

    stays: dict[str, list[tuple[date, date, str]]] = {}
    for one in world.subscriptions:
        until = one.ended_at.date() if one.ended_at else date.max
        stays.setdefault(one.tenant_id, []).append((one.started_at.date(), until, one.id))
    month = world.today.replace(day=1)
    for row in world.usage:
        amount = row.over if row.key in METERED else row.amount
        if not amount:
            continue
        running = [sub for first, last, sub in stays.get(row.tenant_id, []) if first <= row.day <= last]
        if running:
            days = state["usage"].setdefault(running[-1], {}).setdefault(row.key, {})
            # Months that are over are only ever asked for whole: one entry each keeps the state small.
            day = row.day if row.day >= month else row.day.replace(day=1)
            entry = days.setdefault(day.isoformat(), {"units": 0, "events": 0})
            entry["units"] += amount
            entry["events"] += max(1, amount // 1000)


def _invoice(state: Obj, invoice: Invoice) -> Obj:
    owner = state["customers"][invoice.tenant_id]
    sub = state["subscriptions"][make.ident("sub", invoice.subscription_id)]
    lines = []
    for number, line in enumerate(invoice.lines):
        plan = line.kind == "subscription"
        item = state["plans" if plan else "billable_metrics"][line.code]
        lines.append(
            make.fee(
                owner,
                sub,
                kind=line.kind,
                item=item,
                amount_cents=line.amount_cents,
                units=str(line.units),
                events=None if plan else max(1, int(line.units) // 1000),
                lago_id=make.ident("fee", invoice.id, number),
            )
        )
    made = make.invoice(
        state,
        owner,
        lines,
        issued=invoice.issued_on,
        status=invoice.status,
        payment_status=invoice.payment_status,
        lago_id=invoice.id,
        subscription_ids=(sub["lago_id"],),
    )
    made |= {"number": invoice.number, "payment_due_date": invoice.due_on.isoformat()}
    if invoice.status == "voided":
        moment = datetime(invoice.issued_on.year, invoice.issued_on.month, invoice.issued_on.day, 12, tzinfo=UTC)
        made |= {"voided_at": make.stamp(moment), "total_due_amount_cents": 0}
    return made
