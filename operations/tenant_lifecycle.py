"""Tenants coming and going, as people and programs ask for it: validated, on record, then a workflow's work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from adapters.core import Rejected, utcnow
from adapters.temporal_client import control
from adapters.temporal_client.executions import NoExecution, left
from models import Tenant, Tier
from operations import access, change, tenant_inputs, tenant_leaving, workflow_settings
from operations.access import Actor, Permission
from operations.change import FieldError, Invalid, NotFound
from operations.platform import Platform
from operations.tenant_inputs import NAME_LIMIT
from operations.tenant_leaving import AT_WORK, LONGEST_WAIT_HOURS
from operations.tenant_moving import Moving, moving_of, workflow_id
from operations.tenant_systems import TenantSpec
from operations.workflow_audit import recorded
from operations.workflow_catalogue import (
    END_WAIT,
    KEEP_TENANT,
    OFFBOARDING,
    PROVISIONING,
    TASK_QUEUE,
    OffboardingInput,
    ProvisioningInput,
)
from operations.workflow_executions import adapter_of

__all__ = [
    "LONGEST_WAIT_HOURS",
    "NAME_LIMIT",
    "AlreadyRunning",
    "Begun",
    "keep",
    "longest_wait",
    "offboard",
    "provision",
]

DEFAULT_WAIT_HOURS = 720.0
_TENANT_ID = SearchAttributeKey.for_keyword("TenantId")


class AlreadyRunning(Rejected):
    """The tenant is being provisioned or offboarded at this moment."""

    advice = "Open that run and wait for its end, or cancel it there."


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that was started."""

    workflow_id: str
    run_id: str


def provision(platform: Platform, actor: Actor, spec: TenantSpec, reason: str, request_id: str | None = None) -> Begun:
    """Begin to make a tenant in every system.

    Raises access.Forbidden, change.Invalid (naming fields), AlreadyRunning, StoreUnavailable, and AdapterError where
    Temporal did not take it: then nothing was begun.
    """
    access.require(actor, Permission.TENANTS_MANAGE)
    spec = TenantSpec(*(change.clean(text).strip() for text in (spec.tenant, spec.name, spec.tier, spec.email)))
    _check(platform, spec)
    given = ProvisioningInput(spec.tenant, spec.name, spec.tier, spec.email)
    asked = {"name": spec.name, "tier": spec.tier}
    return _start(platform, actor, PROVISIONING, spec.tenant, given, "tenant.provision", reason, asked, request_id)


def offboard(
    platform: Platform,
    actor: Actor,
    tenant: str,
    wait_hours: float | None = None,
    reason: str = "",
    request_id: str | None = None,
) -> Begun:
    """Begin to remove a tenant after ``wait_hours`` (0–1440, and no longer than its run may take with the removing).

    A tenant that leaves already goes on: while it waits the hours count anew, once removing has begun it waits no
    more. None: thirty days, or what is left of the waiting period.
    Raises access.Forbidden, change.NotFound, change.Invalid, AlreadyRunning, StoreUnavailable, AdapterError.
    """
    access.require(actor, Permission.TENANTS_MANAGE)
    row = _row(platform, tenant)
    wrong = []
    if row.status not in (*AT_WORK, "offboarding"):
        wrong.append(FieldError("tenant", f"is {row.status}", "a tenant at work"))
    now = moving_of(row)
    left = 0.0 if now.removing else hours_left(now)
    hours = left if wait_hours is None else wait_hours
    wrong += _wait(platform, now, hours)
    if wrong:
        raise Invalid(wrong)
    given = OffboardingInput(row.id, float(hours), change.clean(reason).strip())
    asked = {"wait_hours": hours}
    return _start(platform, actor, OFFBOARDING, row.id, given, "tenant.offboard", reason, asked, request_id)


def hours_left(now: Moving) -> float:
    """What an offboarding begun now waits where nobody says how long: what is left, or thirty days."""
    if now.ends_at is None:
        return DEFAULT_WAIT_HOURS
    return max(0.0, (now.ends_at - utcnow()) / timedelta(hours=1))


def longest_wait(platform: Platform) -> int:
    """How many whole hours an offboarding begun now may wait, so that its run's timeout leaves time for removing.

    Raises StoreUnavailable.
    """
    return tenant_inputs.longest_wait(workflow_settings.effective(platform, OFFBOARDING).timeout)


def _wait(platform: Platform, now: Moving, hours: float) -> list[FieldError]:
    """What is wrong with a waiting period."""
    if now.removing:
        said = "cannot be asked for: removing has begun"
        return [FieldError("wait_hours", said, "0")] if hours else []
    return tenant_inputs.wait(hours, workflow_settings.effective(platform, OFFBOARDING).timeout)


