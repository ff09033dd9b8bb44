"""Objects of the Lago stand-in: how each is made and how it is answered.

Keys beginning with an underscore are ours and never leave. Money is integer cents.
"""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

NAMESPACE = uuid.UUID("6f6c6167-6f00-4000-8000-70696c6f7468")
INTERVAL_DAYS = {"weekly": 7, "monthly": 30, "quarterly": 91, "semiannual": 182, "yearly": 365}
MONTHS = {"monthly": 1, "quarterly": 3, "semiannual": 6, "yearly": 12}
CURRENCY = "USD"
NET_PAYMENT_TERM = 14

Obj = dict[str, Any]


def now() -> datetime:
    """The present second, UTC."""
    return datetime.now(UTC).replace(microsecond=0)


def stamp(moment: datetime) -> str:
    """A moment as Lago writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    """A moment or a date as Lago takes it, as aware UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def ident(*parts: object) -> str:
    """A stable id for something seeded; a random one without parts."""
    return str(uuid.uuid5(NAMESPACE, "/".join(map(str, parts)))) if parts else str(uuid.uuid4())


def public(obj: Obj) -> Obj:
    """The object without what is only ours."""
    return {key: value for key, value in obj.items() if not key.startswith("_")}


def empty_state() -> Obj:
    """What a Lago has that nobody has used yet: an organization and a tax."""
    created = stamp(now())
    return {
        "organization": {
            "lago_id": ident("organization"),
            "name": "Sandbox",
            "created_at": created,
            "webhook_url": None,
            "webhook_urls": [],
            "country": "US",
            "default_currency": CURRENCY,
            "address_line1": None,
            "address_line2": None,
            "state": None,
            "zipcode": None,
            "email": None,
            "city": None,
            "legal_name": None,
            "legal_number": None,
            "document_numbering": "per_organization",
            "document_number_prefix": "SBX-0001",
            "net_payment_term": NET_PAYMENT_TERM,
            "tax_identification_number": None,
            "timezone": "UTC",
            "finalize_zero_amount_invoice": True,
            "events_store": "postgres",
            "email_settings": [],
            "billing_configuration": {"invoice_footer": None, "invoice_grace_period": 0, "document_locale": "en"},
            "taxes": [],
        },
        "customers": {},
        "plans": {},
        "subscriptions": {},
        "invoices": {},
        "billable_metrics": {},
        "events": {},
        "usage": {},
        "payments": {},
        "credit_notes": {},
        "wallets": {},
        "coupons": {},
        "add_ons": {},
        "webhook_endpoints": {},
        "taxes": {
            "standard": {
                "lago_id": ident("tax", "standard"),
                "name": "Standard",
                "code": "standard",
                "description": None,
                "rate": 0.0,
                "applied_to_organization": True,
                "created_at": created,
            }
        },
        "sequences": {"customer": 0, "invoice": 0},
    }


def customer_fields() -> tuple[str, ...]:
    """What may be written of a customer beside its metadata and billing configuration."""
    fields = (
        "address_line1 address_line2 city country currency email legal_name legal_number logo_url name firstname "
        "lastname customer_type net_payment_term phone state tax_identification_number timezone url zipcode"
    )
    return tuple(fields.split())


def moment(given: object) -> datetime:
    """A moment as events give it: seconds since 1970 as a number or a string, or ISO 8601. Raises ValueError."""
    text = str(given)
    if text.replace(".", "", 1).isdigit():
        return datetime.fromtimestamp(float(text), UTC)
    return parse(text)


