"""One system's part of a tenant: made where nothing of that name was before, and taken back where it was ours.

A service whose settings are gone for a while is not one that has nothing of the tenant. What the row names there, or
the run began there, waits until the service is configured again: otherwise it would stay for ever.
"""

from __future__ import annotations

import time

from adapters.core import Rejected, Unconfigured, Unreachable
from limiter import keys
from operations import outbox, ratelimit_wire, tenant_leaving, tenant_records, usage_sync
from operations.platform import Platform
from operations.tenant_systems import SYSTEMS, Made, Progress, TenantSpec, silent

LIMITERS_SETTLE_SECONDS = 3.0
"""Limiters hear of a change at once, at the latest in a second; a lease lasts one, and is reported in another."""


def make(platform: Platform, spec: TenantSpec, system: str, token: str) -> Made:
    """Make the tenant's part in one system, or complete what this run left half made.

    What another made there under the same name is not touched: taking it back later would remove theirs.
    Raises Rejected for that, Unconfigured (it was begun while the service was configured), NotOurs, AdapterError.
    """
    target = SYSTEMS[system]
    if system in tenant_records.begun(platform, spec.tenant, token):
        _require(platform, system, f"{spec.tenant} was begun there")
        return target.make(platform, spec)
    if target.configured(platform):
        if target.present(platform, spec.tenant):
            raise Rejected(
                f"{target.title} has a tenant {spec.tenant} already that was not made by this run.",
                advice=f"Remove it in {target.title}, or choose another id.",
            )
        tenant_records.begin(platform, spec.tenant, token, system)
    return target.make(platform, spec)


def unmake(platform: Platform, tenant: str, system: str, token: str) -> bool:
    """Remove what the run ``token`` began to make in one system; False where it began nothing.

    Raises Unconfigured (it began something, and the service is configured no more), AdapterError.
    """
    try:
        begun = tenant_records.begun(platform, tenant, token)
    except tenant_records.NotOurs:
        return False
    if system not in begun:
        return False
    _require(platform, system, f"{tenant} was begun there")
    return SYSTEMS[system].remove(platform, tenant)


def remove(platform: Platform, tenant: str, system: str, owner: str, progress: Progress = silent) -> bool:
    """Remove an offboarded tenant's part in one system; whether there was any. What it used is billed before.

    Raises NotOurs, Unconfigured (the row names something there), Unreachable (limiters were not told yet),
    AdapterError.
    """
    tenant_leaving.require(platform, tenant, owner)
    if named := tenant_records.named(platform, tenant, system):
        _require(platform, system, f"{tenant} has {named} there")
    if system == "lago" and SYSTEMS[system].configured(platform):
        _last_calls(platform, tenant)
        usage_sync.settle(platform, tenant)
    return SYSTEMS[system].remove(platform, tenant, progress)


def _last_calls(platform: Platform, tenant: str) -> None:
    """Wait until no limiter admits the tenant any more and each has reported what it admitted before."""
    if not outbox.deliver(platform, ratelimit_wire.TOPIC, keys.TENANTS):
        raise Unreachable(f"Limiters have not been told yet that {tenant} is being removed: Redis is away or slow.")
    time.sleep(LIMITERS_SETTLE_SECONDS)


def _require(platform: Platform, system: str, why: str) -> None:
    if not SYSTEMS[system].configured(platform):
        title = SYSTEMS[system].title
        raise Unconfigured(f"{title} is not configured now, but {why}. Configure {title} again: then this goes on.")
