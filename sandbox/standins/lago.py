"""Lago's API 1.51 over a state that obeys what is written to it.

Answers are shaped as Lago's published description says; errors carry Lago's codes. Premium analytics
(MRR, invoiced usage) answer 403 ``feature_unavailable`` unless ``premium``.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.people import Person
from sandbox.standins import Host, Standin
from sandbox.standins import lago_money as money
from sandbox.standins import lago_objects as make
from sandbox.standins.lago_seed import seeded_state

Obj = dict[str, Any]
VERSION = "v1.51.0"
MAX_PER_PAGE = 1000
MAX_EVENTS = 20_000
AGGREGATIONS = {"count_agg", "sum_agg", "max_agg", "unique_count_agg", "weighted_sum_agg", "latest_agg"}


class Problem(Exception):
    """An error as Lago answers it."""

    def __init__(self, status: int, code: str | None = None, details: Obj | None = None) -> None:
        words = {400: "Bad request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}
        words |= {405: "Method Not Allowed", 422: "Unprocessable Entity"}
        self.status = status
        self.body: Obj = {"status": status, "error": words[status]}
        if code:
            self.body["code"] = code
        if details is not None:
            self.body["error_details"] = details


def invalid(**fields: str) -> Problem:
    """A 422 naming what is wrong with which field."""
    return Problem(422, "validation_errors", {name: [what] for name, what in fields.items()})


async def body_of(request: Request, root: str) -> Obj:
    """The object a request carries under its root name. Raises Problem 400 when it is not there."""
    try:
        given = json.loads(await request.body())
        found = given[root]
    except (ValueError, KeyError, TypeError):
        raise Problem(400, "param_is_missing") from None
    if not isinstance(found, dict):
        raise Problem(400, "param_is_missing")
    return found


def needed(given: Obj, *names: str) -> None:
    """Raise a 422 for every field that is absent."""
    missing = {name: "value_is_mandatory" for name in names if given.get(name) in (None, "")}
    if missing:
        raise invalid(**missing)


def one(items: dict[str, Obj], key: str, kind: str) -> Obj:
    """The object of that key, or a 404 naming its kind."""
    if key not in items:
        raise Problem(404, f"{kind}_not_found")
    return items[key]


def page(request: Request, name: str, items: list[Obj], answer: Callable[[Obj], Obj] = make.public) -> Response:
    """One page of a list with Lago's meta."""
    try:
        number = max(1, int(request.query_params.get("page", 1)))
        size = min(MAX_PER_PAGE, max(1, int(request.query_params.get("per_page", 20))))
    except ValueError:
        raise Problem(400, "invalid_pagination") from None
    pages = -(-len(items) // size)
    meta = {
        "current_page": number,
        "next_page": number + 1 if number < pages else None,
        "prev_page": number - 1 if number > 1 else None,
        "total_pages": pages,
        "total_count": len(items),
    }
    part = items[(number - 1) * size : number * size]
    return JSONResponse({name: [answer(item) for item in part], "meta": meta})


def newest(items: dict[str, Obj]) -> list[Obj]:
    """A collection, newest first, as Lago lists."""
    return sorted(items.values(), key=lambda item: (item["created_at"], item["lago_id"]), reverse=True)


def months_of(request: Request) -> tuple[int, str | None]:
    """The months and the currency an analytics call asks for (12 months without)."""
    try:
        count = min(60, max(1, int(request.query_params.get("months", 12))))
    except ValueError:
        raise Problem(400, "invalid_months") from None
    return count, request.query_params.get("currency")


class Lago:
    """The handlers, over one :class:`Standin`."""

    def __init__(self, standin: Standin, key: str, premium: bool) -> None:
        self.standin, self.key, self.premium = standin, key, premium

    @property
    def state(self) -> Obj:
        return self.standin.state

    # Customers

    async def customers(self, request: Request) -> Response:
        term = request.query_params.get("search_term", "").lower()
        found = newest(self.state["customers"])
        if term:
            found = [c for c in found if term in f"{c.get('name')} {c['external_id']} {c.get('email')}".lower()]
        return page(request, "customers", found)

    async def put_customer(self, request: Request) -> Response:
        given = await body_of(request, "customer")
        needed(given, "external_id")
        known = self.state["customers"].get(given["external_id"])
        if known is None:
            known = make.customer(self.state, given)
            self.state["customers"][known["external_id"]] = known
        else:
            at = make.stamp(make.now())
            extra = {k: v for k, v in given.items() if k not in ("metadata", "billing_configuration", "tax_codes")}
            known |= {k: v for k, v in extra.items() if k in make.customer_fields() and v is not None}
            known["updated_at"] = at
            if "metadata" in given:
                known["metadata"] = [make.metadata(item, at) for item in given["metadata"]]
        self.standin.changed()
        return JSONResponse({"customer": make.public(known)})

    async def customer(self, request: Request) -> Response:
        found = one(self.state["customers"], request.path_params["key"], "customer")
        if request.method == "DELETE":
            self.state.setdefault("discarded", {})[found["external_id"]] = found
            del self.state["customers"][found["external_id"]]
            for sub in self.state["subscriptions"].values():
                if sub["external_customer_id"] == found["external_id"] and sub["status"] == "active":
                    self._terminate(sub)
            self.standin.changed()
        return JSONResponse({"customer": make.public(found)})

    def _usage_of(self, request: Request) -> Obj:
        owner = one(self.state["customers"], request.path_params["key"], "customer")
        wanted = request.query_params.get("external_subscription_id")
        if not wanted:
            raise Problem(404, "subscription_not_found")
        for sub in self.state["subscriptions"].values():
            mine = sub["external_id"] == wanted and sub["lago_customer_id"] == owner["lago_id"]
            if mine and sub["status"] == "active":
                return sub
        raise Problem(404, "subscription_not_found")

    async def current_usage(self, request: Request) -> Response:
        sub = self._usage_of(request)
        start, end = make.period(self.state["plans"][sub["plan_code"]]["interval"], make.now())
        return JSONResponse({"customer_usage": money.usage(self.state, sub, start, end)})

    async def past_usage(self, request: Request) -> Response:
        sub = self._usage_of(request)
        count = request.query_params.get("periods_count", "12")
        periods = money.past_usage(self.state, sub, int(count) if count.isdigit() else 12)
        return page(request, "usage_periods", periods)

    # Plans and billable metrics

    async def plans(self, request: Request) -> Response:
        return page(request, "plans", newest(self.state["plans"]))

    def _checked_plan(self, given: Obj) -> None:
        if given.get("interval") is not None and given["interval"] not in make.INTERVAL_DAYS:
            raise invalid(interval="value_is_invalid")
        amount = given.get("amount_cents")
        if amount is not None and (not isinstance(amount, int) or isinstance(amount, bool) or amount < 0):
            raise invalid(amount_cents="value_is_invalid")

    def _charges(self, given: Obj) -> list[Obj]:
        try:
            return [make.charge(self.state, item, make.now()) for item in given["charges"]]
        except StopIteration:
            raise Problem(404, "billable_metrics_not_found") from None

    async def create_plan(self, request: Request) -> Response:
        given = await body_of(request, "plan")
        needed(given, "name", "code", "interval", "amount_cents", "amount_currency")
        self._checked_plan(given)
        if given["code"] in self.state["plans"]:
            raise invalid(code="value_already_exist")
        made = make.plan(self.state, {**given, "charges": []})
        made["charges"] = self._charges(given) if given.get("charges") else []
        self.state["plans"][made["code"]] = made
        self.standin.changed()
        return JSONResponse({"plan": made})

    async def plan(self, request: Request) -> Response:
        found = one(self.state["plans"], request.path_params["key"], "plan")
        if request.method == "PUT":
            given = await body_of(request, "plan")
            self._checked_plan(given)
            self._update_plan(found, given)
        elif request.method == "DELETE":
            for sub in self.state["subscriptions"].values():
                if sub["plan_code"] == found["code"] and sub["status"] == "active":
                    self._terminate(sub)
            del self.state["plans"][found["code"]]
        if request.method != "GET":
            self.standin.changed()
        return JSONResponse({"plan": make.public(found)})

    def _update_plan(self, found: Obj, given: Obj) -> None:
        code = given.get("code") or found["code"]
        if code != found["code"] and code in self.state["plans"]:
            raise invalid(code="value_already_exist")
        charges = self._charges(given) if given.get("charges") is not None else found["charges"]
        before = found["amount_cents"]
        plain = (
            "name invoice_display_name interval description amount_cents amount_currency trial_period pay_in_advance"
        )
        for name in plain.split():
            if given.get(name) is not None:
                found[name] = given[name]
        found["charges"] = charges
        if given.get("cascade_updates"):
            # Lago cascades to plans overridden for one subscription whose amount is still the parent's.
            for sub in self.state["subscriptions"].values():
                if sub["plan_code"] == found["code"] and sub["_amount_cents"] == before:
                    sub["_amount_cents"] = found["amount_cents"]
        if code != found["code"]:
            self.state["plans"][code] = self.state["plans"].pop(found["code"])
            for sub in self.state["subscriptions"].values():
                if sub["plan_code"] == found["code"]:
                    sub["plan_code"] = code
            found["code"] = code

    async def metrics(self, request: Request) -> Response:
        return page(request, "billable_metrics", newest(self.state["billable_metrics"]))

    async def create_metric(self, request: Request) -> Response:
        given = await body_of(request, "billable_metric")
        needed(given, "name", "code", "aggregation_type")
        if given["aggregation_type"] not in AGGREGATIONS:
            raise invalid(aggregation_type="value_is_invalid")
        if given["aggregation_type"] != "count_agg":
            needed(given, "field_name")
        if given["code"] in self.state["billable_metrics"]:
            raise invalid(code="value_already_exist")
        made = make.billable_metric(given)
        self.state["billable_metrics"][made["code"]] = made
        self.standin.changed()
        return JSONResponse({"billable_metric": made})

    async def metric(self, request: Request) -> Response:
        found = one(self.state["billable_metrics"], request.path_params["key"], "billable_metric")
        if request.method == "PUT":
            given = await body_of(request, "billable_metric")
            for name in ("name", "description", "aggregation_type", "field_name", "recurring"):
                if given.get(name) is not None:
                    found[name] = given[name]
        elif request.method == "DELETE":
            del self.state["billable_metrics"][found["code"]]
        if request.method != "GET":
            self.standin.changed()
        return JSONResponse({"billable_metric": found})

    # Subscriptions

    async def subscriptions(self, request: Request) -> Response:
        asked = request.query_params
        wanted = set(asked.getlist("status[]")) or {"active"}
        customer = request.path_params.get("key") or asked.get("external_customer_id")
        if "key" in request.path_params:
            one(self.state["customers"], customer or "", "customer")
        found = [
            sub
            for sub in newest(self.state["subscriptions"])
            if sub["status"] in wanted
            and customer in (None, sub["external_customer_id"])
            and asked.get("plan_code") in (None, sub["plan_code"])
        ]
        return page(request, "subscriptions", found, lambda sub: make.subscription_answer(self.state, sub))

    async def create_subscription(self, request: Request) -> Response:
        given = await body_of(request, "subscription")
        needed(given, "external_customer_id", "plan_code", "external_id")
        on = one(self.state["plans"], given["plan_code"], "plan")
        owner = self.state["customers"].get(given["external_customer_id"])
        if owner is None:
            owner = make.customer(self.state, {"external_id": given["external_customer_id"]})
            self.state["customers"][owner["external_id"]] = owner
        running = self._running(given["external_id"])
        if running and running["external_customer_id"] != owner["external_id"]:
            raise invalid(external_id="value_already_exist")
        sub = self._move(running, on, given) if running else self._start(owner, on, given)
        self.standin.changed()
        return JSONResponse({"subscription": make.subscription_answer(self.state, sub) | {"plan": make.public(on)}})

    def _running(self, external_id: str) -> Obj | None:
        subs = self.state["subscriptions"].values()
        return next((s for s in subs if s["external_id"] == external_id and s["status"] == "active"), None)

    def _start(self, owner: Obj, on: Obj, given: Obj) -> Obj:
        started = make.now()
        if given.get("subscription_at"):
            try:
                started = make.parse(given["subscription_at"])
            except ValueError:
                raise invalid(subscription_at="invalid_date") from None
        status = "pending" if started > make.now() else "active"
        sub = make.subscription(owner, on, given, started=started, status=status)
        self.state["subscriptions"][sub["lago_id"]] = sub
        amount = make.amount_of(self.state, sub)
        if status == "active" and on["pay_in_advance"] and amount:
            line = make.fee(owner, sub, kind="subscription", item=on, amount_cents=amount)
            bill = make.invoice(
                self.state,
                owner,
                [line],
                issued=make.now().date(),
                currency=on["amount_currency"],
                subscription_ids=(sub["lago_id"],),
            )
            self.state["invoices"][bill["lago_id"]] = bill
        return sub

    def _move(self, running: Obj, on: Obj, given: Obj) -> Obj:
        """Change the plan of a subscription: upwards at once, downwards at the period's end."""
        if running["plan_code"] == on["code"]:
            return running
        was = self.state["plans"][running["plan_code"]]
        new_year = on["amount_cents"] * money.PER_MONTH[on["interval"]]
        if new_year < make.amount_of(self.state, running) * money.PER_MONTH[was["interval"]]:
            _, end = make.period(was["interval"], make.now())
            running |= {"next_plan_code": on["code"], "downgrade_plan_date": end.date().isoformat()}
            return running
        self._terminate(running)
        owner = self.state["customers"][running["external_customer_id"]]
        sub = self._start(owner, on, {**given, "name": given.get("name") or running["name"]})
        sub["previous_plan_code"] = was["code"]
        return sub

    def _terminate(self, sub: Obj) -> None:
        key = "canceled" if sub["status"] == "pending" else "terminated"
        sub |= {"status": key, f"{key}_at": make.stamp(make.now())}

    async def subscription(self, request: Request) -> Response:
        key = request.path_params["key"]
        wanted = request.query_params.get("status", "active")
        subs = newest(self.state["subscriptions"])
        sub = next((s for s in subs if s["external_id"] == key and s["status"] == wanted), None)
        if sub is None:
            raise Problem(404, "subscription_not_found")
        if request.method == "PUT":
            given = await body_of(request, "subscription")
            for name in ("name", "ending_at"):
                if name in given:
                    sub[name] = given[name]
            override = (given.get("plan_overrides") or {}).get("amount_cents")
            if override is not None:
                sub["_amount_cents"] = override
        elif request.method == "DELETE":
            self._terminate(sub)
        if request.method != "GET":
            self.standin.changed()
        return JSONResponse(
            {
                "subscription": make.subscription_answer(self.state, sub)
                | {"plan": make.public(self.state["plans"][sub["plan_code"]])}
            }
        )

    # Invoices

    async def invoices(self, request: Request) -> Response:
        asked, today = request.query_params, make.now().date()
        statuses = set(asked.getlist("statuses[]") or asked.getlist("status"))
        payments = set(asked.getlist("payment_statuses[]") or asked.getlist("payment_status"))
        customer = request.path_params.get("key") or asked.get("external_customer_id")
        late = asked.get("payment_overdue")
        term = asked.get("search_term", "").lower()
        found = [
            i
            for i in sorted(
                self.state["invoices"].values(), key=lambda i: (i["issuing_date"], i["sequential_id"]), reverse=True
            )
            if (not statuses or i["status"] in statuses)
            and (not payments or i["payment_status"] in payments)
            and customer in (None, i["_customer"])
            and asked.get("currency") in (None, i["currency"])
            and asked.get("invoice_type") in (None, i["invoice_type"])
            and asked.get("issuing_date_from", "") <= i["issuing_date"] <= asked.get("issuing_date_to", "9999")
            and (late is None or make.overdue(i, today) == (late == "true"))
            and term in f"{i['number']} {i['_customer']}".lower()
        ]
        return page(request, "invoices", found, lambda i: make.invoice_answer(self.state, i))

    async def create_invoice(self, request: Request) -> Response:
        given = await body_of(request, "invoice")
        needed(given, "external_customer_id")
        owner = one(self.state["customers"], given["external_customer_id"], "customer")
        if not given.get("fees"):
            raise invalid(fees="value_is_mandatory")
        lines = []
        for item in given["fees"]:
            on = one(self.state["add_ons"], item.get("add_on_code", ""), "add_on")
            amount = int(item.get("unit_amount_cents") or on["amount_cents"])
            many = float(item.get("units") or 1)
            stand = {"lago_id": on["lago_id"], "external_id": ""}
            line = make.fee(owner, stand, kind="add_on", item=on, amount_cents=round(amount * many), units=str(many))
            line["item"]["item_type"] = "AddOn"
            lines.append(line | {"lago_subscription_id": None, "external_subscription_id": None})
        bill = make.invoice(self.state, owner, lines, issued=make.now().date(), invoice_type="one_off")
        self.state["invoices"][bill["lago_id"]] = bill
        self.standin.changed()
        return JSONResponse({"invoice": make.invoice_answer(self.state, bill, whole=True)})

    async def invoice(self, request: Request) -> Response:
        found = one(self.state["invoices"], request.path_params["key"], "invoice")
        if request.method == "PUT":
            given = await body_of(request, "invoice")
            status = given.get("payment_status")
            if status not in (None, "pending", "succeeded", "failed"):
                raise invalid(payment_status="value_is_invalid")
            if status:
                self._pay(found, status)
        return self._invoice(found)

    def _invoice(self, found: Obj) -> Response:
        return JSONResponse({"invoice": make.invoice_answer(self.state, found, whole=True)})

    def _pay(self, found: Obj, status: str) -> None:
        paid = found["total_amount_cents"] if status == "succeeded" else 0
        found |= {
            "payment_status": status,
            "total_paid_amount_cents": paid,
            "total_due_amount_cents": found["total_amount_cents"] - paid,
            "updated_at": make.stamp(make.now()),
        }
        for line in found["_fees"]:
            line["payment_status"] = status
        if status != "pending" and found["_customer"] in self.state["customers"]:
            made = make.payment(self.state, found, status=status, at=make.now())
            self.state["payments"][made["lago_id"]] = made
        self.standin.changed()

    async def retry_payment(self, request: Request) -> Response:
        found = one(self.state["invoices"], request.path_params["key"], "invoice")
        if found["status"] != "finalized" or found["payment_status"] == "succeeded":
            raise Problem(405, "invalid_status")
        self._pay(found, "succeeded")
        return Response(status_code=200)

    async def void(self, request: Request) -> Response:
        found = one(self.state["invoices"], request.path_params["key"], "invoice")
        if found["status"] != "finalized" or found["payment_status"] == "succeeded":
            raise Problem(405, "not_voidable")
        at = make.stamp(make.now())
        found |= {"status": "voided", "voided_at": at, "updated_at": at, "total_due_amount_cents": 0}
        self.standin.changed()
        return self._invoice(found)

    async def finalize(self, request: Request) -> Response:
        found = one(self.state["invoices"], request.path_params["key"], "invoice")
        if found["status"] != "draft":
            raise Problem(404, "invoice_not_found")
        found["status"] = "finalized"
        self.standin.changed()
        return self._invoice(found)

    async def refresh(self, request: Request) -> Response:
        return self._invoice(one(self.state["invoices"], request.path_params["key"], "invoice"))

    async def payment_url(self, request: Request) -> Response:
        found = one(self.state["invoices"], request.path_params["key"], "invoice")
        if found["payment_status"] == "succeeded" or found["status"] != "finalized":
            raise invalid(base="invalid_invoice_status_or_payment_status")
        owner = self.state["customers"][found["_customer"]]
        details = {
            "lago_customer_id": owner["lago_id"],
            "lago_invoice_id": found["lago_id"],
            "external_customer_id": owner["external_id"],
            "payment_provider": "stripe",
            "payment_url": f"/pay/{found['lago_id']}",
        }
        return JSONResponse({"invoice_payment_details": details})

    # Events

    def _checked_event(self, given: Any) -> Obj:
        """An event that could be taken, not yet stored. Raises Problem 422."""
        if not isinstance(given, dict):
            raise Problem(400, "param_is_missing")
        needed(given, "transaction_id", "external_subscription_id", "code")
        moment = make.now()
        if given.get("timestamp") is not None:
            try:
                moment = make.moment(given["timestamp"])
            except (ValueError, OverflowError, OSError):
                raise invalid(timestamp="invalid_format") from None
        metric = self.state["billable_metrics"].get(given["code"])
        properties = given.get("properties") or {}
        if metric is not None and metric["aggregation_type"] not in ("count_agg", "unique_count_agg"):
            try:
                float(properties.get(metric.get("field_name"), 0) or 0)
            except (ValueError, TypeError):
                raise invalid(properties="value_is_not_valid_number") from None
        sub = self._running(given["external_subscription_id"])
        return {
            "lago_id": make.ident(),
            "transaction_id": given["transaction_id"],
            "lago_customer_id": None,
            "lago_subscription_id": sub["lago_id"] if sub else None,
            "external_subscription_id": given["external_subscription_id"],
            "code": given["code"],
            "timestamp": make.stamp(moment),
            "precise_total_amount_cents": given.get("precise_total_amount_cents"),
            "properties": properties,
            "created_at": make.stamp(make.now()),
        }

    def _take_events(self, made: list[Obj]) -> dict[int, str]:
        """Store all of them, or none: the places of those whose transaction their subscription has already."""
        events = self.state["events"]
        names = [f"{one['external_subscription_id']}|{one['transaction_id']}" for one in made]
        faults = {
            place: "value_already_exist" for place, name in enumerate(names) if name in events or name in names[:place]
        }
        if faults:
            return faults
        for name, one in zip(names, made, strict=True):
            events[name] = one
            metric = self.state["billable_metrics"].get(one["code"])
            if metric is not None:  # an event of an unknown metric is taken and counts for nothing
                at = make.parse(one["timestamp"])
                money.add_usage(self.state, one["external_subscription_id"], metric, at, one["properties"])
            sums = self.state.setdefault("event_sums", {}).setdefault(one["external_subscription_id"], {})
            entry = sums.setdefault(one["code"], {"events": 0})
            entry["events"] += 1
            for field, value in one["properties"].items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    entry[field] = entry.get(field, 0) + value
        while len(events) > MAX_EVENTS:
            del events[next(iter(events))]
        self.standin.changed()
        return {}

    def sums(self) -> dict[tuple[str, str], Obj]:
        """What events taken since the first start add up to, by subscription and code: their number and properties."""
        kept = self.state.get("event_sums", {})
        return {(sub, code): dict(entry) for sub, codes in kept.items() for code, entry in codes.items()}

    async def create_event(self, request: Request) -> Response:
        made = self._checked_event(await body_of(request, "event"))
        if self._take_events([made]):
            raise invalid(transaction_id="value_already_exist")
        return JSONResponse({"event": made})

    async def create_events(self, request: Request) -> Response:
        try:
            given = json.loads(await request.body())["events"]
        except (ValueError, KeyError, TypeError):
            raise Problem(400, "param_is_missing") from None
        if not isinstance(given, list) or not 0 < len(given) <= 100:
            raise Problem(422, "validation_errors", {"events": ["too_many_events" if given else "no_events"]})
        made: list[Obj] = []
        faults: Obj = {}
        for place, one in enumerate(given):
            try:
                made.append(self._checked_event(one))
            except Problem as problem:
                if problem.status != 422:
                    raise
                faults[str(place)] = problem.body["error_details"]
        if not faults:
            taken = self._take_events(made)
            faults = {str(place): {"transaction_id": [why]} for place, why in taken.items()}
        if faults:
            raise Problem(422, "validation_errors", faults)
        return JSONResponse({"events": made})

    async def events(self, request: Request) -> Response:
        asked = request.query_params
        found = [
            e
            for e in reversed(self.state["events"].values())
            if asked.get("code") in (None, e["code"])
            and asked.get("external_subscription_id") in (None, e["external_subscription_id"])
            and asked.get("timestamp_from", "") <= e["timestamp"] <= asked.get("timestamp_to", "9999")
        ]
        return page(request, "events", found)

    async def event(self, request: Request) -> Response:
        key = request.path_params["key"]
        found = next((e for e in self.state["events"].values() if e["transaction_id"] == key), None)
        if found is None:
            raise Problem(404, "event_not_found")
        return JSONResponse({"event": found})

    # Analytics

    async def analytics(self, request: Request) -> Response:
        count, currency = months_of(request)
        customer = request.query_params.get("external_customer_id")
        kind = request.path_params["kind"]
        if kind in ("mrr", "invoiced_usage") and not self.premium:
            raise Problem(403, "feature_unavailable")
        if kind == "mrr":
            return JSONResponse({"mrrs": money.mrr(self.state, count, currency)})
        if kind == "invoiced_usage":
            return JSONResponse({"invoiced_usages": money.invoiced_usage(self.state, count, currency)})
        if kind == "gross_revenue":
            return JSONResponse({"gross_revenues": money.gross_revenue(self.state, count, currency, customer)})
        if kind == "overdue_balance":
            return JSONResponse({"overdue_balances": money.overdue_balance(self.state, count, currency, customer)})
        if kind == "invoice_collection":
            return JSONResponse({"invoice_collections": money.invoice_collection(self.state, count, currency)})
        raise Problem(404)

    # The organization, webhooks, and what is only listed

    async def organization(self, request: Request) -> Response:
        found = self.state["organization"]
        if request.method == "PUT":
            given = await body_of(request, "organization")
            found |= {k: v for k, v in given.items() if k in found and k not in ("lago_id", "created_at", "taxes")}
            self.standin.changed()
        return JSONResponse({"organization": found})

    async def webhooks(self, request: Request) -> Response:
        return page(request, "webhook_endpoints", newest(self.state["webhook_endpoints"]))

    async def create_webhook(self, request: Request) -> Response:
        given = await body_of(request, "webhook_endpoint")
        needed(given, "webhook_url")
        self._checked_webhook(given)
        if any(w["webhook_url"] == given["webhook_url"] for w in self.state["webhook_endpoints"].values()):
            raise invalid(webhook_url="value_already_exist")
        made = {
            "lago_id": make.ident(),
            "lago_organization_id": self.state["organization"]["lago_id"],
            "webhook_url": given["webhook_url"],
            "signature_algo": given.get("signature_algo") or "jwt",
            "name": given.get("name"),
            "event_types": given.get("event_types"),
            "created_at": make.stamp(make.now()),
        }
        self.state["webhook_endpoints"][made["lago_id"]] = made
        self.standin.changed()
        return JSONResponse({"webhook_endpoint": made})

    def _checked_webhook(self, given: Obj) -> None:
        if given.get("webhook_url") and not str(given["webhook_url"]).startswith(("http://", "https://")):
            raise invalid(webhook_url="url_invalid")
        if given.get("signature_algo") not in (None, "jwt", "hmac"):
            raise invalid(signature_algo="value_is_invalid")

    async def webhook(self, request: Request) -> Response:
        found = one(self.state["webhook_endpoints"], request.path_params["key"], "webhook_endpoint")
        if request.method == "PUT":
            given = await body_of(request, "webhook_endpoint")
            self._checked_webhook(given)
            for name in ("webhook_url", "signature_algo", "name", "event_types"):
                if given.get(name) is not None:
                    found[name] = given[name]
        elif request.method == "DELETE":
            del self.state["webhook_endpoints"][found["lago_id"]]
        if request.method != "GET":
            self.standin.changed()
        return JSONResponse({"webhook_endpoint": found})

    async def listed(self, request: Request) -> Response:
        name, asked = request.path_params["name"], request.query_params
        customer = asked.get("external_customer_id")
        invoice = asked.get("invoice_id")
        found = [
            item
            for item in newest(self.state[name])
            if customer in (None, item.get("external_customer_id"), item.get("_customer"))
            and (invoice is None or invoice in item.get("invoice_ids", ()))
        ]
        return page(request, name, found)

    async def one_listed(self, request: Request) -> Response:
        name, key = request.path_params["name"], request.path_params["key"]
        single = {"taxes": "tax"}.get(name) or name.removesuffix("s")
        items = self.state[name]
        found = next((i for k, i in items.items() if key in (k, i["lago_id"], i.get("code"))), None)
        if found is None:
            raise Problem(404, f"{single}_not_found")
        return JSONResponse({single: make.public(found)})


Handler = Callable[[Request], Awaitable[Response]]


def _routes(lago: Lago) -> list[Route]:
    def route(path: str, handler: Handler, *methods: str) -> Route:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {lago.key}".encode()):
                raise Problem(401)
            return await handler(request)

        return Route(f"/api/v1{path}", guarded, methods=list(methods) or ["GET"])

    return [
        route("/customers", lago.customers),
        route("/customers", lago.put_customer, "POST"),
        route("/customers/{key}", lago.customer, "GET", "DELETE"),
        route("/customers/{key}/current_usage", lago.current_usage),
        route("/customers/{key}/past_usage", lago.past_usage),
        route("/customers/{key}/subscriptions", lago.subscriptions),
        route("/customers/{key}/invoices", lago.invoices),
        route("/plans", lago.plans),
        route("/plans", lago.create_plan, "POST"),
        route("/plans/{key}", lago.plan, "GET", "PUT", "DELETE"),
        route("/billable_metrics", lago.metrics),
        route("/billable_metrics", lago.create_metric, "POST"),
        route("/billable_metrics/{key}", lago.metric, "GET", "PUT", "DELETE"),
        route("/subscriptions", lago.subscriptions),
        route("/subscriptions", lago.create_subscription, "POST"),
        route("/subscriptions/{key}", lago.subscription, "GET", "PUT", "DELETE"),
        route("/invoices", lago.invoices),
        route("/invoices", lago.create_invoice, "POST"),
        route("/invoices/{key}", lago.invoice, "GET", "PUT"),
        route("/invoices/{key}/retry_payment", lago.retry_payment, "POST"),
        route("/invoices/{key}/void", lago.void, "POST"),
        route("/invoices/{key}/finalize", lago.finalize, "PUT"),
        route("/invoices/{key}/refresh", lago.refresh, "PUT"),
        route("/invoices/{key}/payment_url", lago.payment_url, "POST"),
        route("/events", lago.events),
        route("/events", lago.create_event, "POST"),
        route("/events/batch", lago.create_events, "POST"),
        route("/events/{key}", lago.event),
        route("/analytics/{kind}", lago.analytics),
        route("/organizations", lago.organization, "GET", "PUT"),
        route("/webhook_endpoints", lago.webhooks),
        route("/webhook_endpoints", lago.create_webhook, "POST"),
        route("/webhook_endpoints/{key}", lago.webhook, "GET", "PUT", "DELETE"),
        *(
            route(path, handler)
            for name in ("credit_notes", "wallets", "coupons", "add_ons", "payments", "taxes")
            for path, handler in (
                (f"/{name}", _named(name, lago.listed)),
                (f"/{name}/{{key}}", _named(name, lago.one_listed)),
            )
        ),
    ]


def _named(name: str, handler: Handler) -> Handler:
    async def with_name(request: Request) -> Response:
        request.path_params["name"] = name
        return await handler(request)

    return with_name


def create(
    state_dir: Path, seed: int | None, people: list[Person], *, host: Host, premium: bool = False, **_: object
) -> Starlette:
    """The Lago stand-in. ``premium`` opens the analytics that need a licence."""

    def fresh() -> Obj:
        return seeded_state(host.world) if seed is not None and host.world is not None else make.empty_state()

    standin = Standin("lago", state_dir, fresh)
    lago = Lago(standin, host.secrets.get("lago_api_key", "lago"), premium)

    async def health(request: Request) -> Response:
        return JSONResponse({"version": VERSION, "message": "Success"})

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return JSONResponse(error.body, status_code=error.status)

    async def not_found(request: Request, error: Exception) -> Response:
        return JSONResponse({"status": 404, "error": "Not Found", "code": "not_found"}, status_code=404)

    app = Starlette(
        routes=[Route("/health", health), *_routes(lago)],
        exception_handlers={Problem: problem, 404: not_found, 405: not_found},
    )
    app.state.standin = standin
    app.state.lago = lago
    return app
