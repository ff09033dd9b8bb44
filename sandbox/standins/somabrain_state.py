"""What the SomaBrain stand-in remembers, and what time, sleep and cleanups do to it."""

from __future__ import annotations

import random
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.standins import Standin

if TYPE_CHECKING:
    from sandbox.demo.world import World

VERSION = "3.0.2"
SLEEP_STATES = ("active", "light", "deep", "freeze")
STATUSES = ("pending", "sent", "failed")
ACTIONS = ("delete", "archive", "anonymize")
WM_CAPACITY = 64
"""Working-memory items one agent may hold."""
REPLAY_SECONDS = 2.0
"""How long a replayed event takes to be delivered."""
PENDING_DEGRADED = 1000
BRAIN_MODES: dict[str, tuple[str, dict[str, float]]] = {
    "BALANCED": ("Everyday operation.", {"gmd_eta": 0.08, "tau": 0.7, "sparsity": 0.1}),
    "ANALYTIC": ("Precise recall, little exploration.", {"gmd_eta": 0.04, "tau": 0.3, "sparsity": 0.05}),
    "CREATIVE": ("Wide association, more exploration.", {"gmd_eta": 0.12, "tau": 1.1, "sparsity": 0.2}),
    "TRAINING": ("Fast learning from feedback.", {"gmd_eta": 0.2, "tau": 0.8, "sparsity": 0.1}),
}
INFRASTRUCTURE = {"postgresql": 1.6, "redis": 0.5, "qdrant": 3.9, "kafka": 4.4}
"""Backends and their usual response time in milliseconds."""
RETENTION = (
    ("audit_logs", 365, "archive"),
    ("memories", 730, "archive"),
    ("api_logs", 90, "delete"),
    ("sessions", 30, "delete"),
    ("notifications", 60, "delete"),
)
RPM = {"free": 60, "starter": 300, "team": 1200, "enterprise": 6000}
_ERRORS = ("memory service answered 503", "connection reset by peer", "vector store timed out after 5.0 s")


def now_iso() -> str:
    """The present moment as the service writes times."""
    return datetime.now(UTC).isoformat()