def customer(state: Obj, given: Obj, *, created: datetime | None = None, lago_id: str | None = None) -> Obj:
    """A new customer, not yet stored."""
    state["sequences"]["customer"] += 1
    number = state["sequences"]["customer"]
    at = stamp(created or now())
    known = {name: given.get(name) for name in customer_fields() if name not in ("currency", "net_payment_term")}
    return {
        "lago_id": lago_id or ident(),
        "sequential_id": number,
        "slug": f"SBX-0001-{number:03d}",
        "external_id": given["external_id"],
        "billing_entity_code": given.get("billing_entity_code") or "default",
        "account_type": "customer",
        **{name: value for name, value in known.items() if value is not None},
        "currency": given.get("currency") or CURRENCY,
        "net_payment_term": given.get("net_payment_term"),
        "applicable_timezone": given.get("timezone") or "UTC",
        "billing_configuration": {
            "invoice_grace_period": 0,
            "payment_provider": "stripe",
            "payment_provider_code": "stripe",
            "provider_customer_id": f"cus_{number:08d}",
            "document_locale": "en",
            **{k: v for k, v in (given.get("billing_configuration") or {}).items() if v is not None},
        },
        "metadata": [metadata(item, at) for item in given.get("metadata") or []],
        "taxes": [],
        "created_at": at,
        "updated_at": at,
    }


def metadata(item: Obj, at: str) -> Obj:
    """One key and value attached to a customer."""
    return {
        "lago_id": item.get("id") or ident(),
        "key": item.get("key", ""),
        "value": item.get("value", ""),
        "display_in_invoice": bool(item.get("display_in_invoice")),
        "created_at": at,
    }


def plan(state: Obj, given: Obj, *, created: datetime | None = None, lago_id: str | None = None) -> Obj:
    """A new plan, not yet stored. Charges must name billable metrics that exist."""
    at = created or now()
    return {
        "lago_id": lago_id or ident(),
        "name": given["name"],
        "invoice_display_name": given.get("invoice_display_name") or given["name"],
        "created_at": stamp(at),
        "code": given["code"],
        "interval": given["interval"],
        "description": given.get("description") or "",
        "amount_cents": given["amount_cents"],
        "amount_currency": given["amount_currency"],
        "trial_period": float(given.get("trial_period") or 0),
        "pay_in_advance": bool(given.get("pay_in_advance")),
        "bill_charges_monthly": given.get("bill_charges_monthly"),
        "charges": [charge(state, item, at) for item in given.get("charges") or []],
        "taxes": [],
    }


def charge(state: Obj, given: Obj, at: datetime) -> Obj:
    """One charge of a plan. Raises KeyError when its billable metric does not exist."""
    wanted = given.get("billable_metric_id")
    code = given.get("billable_metric_code")
    metric = next(m for m in state["billable_metrics"].values() if m["lago_id"] == wanted or m["code"] == code)
    return {
        "lago_id": given.get("id") or ident(),
        "lago_billable_metric_id": metric["lago_id"],
        "code": given.get("code"),
        "billable_metric_code": metric["code"],
        "invoice_display_name": given.get("invoice_display_name"),
        "created_at": stamp(at),
        "charge_model": given.get("charge_model") or "standard",
        "pay_in_advance": bool(given.get("pay_in_advance")),
        "invoiceable": given.get("invoiceable", True) is not False,
        "regroup_paid_fees": None,
        "prorated": bool(given.get("prorated")),
        "min_amount_cents": int(given.get("min_amount_cents") or 0),
        "properties": given.get("properties") or {"amount": "0"},
        "filters": [],
        "taxes": [],
    }


def billable_metric(given: Obj, *, created: datetime | None = None, lago_id: str | None = None) -> Obj:
    """A new billable metric, not yet stored."""
    return {
        "lago_id": lago_id or ident(),
        "name": given["name"],
        "code": given["code"],
        "description": given.get("description"),
        "recurring": bool(given.get("recurring")),
        "rounding_function": given.get("rounding_function"),
        "rounding_precision": given.get("rounding_precision"),
        "created_at": stamp(created or now()),
        "field_name": given.get("field_name"),
        "aggregation_type": given["aggregation_type"],
        "weighted_interval": given.get("weighted_interval"),
        "filters": [],
    }


