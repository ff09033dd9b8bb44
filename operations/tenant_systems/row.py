"""What the tenant's row says, for systems that must tell the tenant's things from somebody else's.

While a tenant is provisioned, whatever is found under its names without a sign of this tenant was there before: it is
neither taken over nor removed. Once the tenant is at work, everything under its names is its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from models import Tenant
from operations import change
from operations.platform import Platform


@dataclass(frozen=True, slots=True)
class Row:
    """A tenant's row, as far as systems need it."""

    status: str
    name: str
    email: str
    lago_customer_id: str | None
    keycloak_group: str | None


def read(platform: Platform, tenant_id: str) -> Row | None:
    """The tenant's row; None where there is none. Raises StoreUnavailable."""
    query = select(
        Tenant.status, Tenant.name, Tenant.contact_email, Tenant.lago_customer_id, Tenant.keycloak_group
    ).where(Tenant.id == change.clean(tenant_id))
    with platform.database.session() as session:
        found = session.execute(query).one_or_none()
    if found is None:
        return None
    return Row(found.status, found.name, found.contact_email or "", found.lago_customer_id, found.keycloak_group)


def provisioning(platform: Platform, tenant_id: str) -> bool:
    """Whether the tenant is being made now. Raises StoreUnavailable."""
    row = read(platform, tenant_id)
    return row is not None and row.status == "provisioning"
