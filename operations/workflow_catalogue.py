"""The platform's own workflow types: what each is for, what it takes and what it returns.

The dataclasses are the wire: fields are only ever added, with a default, so that runs recorded
before a change replay after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from operations.access import Permission

TASK_QUEUE = "pilothouse"
"""Where the platform's own workers take work from."""

PROVISIONING = "tenant-provisioning"
OFFBOARDING = "tenant-offboarding"
USAGE_SYNC = "usage-sync"
SLEEP_CYCLE = "sleep-cycle"
CONSOLIDATION = "memory-consolidation"
MAINTENANCE = "maintenance"

END_WAIT = "end_wait"
"""The signal that ends the waiting period of an offboarding."""
KEEP_TENANT = "keep_tenant"
"""The signal that calls an offboarding off while it still waits."""


@dataclass
class ProvisioningInput:
    """A tenant to be made in every system. ``tier`` is a tier's code."""

    tenant: str
    name: str
    tier: str
    email: str


@dataclass
class Provisioned:
    """What was made for the tenant, by system."""

    tenant: str
    keycloak_group: str = ""
    lago_customer_id: str = ""
    lago_subscription_id: str = ""
    qdrant_collection: str = ""
    s3_prefix: str = ""
    somabrain_tenant: str = ""
    skipped: list[str] = field(default_factory=list)
    """Steps left out because their service is not configured or does not support them."""


@dataclass
class OffboardingInput:
    """A tenant to be removed from every system after ``wait_hours``."""

    tenant: str
    wait_hours: float = 720.0
    reason: str = ""


@dataclass
class Offboarded:
    """What was removed. ``kept`` is true where the offboarding was called off."""

    tenant: str
    kept: bool = False
    removed: list[str] = field(default_factory=list)


@dataclass
class UsageSyncInput:
    """Hand counted usage to billing, ``batch`` events at a time (1–100)."""

    batch: int = 100


@dataclass
class UsageSynced:
    """What one run did. ``units`` by limit key."""

    events: int = 0
    units: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    """Events that billing did not take, left to the next run."""
    unbillable: dict[str, int] = field(default_factory=dict)
    """Units of tenants without a subscription, by limit key: counted, not billed."""


@dataclass
class SleepInput:
    """Bring SomaBrain into a sleep mode, tenant by tenant. No tenants named: all."""

    target: str = "light"
    """active, light, deep or freeze."""
    ttl_seconds: int = 600
    """How long, 1–3600; SomaBrain wakes by itself afterwards."""
    tenants: list[str] = field(default_factory=list)
    concurrency: int = 4


@dataclass
class ConsolidationInput:
    """Replay what waits in SomaBrain's outbox, tenant by tenant. No tenants named: all."""

    tenants: list[str] = field(default_factory=list)
    concurrency: int = 4


@dataclass
class PerTenant:
    """What a run over tenants came to."""

    done: int = 0
    items: int = 0
    unsupported: list[str] = field(default_factory=list)
    """What this SomaBrain does not offer, in words: reported, not failed."""
    failed: dict[str, str] = field(default_factory=dict)
    """Tenant to why, of the first that failed."""
    failed_more: int = 0
    """How many failed beyond those."""
    left_out: int = 0
    """Tenants beyond what one run cares for."""


CLEAN_UP = "clean-up"
RECONCILE = "reconcile"
BACKUP = "backup"
BACKUP_SCHEDULE = "pilothouse-backup"
"""Id of the schedule that makes a backup every day."""
OWN_SCHEDULES = frozenset(
    {"pilothouse-maintenance", "pilothouse-reconcile", BACKUP_SCHEDULE, USAGE_SYNC, SLEEP_CYCLE, CONSOLIDATION}
)
"""Ids of the schedules that every worker makes sure of as it starts."""


@dataclass
class MaintenanceInput:
    """One of the platform's own jobs: clean-up, reconcile or backup."""

    job: str = CLEAN_UP


@dataclass
class Maintained:
    """What a job came to, by what was counted: rows removed, differences repaired, bytes stored."""

    job: str = CLEAN_UP
    counts: dict[str, int] = field(default_factory=dict)
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One type in the catalogue."""

    name: str
    title: str
    purpose: str
    input: type
    result: type
    permission: Permission = Permission.WORKFLOWS_OPERATE
    """What starting it needs."""


CATALOGUE: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(PROVISIONING, "Tenant provisioning", "Makes a tenant in every system, or leaves nothing behind.",
             ProvisioningInput, Provisioned, Permission.TENANTS_MANAGE),
        Kind(OFFBOARDING, "Tenant offboarding", "Removes a tenant from every system after a waiting period.",
             OffboardingInput, Offboarded, Permission.TENANTS_MANAGE),
        Kind(USAGE_SYNC, "Usage sync", "Hands the usage the limiter counted to Lago, each unit exactly once.",
             UsageSyncInput, UsageSynced),
        Kind(SLEEP_CYCLE, "Sleep cycle", "Brings SomaBrain into a sleep mode, tenant by tenant.",
             SleepInput, PerTenant),
        Kind(CONSOLIDATION, "Memory consolidation", "Replays what waits in SomaBrain's outbox, tenant by tenant.",
             ConsolidationInput, PerTenant),
        Kind(MAINTENANCE, "Maintenance", "Cleans up, repairs differences, backs up and proves the backup.",
             MaintenanceInput, Maintained),
    )
}  # fmt: skip