class Brain(Standin):
    """Memory per tenant, an outbox, sleep with an alarm clock, retention policies."""

    def __init__(self, state_dir: Path, seed: int | None, world: World | None) -> None:
        self.seed, self.world = seed, world
        super().__init__("somabrain", state_dir, self._first)

    def _first(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "tenants": {},
            "outbox": [],
            "sleep": {},
            "retention": {},
            "mode": "BALANCED",
            "runs": {"nrem": 0, "rem": 0},
            "circuit_open": False,
            "down": [],
            "neuromod": {"dopamine": 0.4, "serotonin": 0.5, "noradrenaline": 0.0, "acetylcholine": 0.0},
            "config": {
                "features": {
                    "enable_sleep": True,
                    "consolidation_enabled": True,
                    "use_planner": False,
                    "use_microcircuits": False,
                },
                "limits": {"plan_max_steps": 5, "hrr_dim": 8192, "sleep_max_seconds": 3600},
            },
        }
        if self.seed is not None and self.world is not None:
            self._remember(state, random.Random(self.seed))
        return state

    def _remember(self, state: dict[str, Any], pick: random.Random) -> None:
        """Memories of the demo's agents, an outbox with a few failures, some nights slept."""
        assert self.world is not None
        quota = {tier.code: tier.quotas.get("agents") for tier in self.world.tiers}
        for tenant in self.world.tenants:
            if tenant.status != "active":
                continue
            agents = len(tenant.agents)
            allowed = quota.get(tenant.tier)
            state["tenants"][tenant.id] = {
                "tier": tenant.tier,
                "agents": agents,
                "max_agents": int(allowed) if allowed is not None else 0,
                "items": agents * pick.randrange(60, 260),
                "wm": sum(pick.randrange(12, 52) for _ in range(agents)),
                "rpm": RPM.get(tenant.tier, 100),
                "requests": pick.randrange(0, 40),
            }
        state["runs"] = {"nrem": pick.randrange(180, 260), "rem": pick.randrange(120, 180)}
        names = list(state["tenants"]) or ["default"]
        now = time.time()
        for number in range(1, 41):
            status = "failed" if number > 37 else "pending" if number > 31 else "sent"
            state["outbox"].append(
                {
                    "id": number,
                    "tenant_id": pick.choice(names),
                    "topic": "memory.store",
                    "status": status,
                    "retries": 5 if status == "failed" else 0,
                    "created_at": round(now - (41 - number) * pick.uniform(40, 90), 3),
                    "dedupe_key": f"{pick.getrandbits(64):016x}",
                    "last_error": pick.choice(_ERRORS) if status == "failed" else None,
                    "payload": {"kind": "episodic", "importance": round(pick.random(), 2)},
                    "due": None,
                }
            )

    # ---- time ----

    def settle(self) -> None:
        """Wake those whose time is up and deliver what was replayed."""
        now = time.time()
        for one in self.state["sleep"].values():
            if one["until"] is not None and one["until"] <= now:
                one.update(state="active", until=None, since=now_iso())
                self.changed()
        if self.state["circuit_open"]:
            return
        for event in self.state["outbox"]:
            if event["status"] == "pending" and event["due"] is not None and event["due"] <= now:
                event.update(status="sent", due=None)
                self.changed()

    # ---- sleep ----

    def sleep(self, tenant: str) -> dict[str, Any]:
        """A tenant's sleep: ``state``, ``since`` and ``until`` (seconds since the epoch, or None)."""
        found: dict[str, Any] = self.state["sleep"].get(tenant) or {"state": "active", "since": None, "until": None}
        return found

    def fall_asleep(self, tenant: str, state: str, ttl_seconds: int | None) -> None:
        """Change a tenant's sleep; light and deep sleep consolidate."""
        until = None if ttl_seconds is None or state == "active" else time.time() + ttl_seconds
        self.state["sleep"][tenant] = {"state": state, "since": now_iso(), "until": until}
        self.consolidate({"light": ["nrem"], "deep": ["nrem", "rem"]}.get(state, []), tenant)

    def consolidate(self, phases: list[str], tenant: str = "default") -> None:
        """Run the phases: NREM moves a third of a tenant's working memory, or everybody's, into long-term memory."""
        for phase in phases:
            self.state["runs"][phase] += 1
        if "nrem" in phases:
            known = self.state["tenants"]
            for one in [known[tenant]] if tenant in known else known.values() if tenant == "default" else ():
                moved = one["wm"] // 3
                one["wm"] -= moved
                one["items"] += moved
        self.changed()

    # ---- outbox ----

    def replay(self, ids: set[int]) -> int:
        """Put failed events back; how many."""
        chosen = [one for one in self.state["outbox"] if one["id"] in ids and one["status"] != "sent"]
        for one in chosen:
            one.update(status="pending", retries=0, last_error=None, due=time.time() + REPLAY_SECONDS)
        self.changed()
        return len(chosen)

    def pending(self) -> list[dict[str, Any]]:
        """Events not delivered yet."""
        return [one for one in self.state["outbox"] if one["status"] == "pending"]

    # ---- retention ----

    def policies(self, tenant: str) -> list[dict[str, Any]]:
        """A tenant's policies, the defaults when it has none yet."""
        kept: dict[str, list[dict[str, Any]]] = self.state["retention"]
        if tenant not in kept:
            items = self.state["tenants"].get(tenant, {}).get("items", 0)
            kept[tenant] = [
                {
                    "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"retention:{tenant}:{kind}")),
                    "data_type": kind,
                    "retention_days": days,
                    "action": action,
                    "enabled": True,
                    "last_run_at": None,
                    "last_run_deleted": 0,
                    "expired": items // (3 * number),
                }
                for number, (kind, days, action) in enumerate(RETENTION, start=2)
            ]
            self.changed()
        return kept[tenant]

    def clean_up(self, tenant: str, dry: bool) -> list[dict[str, Any]]:
        """Apply a tenant's enabled policies, or say what that would do."""
        rows = []
        for one in self.policies(tenant):
            if not one["enabled"]:
                continue
            deleted = one["expired"]
            rows.append(
                {
                    "policy_id": one["id"],
                    "data_type": one["data_type"],
                    "records_deleted": deleted,
                    "duration_ms": 1 + deleted // 50,
                    "success": True,
                }
            )
            if dry:
                continue
            one.update(expired=0, last_run_at=now_iso(), last_run_deleted=deleted)
            if one["data_type"] == "memories" and tenant in self.state["tenants"]:
                found = self.state["tenants"][tenant]
                found["items"] = max(0, found["items"] - deleted)
        self.changed()
        return rows

    # ---- what it says of itself ----

    def health(self) -> dict[str, Any]:
        """The body of ``/health``."""
        down, waiting = set(self.state["down"]), self.pending()
        memory_ok = not down & {"postgresql", "redis"}
        open_circuit = self.state["circuit_open"]
        status = "healthy"
        if down or open_circuit or len(waiting) > PENDING_DEGRADED:
            status = "degraded" if memory_ok else "critical"
        last = max((one["created_at"] for one in waiting), default=None)
        return {
            "status": status,
            "ready": status != "critical",
            "version": VERSION,
            "infrastructure": {
                name: {"status": "unhealthy" if name in down else "healthy", "response_time_ms": usual_ms}
                for name, usual_ms in INFRASTRUCTURE.items()
            },
            "internal_services": {name: {"status": "healthy"} for name in ("embedder", "predictor", "integrator")},
            "components": {
                "memory": {"healthy": memory_ok, "circuit_open": open_circuit, "degraded": status != "healthy"},
                "outbox": {
                    "pending": len(waiting),
                    "last_pending_created_at": datetime.fromtimestamp(last, UTC).isoformat() if last else None,
                },
            },
        }

    def prometheus(self) -> str:
        """The body of ``/metrics``."""
        tenants = self.state["tenants"].values()
        items = sum(one["items"] for one in tenants)
        capacity = sum(one["agents"] for one in tenants) * WM_CAPACITY
        utilization = sum(one["wm"] for one in tenants) / capacity if capacity else 0.0
        runs = self.state["runs"]
        return "\n".join(
            [
                "# HELP somabrain_memory_items Items in long-term memory",
                "# TYPE somabrain_memory_items gauge",
                f"somabrain_memory_items {float(items)}",
                "# HELP somabrain_wm_utilization Working memory in use (items/capacity)",
                "# TYPE somabrain_wm_utilization gauge",
                f"somabrain_wm_utilization {utilization:.6f}",
                "# HELP memory_outbox_pending Events waiting for the memory service",
                "# TYPE memory_outbox_pending gauge",
                f"memory_outbox_pending {float(len(self.pending()))}",
                "# HELP somabrain_consolidation_runs_total Consolidation runs by phase",
                "# TYPE somabrain_consolidation_runs_total counter",
                *(f'somabrain_consolidation_runs_total{{phase="{phase}"}} {float(n)}' for phase, n in runs.items()),
                "",
            ]
        )
