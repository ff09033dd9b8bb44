"""A stand-in for SomaBrain: health, memory, outbox, sleep, retention, quotas and Prometheus metrics."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.people import Person
from sandbox.standins import Host
from sandbox.standins.somabrain_state import ACTIONS, BRAIN_MODES, RPM, SLEEP_STATES, STATUSES, Brain

MAX_TTL_SECONDS = 3600
MAX_OUTBOX = 500
MODULATORS = ("dopamine", "serotonin", "noradrenaline", "acetylcholine")


class Refusal(Exception):
    """An error answer, in the words of the service."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(str(detail))
        self.status, self.detail = status, detail


def brain(request: Request) -> Brain:
    """The state, with what time has done to it."""
    found: Brain = request.app.state.standin
    found.settle()
    return found


def tenant_of(request: Request) -> str:
    """The tenant a call is for: the header, else the deployment's own."""
    return request.headers.get("x-tenant-id") or "default"


def whole(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query within bounds; 422 otherwise."""
    raw = request.query_params.get(name, str(default))
    try:
        value = int(raw)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise Refusal(
            422, [{"loc": ["query", name], "msg": f"must be between {low} and {high}", "type": "value_error"}]
        )
    return value


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of the body; 400 for anything else."""
    try:
        value = await request.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Refusal(400, "Cannot parse request body")
    return value


# ---- health ----


async def health(request: Request) -> Response:
    # 200 even when critical, as the service does it: the body decides.
    return JSONResponse(brain(request).health())


async def healthz(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    ready = brain(request).health()["ready"]
    return JSONResponse({"ready": ready}, 200 if ready else 503)


async def metrics(request: Request) -> Response:
    return PlainTextResponse(brain(request).prometheus(), media_type="text/plain; version=0.0.4")


# ---- memory and outbox ----


async def memory_metrics(request: Request) -> Response:
    state = brain(request).state
    tenant = request.query_params.get("tenant")
    tenants = state["tenants"]
    items = tenants.get(tenant, {}).get("wm", 0) if tenant else sum(one["wm"] for one in tenants.values())
    namespace = request.query_params.get("namespace", "default")
    return JSONResponse(
        {"tenant": tenant, "namespace": namespace, "wm_items": items, "circuit_open": state["circuit_open"]}
    )


async def outbox(request: Request) -> Response:
    status = request.query_params.get("status", "failed")
    if status not in STATUSES:
        raise Refusal(400, f"Invalid status: {status}")
    limit, offset = whole(request, "limit", 100, 1, MAX_OUTBOX), whole(request, "offset", 0, 0, 10**9)
    tenant = request.query_params.get("tenant")
    rows = [
        {name: value for name, value in one.items() if name != "due"}
        for one in brain(request).state["outbox"]
        if one["status"] == status and (not tenant or one["tenant_id"] == tenant)
    ]
    return JSONResponse(rows[offset : offset + limit])


async def replay(request: Request) -> Response:
    ids = (await body_of(request)).get("ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(one, int) for one in ids):
        raise Refusal(422, [{"loc": ["body", "ids"], "msg": "must be a list of ids", "type": "value_error"}])
    return JSONResponse({"ok": True, "updated": brain(request).replay(set(ids))})


# ---- sleep ----


async def sleep_state(request: Request) -> Response:
    now = brain(request).sleep(tenant_of(request))
    return JSONResponse({"tenant_id": tenant_of(request), "state": now["state"], "timestamp": now["since"]})


async def sleep_mode(request: Request) -> Response:
    given = await body_of(request)
    target, ttl = given.get("target_state", "active"), given.get("ttl_seconds")
    if not isinstance(target, str) or target.lower() not in SLEEP_STATES:
        raise Refusal(400, f"Invalid sleep state: {target}")
    if ttl is not None and (not isinstance(ttl, int) or isinstance(ttl, bool) or ttl < 1):
        raise Refusal(400, "ttl_seconds must be a positive number of seconds")
    if ttl is not None and ttl > MAX_TTL_SECONDS:
        raise Refusal(400, f"ttl_seconds exceeds maximum of {MAX_TTL_SECONDS}")
    brain(request).fall_asleep(tenant_of(request), target.lower(), ttl)
    return JSONResponse({"ok": True, "tenant": tenant_of(request), "new_state": target.lower()})


async def sleep_run(request: Request) -> Response:
    """The older way: a consolidation now."""
    given = await body_of(request)
    phases = [phase for phase in ("nrem", "rem") if given.get(phase, True) is True]
    brain(request).consolidate(phases, tenant_of(request))
    return JSONResponse({"ok": True, "run": phases})


async def sleep_status_all(request: Request) -> Response:
    return JSONResponse({"tenants": {name: brain(request).sleep(name) for name in brain(request).state["sleep"]}})


# ---- configuration of the mind ----


async def config(request: Request) -> Response:
    state = brain(request).state
    return JSONResponse({"tenant_id": tenant_of(request), "namespace": "default", **state["config"]})


async def brain_modes(request: Request) -> Response:
    return JSONResponse(
        [{"mode": name, "description": text, "parameters": knobs} for name, (text, knobs) in BRAIN_MODES.items()]
    )


async def brain_status(request: Request) -> Response:
    mode = brain(request).state["mode"]
    return JSONResponse({"active_mode": mode, "knobs": BRAIN_MODES[mode][1]})


async def brain_mode(request: Request) -> Response:
    mode = str((await body_of(request)).get("mode", "")).upper()
    if mode not in BRAIN_MODES:
        raise Refusal(400, f"Invalid mode '{mode}'. Available: {list(BRAIN_MODES)}")
    found = brain(request)
    found.state["mode"] = mode
    found.changed()
    return JSONResponse(
        {"status": "success", "tenant_id": tenant_of(request), "new_mode": mode, "description": BRAIN_MODES[mode][0]}
    )


async def neuromod(request: Request) -> Response:
    found = brain(request)
    if request.method == "POST":
        given = await body_of(request)
        for name in MODULATORS:
            value = given.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Refusal(422, [{"loc": ["body", name], "msg": "must be a number", "type": "type_error"}])
            found.state["neuromod"][name] = float(value)
        found.changed()
    return JSONResponse({"tenant_id": tenant_of(request), **found.state["neuromod"]})


# ---- retention, quotas, rate limits ----


def _policies(request: Request) -> list[dict[str, Any]]:
    return brain(request).policies(request.path_params["tenant"])


async def policies(request: Request) -> Response:
    return JSONResponse([_shown(one) for one in _policies(request)])


def _shown(policy: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in policy.items() if name != "expired"}


async def policy(request: Request) -> Response:
    wanted = request.path_params["policy"]
    found = next((one for one in _policies(request) if wanted in (one["id"], one["data_type"])), None)
    if found is None:
        raise Refusal(404, "Policy not found")
    if request.method == "PATCH":
        found.update(_checked(await body_of(request)))
        brain(request).changed()
    return JSONResponse(_shown(found))


async def change_policies(request: Request) -> Response:
    """One change to all policies of a tenant, or to those of one data type."""
    given = await body_of(request)
    kind, changes = given.pop("data_type", None), _checked(given)
    rows = [one for one in _policies(request) if kind in (None, one["data_type"])]
    if not rows:
        raise Refusal(404, "Policy not found")
    for one in rows:
        one.update(changes)
    brain(request).changed()
    return JSONResponse([_shown(one) for one in rows])


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    found = {name: given[name] for name in ("retention_days", "action", "enabled") if given.get(name) is not None}
    days = found.get("retention_days", 1)
    if isinstance(days, bool) or not isinstance(days, int) or days < 1:
        raise Refusal(422, [{"loc": ["body", "retention_days"], "msg": "must be at least 1", "type": "value_error"}])
    if found.get("action", "delete") not in ACTIONS:
        raise Refusal(422, [{"loc": ["body", "action"], "msg": f"must be one of {ACTIONS}", "type": "value_error"}])
    if not isinstance(found.get("enabled", True), bool):
        raise Refusal(422, [{"loc": ["body", "enabled"], "msg": "must be true or false", "type": "type_error"}])
    return found


async def cleanup_preview(request: Request) -> Response:
    now = datetime.now(UTC)
    return JSONResponse(
        {
            one["data_type"]: {
                "cutoff_date": (now - timedelta(days=one["retention_days"])).isoformat(),
                "estimated_records": one["expired"],
                "action": one["action"],
            }
            for one in _policies(request)
            if one["enabled"]
        }
    )


async def cleanup_run(request: Request) -> Response:
    dry = request.query_params.get("dry_run", "true").lower() not in ("false", "0")
    return JSONResponse(brain(request).clean_up(request.path_params["tenant"], dry))


def _known(request: Request) -> dict[str, Any]:
    found: dict[str, Any] | None = brain(request).state["tenants"].get(request.path_params["tenant"])
    if found is None:
        raise Refusal(404, "Not Found")
    return found


async def quotas(request: Request) -> Response:
    found = _known(request)
    rows = []
    for resource, used, limit in (("agents", found["agents"], found["max_agents"]), ("api_keys", 1, 100)):
        share = round(used / limit * 100, 2) if limit else 0
        rows.append(
            {
                "resource": resource,
                "used": used,
                "limit": limit,
                "remaining": max(0, limit - used),
                "percentage": share,
                "is_exceeded": bool(limit) and used >= limit,
            }
        )
    return JSONResponse(
        {
            "tenant_id": request.path_params["tenant"],
            "tier_name": found["tier"],
            "quotas": rows,
            "last_updated": datetime.now(UTC).isoformat(),
        }
    )


async def rate_limits(request: Request) -> Response:
    found = _known(request)
    used, limit = min(found["requests"], found["rpm"]), found["rpm"]
    reset = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    return JSONResponse(
        {
            "tenant_id": request.path_params["tenant"],
            "limit": limit,
            "remaining": limit - used,
            "used": used,
            "reset_at": reset.isoformat(),
            "percentage_used": round(used / limit * 100, 2) if limit else 0,
        }
    )


# ---- the register of tenants ----


def _registered(state: dict[str, Any], slug: str) -> dict[str, Any]:
    found, about = state["tenants"][slug], state.setdefault("register", {}).get(slug, {})
    return {
        "id": slug,
        "name": about.get("name", slug),
        "slug": slug,
        "status": "active",
        "tier_name": found["tier"].capitalize(),
        "tier_slug": found["tier"],
        "admin_email": about.get("email"),
        "created_at": about.get("created_at", "2025-01-01T00:00:00+00:00"),
    }


async def register(request: Request) -> Response:
    """Tenants by page, and a new one."""
    found = brain(request)
    known = found.state["tenants"]
    if request.method == "GET":
        page, size = whole(request, "page", 1, 1, 10**6), whole(request, "page_size", 20, 1, 1000)
        rows = [_registered(found.state, slug) for slug in sorted(known)[(page - 1) * size : page * size]]
        return JSONResponse({"tenants": rows, "total": len(known), "page": page, "page_size": size})
    given = await body_of(request)
    for name in ("name", "slug", "admin_email"):
        if not isinstance(given.get(name), str):
            raise Refusal(422, [{"loc": ["body", "data", name], "msg": "Field required", "type": "missing"}])
    slug, tier = given["slug"], given.get("tier_slug", "free")
    if tier not in RPM:
        raise Refusal(400, f"Unknown tier: {tier}")
    if slug in known:
        raise Refusal(400, f"Slug already exists: {slug}")
    known[slug] = {
        "tier": tier,
        "agents": 0,
        "max_agents": 0,
        "items": 0,
        "wm": 0,
        "rpm": RPM[tier],
        "requests": 0,
    }
    about = {"name": given["name"], "email": given["admin_email"], "created_at": datetime.now(UTC).isoformat()}
    found.state.setdefault("register", {})[slug] = about
    found.changed()
    return JSONResponse(_registered(found.state, slug))


async def registered(request: Request) -> Response:
    """One tenant; deleting it forgets everything of it."""
    found, slug = brain(request), request.path_params["tenant"]
    _known(request)
    if request.method == "GET":
        return JSONResponse(_registered(found.state, slug))
    hard = request.query_params.get("hard_delete", "false").lower() == "true"
    if hard:
        for part in ("tenants", "register", "retention", "sleep"):
            found.state.setdefault(part, {}).pop(slug, None)
        found.state["outbox"] = [one for one in found.state["outbox"] if one["tenant_id"] != slug]
        found.changed()
    return JSONResponse({"status": "deleted" if hard else "disabled", "tenant_id": slug})


Work = Callable[[Request], Awaitable[Response]]


def _guarded(work: Work, key: str) -> Work:
    async def endpoint(request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if key and (scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), key.encode())):
            return JSONResponse({"detail": "Unauthorized"}, 401)
        return await work(request)

    return endpoint


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return JSONResponse({"detail": error.detail}, error.status)


def _routes(key: str) -> list[Route]:
    def route(path: str, work: Work, *methods: str) -> Route:
        return Route(path, _guarded(work, key), methods=list(methods) or ["GET"])

    retention = "/api/retention/{tenant}"
    return [
        Route("/health", health),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        route("/api/memory/metrics", memory_metrics),
        route("/api/memory/admin/outbox", outbox),
        route("/api/memory/admin/outbox/replay", replay, "POST"),
        route("/api/sleep/state", sleep_state),
        *(route(f"/api/sleep/{kind}/mode", sleep_mode, "POST") for kind in ("brain", "util", "policy")),
        route("/sleep/run", sleep_run, "POST"),
        route("/sleep/status/all", sleep_status_all),
        route("/api/config/", config),
        route("/api/brain/modes", brain_modes),
        route("/api/brain/status", brain_status),
        route("/api/brain/mode", brain_mode, "POST"),
        route("/api/neuromod/state", neuromod),
        route("/api/neuromod/adjust", neuromod, "POST"),
        route(f"{retention}/policies", policies),
        route(f"{retention}/policies", change_policies, "PATCH"),
        route(f"{retention}/policies/{{policy}}", policy, "GET", "PATCH"),
        route(f"{retention}/cleanup/preview", cleanup_preview),
        route(f"{retention}/cleanup/run", cleanup_run, "POST"),
        route("/api/aaas/tenants", register, "GET", "POST"),
        route("/api/aaas/tenants/{tenant}", registered, "GET", "DELETE"),
        route("/api/quotas/{tenant}/status", quotas),
        route("/api/rate-limits/{tenant}/status", rate_limits),
    ]


def create(state_dir: Path, seed: int | None, people: list[Person], *, host: Host, **_: object) -> Starlette:
    """The stand-in as an ASGI application. It asks for a bearer key when the host has one for it."""
    app = Starlette(routes=_routes(host.secrets.get("somabrain_api_key", "")), exception_handlers={Refusal: _refused})
    app.state.standin = Brain(state_dir, seed, host.world)
    return app
