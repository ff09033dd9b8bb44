"""SomaBrain: cognitive memory. Its health is what the body of ``/health`` says, never the status code."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import Field, SecretStr

from adapters import somabrain_records as records
from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import deadline
from adapters.core.errors import Denied, Rejected, Unexpected
from adapters.core.http import NotSupported, request
from adapters.core.http import client as http_client
from adapters.core.model import Category, Health, Metric, Service, Setting, State, Unit
from adapters.somabrain_client import care, tenants
from adapters.somabrain_client.tenants import BrainTenant
from adapters.somabrain_records import OutboxEvent, Report, RetentionPolicy, Sleep

ITEMS = "somabrain_memory_items"
UTILIZATION = "somabrain_wm_utilization"
PENDING = "memory_outbox_pending"
RUNS = "somabrain_consolidation_runs_total"
WANTED = frozenset({ITEMS, UTILIZATION, PENDING, RUNS})
MAX_EVENTS = 500
MAX_SETTINGS = 200
_SECRET = re.compile(r"secret|password|token|credential|api_?key|dsn", re.IGNORECASE)


class SomaBrainConfig(ServiceConfig):
    """How to reach SomaBrain's HTTP API."""

    url: str | None = Field(
        None, title="Address", description="https://host:port of the HTTP API.", json_schema_extra={"required": True}
    )
    api_key: SecretStr | None = Field(None, title="API key", description="Sent as a bearer token.")
    prefix: str = Field("", title="Path prefix", description="Where a gateway puts the API, such as /brain.")
    tenant_tier: str | None = Field(
        None, title="Tier of new tenants", description="A tier's slug at SomaBrain; the tenant's own tier if not set."
    )


