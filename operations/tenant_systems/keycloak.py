"""A tenant's people: one group of the console's realm."""

from __future__ import annotations

from typing import cast

from adapters.core import Rejected
from adapters.keycloak import Keycloak
from adapters.keycloak_admin.records import Group
from operations.platform import Platform
from operations.tenant_systems import row
from operations.tenant_systems.system import Made, Progress, System, TenantSpec, not_configured, silent

NAME_LIMIT = 255
"""Keycloak keeps at most so many characters of an attribute."""


def group(tenant_id: str) -> str:
    """Name of a tenant's top-level group."""
    return f"tenant-{tenant_id}"


class KeycloakSystem(System):
    """The top-level group ``tenant-{id}`` with the attributes ``tenant`` and ``tenant_name``."""

    name = "keycloak"
    title = "Keycloak"

    def configured(self, platform: Platform) -> bool:
        """Whether there is a service account that may write groups."""
        return _configured(_adapter(platform))

    def make(self, platform: Platform, tenant: TenantSpec) -> Made:
        """Create the group, or bring its attributes up to date. Raises Rejected where it is somebody else's."""
        adapter = _adapter(platform)
        if not _configured(adapter):
            return not_configured(self.title)
        wanted = {"tenant": tenant.tenant, "tenant_name": tenant.name[:NAME_LIMIT]}
        name = group(tenant.tenant)
        found = adapter.group(name)
        if found is not None and not _ours(platform, found, tenant.tenant):
            raise Rejected(
                f"Keycloak has a group {name} that was not made here.",
                advice="Choose another id for the tenant, or give that group the attribute tenant with the id.",
            )
        created = adapter.make_group(name, wanted)
        return Made(name, f"Group {name}" + ("." if created else " was there already."))

    def remove(self, platform: Platform, tenant_id: str, progress: Progress = silent) -> bool:
        """Delete the group. Its members stay users of the realm."""
        adapter = _adapter(platform)
        if not _configured(adapter):
            return False
        found = adapter.group(group(tenant_id))
        if found is None or not _ours(platform, found, tenant_id):
            return False
        return adapter.delete_group(found.name)

    def present(self, platform: Platform, tenant_id: str) -> bool:
        """Whether the group exists and is the tenant's."""
        adapter = _adapter(platform)
        if not _configured(adapter):
            return False
        found = adapter.group(group(tenant_id))
        return found is not None and _ours(platform, found, tenant_id)


def _adapter(platform: Platform) -> Keycloak:
    return cast(Keycloak, platform.adapters["keycloak"])


def _ours(platform: Platform, found: Group, tenant_id: str) -> bool:
    if found.attributes.get("tenant") == tenant_id:
        return True
    known = row.read(platform, tenant_id)
    return known is not None and known.keycloak_group == found.name


def _configured(adapter: Keycloak) -> bool:
    # Signing in needs no service account; writing groups does.
    return not adapter.config.missing() and bool(adapter.config.client_id and adapter.config.client_secret)
