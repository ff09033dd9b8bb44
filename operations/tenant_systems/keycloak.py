"""A tenant's people: one group of the console's realm."""

from __future__ import annotations

from typing import cast

from adapters.keycloak import Keycloak
from operations.platform import Platform
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

    def make(self, platform: Platform, tenant: TenantSpec) -> Made:
        """Create the group, or give the one that is there its attributes."""
        adapter = _adapter(platform)
        if not _configured(adapter):
            return not_configured(self.title)
        wanted = {"tenant": tenant.tenant, "tenant_name": tenant.name[:NAME_LIMIT]}
        name = group(tenant.tenant)
        created = adapter.make_group(name, wanted)
        return Made(name, f"Group {name}" + ("." if created else " was there already."))

    def remove(self, platform: Platform, tenant_id: str, progress: Progress = silent) -> bool:
        """Delete the group. Its members stay users of the realm."""
        adapter = _adapter(platform)
        return _configured(adapter) and adapter.delete_group(group(tenant_id))

    def present(self, platform: Platform, tenant_id: str) -> bool:
        """Whether the group exists and carries the tenant's id."""
        adapter = _adapter(platform)
        if not _configured(adapter):
            return False
        found = adapter.group(group(tenant_id))
        return found is not None and found.attributes.get("tenant") == tenant_id


def _adapter(platform: Platform) -> Keycloak:
    return cast(Keycloak, platform.adapters["keycloak"])


def _configured(adapter: Keycloak) -> bool:
    # Signing in needs no service account; writing groups does.
    return not adapter.config.missing() and bool(adapter.config.client_id and adapter.config.client_secret)