class SomaBrain(Adapter[SomaBrainConfig]):
    """One SomaBrain deployment."""

    service = Service(
        slug="somabrain",
        title="SomaBrain",
        category=Category.AI,
        path="/platform/infrastructure/somabrain",
        purpose="Cognitive memory of agents.",
        affects="memory features",
        depends_on=("redis", "postgresql", "qdrant"),
        order=70,
    )

    @cached_property
    def _http(self) -> httpx.Client:
        self.require_config()
        prefix = self.config.prefix.strip("/")
        base = (self.config.url or "").rstrip("/") + (f"/{prefix}" if prefix else "")
        key = self.config.api_key.get_secret_value() if self.config.api_key else ""
        return http_client(base, headers={"authorization": f"Bearer {key}"} if key else None)

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return request(self._http, "GET", path, expect=dict, service="SomaBrain", params=params)

    def report(self) -> Report:
        """The service's own judgement of itself, part by part. Raises AdapterError."""
        return records.report(self._get("/health"))

    def health(self) -> Health:
        """``/health`` read by its body, and one read with the configured key."""
        with deadline():
            told = self.report()
            if self.config.api_key is not None:
                # /health asks for no key: only this read notices one that is wrong. What else it says is
                # no news: a version may lack it, and a degraded service names its causes above.
                with suppress(Rejected, Unexpected):
                    self._get("/api/memory/metrics")
        causes = told.causes
        if told.state is State.HEALTHY:
            count = sum(one.healthy for one in told.components)
            parts = f"; {count} of {len(told.components)} parts are well" if told.components else ""
            return Health(State.HEALTHY, f"SomaBrain says: {told.word}{parts}.", told.version)
        word = told.word if told.ready else f"{told.word}, not ready"
        named = f" ({'; '.join(causes[:3])})" if causes else " and names no cause"
        return Health(told.state, f"SomaBrain says: {word}{named}.", told.version, detail="; ".join(causes)[:400])

    def metrics(self) -> Sequence[Metric]:
        """Working memory in use (headline; items where it is not told), items, outbox, consolidation runs."""
        with deadline():
            try:
                text = request(self._http, "GET", "/metrics", expect=str, service="SomaBrain")
            except NotSupported:
                text = ""
            read = records.prometheus(text, WANTED)
            values = {name: [value for _, value in rows] for name, rows in read.items()}
            found = _memory(values.get(UTILIZATION), values.get(ITEMS)) or [self._working_memory()]
            pending = sum(values[PENDING]) if PENDING in values else self.report().outbox_pending
        if pending is not None:
            found.append(Metric("outbox_pending", "Outbox pending", pending))
        if RUNS in values:
            phases = "; ".join(f"{labels.get('phase', 'all')} {value:g}" for labels, value in read[RUNS][:4])
            found.append(Metric("consolidation_runs", "Consolidation runs", sum(values[RUNS]), note=phases[:80]))
        return found

    def _working_memory(self) -> Metric:
        """The headline of deployments without Prometheus metrics."""
        row = self._get("/api/memory/metrics")
        items = records.number(row.get("wm_items"))
        if items is None:
            raise records.wrong("its memory metrics", row)
        return Metric("wm_items", "Working memory items", items, headline=True, note="use is not reported")

    def settings(self) -> Sequence[Setting]:
        """The configuration it reports, its mode and its sleep; what a version lacks is left out."""
        found: list[Setting] = []
        with deadline():
            with suppress(NotSupported):
                found += _flat(self._get("/api/config/"), "General")
            with suppress(NotSupported, Denied):  # reading the mode may be an administrator's right
                status = self._get("/api/brain/status")
                if isinstance(status.get("active_mode"), str):
                    found.append(Setting("active mode", status["active_mode"][:200], group="Brain"))
                knobs = status.get("knobs")
                found += _flat(knobs, "Brain") if isinstance(knobs, dict) else []
            asleep = self.sleep_state()
        if asleep is not None:
            found.append(Setting("state", asleep.state, group="Sleep"))
        return found[:MAX_SETTINGS]

    def sleep_state(self, tenant: str | None = None) -> Sleep | None:
        """Whether a tenant's mind is awake; None where this version does not tell. Raises AdapterError."""
        headers = care.asked_for(tenant)
        try:
            row = request(self._http, "GET", "/api/sleep/state", expect=dict, service="SomaBrain", headers=headers)
        except NotSupported:
            return None
        return records.sleep(row)

    def sleep(self, tenant: str, target: str, ttl_seconds: int) -> str:
        """Bring a tenant's mind into a mode (care.STATES) for at most 3,600 seconds; what was done, in words.

        Raises AdapterError, NotSupported where this version can do nothing like it.
        """
        return care.sleep(self._http, tenant, target, ttl_seconds)

    def replay(self, ids: Collection[int], tenant: str | None = None) -> int:
        """Send these events of the outbox once more; how many. Raises AdapterError, NotSupported without an outbox."""
        return care.replay(self._http, ids, tenant)

    def outbox(
        self, status: str = "failed", *, tenant: str | None = None, limit: int = 50, offset: int = 0
    ) -> tuple[OutboxEvent, ...] | None:
        """Events of one status (pending, sent, failed); None where this version has no outbox. Raises AdapterError."""
        params: dict[str, Any] = {"status": status, "limit": max(1, min(limit, MAX_EVENTS)), "offset": max(0, offset)}
        if tenant:
            params["tenant"] = tenant
        rows = self._rows("/api/memory/admin/outbox", params)
        return None if rows is None else tuple(records.event(row) for row in rows[: params["limit"]])

    def retention(self, tenant: str) -> tuple[RetentionPolicy, ...] | None:
        """A tenant's retention policies; None where this version has none. Raises AdapterError."""
        rows = self._rows(f"/api/retention/{quote(tenant, safe='')}/policies", {})
        return None if rows is None else tuple(records.policy(row) for row in rows[:100])

    def _rows(self, path: str, params: Mapping[str, Any]) -> list[Any] | None:
        try:
            return request(self._http, "GET", path, expect=list, service="SomaBrain", params=params)
        except NotSupported:
            return None

    def tenant(self, slug: str) -> BrainTenant | None:
        """A tenant of SomaBrain's register; None where there is none.

        Raises AdapterError, NotSupported where this SomaBrain keeps no register.
        """
        return tenants.find(self._http, slug)

    def create_tenant(self, slug: str, *, name: str, tier: str, email: str) -> BrainTenant:
        """Register a tenant, or find the one there is. Raises AdapterError, NotSupported without a register."""
        tier = self.config.tenant_tier or tier
        return tenants.create(self._http, slug, name=name, tier=tier, email=email)

    def delete_tenant(self, ident: str) -> bool:
        """Delete a tenant by SomaBrain's id, with its memories; False where there is none. Raises AdapterError."""
        return tenants.delete(self._http, ident)

    def close(self) -> None:
        """Close the client."""
        http = self.__dict__.pop("_http", None)
        if http is not None:
            http.close()


def _memory(utilization: list[float] | None, items: list[float] | None) -> list[Metric]:
    """Use and items; where use is not told, items stand on the card and say so."""
    found: list[Metric] = []
    if utilization:
        fullest = max(utilization)
        # The gauge is items over capacity; a value above one and a half can only be a percentage.
        percent = fullest if fullest > 1.5 else fullest * 100
        note = "the fullest" if len(utilization) > 1 else ""
        found.append(Metric("memory_use", "Working memory", round(percent, 1), Unit.PERCENT, headline=True, note=note))
    if items:
        note = "" if found else "use is not reported"
        found.append(Metric("memory_items", "Memory items", sum(items), headline=not found, note=note))
    return found


def _flat(values: Mapping[str, Any], group: str) -> list[Setting]:
    """Settings out of nested objects: the first level names the group, secrets are masked by their name."""
    found: list[Setting] = []
    for name, value in list(values.items())[:MAX_SETTINGS]:
        shown = str(name).replace("_", " ")[:80]
        if isinstance(value, dict):
            inner = shown.capitalize() if group == "General" else f"{group} {shown}"
            found += _flat({str(key): one if not isinstance(one, dict) else "…" for key, one in value.items()}, inner)
        elif value is not None:
            # A number is no secret: "max tokens" is not hidden.
            secret = not isinstance(value, int | float) and _SECRET.search(str(name)) is not None
            text = "; ".join(map(str, value[:20])) if isinstance(value, list) else str(value)
            found.append(Setting(shown, SecretStr(text) if secret else text[:200], group=group))
    return found
