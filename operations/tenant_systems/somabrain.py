"""A tenant's memories: its entry in SomaBrain's register, under which every namespace of its agents falls."""

from __future__ import annotations

from typing import cast

from adapters.core.http import NotSupported
from adapters.somabrain import SomaBrain
from operations.platform import Platform
from operations.tenant_systems.system import Made, Progress, System, TenantSpec, not_configured, silent

NO_REGISTER = "This SomaBrain keeps no register of tenants: a tenant's namespace comes with its first memory."


class SomaBrainSystem(System):
    """The tenant with the slug ``{id}`` in SomaBrain's register, where it keeps one."""

    name = "somabrain"
    title = "SomaBrain"

    def make(self, platform: Platform, tenant: TenantSpec) -> Made:
        """Register the tenant; skipped, in words, where this SomaBrain keeps no register."""
        adapter = _adapter(platform)
        if adapter.config.missing():
            return not_configured(self.title)
        try:
            made = adapter.create_tenant(tenant.tenant, name=tenant.name, tier=tenant.tier, email=tenant.email)
        except NotSupported:
            return Made("", NO_REGISTER, skipped=True)
        return Made(made.id, f"Tenant {made.slug} in SomaBrain's register.")

    def remove(self, platform: Platform, tenant_id: str, progress: Progress = silent) -> bool:
        """Delete the tenant from the register, with everything SomaBrain remembers of it."""
        adapter = _adapter(platform)
        if adapter.config.missing():
            return False
        try:
            found = adapter.tenant(tenant_id)
        except NotSupported:
            return False
        return found is not None and adapter.delete_tenant(found.id)

    def present(self, platform: Platform, tenant_id: str) -> bool:
        """Whether the tenant is in the register."""
        adapter = _adapter(platform)
        if adapter.config.missing():
            return False
        try:
            return adapter.tenant(tenant_id) is not None
        except NotSupported:
            return False


def _adapter(platform: Platform) -> SomaBrain:
    return cast(SomaBrain, platform.adapters["somabrain"])
