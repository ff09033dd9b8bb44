"""A tenant's billing: one customer, known by the tenant's id, and one subscription to its tier's plan.

A tier's code is its plan's code at Lago. Only a customer made here is changed or deleted, or one that the tenant's
row names: a customer somebody else keeps under the same id is left alone.
"""

from __future__ import annotations

from typing import Literal, cast

from adapters.core import Rejected
from adapters.lago import Lago
from adapters.lago_client.customers import Customer
from operations.platform import Platform
from operations.tenant_systems import row
from operations.tenant_systems.system import Made, Progress, System, TenantSpec, not_configured, silent

MARK = {"managed_by": "pilothouse"}
"""Metadata of a customer made here."""
STATUSES: tuple[Literal["active", "pending"], ...] = ("active", "pending")
MAX_SUBSCRIPTIONS = 100


def subscription(tenant_id: str) -> str:
    """Our id of a tenant's subscription."""
    return f"tenant-{tenant_id}"


class LagoSystem(System):
    """The customer ``{id}`` and its subscription ``tenant-{id}``."""

    name = "lago"
    title = "Lago"

    def configured(self, platform: Platform) -> bool:
        """Whether the settings it needs are there."""
        return not _adapter(platform).config.missing()

    def make(self, platform: Platform, tenant: TenantSpec) -> Made:
        """Create or update the customer, then subscribe it. Raises Rejected where the customer is somebody else's."""
        adapter = _adapter(platform)
        if adapter.config.missing():
            return not_configured(self.title)
        found = adapter.customers().get(tenant.tenant)
        if found is not None and not _ours(platform, found):
            raise Rejected(
                f"Lago has a customer {tenant.tenant} that was not made here.",
                advice="Choose another id for the tenant, or give that customer the metadata managed_by: pilothouse.",
            )
        adapter.customers().put(
            tenant.tenant, name=tenant.name, email=tenant.email, metadata=None if found is not None else MARK
        )
        made = adapter.customers().subscribe(
            subscription(tenant.tenant), customer=tenant.tenant, plan=tenant.tier, name=tenant.name
        )
        detail = f"Customer {tenant.tenant}, subscribed to {made.plan_code}."
        return Made(tenant.tenant, detail, also=made.external_id)

    def remove(self, platform: Platform, tenant_id: str, progress: Progress = silent) -> bool:
        """End every subscription and delete the customer. What was used is billed, except while provisioning."""
        adapter = _adapter(platform)
        if adapter.config.missing():
            return False
        found = adapter.customers().get(tenant_id)
        if found is None or not _ours(platform, found):
            return False
        known = row.read(platform, tenant_id)
        bill = known is not None and known.status != "provisioning"
        for status in STATUSES:
            for one in adapter.subscriptions((status,), customer=tenant_id, limit=MAX_SUBSCRIPTIONS).items:
                adapter.customers().end_subscription(one.external_id, status=status, bill=bill)
        return adapter.customers().delete(tenant_id)

    def present(self, platform: Platform, tenant_id: str) -> bool:
        """Whether the customer is there, is ours, and has an active subscription."""
        adapter = _adapter(platform)
        if adapter.config.missing():
            return False
        found = adapter.customers().get(tenant_id)
        if found is None or not _ours(platform, found):
            return False
        return bool(adapter.subscriptions(customer=tenant_id, limit=1).items)


def _adapter(platform: Platform) -> Lago:
    return cast(Lago, platform.adapters["lago"])


def _ours(platform: Platform, found: Customer) -> bool:
    if MARK.items() <= found.metadata.items():
        return True
    known = row.read(platform, found.external_id)
    return known is not None and known.lago_customer_id == found.external_id
