"""Rate limits: policies, overrides, what applies and why, what-if, and repair."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from api import shapes, versions
from api.auth import TheActor, ThePlatform, actor_of, platform_of, request_id
from api.problems import Problem
from limiter import Scope
from limiter.model import MAX_LIMIT, MAX_WINDOW_SECONDS
from operations import ratelimit_explain, ratelimit_repair, ratelimit_usage, ratelimit_wire, ratelimits
from operations.access import Actor
from operations.change import Conflict, NotFound
from operations.ratelimits import Edit, Policy, Target

ORDER = -1
"""Before /infrastructure/{service}, which would take /infrastructure/ratelimits for a service."""
_both = APIRouter(tags=["Rate limits"], dependencies=[Depends(actor_of)])
Mode = Literal["HARD", "SOFT", "WARN"]
OverrideScope = Literal["tiers", "tenants", "agents"]
_SCOPES = {"tiers": Scope.TIER, "tenants": Scope.TENANT, "agents": Scope.AGENT}


class Values(BaseModel):
    """A policy's values. `limit` null is unlimited, 0 blocks everything.

    What is left out keeps its value; a new policy must say its limit.
    """

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[StrictInt | None, Field(ge=0, le=MAX_LIMIT)] = None
    window_seconds: Annotated[StrictInt | None, Field(ge=1, le=MAX_WINDOW_SECONDS)] = None
    policy: Mode | None = None
    warn_percent: Annotated[StrictInt | None, Field(ge=1, le=100)] = None
    on_redis_failure: Literal["allow", "deny"] | None = None
    active: bool = True
    expires_at: datetime | None = None
    description: Annotated[str, Field(max_length=500)] = ""
    owner: Annotated[str, Field(max_length=200)] = ""
    reason: Annotated[str, Field(max_length=500, description="Why; kept in the audit")] = ""

    def given(self) -> dict[str, Any]:
        """Only what the client sent, without the reason."""
        return self.model_dump(exclude_unset=True, exclude={"reason", "key"})


class New(Values):
    """A new key's policy for everyone."""

    key: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.\-]{0,63}$")]


class Proposal(BaseModel):
    """A limit to try on recorded usage."""

    model_config = ConfigDict(extra="forbid")

    key: str
    limit: Annotated[StrictInt | None, Field(ge=0, le=MAX_LIMIT)]
    window_seconds: Annotated[StrictInt | None, Field(ge=1, le=MAX_WINDOW_SECONDS)] = None
    policy: Mode | None = None
    days: Annotated[StrictInt, Field(ge=1, le=31)] = 7
    tier: str | None = None
    tenant: str | None = None


def _wire(policy: Policy) -> dict[str, Any]:
    target = policy.target
    return {
        "key": target.key, "applies_to": target.scope.value,
        "tier": target.reference if target.scope is Scope.TIER else None, "tenant": policy.tenant_id,
        "agent": target.reference if target.scope is Scope.AGENT else None,
        **{name: shapes.wire(value) for name, value in policy.values().items()},
        "reason": policy.reason, "version": policy.version, "created_at": shapes.wire(policy.created_at),
        "updated_at": shapes.wire(policy.updated_at), "updated_by": policy.updated_by,
    }  # fmt: skip


def _reason(values: Values | None, request: Request) -> str:
    return (values.reason if values else "") or request.headers.get("x-reason", "") or "Changed over the API"


def _save(actor: Actor, request: Request, response: Response, edit: Edit, values: Values | None) -> dict[str, Any]:
    platform = platform_of(request)
    verb = "delete" if edit.values is None else "create" if edit.seen == 0 else "update"
    saved = ratelimits.save(
        platform, actor, [edit], reason=_reason(values, request), request_id=request_id(request),
        action=f"ratelimit.{verb}",
    )  # fmt: skip
    after = saved.done[0].after
    body: dict[str, Any] = {} if after is None else _wire(after)
    if after is not None:
        versions.tag(response, after.version)
    return {**body, "delivered": saved.outcome.delivered, "waiting_for": saved.outcome.waiting_for}