def end_wait(platform: Platform, actor: Actor, tenant: str, reason: str, request_id: str | None = None) -> None:
    """End the waiting period: removing begins now, and there is no way back.

    Raises access.Forbidden, change.NotFound, change.Invalid (it does not wait), AdapterError.
    """
    owner = _waiting(platform, actor, tenant)
    with recorded(
        platform, actor, action="tenant.end_wait", subject=f"tenant/{tenant}", reason=reason, asked={},
        request_id=request_id, permission=Permission.TENANTS_MANAGE,
    ):  # fmt: skip
        _signal(platform, owner, END_WAIT)


def keep(platform: Platform, actor: Actor, tenant: str, reason: str, request_id: str | None = None) -> None:
    """Call an offboarding off while it waits: the tenant is what it was before.

    Raises access.Forbidden, change.NotFound, change.Invalid (it does not wait), AdapterError.
    """
    owner = _waiting(platform, actor, tenant)
    with recorded(
        platform, actor, action="tenant.keep", subject=f"tenant/{tenant}", reason=reason, asked={},
        request_id=request_id, permission=Permission.TENANTS_MANAGE,
    ):  # fmt: skip
        try:
            _signal(platform, owner, KEEP_TENANT)
        except NoExecution:
            # Its run was ended from outside while it waited: nobody else puts the tenant back.
            tenant_leaving.keep(platform, tenant, owner)


def _check(platform: Platform, spec: TenantSpec) -> None:
    given = ProvisioningInput(spec.tenant, spec.name, spec.tier, spec.email)
    # As people call them: the tenant's id, and a tier that there is.
    wrong = [
        replace(one, field="id") if one.field == "tenant" else one
        for one in tenant_inputs.provisioning(given)
        if one.field != "tier"
    ]
    with platform.database.session() as session:
        codes = list(session.scalars(select(Tier.code).order_by(Tier.rank).limit(100)))
        status = session.scalar(select(Tenant.status).where(Tenant.id == spec.tenant))
    if spec.tier not in codes:
        wrong.append(FieldError("tier", "is not one of the tiers", ", ".join(codes)))
    if status == "closed":
        wrong.append(FieldError("id", "belonged to a tenant that was closed", "an id that was never used"))
    elif status not in (None, "provisioning"):
        wrong.append(FieldError("id", "is taken", "an id that is free"))
    if wrong:
        raise Invalid(wrong)


def _start(
    platform: Platform, actor: Actor, kind: str, tenant: str, given: Any, action: str, reason: str,
    asked: dict[str, Any], request_id: str | None,
) -> Begun:  # fmt: skip
    ident = workflow_id(kind, tenant)
    with recorded(
        platform, actor, action=action, subject=f"tenant/{tenant}", reason=reason, asked=asked, request_id=request_id,
        permission=Permission.TENANTS_MANAGE,
    ) as record:  # fmt: skip

        async def begin(client: Client, attributes: TypedSearchAttributes) -> str:
            handle = await client.start_workflow(
                kind, given, id=ident, task_queue=TASK_QUEUE, search_attributes=attributes, rpc_timeout=left()
            )
            return handle.first_execution_run_id or ""

        async def ask(client: Client) -> str:
            try:
                return await begin(client, TypedSearchAttributes([SearchAttributePair(_TENANT_ID, tenant)]))
            except RPCError as error:
                if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                    raise
                return await begin(client, TypedSearchAttributes.empty)  # this namespace knows no such attribute

        try:
            run = adapter_of(platform).call(ask)
        except WorkflowAlreadyStartedError as error:
            doing = "provisioned" if kind == PROVISIONING else "offboarded"
            raise AlreadyRunning(f"The tenant {tenant} is being {doing} already.") from error
        record.after = {"workflow": ident, "run": run}
    return Begun(ident, run)


def _waiting(platform: Platform, actor: Actor, tenant: str) -> str:
    """The workflow under which an offboarding waits."""
    access.require(actor, Permission.TENANTS_MANAGE)
    row = moving_of(_row(platform, tenant))
    if row.status != "offboarding" or row.removing:
        said = "is being removed already" if row.removing else f"is {row.status}"
        raise Invalid([FieldError("tenant", said, "a tenant in its waiting period")])
    return row.workflow_id


def _signal(platform: Platform, owner: str, name: str) -> None:
    adapter = adapter_of(platform)
    adapter.call(lambda client: control.signal(client, adapter.config.namespace, owner, "", name, []))


def _row(platform: Platform, tenant: str) -> Tenant:
    with platform.database.session() as session:
        row = session.scalars(select(Tenant).where(Tenant.id == change.clean(tenant))).one_or_none()
    if row is None:
        raise NotFound(f"There is no tenant {tenant}.")
    return row
