"""``/metrics`` for Prometheus, with a permission of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from adapters.core import AdapterError, State
from api.auth import resolve_token
from operations import health, outbox
from operations.access import Permission
from operations.platform import Platform

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(platform: Platform) -> bytes:
    """The exposition: states, latencies and metrics of services as last sampled, and the process itself."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    state = Gauge(
        "pilothouse_service_state", "1 for the state a service is in", ["service", "state"], registry=registry
    )
    latency = Gauge("pilothouse_service_latency_ms", "Latency of the last check, ms", ["service"], registry=registry)
    metric = Gauge(
        "pilothouse_service_metric", "A service's own metric", ["service", "metric", "unit"], registry=registry
    )
    waiting = Gauge("pilothouse_outbox_waiting", "Messages not delivered yet", registry=registry)
    for one in health.overview(platform).services:
        slug = one.service.slug
        for name in State:
            state.labels(slug, name.value).set(one.health.state is name)
        if one.health.latency_ms is not None:
            latency.labels(slug).set(one.health.latency_ms)
        for value in one.metrics:
            metric.labels(slug, value.name, value.unit.value).set(value.value)
    try:
        waiting.set(outbox.waiting(platform))
    except AdapterError:
        waiting.set(float("nan"))
    return generate_latest(registry)


def route(platform: Platform) -> Route:
    """The route, to stand beside the API: 401 without a bearer token, 403 without its permission."""

    async def metrics(request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return PlainTextResponse("Send a bearer token.\n", 401, {"WWW-Authenticate": "Bearer"})
        try:
            actor = await run_in_threadpool(resolve_token, platform, token.strip())
        except AdapterError as error:
            return PlainTextResponse(f"{error.sentence}\n", 503)
        if actor is None:
            return PlainTextResponse("The token is not valid.\n", 401, {"WWW-Authenticate": "Bearer"})
        if not actor.may(Permission.METRICS_READ):
            return PlainTextResponse(f"The token lacks {Permission.METRICS_READ}.\n", 403)
        return Response(await run_in_threadpool(render, platform), media_type=CONTENT_TYPE)

    return Route("/metrics", metrics, methods=["GET"])