def period(interval: str, at: datetime) -> tuple[datetime, datetime]:
    """The calendar billing period around a moment: first instant, and first instant of the next."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if interval == "weekly":
        start = day - timedelta(days=day.weekday())
        return start, start + timedelta(days=7)
    months = MONTHS[interval]
    first = (day.month - 1) // months * months + 1
    start = day.replace(month=first, day=1)
    return start, add_months(start, months)


def add_months(first: datetime, months: int) -> datetime:
    """The first of a month, so many months on."""
    index = first.year * 12 + first.month - 1 + months
    return first.replace(year=index // 12, month=index % 12 + 1, day=1)


def subscription(
    owner: Obj, on: Obj, given: Obj, *, started: datetime, lago_id: str | None = None, status: str = "active"
) -> Obj:
    """A new subscription, not yet stored. ``_amount_cents`` holds an amount overridden for it alone."""
    override = (given.get("plan_overrides") or {}).get("amount_cents")
    at = stamp(started)
    return {
        "lago_id": lago_id or ident(),
        "external_id": given["external_id"],
        "lago_customer_id": owner["lago_id"],
        "external_customer_id": owner["external_id"],
        "billing_entity_code": "default",
        "billing_time": given.get("billing_time") or "calendar",
        "name": given.get("name"),
        "plan_code": on["code"],
        "status": status,
        "created_at": at,
        "canceled_at": None,
        "started_at": at if status == "active" else None,
        "ending_at": given.get("ending_at"),
        "subscription_at": at,
        "terminated_at": None,
        "previous_plan_code": None,
        "next_plan_code": None,
        "downgrade_plan_date": None,
        "trial_ended_at": None,
        "on_termination_credit_note": "credit",
        "on_termination_invoice": "generate",
        "_amount_cents": override,
    }


def amount_of(state: Obj, sub: Obj) -> int:
    """What a subscription's plan costs per interval, in cents."""
    if sub.get("_amount_cents") is not None:
        return int(sub["_amount_cents"])
    return int(state["plans"].get(sub["plan_code"], {}).get("amount_cents", 0))


def subscription_answer(state: Obj, sub: Obj) -> Obj:
    """A subscription as answered: with the plan's present amount and the present billing period."""
    on = state["plans"].get(sub["plan_code"], {})
    start, end = period(on.get("interval", "monthly"), now())
    live = sub["status"] == "active"
    return public(sub) | {
        "plan_amount_cents": amount_of(state, sub),
        "plan_amount_currency": on.get("amount_currency", CURRENCY),
        "current_billing_period_started_at": stamp(start) if live else None,
        "current_billing_period_ending_at": stamp(end - timedelta(seconds=1)) if live else None,
    }


def invoice(
    state: Obj,
    owner: Obj,
    fees: list[Obj],
    *,
    issued: date,
    status: str = "finalized",
    payment_status: str = "pending",
    currency: str = CURRENCY,
    lago_id: str | None = None,
    invoice_type: str = "subscription",
    subscription_ids: tuple[str, ...] = (),
) -> Obj:
    """A new invoice of these fees, not yet stored."""
    state["sequences"]["invoice"] += 1
    number = state["sequences"]["invoice"]
    total = sum(fee["amount_cents"] for fee in fees)
    at = f"{issued.isoformat()}T06:00:00Z"
    made_id = lago_id or ident()
    paid = total if payment_status == "succeeded" else 0
    return {
        "lago_id": made_id,
        "billing_entity_code": "default",
        "sequential_id": number,
        "number": f"SBX-0001-{issued:%Y%m}-{number:05d}",
        "issuing_date": issued.isoformat(),
        "payment_due_date": (issued + timedelta(days=NET_PAYMENT_TERM)).isoformat(),
        "net_payment_term": NET_PAYMENT_TERM,
        "invoice_type": invoice_type,
        "status": status,
        "payment_status": payment_status,
        "currency": currency,
        "fees_amount_cents": total,
        "coupons_amount_cents": 0,
        "credit_notes_amount_cents": 0,
        "sub_total_excluding_taxes_amount_cents": total,
        "taxes_amount_cents": 0,
        "sub_total_including_taxes_amount_cents": total,
        "prepaid_credit_amount_cents": 0,
        "prepaid_granted_credit_amount_cents": None,
        "prepaid_purchased_credit_amount_cents": None,
        "progressive_billing_credit_amount_cents": 0,
        "total_amount_cents": total,
        "total_paid_amount_cents": paid,
        "total_due_amount_cents": total - paid,
        "version_number": 4,
        "self_billed": False,
        "created_at": at,
        "updated_at": at,
        "voided_at": None,
        "_customer": owner["external_id"],
        "_subscriptions": list(subscription_ids),
        "_fees": [fee | {"lago_invoice_id": made_id, "payment_status": payment_status} for fee in fees],
    }


