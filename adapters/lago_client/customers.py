"""Customers and their subscriptions. Both are known by ids of ours, so that doing it twice does it once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import httpx

from adapters import lago_records as records
from adapters.core.errors import Rejected, Unexpected
from adapters.core.http import NotSupported, request
from adapters.lago_records import Subscription

WRITE_SECONDS = 10.0
"""Ending a subscription makes Lago bill it: longer than a question."""


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer; ``external_id`` is the id we gave it."""

    external_id: str
    name: str
    email: str
    metadata: Mapping[str, str]


class Customers:
    """Customers of one Lago. Every method raises AdapterError."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def get(self, external_id: str) -> Customer | None:
        """One customer; None where there is none. Raises AdapterError."""
        try:
            return _customer(_ask(self._http, "GET", f"/customers/{quote(external_id, safe='')}", "customer"))
        except NotSupported:
            return None

    def put(self, external_id: str, *, name: str, email: str, metadata: Mapping[str, str] | None = None) -> Customer:
        """Create the customer, or give the one with this id its name and address; no metadata leaves what is there.

        Raises AdapterError.
        """
        given: dict[str, Any] = {"external_id": external_id, "name": name}
        if email:
            given["email"] = email
        if metadata is not None:
            rows = [{"key": key, "value": value, "display_in_invoice": False} for key, value in metadata.items()]
            given["metadata"] = rows
        return _customer(_ask(self._http, "POST", "/customers", "customer", json={"customer": given}))

    def delete(self, external_id: str) -> bool:
        """Delete a customer; its invoices stay at Lago. False where there is none. Raises AdapterError."""
        try:
            _ask(self._http, "DELETE", f"/customers/{quote(external_id, safe='')}", "customer")
        except NotSupported:
            return False
        return True

    def subscribe(self, external_id: str, *, customer: str, plan: str, name: str = "") -> Subscription:
        """Have an active subscription to a plan; one that runs on another plan is moved as Lago moves it.

        Raises AdapterError, Rejected where Lago has no such plan.
        """
        given = {"external_id": external_id, "external_customer_id": customer, "plan_code": plan}
        if name:
            given["name"] = name
        try:
            row = _ask(self._http, "POST", "/subscriptions", "subscription", json={"subscription": given})
        except NotSupported as error:
            if "plan_not_found" not in error.detail:
                raise
            raise Rejected(
                f"Lago has no plan with the code {plan!r}.",
                detail=error.detail,
                advice="Make a plan at Lago whose code is the tier's, then try again.",
            ) from error
        return records.read(records.subscription, row, "a subscription")

    def end_subscription(
        self, external_id: str, *, status: Literal["active", "pending"] = "active", bill: bool = True
    ) -> bool:
        """End an active subscription, or cancel a pending one; False where there is none.

        ``bill`` invoices what is not billed yet. Raises AdapterError.
        """
        params: dict[str, str] = {"status": status}
        if not bill:
            params |= {"on_termination_invoice": "skip", "on_termination_credit_note": "skip"}
        try:
            _ask(self._http, "DELETE", f"/subscriptions/{quote(external_id, safe='')}", "subscription", params=params)
        except NotSupported:
            return False
        return True


def _ask(http: httpx.Client, method: str, path: str, root: str, **kw: Any) -> Any:
    seconds = {} if method == "GET" else {"seconds": WRITE_SECONDS}
    body = request(http, method, f"/api/v1{path}", expect=dict, service="Lago", **seconds, **kw)
    if not isinstance(body.get(root), dict):
        raise Unexpected("Lago answered JSON of an unexpected shape.", detail=f"no {root} in {str(body)[:300]}")
    return body[root]


def _customer(row: Any) -> Customer:
    def make(one: Any) -> Customer:
        told = {str(item["key"]): str(item["value"]) for item in one.get("metadata") or []}
        return Customer(str(one["external_id"]), str(one.get("name") or ""), str(one.get("email") or ""), told)

    return records.read(make, row, "a customer")
