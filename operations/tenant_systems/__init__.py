"""The systems a tenant lives in, each with make, remove and present.

The order is that of dependence: the tenant's row and tier come first and go last; the others do not depend on
each other.
"""

from __future__ import annotations

from operations.tenant_systems.keycloak import KeycloakSystem
from operations.tenant_systems.lago import LagoSystem
from operations.tenant_systems.qdrant import QdrantSystem
from operations.tenant_systems.ratelimit import RateLimitSystem
from operations.tenant_systems.s3 import S3System
from operations.tenant_systems.somabrain import SomaBrainSystem
from operations.tenant_systems.system import ID, ID_ALLOWED, Made, Progress, System, TenantSpec, silent

__all__ = ["ID", "ID_ALLOWED", "SYSTEMS", "Made", "Progress", "System", "TenantSpec", "silent"]

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        RateLimitSystem(),
        KeycloakSystem(),
        LagoSystem(),
        QdrantSystem(),
        S3System(),
        SomaBrainSystem(),
    )
}
