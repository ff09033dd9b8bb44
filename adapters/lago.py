"""Lago: plans, subscriptions and invoices. Money is integer cents; MRR is not what was invoiced."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import Field, SecretStr

from adapters import lago_records as records
from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import deadline
from adapters.core.errors import Denied, TimedOut, Unexpected
from adapters.core.http import NotSupported, request
from adapters.core.http import client as http_client
from adapters.core.model import Category, Health, Metric, Service, Setting, State, Unit
from adapters.lago_client.customers import Customers
from adapters.lago_records import Invoice, Listed, MonthAmount, Mrr, Plan, Subscription, events

PER_PAGE = 100
MAX_PAGES = 20
LICENCE_EVERY_S = 600.0
POST_SECONDS = 10.0
"""A batch of a hundred takes Lago longer than a question."""

T = TypeVar("T")


class LagoConfig(ServiceConfig):
    """How to reach Lago."""

    url: str | None = Field(
        None,
        title="Address",
        description="Root of the API's host, without /api/v1.",
        json_schema_extra={"required": True},
    )
    api_key: SecretStr | None = Field(None, title="API key", json_schema_extra={"required": True})


class Lago(Adapter[LagoConfig]):
    """One Lago organization."""

    service = Service(
        slug="lago",
        title="Lago",
        category=Category.BILLING,
        path="/platform/infrastructure/billing",
        purpose="Meters usage, bills subscriptions and collects payments.",
        affects="billing and usage metering",
        order=60,
    )

    def __init__(self, config: LagoConfig) -> None:
        super().__init__(config)
        self._unlicensed_until = 0.0

    @cached_property
    def _http(self) -> httpx.Client:
        self.require_config()
        key = self.config.api_key.get_secret_value() if self.config.api_key else ""
        return http_client((self.config.url or "").rstrip("/"), headers={"authorization": f"Bearer {key}"})

    def _get(self, path: str, root: str, **params: Any) -> dict[str, Any]:
        """One GET of the API whose answer must carry ``root``."""
        body = request(self._http, "GET", f"/api/v1{path}", expect=dict, service="Lago", params=params)
        if root not in body:
            raise Unexpected("Lago answered JSON of an unexpected shape.", detail=f"no {root} in {str(body)[:300]}")
        return body

    def health(self) -> Health:
        """``/health`` at the root, and one read with the configured key."""
        with deadline():
            body = request(self._http, "GET", "/health", expect=dict, service="Lago")
            if not ("message" in body or "version" in body):
                raise Unexpected("What answers at this address is not Lago.", detail=str(body)[:300])
            count = self._count("plans")
        version = body.get("version")
        sentence = f"Lago answers and accepts our key; {count} {'plan' if count == 1 else 'plans'}."
        return Health(State.HEALTHY, sentence, str(version)[:40] if version else None)

    def metrics(self) -> Sequence[Metric]:
        """MRR (headline), active subscriptions, customers, overdue balance, revenue of this month, failed payments."""
        with deadline():
            mrr = self.mrr()
            currency = mrr.currency
            found = [
                Metric(
                    "mrr",
                    "MRR",
                    mrr.cents[currency] if currency else 0,
                    Unit.CENTS,
                    headline=True,
                    currency=currency or "USD",
                    note=_mrr_note(mrr),
                )
            ]
            asked: tuple[Callable[[], Metric], ...] = (
                lambda: Metric("active_subscriptions", "Active subscriptions", self._active(mrr)),
                lambda: Metric("customers", "Customers", self._count("customers")),
                lambda: _sum("overdue_balance", "Overdue balance", self.overdue_balance(), currency),
                lambda: _sum("gross_revenue_month", "Invoiced this month", self.gross_revenue(1), currency),
                lambda: Metric("failed_payments", "Invoices with failed payment", self._failed()),
            )
            for one in asked:
                try:
                    found.append(one())
                except (NotSupported, Denied):
                    continue  # this version or this key has no such figure; the others stand
                except TimedOut:
                    break  # what came in time stands; the rest comes with the next sample
        return found

    def settings(self) -> Sequence[Setting]:
        """The organization's settings, webhook endpoints and taxes, as far as this version tells."""
        found: list[Setting] = []
        with deadline():
            found += self._section(self._organization)
            found += self._section(self._webhooks)
            found += self._section(self._taxes)
        return found

    def plans(self) -> Listed[Plan]:
        """All plans, at most 2,000."""
        return self._list("/plans", "plans", records.plan)

    def subscriptions(
        self, statuses: Sequence[str] = ("active",), customer: str | None = None, limit: int = PER_PAGE * MAX_PAGES
    ) -> Listed[Subscription]:
        """Subscriptions in these statuses (active, pending, terminated, canceled), newest first."""
        params: dict[str, Any] = {"status[]": list(statuses)}
        if customer is not None:
            params["external_customer_id"] = customer
        return self._list("/subscriptions", "subscriptions", records.subscription, limit, **params)

    def invoices(
        self,
        *,
        statuses: Sequence[str] = (),
        payment_statuses: Sequence[str] = (),
        overdue: bool | None = None,
        customer: str | None = None,
        limit: int = PER_PAGE,
    ) -> Listed[Invoice]:
        """Invoices, newest first."""
        params: dict[str, Any] = {"statuses[]": list(statuses), "payment_statuses[]": list(payment_statuses)}
        if overdue is not None:
            params["payment_overdue"] = "true" if overdue else "false"
        if customer is not None:
            params["external_customer_id"] = customer
        return self._list("/invoices", "invoices", records.invoice, limit, **params)

    def gross_revenue(self, months: int = 12) -> list[MonthAmount]:
        """What was invoiced per month, oldest first, the present month last."""
        return self._analytics("gross_revenue", "gross_revenues", months)

    def overdue_balance(self, months: int = 12) -> list[MonthAmount]:
        """What is unpaid past its due date, by the month it was due."""
        return self._analytics("overdue_balance", "overdue_balances", months)

    def mrr_history(self, months: int = 12) -> list[MonthAmount] | None:
        """Lago's own MRR per month; None where its licence does not include it."""
        if time.monotonic() < self._unlicensed_until:
            return None
        try:
            return self._analytics("mrr", "mrrs", months)
        except Denied as error:
            if "HTTP 403" not in error.detail:
                raise
            # A licence does not appear by the minute: do not ask again on every sample.
            self._unlicensed_until = time.monotonic() + LICENCE_EVERY_S
            return None

    def mrr(self) -> Mrr:
        """MRR now: Lago's own figure, or an estimate from active subscriptions where it needs a licence."""
        with deadline():
            rows = self.mrr_history(1)
            if rows is not None:
                last = max((row.month for row in rows), default=None)
                return Mrr({row.currency: row.amount_cents for row in rows if row.month == last}, estimated=False)
            plans, active = self.plans(), self.subscriptions()
        amounts = records.estimate_mrr(active.items, {plan.code: plan for plan in plans.items})
        cut = plans.truncated or active.truncated
        return Mrr(amounts, estimated=True, truncated=cut, subscriptions=active.total)

    def metric_codes(self) -> frozenset[str]:
        """Codes of the billable metrics there are, at most 2,000."""
        found = self._list("/billable_metrics", "billable_metrics", lambda row: str(row["code"]))
        return frozenset(found.items)

    def active_subscriptions(self, page: int) -> tuple[tuple[Subscription, ...], bool]:
        """One page of 100 active subscriptions, from 1 on, and whether there are more."""
        body = self._get("/subscriptions", "subscriptions", page=page, per_page=PER_PAGE, **{"status[]": ["active"]})
        rows = records.read(lambda rows: tuple(map(records.subscription, rows)), body["subscriptions"], "subscriptions")
        return rows, bool((body.get("meta") or {}).get("next_page"))

    def send_events(self, batch: Sequence[events.Event], seconds: float = events.SECONDS) -> events.Verdict:
        """Hand over at most 100 usage events; each is taken once, however often it is sent.

        What is wrong with one event does not keep the others back. Raises AdapterError where Lago did not say;
        then any of them may have been taken, and all are to be sent again.
        """

        def post(some: Sequence[events.Event]) -> None:
            wire = {"events": [one.wire() for one in some]}
            request(self._http, "POST", "/api/v1/events/batch", service="Lago", json=wire, seconds=POST_SECONDS)

        with deadline(seconds):
            return events.hand_over(post, batch)

    def event_units(self, transaction_id: str, subscription: str) -> tuple[int, int] | None:
        """Units, and units over, of an event it has; None where it tells none of that. Raises AdapterError."""
        try:
            row = self._get(f"/events/{quote(transaction_id, safe='')}", "event")["event"]
        except NotSupported:
            return None
        return records.read(lambda row: events.units(row, subscription), row, "an event")

    def retry_payment(self, invoice_id: str) -> None:
        """Ask Lago to collect an invoice again. Raises Rejected where it is paid or not finalized."""
        request(self._http, "POST", f"/api/v1/invoices/{quote(invoice_id, safe='')}/retry_payment", service="Lago")

    def customers(self) -> Customers:
        """Customers and their subscriptions, to be made and ended."""
        return Customers(self._http)

    def close(self) -> None:
        """Close the client."""
        http = self.__dict__.pop("_http", None)
        if http is not None:
            http.close()

    def _list(
        self, path: str, root: str, make: Callable[[Any], T], limit: int = PER_PAGE * MAX_PAGES, **params: Any
    ) -> Listed[T]:
        items: list[T] = []
        size = min(PER_PAGE, limit)
        with deadline():
            for page in range(1, MAX_PAGES + 1):
                body = self._get(path, root, page=page, per_page=size, **params)
                items += records.read(lambda rows: [make(row) for row in rows], body[root], root)
                total = records.read(lambda meta: int(meta["total_count"]), body.get("meta"), "paging")
                if not body["meta"].get("next_page") or len(items) >= limit:
                    break
        return Listed(tuple(items[:limit]), total, truncated=total > len(items[:limit]))

    def _count(self, name: str, **params: Any) -> int:
        body = self._get(f"/{name}", name, per_page=1, **params)
        return records.read(lambda meta: int(meta["total_count"]), body.get("meta"), "paging")

    def _active(self, mrr: Mrr) -> int:
        return self._count("subscriptions") if mrr.subscriptions is None else mrr.subscriptions

    def _failed(self) -> int:
        return self._count("invoices", **{"payment_statuses[]": "failed", "statuses[]": "finalized"})

    def _analytics(self, kind: str, root: str, months: int) -> list[MonthAmount]:
        body = self._get(f"/analytics/{kind}", root, months=months)
        rows = records.read(lambda rows: [records.month_amount(row) for row in rows], body[root], root)
        return sorted(rows, key=lambda row: (row.month, row.currency))

    def _section(self, make: Callable[[], list[Setting]]) -> list[Setting]:
        try:
            return make()
        except NotSupported:
            return []

    def _organization(self) -> list[Setting]:
        body = self._get("/organizations", "organization")
        names = (
            *("name", "default_currency", "timezone", "country", "net_payment_term", "document_numbering"),
            *("document_number_prefix", "finalize_zero_amount_invoice", "events_store"),
        )
        units = {"net_payment_term": " days"}

        def make(row: Any) -> list[Setting]:
            billing = row.get("billing_configuration") or {}
            shown = {name: row[name] for name in names if row.get(name) is not None} | {
                name: billing[name] for name in ("invoice_grace_period", "document_locale") if name in billing
            }
            return [
                Setting(name, f"{value}{units.get(name, '')}", group="Organization") for name, value in shown.items()
            ]

        return records.read(make, body["organization"], "the organization")

    def _webhooks(self) -> list[Setting]:
        body = self._get("/webhook_endpoints", "webhook_endpoints", per_page=PER_PAGE)

        def make(rows: Any) -> list[Setting]:
            # Query strings of webhooks often carry a secret: only where it goes is shown.
            parts = [(urlsplit(str(row["webhook_url"])), row.get("signature_algo") or "jwt") for row in rows]
            return [Setting(f"{u.hostname}{u.path}", f"signed with {algo}", group="Webhooks") for u, algo in parts]

        return records.read(make, body["webhook_endpoints"], "webhook endpoints")

    def _taxes(self) -> list[Setting]:
        body = self._get("/taxes", "taxes", per_page=PER_PAGE)

        def make(rows: Any) -> list[Setting]:
            return [Setting(str(row["code"]), str(row["rate"]), Unit.PERCENT, group="Taxes") for row in rows]

        return records.read(make, body["taxes"], "taxes")


def _mrr_note(mrr: Mrr) -> str:
    others = [code for code in sorted(mrr.cents) if code != mrr.currency and mrr.cents[code]]
    said = ["estimated"] if mrr.estimated else []
    said += ["at least"] if mrr.truncated else []
    said += [f"without {', '.join(others)}"] if others else []
    return ", ".join(said)


def _sum(name: str, label: str, rows: Sequence[MonthAmount], currency: str | None) -> Metric:
    """The total of rows in one currency: the one of MRR, or the largest where nothing recurs."""
    totals: dict[str, int] = {}
    for row in rows:
        totals[row.currency] = totals.get(row.currency, 0) + row.amount_cents
    money = currency or max(sorted(totals), key=lambda code: totals[code], default="USD")
    others = [code for code in sorted(totals) if code != money and totals[code]]
    note = f"without {', '.join(others)}" if others else ""
    return Metric(name, label, totals.get(money, 0), Unit.CENTS, currency=money, note=note)
