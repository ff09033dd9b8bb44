"""The page of Lago: revenue by month, invoices that need somebody, plans."""

from typing import cast

import streamlit as st

from adapters.core import Unit
from adapters.lago import Lago
from adapters.lago_records import Invoice, MonthAmount, Plan, Subscription
from pages.lago_parts import handed
from pages.widgets import charts, listing, state, table
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("lago", icon=":material/receipt_long:")
LIMITS = "Not applicable: billing calls are not limited by the console. Quotas per tier are on the subscriptions page."
INVOICES = ("Issued", "Invoice", "Customer", "Amount", "Payment", "Due")


def render() -> None:
    """Draw the page."""
    service(PAGE, monitor=_monitor, limits=LIMITS)


def _monitor(view: View) -> None:
    adapter = cast(Lago, view.adapter)
    handed.draw(view)
    revenue = listing.known(view, "gross_revenue", "Invoiced per month", adapter.gross_revenue, every=300.0)
    if revenue is not None:
        _revenue(revenue)
    listing.draw(
        view,
        "invoices:failed",
        "Invoices whose payment failed",
        lambda: adapter.invoices(payment_statuses=("failed",), limit=10).items,
        INVOICES,
        _invoice,
        nothing="None.",
        every=60.0,
        quiet=(0, 5),
        right=(3,),
    )
    listing.draw(
        view,
        "invoices",
        "Latest invoices",
        lambda: adapter.invoices(limit=10).items,
        INVOICES,
        _invoice,
        nothing="No invoice yet.",
        every=60.0,
        quiet=(0, 5),
        right=(3,),
    )
    listing.draw(
        view,
        "subscriptions",
        "Newest active subscriptions",
        lambda: adapter.subscriptions(limit=10).items,
        ("Since", "Customer", "Plan", "Amount", "Before"),
        _subscription,
        nothing="No active subscription.",
        every=60.0,
        quiet=(0,),
        right=(3,),
    )
    listing.draw(
        view,
        "plans",
        "Plans",
        lambda: adapter.plans().items,
        ("Plan", "Code", "Price", "Usage-based charges"),
        _plan,
        nothing="No plan yet.",
        every=300.0,
        right=(2, 3),
    )


def _revenue(months: list[MonthAmount]) -> None:
    names = list(dict.fromkeys(f"{one.month:%b %Y}" for one in months))
    if not any(one.amount_cents for one in months):
        st.caption("Nothing was invoiced in the last twelve months.")
        return
    currencies = sorted({one.currency for one in months})
    amounts = {
        currency: {f"{one.month:%b %Y}": one.amount_cents / 100 for one in months if one.currency == currency}
        for currency in currencies
    }
    charts.draw(
        charts.bars(names, {code: [by.get(name, 0.0) for name in names] for code, by in amounts.items()}),
        key="lago_revenue",
        alt="Invoiced per month: " + ", ".join(f"{one.month:%b} {one.amount_cents / 100:,.0f} {one.currency}"
                                               for one in months),
        height=200,
    )  # fmt: skip
    st.caption(f"In {', '.join(currencies)}. What was invoiced, which is not what recurs: MRR stands under Status.")


def _money(cents: int | None, currency: str | None) -> str:
    return "–" if cents is None else f"{cents / 100:,.2f} {state.text(currency or '')}"


def _invoice(one: Invoice) -> tuple[str, ...]:
    overdue = " <b>overdue</b>" if one.overdue else ""
    return (
        f"{one.issued_on:%Y-%m-%d}",
        state.text(one.number),
        state.text(one.customer_name or one.customer_id),
        _money(one.total_cents, one.currency),
        state.text(one.payment_status) + overdue,
        f"{one.due_on:%Y-%m-%d}" if one.due_on else "–",
    )


def _subscription(one: Subscription) -> tuple[str, ...]:
    return (
        table.when(one.started_at),
        state.text(one.customer_id),
        state.text(one.plan_code),
        _money(one.amount_cents, one.currency),
        state.text(one.previous_plan or "–"),
    )


def _plan(one: Plan) -> tuple[str, ...]:
    price = state.number(one.amount_cents, Unit.CENTS, one.currency)
    return (
        f"<b>{state.text(one.name)}</b>",
        f"<code>{state.text(one.code)}</code>",
        f"{price} {state.text(one.interval)}",
        str(one.charges),
    )
