"""A tenant's vectors: one collection of its own."""

from __future__ import annotations

from typing import cast

from adapters.core import Rejected
from adapters.qdrant import Qdrant
from operations.platform import Platform
from operations.tenant_systems import row
from operations.tenant_systems.system import Made, Progress, System, TenantSpec, not_configured, silent


def collection(tenant_id: str) -> str:
    """Name of a tenant's collection."""
    return f"tenant_{tenant_id}"


class QdrantSystem(System):
    """The collection ``tenant_{id}``, of the size and distance that the Qdrant page configures."""

    name = "qdrant"
    title = "Qdrant"

    def configured(self, platform: Platform) -> bool:
        """Whether the settings it needs are there."""
        return not _adapter(platform).config.missing()

    def make(self, platform: Platform, tenant: TenantSpec) -> Made:
        """Create the collection unless it is there. Raises Rejected where it holds somebody's vectors already."""
        adapter = _adapter(platform)
        if adapter.config.missing():
            return not_configured(self.title)
        name = collection(tenant.tenant)
        created = adapter.create_collection(name)
        if not created and not _ours(platform, adapter, tenant.tenant):
            raise Rejected(
                f"Qdrant has a collection {name} with vectors in it already.",
                advice="Choose another id for the tenant, or delete that collection if nobody needs it.",
            )
        return Made(name, f"Collection {name}" + ("." if created else " was there already."))

    def remove(self, platform: Platform, tenant_id: str, progress: Progress = silent) -> bool:
        """Delete the collection with everything in it."""
        adapter = _adapter(platform)
        if adapter.config.missing() or not _ours(platform, adapter, tenant_id):
            return False
        return adapter.delete_collection(collection(tenant_id))

    def present(self, platform: Platform, tenant_id: str) -> bool:
        """Whether the collection exists."""
        adapter = _adapter(platform)
        if adapter.config.missing() or not adapter.has_collection(collection(tenant_id)):
            return False
        return _ours(platform, adapter, tenant_id)


def _adapter(platform: Platform) -> Qdrant:
    return cast(Qdrant, platform.adapters["qdrant"])


def _ours(platform: Platform, adapter: Qdrant, tenant_id: str) -> bool:
    # A collection takes no sign of ours; one that is full before its tenant works was there before.
    return not row.provisioning(platform, tenant_id) or not adapter.points(collection(tenant_id))
