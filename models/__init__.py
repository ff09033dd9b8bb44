"""The tables Pilothouse keeps in PostgreSQL. Nothing here connects to anything."""

from models.backups import Backup
from models.base import Base
from models.billing import UsageEvent, UsageUnbillable
from models.configuration import AuditEntry, AuditHead, OutboxRow, ServiceConfigRow
from models.identity import ApiTokenRow, SessionRow
from models.mail import Mail
from models.monitoring import (
    HealthHour,
    HealthMinute,
    HealthSample,
    MetricHour,
    MetricMinute,
    MetricSample,
    ServiceNowRow,
    StateChangeRow,
)
from models.ratelimits import RateLimitKey, RateLimitPolicy, RateLimitSignal, RateLimitUsage
from models.tenancy import Agent, Tenant, Tier, UsageDaily
from models.workflows import WorkflowSettings, WorkflowSlot

__all__ = [
    "Agent",
    "ApiTokenRow",
    "AuditEntry",
    "AuditHead",
    "Backup",
    "Base",
    "HealthHour",
    "HealthMinute",
    "HealthSample",
    "Mail",
    "MetricHour",
    "MetricMinute",
    "MetricSample",
    "OutboxRow",
    "RateLimitKey",
    "RateLimitPolicy",
    "RateLimitSignal",
    "RateLimitUsage",
    "ServiceConfigRow",
    "ServiceNowRow",
    "SessionRow",
    "StateChangeRow",
    "Tenant",
    "Tier",
    "UsageDaily",
    "UsageEvent",
    "UsageUnbillable",
    "WorkflowSettings",
    "WorkflowSlot",
]