@_both.get("", summary="Policies")
def listing(
    platform: ThePlatform,
    actor: TheActor,
    key: str | None = None,
    applies_to: Annotated[list[Scope] | None, Query(description="GLOBAL where left out")] = None,
    q: Annotated[str, Query(max_length=100, description="Part of a tenant, agent or owner")] = "",
    active: bool | None = None,
    expiring_days: Annotated[int | None, Query(ge=0, le=3650)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> dict[str, Any]:
    """Soon expiring first; `total` counts all that match."""
    found = ratelimits.listing(
        platform, actor, key=key, scopes=applies_to or (Scope.GLOBAL,), query=q, active=active,
        expiring_days=expiring_days, limit=limit, offset=offset,
    )  # fmt: skip
    return {"items": [_wire(row) for row in found.rows], "total": found.total, "limit": limit, "offset": offset}


@_both.post("", status_code=201, summary="A new key")
def create(values: New, actor: TheActor, request: Request, response: Response) -> dict[str, Any]:
    """409 when the key is there already."""
    try:
        body = _save(actor, request, response, Edit(Target(values.key), values.given(), 0), values)
    except Conflict as error:
        raise Problem(409, "exists", f"The key {values.key} is there already.", current=error.current) from error
    response.headers["Location"] = f"{request.url.path}/{values.key}"
    return body


@_both.post("/simulate", summary="What if")
def simulate(proposal: Proposal, platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """A proposed limit replayed on the last days' recorded usage: who, how much, at what hours."""
    found = ratelimit_usage.simulate(
        platform, actor, proposal.key, limit=proposal.limit, window_seconds=proposal.window_seconds,
        policy=proposal.policy, days=proposal.days, tier=proposal.tier, tenant=proposal.tenant,
    )  # fmt: skip
    body: dict[str, Any] = shapes.wire(found)
    return body


@_both.post("/reconcile", summary="Make Redis equal to PostgreSQL")
def reconcile(
    platform: ThePlatform,
    actor: TheActor,
    request: Request,
    dry_run: Annotated[bool, Query(description="Only compare")] = False,
) -> dict[str, Any]:
    """The differences found, and whether they were repaired: then it is in the record of changes."""
    if dry_run:
        found = ratelimit_wire.reconcile(platform, actor, repair=False)
    else:
        found = ratelimit_repair.repair(platform, actor, reason=_reason(None, request), request_id=request_id(request))
    body: dict[str, Any] = shapes.wire(found)
    return body


@_both.get("/signals", summary="Limits that were neared or passed")
def signals(
    platform: ThePlatform,
    actor: TheActor,
    audience: Annotated[Literal["tenant", "admin"] | None, Query(description="Whom it concerns")] = None,
    tenant: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """Newest first, once per subject and window. HARD and SOFT concern the tenant, WARN admins only."""
    found = ratelimit_usage.signals(platform, actor, audience, tenant, limit=limit)
    return {"items": [shapes.wire(one) for one in found]}


@_both.get("/{key}", summary="One key's policy")
def one(key: str, platform: ThePlatform, actor: TheActor, response: Response) -> dict[str, Any]:
    """The policy for everyone, with the tiers' beside it; its version is the ETag."""
    policy = ratelimits.get(platform, actor, Target(key))
    versions.tag(response, policy.version)
    tiers = ratelimits.listing(platform, actor, key=key, scopes=(Scope.TIER,), limit=200)
    return {**_wire(policy), "tiers": [_wire(row) for row in tiers.rows]}


@_both.put("/{key}", summary="Change or create a key's policy")
def put(key: str, values: Values, platform: ThePlatform, actor: TheActor, request: Request, response: Response) -> Any:
    """`If-Match` with the ETag you read; without it only a new key can be put (428 otherwise, 412 when stale).

    A limit of 0 blocks every call from then on, and is done as it is said: no `confirm` is asked for.
    """
    return _put(Target(key), values, platform, actor, request, response)


@_both.delete("/{key}", summary="Delete a key with everything under it")
def delete(key: str, platform: ThePlatform, actor: TheActor, request: Request, response: Response) -> dict[str, Any]:
    """`If-Match` is needed; `*` deletes whatever is there."""
    return _delete(Target(key), platform, actor, request, response)


@_both.get("/{key}/effective", summary="What applies to a tenant or agent, and why")
def effective(
    key: str, platform: ThePlatform, actor: TheActor, tenant: str | None = None, agent: str | None = None
) -> dict[str, Any]:
    """The limit in force, the chain that led to it, present use, and when it resets."""
    found = ratelimit_explain.explain(platform, actor, key, tenant, agent)
    body: dict[str, Any] = shapes.wire(found)
    body["chain"] = [{"decides": link.decides, "sentence": link.sentence, **_wire(link.policy)} for link in found.chain]
    return body


@_both.get("/{key}/usage", summary="Live usage of a key")
def usage(
    key: str, platform: ThePlatform, actor: TheActor, near: Annotated[int, Query(ge=1, le=1000)] = 80
) -> dict[str, Any]:
    """Rates of the last minute, top consumers, and who is near the limit."""
    body: dict[str, Any] = shapes.wire(ratelimit_usage.key_usage(platform, actor, key, near_percent=near))
    return body


@_both.get("/{key}/{scope}", summary="Overrides of a key")
def overrides(
    key: str,
    scope: OverrideScope,
    platform: ThePlatform,
    actor: TheActor,
    q: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> dict[str, Any]:
    """Of tiers, tenants or agents."""
    found = ratelimits.listing(platform, actor, key=key, scopes=(_SCOPES[scope],), query=q, limit=limit, offset=offset)
    return {"items": [_wire(row) for row in found.rows], "total": found.total, "limit": limit, "offset": offset}


@_both.get("/{key}/{scope}/{reference}", summary="One override")
def override(
    key: str, scope: OverrideScope, reference: str, platform: ThePlatform, actor: TheActor, response: Response
) -> dict[str, Any]:
    """Its version is the ETag."""
    policy = ratelimits.get(platform, actor, Target(key, _SCOPES[scope], reference))
    versions.tag(response, policy.version)
    return _wire(policy)


@_both.put("/{key}/{scope}/{reference}", summary="Set an override")
def put_override(
    key: str, scope: OverrideScope, reference: str, values: Values, platform: ThePlatform, actor: TheActor,
    request: Request, response: Response,
) -> Any:  # fmt: skip
    """`If-Match` as for the key."""
    return _put(Target(key, _SCOPES[scope], reference), values, platform, actor, request, response)


@_both.delete("/{key}/{scope}/{reference}", summary="Clear an override")
def delete_override(
    key: str, scope: OverrideScope, reference: str, platform: ThePlatform, actor: TheActor, request: Request,
    response: Response,
) -> dict[str, Any]:  # fmt: skip
    """`If-Match` as for the key."""
    return _delete(Target(key, _SCOPES[scope], reference), platform, actor, request, response)


def _delete(
    target: Target, platform: ThePlatform, actor: TheActor, request: Request, response: Response
) -> dict[str, Any]:
    seen = versions.required(request, lambda: ratelimits.get(platform, actor, target).version)
    return _save(actor, request, response, Edit(target, None, seen), None)


def _put(
    target: Target, values: Values, platform: ThePlatform, actor: TheActor, request: Request, response: Response
) -> dict[str, Any]:
    def stored() -> int:
        try:
            return ratelimits.get(platform, actor, target).version
        except NotFound as error:
            raise Problem(412, "stale-version", f"If-Match: * asks for one that is there. {error}") from error

    seen = versions.optional(request, stored)
    given = values.given()
    if seen is None:
        try:
            ratelimits.get(platform, actor, target)
        except NotFound:
            response.status_code = 201
            return _save(actor, request, response, Edit(target, given, 0), values)
        versions.required(request, stored)
    return _save(actor, request, response, Edit(target, given, seen), values)


router = APIRouter()
router.include_router(_both, prefix="/infrastructure/ratelimits")
router.include_router(_both, prefix="/ratelimit")
