"""A tenant's memories: its entry in SomaBrain's register, under which every namespace of its agents falls."""

from __future__ import annotations

from typing import cast

from adapters.core import Rejected
from adapters.core.http import NotSupported
from adapters.somabrain import SomaBrain
from adapters.somabrain_client.tenants import BrainTenant
from operations.platform import Platform
from operations.tenant_systems import row
from operations.tenant_systems.system import Made, Progress, System, TenantSpec, not_configured, silent

NO_REGISTER = "This SomaBrain keeps no register of tenants: a tenant's namespace comes with its first memory."


class SomaBrainSystem(System):
    """The tenant with the slug ``{id}`` in SomaBrain's register, where it keeps one."""

    name = "somabrain"
    title = "SomaBrain"

    def configured(self, platform: Platform) -> bool:
        """Whether the settings it needs are there."""
        return not _adapter(platform).config.missing()

    def make(self, platform: Platform, tenant: TenantSpec) -> Made:
        """Register the tenant; skipped, in words, where this SomaBrain keeps no register.

        Raises Rejected where the slug is somebody else's.
        """
        adapter = _adapter(platform)
        if adapter.config.missing():
            return not_configured(self.title)
        try:
            made = adapter.create_tenant(tenant.tenant, name=tenant.name, tier=tenant.tier, email=tenant.email)
        except NotSupported:
            return Made("", NO_REGISTER, skipped=True)
        if not _ours(platform, made, tenant.tenant):
            raise Rejected(
                f"SomaBrain has a tenant {tenant.tenant} of another name or address: {made.name[:80]}.",
                advice="Choose another id for the tenant, or provision it with the name and address SomaBrain has.",
            )
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
        if found is None or not _ours(platform, found, tenant_id):
            return False
        return adapter.delete_tenant(found.id)

    def present(self, platform: Platform, tenant_id: str) -> bool:
        """Whether the tenant is in the register."""
        adapter = _adapter(platform)
        if adapter.config.missing():
            return False
        try:
            found = adapter.tenant(tenant_id)
        except NotSupported:
            return False
        return found is not None and _ours(platform, found, tenant_id)


def _adapter(platform: Platform) -> SomaBrain:
    return cast(SomaBrain, platform.adapters["somabrain"])


def _ours(platform: Platform, found: BrainTenant, tenant_id: str) -> bool:
    # The register takes no sign of ours; a tenant of the same id, name and address is the same tenant.
    known = row.read(platform, tenant_id)
    if known is None or known.status != "provisioning":
        return True
    return (found.name, found.email) == (known.name, known.email)
