"""Who may do what: people and programs, roles, permissions. The only table of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum

log = logging.getLogger(__name__)


class Permission(StrEnum):
    """What a role may allow. Reading and changing are separate."""

    INFRA_VIEW = "infra:view"
    INFRA_CONFIGURE = "infra:configure"
    INFRA_OPERATE = "infra:operate"
    RATELIMIT_VIEW = "infra:ratelimit:view"
    RATELIMIT_EDIT = "infra:ratelimit"
    TENANTS_VIEW = "platform:tenants"
    BILLING_VIEW = "platform:billing"
    BILLING_MANAGE = "platform:manage_billing"
    METRICS_READ = "platform:read_metrics"
    FEATURES_MANAGE = "platform:manage_features"
    AUDIT_READ = "audit:read"
    AUDIT_EXPORT = "audit:export"
    RETENTION_CONFIGURE = "memory:configure_retention"
    PAYLOADS_READ = "workflows:payloads"
    WORKFLOWS_OPERATE = "workflows:operate"
    WORKFLOWS_CONFIGURE = "workflows:configure"
    TENANTS_MANAGE = "platform:manage_tenants"


P = Permission
_EVERYONE = frozenset({P.INFRA_VIEW})

ROLES: dict[str, frozenset[Permission]] = {
    "platform_admin": frozenset(Permission),
    "infra_admin": _EVERYONE
    | {
        P.INFRA_CONFIGURE,
        P.INFRA_OPERATE,
        P.RATELIMIT_VIEW,
        P.RATELIMIT_EDIT,
        P.TENANTS_VIEW,
        P.METRICS_READ,
        P.AUDIT_READ,
        P.RETENTION_CONFIGURE,
        P.PAYLOADS_READ,
        P.WORKFLOWS_OPERATE,
        P.WORKFLOWS_CONFIGURE,
        P.TENANTS_MANAGE,
    },
    "billing_admin": _EVERYONE | {P.BILLING_VIEW, P.BILLING_MANAGE, P.TENANTS_VIEW, P.METRICS_READ, P.RATELIMIT_VIEW},
    "analyst": _EVERYONE | {P.METRICS_READ, P.BILLING_VIEW, P.TENANTS_VIEW, P.RATELIMIT_VIEW},
    "product_manager": _EVERYONE | {P.RATELIMIT_VIEW, P.TENANTS_VIEW, P.BILLING_VIEW, P.METRICS_READ},
    "security_auditor": _EVERYONE | {P.AUDIT_READ, P.AUDIT_EXPORT, P.RATELIMIT_VIEW},
    "ai_admin": _EVERYONE | {P.FEATURES_MANAGE, P.RATELIMIT_VIEW, P.RETENTION_CONFIGURE},
    "ai_developer": _EVERYONE | {P.RATELIMIT_VIEW},
    "ai_viewer": _EVERYONE,
    "finance_manager": frozenset({P.BILLING_VIEW, P.METRICS_READ, P.TENANTS_VIEW}),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever asks for an operation: a signed-in person, a program, or the console itself."""

    id: str
    name: str
    roles: frozenset[str] = frozenset()
    email: str = ""
    kind: str = "person"
    """"person", "program" or "system"."""

    @property
    def permissions(self) -> frozenset[Permission]:
        """Everything the actor's roles allow; roles unknown here allow nothing."""
        granted: set[Permission] = set()
        for role in self.roles:
            granted |= ROLES.get(role, frozenset())
        return frozenset(granted)

    def may(self, permission: Permission) -> bool:
        """Whether the actor has the permission."""
        return permission in self.permissions


SYSTEM = Actor(id="system", name="Pilothouse", roles=frozenset({"platform_admin"}), kind="system")


class Forbidden(Exception):
    """The actor lacks a permission. Says which, and who has it."""

    def __init__(self, actor: Actor, permission: Permission) -> None:
        self.permission = permission
        self.roles = roles_with(permission)
        super().__init__(f"{actor.name} lacks the permission {permission}. It comes with {', '.join(self.roles)}.")


def roles_with(permission: Permission) -> list[str]:
    """Names of the roles that grant a permission, for the sentence "ask someone who is …"."""
    return [role for role, granted in ROLES.items() if permission in granted]


def require(actor: Actor, permission: Permission) -> None:
    """Raise Forbidden, and log it, unless the actor has the permission."""
    if not actor.may(permission):
        log.warning("denied %s to %s (%s)", permission, actor.id, ",".join(sorted(actor.roles)))
        raise Forbidden(actor, permission)
