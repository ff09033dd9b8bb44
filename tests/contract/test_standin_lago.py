"""Every answer of the Lago stand-in is one its published description allows, and its state obeys writes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from lago_python_client.client import Client
from lago_python_client.exceptions import LagoApiError
from lago_python_client.models import BatchEvent, BillableMetric, Customer, Event, Invoice, Plan, Subscription
from lago_python_client.models.webhook_endpoint import WebhookEndpoint

from sandbox.demo import world
from sandbox.standins import Host
from sandbox.standins import lago as standin
from tests.contract.openapi import Recorder, load, serve

KEY = "lago-key-for-tests"
TODAY = datetime.now(UTC).date()
ERRORS = {
    400: "ApiErrorBadRequest",
    403: "ApiErrorForbidden",
    404: "ApiErrorNotFound",
    405: "ApiErrorNotAllowed",
    422: "ApiErrorUnprocessableEntity",
}


def demo() -> world.World:
    """Every test of a day stands on the same world."""
    return world.world(11, TODAY)


def somebody(tier: str, *, status: str = "active") -> str:
    """Id of a tenant of that tier."""
    return next(t.id for t in demo().tenants if (t.tier, t.status) == (tier, status))


def subscription_of(tenant: str) -> str:
    """External id of a tenant's running subscription."""
    return next(s.id for s in demo().subscriptions if (s.tenant_id, s.status) == (tenant, "active"))


class Served:
    """A running stand-in, and what it answered."""

    def __init__(self, url: str, recorder: Recorder, app: Any) -> None:
        self.url, self.recorder, self.app = url, recorder, app
        self.http = httpx.Client(base_url=f"{url}/api/v1", headers={"authorization": f"Bearer {KEY}"})
        self.client = Client(api_key=KEY, api_url=url)


def start(path: Path, *, premium: bool = False, seeded: bool = True) -> Any:
    host = Host(url="", secrets={"lago_api_key": KEY}, world=demo() if seeded else None)
    return standin.create(path, 11 if seeded else None, [], host=host, premium=premium)