def fee(
    owner: Obj,
    sub: Obj,
    *,
    kind: str,
    item: Obj,
    amount_cents: int,
    units: str = "1.0",
    events: int | None = None,
    currency: str = CURRENCY,
    lago_id: str | None = None,
) -> Obj:
    """One line of an invoice. ``item`` is the plan or the billable metric it is for."""
    units_value = float(units) or 1.0
    metric = kind == "charge"
    return {
        "lago_id": lago_id or ident(),
        "lago_subscription_id": sub["lago_id"],
        "lago_customer_id": owner["lago_id"],
        "external_customer_id": owner["external_id"],
        "external_subscription_id": sub["external_id"],
        "amount_cents": amount_cents,
        "amount_currency": currency,
        "taxes_amount_cents": 0,
        "taxes_rate": 0.0,
        "units": units,
        "precise_unit_amount": f"{amount_cents / 100 / units_value:.6f}",
        "total_aggregated_units": units,
        "total_amount_cents": amount_cents,
        "total_amount_currency": currency,
        "events_count": events,
        "pay_in_advance": False,
        "invoiceable": True,
        "payment_status": "pending",
        "sub_total_excluding_taxes_amount_cents": amount_cents,
        "sub_total_excluding_taxes_precise_amount_cents": f"{amount_cents}.0",
        "item": {
            "type": kind,
            "code": item["code"],
            "name": item["name"],
            "lago_item_id": item["lago_id"] if metric else sub["lago_id"],
            "item_type": "BillableMetric" if metric else "Subscription",
        },
    }


def overdue(obj: Obj, today: date) -> bool:
    """Whether an invoice is finalized, unpaid and past its due date."""
    return (
        obj["status"] == "finalized"
        and obj["payment_status"] != "succeeded"
        and obj["total_due_amount_cents"] > 0
        and date.fromisoformat(obj["payment_due_date"]) < today
    )


def invoice_answer(state: Obj, obj: Obj, *, whole: bool = False) -> Obj:
    """An invoice as lists answer it, or with its fees and subscriptions as asked for alone."""
    owner = state["customers"].get(obj["_customer"]) or state.get("discarded", {}).get(obj["_customer"])
    made = public(obj) | {
        "payment_overdue": overdue(obj, now().date()),
        "applied_taxes": [],
        "metadata": [],
    }
    if owner:
        made["customer"] = {key: value for key, value in public(owner).items() if key not in ("taxes", "metadata")}
    if whole:
        subs = [state["subscriptions"][s] for s in obj["_subscriptions"] if s in state["subscriptions"]]
        made |= {
            "fees": obj["_fees"],
            "credits": [],
            "subscriptions": [subscription_answer(state, s) for s in subs],
        }
    return made


def payment(state: Obj, of: Obj, *, status: str, at: datetime, lago_id: str | None = None) -> Obj:
    """A payment of an invoice, not yet stored."""
    owner = state["customers"][of["_customer"]]
    made_id = lago_id or ident()
    return {
        "lago_id": made_id,
        "lago_customer_id": owner["lago_id"],
        "external_customer_id": owner["external_id"],
        "invoice_ids": [of["lago_id"]],
        "invoice_numbers": [of["number"]],
        "lago_payable_id": of["lago_id"],
        "payable_type": "Invoice",
        "amount_cents": of["total_amount_cents"],
        "amount_currency": of["currency"],
        "status": status,
        "payment_status": status,
        "type": "provider",
        "reference": of["number"],
        "payment_provider_code": "stripe",
        "payment_provider_type": "stripe",
        "external_payment_id": f"pi_{made_id[:18]}",
        "provider_payment_id": f"pi_{made_id[:18]}",
        "provider_customer_id": owner["billing_configuration"].get("provider_customer_id", ""),
        "next_action": {},
        "created_at": stamp(at),
    }
