"""Services: state, detail, history and configuration (the SRS's ``/infrastructure/*``)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from adapters.core import services as known_services
from api import shapes, versions
from api.auth import TheActor, ThePlatform, request_id
from operations import health, report
from operations import services as configuration
from operations.access import Permission, require
from operations.change import NotFound, Outcome

router = APIRouter(prefix="/infrastructure", tags=["Infrastructure"])


def resolve(name: str) -> str:
    """The slug behind a slug, the last part of an SRS route ("database", "auth", "stt"), or its last two."""
    for slug, service in known_services().items():
        parts = service.path.strip("/").split("/")
        if name in (slug, parts[-1], "-".join(parts[-2:])):
            return slug
    raise NotFound(f"There is no service {name!r}; there are {', '.join(known_services())}.")


class ConfigChange(BaseModel):
    """New values for some fields of a configuration; null takes the console's value away."""

    model_config = ConfigDict(extra="forbid")

    values: dict[str, Any] = Field(max_length=100)
    reason: str = Field("", max_length=500)


def outcome(done: Outcome) -> dict[str, Any]:
    """What became of a change."""
    return {"version": done.version, "delivered": done.delivered, "waiting_for": done.waiting_for}


@router.get("", summary="All services with state and metrics")
def everything(platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """As the sampler last saw them; failing services first."""
    require(actor, Permission.INFRA_VIEW)
    return shapes.overview(health.overview(platform))


@router.get("/health", summary="Aggregated health")
def aggregated(platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """The overall state, the sentence that matters, and the state of each service."""
    require(actor, Permission.INFRA_VIEW)
    seen = health.overview(platform)
    return {
        **{key: value for key, value in shapes.overview(seen).items() if key != "services"},
        "services": {one.service.slug: shapes.health(one.health) for one in seen.services},
    }


@router.post("/refresh", status_code=202, summary="Ask every service now")
def refresh(platform: ThePlatform, actor: TheActor) -> dict[str, str]:
    """Requests at the same time are answered by one round of probes."""
    health.refresh(platform, actor)
    return {"status": "done"}


@router.get("/changes", summary="Recent changes of state")
def changes(
    platform: ThePlatform,
    actor: TheActor,
    service: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """Newest first, for all services or one."""
    require(actor, Permission.INFRA_VIEW)
    found = health.state_changes(platform, resolve(service) if service else None, limit)
    return {"items": [shapes.wire(change) for change in found]}


@router.get("/report.csv", summary="The report as CSV", response_class=PlainTextResponse)
def report_csv(platform: ThePlatform, actor: TheActor) -> Response:
    """One row per service."""
    return PlainTextResponse(report.as_csv(platform, actor), media_type="text/csv")


@router.get("/report.json", summary="The report as JSON")
def report_json(platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """The same rows with the overall state."""
    return report.as_json(platform, actor)


@router.get("/{service}", summary="One service in detail")
def one(service: str, platform: ThePlatform, actor: TheActor) -> dict[str, Any]:
    """``service`` is a slug or the last part of its SRS route."""
    require(actor, Permission.INFRA_VIEW)
    slug = resolve(service)
    return {
        **shapes.now(health.now(platform, slug)),
        "recent_changes": [shapes.wire(change) for change in health.state_changes(platform, slug, 20)],
    }


@router.get("/{service}/history", summary="History of a metric")
def history(
    service: str,
    platform: ThePlatform,
    actor: TheActor,
    metric: str = "latency_ms",
    hours: Annotated[Literal[1, 24, 168, 720, 8760], BeforeValidator(int)] = 24,
) -> dict[str, Any]:
    """At most 500 points with average, minimum and maximum; resolution follows the span."""
    require(actor, Permission.INFRA_VIEW)
    found: dict[str, Any] = shapes.wire(health.history(platform, resolve(service), metric, hours))
    return found


@router.get("/{service}/config", summary="Configuration in force")
def config(service: str, platform: ThePlatform, actor: TheActor, response: Response) -> dict[str, Any]:
    """Every field with its value and where it comes from; secrets masked. The ETag is the version."""
    view = configuration.describe(platform, actor, resolve(service))
    versions.tag(response, view.version)
    found: dict[str, Any] = shapes.wire(view)
    return found


@router.put("/{service}/config", summary="Change the configuration")
def configure(
    service: str, change: ConfigChange, platform: ThePlatform, actor: TheActor, request: Request, response: Response
) -> dict[str, Any]:
    """Stores the values given, all or none. Needs If-Match; 412 shows both values when it is stale."""
    require(actor, Permission.INFRA_CONFIGURE)
    slug = resolve(service)
    seen = versions.required(request, lambda: configuration.describe(platform, actor, slug).version)
    done = configuration.change(
        platform,
        actor,
        slug,
        seen,
        change.values,
        change.reason,
        request_id=request_id(request),
    )
    versions.tag(response, done.version)
    return outcome(done)