@pytest.fixture
def lago(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    """A seeded stand-in; every answer it gave is checked when the test ends."""
    app = start(tmp_path, **getattr(request, "param", {}))
    recorder = Recorder(app)
    with serve(recorder) as url:
        served = Served(url, recorder, app)
        yield served
        served.http.close()
    spec = load("lago-1.51.0-openapi.yaml", "/api/v1")
    outside = ("/health", "/api/v1/organizations")  # the description knows only PUT of the organization
    for answer in recorder.answers:
        if answer.path in outside and answer.method == "GET":
            continue
        spec.check(answer, ERRORS)


def test_health_is_at_the_root_and_needs_no_key(lago: Served) -> None:
    assert httpx.get(f"{lago.url}/health").json()["message"] == "Success"


@pytest.mark.parametrize("key", ["", "Bearer wrong", "Basic eDp5"])
def test_a_wrong_key_is_refused(lago: Served, key: str) -> None:
    answer = httpx.get(f"{lago.url}/api/v1/plans", headers={"authorization": key})
    assert answer.status_code == 401
    assert answer.json() == {"status": 401, "error": "Unauthorized"}


LISTS = (
    *("customers", "plans", "subscriptions", "invoices", "billable_metrics", "events", "credit_notes", "wallets"),
    *("coupons", "add_ons", "payments", "webhook_endpoints", "taxes"),
)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("lago", [{}, {"seeded": False}], indirect=True, ids=["seeded", "empty"])
def test_every_list_pages(lago: Served, name: str) -> None:
    whole = lago.http.get(f"/{name}", params={"per_page": 1000}).json()
    assert whole["meta"]["total_count"] == len(whole[name])
    seen: list[Any] = []
    page: int | None = 1
    while page:
        part = lago.http.get(f"/{name}", params={"per_page": 2, "page": page}).json()
        seen += part[name]
        page = part["meta"]["next_page"]
    assert seen == whole[name]


@pytest.mark.parametrize("lago", [{"premium": True}, {"premium": True, "seeded": False}], indirect=True)
def test_premium_analytics(lago: Served) -> None:
    for kind in ("mrr", "invoiced_usage", "gross_revenue", "overdue_balance", "invoice_collection"):
        assert lago.http.get(f"/analytics/{kind}", params={"months": 6, "currency": "USD"}).status_code == 200


def test_analytics_without_a_licence(lago: Served) -> None:
    for kind in ("mrr", "invoiced_usage"):
        answer = lago.http.get(f"/analytics/{kind}")
        assert answer.status_code == 403
        assert answer.json()["code"] == "feature_unavailable"
    assert sum(r.amount_cents for r in lago.client.gross_revenues.find_all()["gross_revenues"]) > 0
    overdue = lago.client.overdue_balances.find_all()["overdue_balances"]
    assert sum(o.amount_cents for o in overdue) > 0


@pytest.mark.parametrize("lago", [{"premium": True}], indirect=True)
def test_mrr_obeys_subscriptions(lago: Served) -> None:
    def mrr() -> int:
        return lago.client.mrrs.find_all({"months": 1})["mrrs"][-1].amount_cents

    assert mrr() == demo().mrr_cents
    lago.client.plans.create(
        Plan(name="Yearly", code="yearly", interval="yearly", amount_cents=120000, amount_currency="USD")
    )
    lago.client.subscriptions.create(
        Subscription(external_customer_id=somebody("free"), plan_code="yearly", external_id="extra")
    )
    assert mrr() == demo().mrr_cents + 10000
    lago.client.subscriptions.destroy("extra")
    assert mrr() == demo().mrr_cents


def test_customers_with_the_official_client(lago: Served) -> None:
    made = lago.client.customers.create(Customer(external_id="nova", name="Nova", email="n@nova.test", currency="USD"))
    assert made.external_id == "nova"
    changed = lago.client.customers.create(Customer(external_id="nova", name="Nova Two"))
    assert (changed.lago_id, changed.name) == (made.lago_id, "Nova Two")
    assert lago.client.customers.find("nova").name == "Nova Two"
    assert lago.client.customers.find_all({"per_page": 3})["meta"]["total_count"] == len(demo().tenants) + 1
    lago.client.customers.destroy("nova")
    with pytest.raises(LagoApiError) as caught:
        lago.client.customers.find("nova")
    assert caught.value.status_code == 404


def test_plans_with_the_official_client(lago: Served) -> None:
    plan = Plan(
        name="Metered",
        code="metered",
        interval="monthly",
        amount_cents=1000,
        amount_currency="USD",
        pay_in_advance=True,
    )
    assert lago.client.plans.create(plan).code == "metered"
    with pytest.raises(LagoApiError) as caught:
        lago.client.plans.create(plan)
    assert caught.value.status_code == 422
    assert caught.value.response["error_details"] == {"code": ["value_already_exist"]}
    assert lago.client.plans.update(Plan(amount_cents=1500, cascade_updates=True), "metered").amount_cents == 1500
    assert lago.client.plans.find("metered").amount_cents == 1500
    lago.client.plans.destroy("metered")
    assert lago.http.get("/plans/metered").json()["code"] == "plan_not_found"


def test_cascade_reaches_overridden_amounts_only_when_asked(lago: Served) -> None:
    plain = subscription_of(somebody("team"))
    body = {
        "subscription": {
            "external_customer_id": somebody("free"),
            "plan_code": "team",
            "external_id": "own",
            "plan_overrides": {"amount_cents": 9900},
        }
    }
    assert lago.http.post("/subscriptions", json=body).status_code == 200
    lago.http.put("/plans/team", json={"plan": {"amount_cents": 9950}})
    assert lago.http.get("/subscriptions/own").json()["subscription"]["plan_amount_cents"] == 9900
    lago.http.put("/plans/team", json={"plan": {"amount_cents": 9900}})
    lago.http.put("/plans/team", json={"plan": {"amount_cents": 12000, "cascade_updates": True}})
    assert lago.http.get("/subscriptions/own").json()["subscription"]["plan_amount_cents"] == 12000
    assert lago.http.get(f"/subscriptions/{plain}").json()["subscription"]["plan_amount_cents"] == 12000


def test_subscriptions_with_the_official_client(lago: Served) -> None:
    lists = lago.client.subscriptions.find_all
    assert {s.status for s in lists()["subscriptions"]} == {"active"}
    assert lists({"status[]": "terminated"})["meta"]["total_count"] == sum(
        one.status == "terminated" for one in demo().subscriptions
    )
    before = lago.client.invoices.find_all()["meta"]["total_count"]
    lago.http.put("/plans/starter", json={"plan": {"pay_in_advance": True}})
    made = lago.client.subscriptions.create(
        Subscription(external_customer_id=somebody("free"), plan_code="starter", external_id="second")
    )
    assert made.status == "active"
    assert lists({"external_customer_id": somebody("free")})["meta"]["total_count"] == 2
    assert lago.client.invoices.find_all()["meta"]["total_count"] == before + 1
    up = lago.client.subscriptions.create(
        Subscription(external_customer_id=somebody("free"), plan_code="team", external_id="second")
    )
    assert (up.plan_code, up.previous_plan_code) == ("team", "starter")
    down = lago.client.subscriptions.create(
        Subscription(external_customer_id=somebody("free"), plan_code="starter", external_id="second")
    )
    assert (down.plan_code, down.next_plan_code) == ("team", "starter")
    assert lago.client.subscriptions.update(Subscription(name="Renamed"), "second").name == "Renamed"
    assert lago.client.subscriptions.destroy("second").status == "terminated"
    with pytest.raises(LagoApiError):
        lago.client.subscriptions.find("second")


def test_invoices_filter_and_act(lago: Served) -> None:
    failed = lago.http.get("/invoices", params={"payment_statuses[]": ["failed"], "statuses[]": ["finalized"]}).json()
    expected = {i.id for i in demo().invoices if (i.payment_status, i.status) == ("failed", "finalized")}
    assert expected and {i["lago_id"] for i in failed["invoices"]} == expected
    late = lago.http.get("/invoices", params={"payment_overdue": "true"}).json()["invoices"]
    assert late and all(i["payment_overdue"] for i in late)
    assert all(not i["payment_overdue"] for i in lago.http.get("/invoices?payment_overdue=false").json()["invoices"])
    day = failed["invoices"][0]["issuing_date"]
    that_day = lago.client.invoices.find_all({"issuing_date_from": day, "issuing_date_to": day})["invoices"]
    assert that_day and {i.issuing_date for i in that_day} == {day}
    who = failed["invoices"][0]["customer"]["external_id"]
    mine = lago.client.invoices.find_all({"external_customer_id": who})["invoices"]
    assert {i.customer.external_id for i in mine} == {who}

    first, second = failed["invoices"][0]["lago_id"], late[-1]["lago_id"]
    assert lago.http.post(f"/invoices/{first}/payment_url").status_code == 200
    lago.client.invoices.retry_payment(first)
    paid = lago.client.invoices.find(first)
    assert (paid.payment_status, paid.total_due_amount_cents) == ("succeeded", 0)
    assert lago.http.get("/payments", params={"invoice_id": first}).json()["payments"][0]["status"] == "succeeded"
    assert lago.http.post(f"/invoices/{first}/retry_payment").status_code == 405
    assert lago.http.post(f"/invoices/{first}/void").json()["code"] == "not_voidable"
    if second != first:
        assert lago.client.invoices.void(second).status == "voided"
    assert lago.client.invoices.update(Invoice(payment_status="failed"), first).payment_status == "failed"
    assert lago.http.put(f"/invoices/{first}/finalize").status_code == 404


def test_a_draft_is_finalized(lago: Served) -> None:
    invoices = lago.app.state.standin.state["invoices"]
    some = next(iter(invoices.values()))
    some["status"] = "draft"
    assert lago.client.invoices.finalize(some["lago_id"]).status == "finalized"


def test_events_are_idempotent_and_change_usage(lago: Served) -> None:
    who = somebody("team")
    sub = subscription_of(who)

    def used() -> tuple[float, int]:
        usage = lago.client.customers.current_usage(who, sub)
        line = next(c for c in usage.charges_usage if c.billable_metric.code == "api_calls")
        return float(line.units), line.events_count

    units, events = used()
    event = Event(transaction_id="t1", external_subscription_id=sub, code="api_calls", properties={"units": 12.5})
    assert lago.client.events.create(event).transaction_id == "t1"
    for _ in range(2):
        with pytest.raises(LagoApiError) as known:
            lago.client.events.create(event)
        assert known.value.response["error_details"] == {"transaction_id": ["value_already_exist"]}
    assert used() == (units + 12.5, events + 1)
    many = [
        Event(
            transaction_id=f"b{i}",
            external_subscription_id=sub,
            code="api_calls",
            properties={"units": 1},
            timestamp=int(datetime.now(UTC).timestamp()),
        )
        for i in range(5)
    ]
    lago.client.events.batch_create(BatchEvent(events=many))  # returns None: it looks for another root name
    assert used()[0] == units + 17.5
    listed = lago.http.get("/events", params={"code": "api_calls", "external_subscription_id": sub}).json()
    assert listed["meta"]["total_count"] == 6
    assert lago.client.events.find("t1").properties == {"units": 12.5}
    # A batch is taken whole or not at all; what is wrong is named by its place, faults before duplicates.
    new = {"transaction_id": "new", "external_subscription_id": sub, "code": "api_calls", "properties": {"units": 3}}
    known_one = {**new, "transaction_id": "t1"}
    for batch, faults in (
        ([new, known_one], {"1": {"transaction_id": ["value_already_exist"]}}),
        ([known_one, {**new, "timestamp": "noon"}], {"1": {"timestamp": ["invalid_format"]}}),
    ):
        answer = lago.http.post("/events/batch", json={"events": batch})
        assert (answer.status_code, answer.json()["error_details"]) == (422, faults)
    assert used()[0] == units + 17.5
    # The same transaction of another subscription is another event.
    other = {**new, "transaction_id": "t1", "external_subscription_id": subscription_of(demo().tenants[3].id)}
    assert lago.http.post("/events/batch", json={"events": [new, other]}).status_code == 200
    assert used()[0] == units + 20.5


def test_past_usage(lago: Served) -> None:
    who = demo().tenants[3].id
    query = {"external_subscription_id": subscription_of(who), "periods_count": 1}
    periods = lago.http.get(f"/customers/{who}/past_usage", params=query).json()["usage_periods"]
    assert len(periods) <= 1
    assert all({c["billable_metric"]["code"] for c in p["charges_usage"]} == set(world.KEYS) for p in periods)


def test_billable_metrics_with_the_official_client(lago: Served) -> None:
    metric = BillableMetric(name="Seats", code="seats", aggregation_type="max_agg", field_name="seats", recurring=False)
    assert lago.client.billable_metrics.create(metric).code == "seats"
    assert lago.client.billable_metrics.update(BillableMetric(name="Chairs"), "seats").name == "Chairs"
    assert lago.client.billable_metrics.find_all()["meta"]["total_count"] == 6
    assert lago.client.billable_metrics.destroy("seats").code == "seats"


def test_webhook_endpoints_with_the_official_client(lago: Served) -> None:
    made = lago.client.webhook_endpoints.create(WebhookEndpoint(webhook_url="https://a.test/h", signature_algo="hmac"))
    assert lago.client.webhook_endpoints.find(made.lago_id).signature_algo == "hmac"
    lago.client.webhook_endpoints.update(WebhookEndpoint(webhook_url="https://b.test/h"), made.lago_id)
    assert lago.client.webhook_endpoints.find_all()["webhook_endpoints"][0].webhook_url == "https://b.test/h"
    lago.client.webhook_endpoints.destroy(made.lago_id)
    assert lago.http.get(f"/webhook_endpoints/{made.lago_id}").status_code == 404


def test_the_organization(lago: Served) -> None:
    assert lago.http.get("/organizations").json()["organization"]["default_currency"] == "USD"
    changed = lago.http.put("/organizations", json={"organization": {"net_payment_term": 30}}).json()
    assert changed["organization"]["net_payment_term"] == 30


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/plans/none", None, 404),
        ("GET", "/customers/none", None, 404),
        ("GET", "/customers/cobalt-legal/current_usage", None, 404),
        ("GET", "/subscriptions/none", None, 404),
        ("GET", "/invoices/none", None, 404),
        ("GET", "/coupons/none", None, 404),
        ("POST", "/plans", {"plan": {"name": "x"}}, 422),
        (
            "POST",
            "/plans",
            {"plan": {"name": "x", "code": "x", "interval": "daily", "amount_cents": 1, "amount_currency": "USD"}},
            422,
        ),
        ("PUT", "/plans/team", {"plan": {"amount_cents": -1}}, 422),
        ("POST", "/plans", {"wrong": {}}, 400),
        ("POST", "/customers", {"customer": {}}, 422),
        ("POST", "/subscriptions", {"subscription": {"external_id": "x"}}, 422),
        (
            "POST",
            "/subscriptions",
            {"subscription": {"external_id": "x", "plan_code": "none", "external_customer_id": "cobalt-legal"}},
            404,
        ),
        ("POST", "/events", {"event": {"code": "api_calls"}}, 422),
        (
            "POST",
            "/events",
            {
                "event": {
                    "code": "api_calls",
                    "transaction_id": "n",
                    "external_subscription_id": "sub_acme",
                    "properties": {"units": "many"},
                }
            },
            422,
        ),
        ("POST", "/events/batch", {"events": []}, 422),
        ("POST", "/webhook_endpoints", {"webhook_endpoint": {"webhook_url": "ftp://x"}}, 422),
        ("PUT", "/invoices/none/finalize", None, 404),
        ("POST", "/billable_metrics", {"billable_metric": {"name": "x", "code": "x", "aggregation_type": "y"}}, 422),
    ],
)
def test_errors(lago: Served, method: str, path: str, body: Any, status: int) -> None:
    answer = lago.http.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["status"] == status


def test_state_survives_a_restart_and_reset_forgets_it(tmp_path: Path) -> None:
    app = start(tmp_path)
    app.state.standin.state["organization"]["name"] = "Kept"
    app.state.standin.changed()
    app.state.standin.save()
    again = standin.create(tmp_path, None, [], host=Host(url=""))
    assert again.state.standin.state["organization"]["name"] == "Kept"
    assert len(again.state.standin.state["customers"]) == 40
    again.state.standin.reset()
    assert again.state.standin.state["customers"] == {}
