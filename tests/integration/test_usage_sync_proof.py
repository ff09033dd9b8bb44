"""Whatever is killed, repeated or refused: what Lago counts is what the limiter admitted, to the unit."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy

from limiter import Limiter, Scope
from operations import ratelimit_wire, ratelimits
from operations.access import SYSTEM
from operations.platform import Platform
from operations.ratelimits import Edit, Target
from operations.workflow_catalogue import USAGE_SYNC, UsageSyncInput
from tests.contract.openapi import serve
from tests.support_operations import make
from tests.support_usage import KEY, METRICS, Unsteady, Workers, lago, subscribe, work

pytestmark = pytest.mark.engines

KILLS, CALLS, SECONDS = 10, 45, 18.0
"""Workers killed, and calls of Lago meanwhile: as many as a busy machine gets done in so many seconds."""
SUBSCRIPTIONS = {"acme": "sub-acme", "bolt": "sub-bolt", "crisp": "sub-crisp"}
CALLERS = [("acme", None), ("acme", "bot"), ("acme", "mate"), ("bolt", None), ("crisp", None), ("dune", None)]
Sums = dict[tuple[str, str], tuple[int, int]]


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[Any]:
    app = Unsteady(lago(tmp_path / "lago", SUBSCRIPTIONS))
    with serve(app) as app.url:
        yield app


@pytest.fixture
def console(
    billing: Any, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Platform]:
    for name, value in (("LAGO_URL", billing.url), ("LAGO_API_KEY", KEY)):
        monkeypatch.setenv(f"PILOTHOUSE_{name}", value)
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    monkeypatch.setenv("PILOTHOUSE_DATABASE_URL", database_url)
    monkeypatch.setenv("PILOTHOUSE_REDIS_URL", redis_url)
    monkeypatch.setenv("PILOTHOUSE_ENCRYPTION_KEYS", platform.settings.encryption_keys.get_secret_value())
    monkeypatch.setenv("PILOTHOUSE_OIDC_ISSUER", "http://127.0.0.1:1/realms/none")
    with platform.database.session() as session:
        session.execute(
            text(
                "INSERT INTO tenants (id, name, tier_code, lago_customer_id, lago_subscription_id) VALUES"
                # One knows its subscription, two only their customer, one has nothing in Lago yet.
                " ('acme', 'Acme', 'team', 'acme', 'sub-acme'), ('bolt', 'Bolt', 'team', 'bolt', NULL),"
                " ('crisp', 'Crisp', 'team', 'crisp', 'sub-gone'), ('dune', 'Dune', 'free', NULL, NULL)"
            )
        )
        session.execute(
            text("INSERT INTO agents (id, tenant_id, name) VALUES ('bot', 'acme', 'B'), ('mate', 'acme', 'M')")
        )
    ratelimit_wire.reconcile(platform)
    yield platform
    platform.close()


class Product:
    """A service of the product: counts real decisions, and remembers for itself what was admitted."""

    def __init__(self, platform: Platform) -> None:
        self.units: Counter[tuple[str, str]] = Counter()
        self.over: Counter[tuple[str, str]] = Counter()
        self.blocked = 0
        self._platform, self._end = platform, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Product:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(10)

    def _run(self) -> None:
        pick = random.Random(11)
        with Limiter(self._platform.redis, timeout=5.0) as limiter:
            assert limiter.wait_ready()
            while not self._end.wait(0.004):
                (tenant, agent), key = pick.choice(CALLERS), pick.choice([*METRICS])
                decision = limiter.check(key, tenant, agent, cost=pick.randrange(1, 9))
                assert not decision.degraded
                if decision.allowed:
                    self.units[tenant, key] += decision.cost
                    self.over[tenant, key] += decision.over
                else:
                    self.blocked += 1

    @property
    def sums(self) -> Sums:
        return {place: (units, self.over[place]) for place, units in self.units.items()}


def counted(platform: Platform, table: str, owner: str) -> Sums:
    with platform.database.session() as session:
        rows = session.execute(
            text(f"SELECT {owner}, key, sum(amount), sum(over) FROM {table} GROUP BY 1, 2 HAVING sum(amount) > 0")
        )
        return {(row[0], row[1]): (int(row[2]), int(row[3])) for row in rows}


def test_every_unit_is_billed_once_whatever_is_killed(console: Platform, billing: Any, temporal_address: str) -> None:
    limits = [
        Edit(Target("llm_tokens", Scope.TENANT, "acme"), {"limit": 60, "policy": "SOFT"}),
        Edit(Target("llm_tokens", Scope.AGENT, "bot"), {"limit": 40, "policy": "SOFT"}),
        Edit(Target("api_calls", Scope.TENANT, "bolt"), {"limit": 90, "policy": "HARD"}),
        Edit(Target("file_uploads", Scope.TENANT, "crisp"), {"limit": 30, "policy": "WARN"}),
    ]
    ratelimits.save(console, SYSTEM, limits, reason="a proof")
    queue = f"usage-{time.monotonic_ns()}"
    workers = Workers(work, temporal_address, queue)
    try:
        with Product(console) as product:
            workers.start()
            workers.start()
            asyncio.run(_runs(temporal_address, queue, workers, billing))
        subscribe(billing, "dune", "sub-dune", days_ago=0)
        with console.database.session() as session:
            session.execute(text("UPDATE tenants SET lago_customer_id = 'dune' WHERE id = 'dune'"))
        asyncio.run(_finish(temporal_address, queue, console, workers))
    finally:
        workers.close()
    admitted = product.sums
    assert workers.killed >= 3 and billing.failed + billing.failed_after >= 2 and product.blocked > 10
    assert sum(over for _, over in admitted.values()) > 100 and len(admitted) == 12
    assert counted(console, "rate_limit_usage", "split_part(subject, '/', 1)") == admitted
    assert counted(console, "usage_events", "tenant_id") == admitted
    tenants = {**{sub: tenant for tenant, sub in SUBSCRIPTIONS.items()}, "sub-dune": "dune"}
    assert {
        (tenants[sub], key): (entry["units"], entry["over"]) for (sub, key), entry in billing.state.lago.sums().items()
    } == admitted


async def _runs(address: str, queue: str, workers: Workers, billing: Any) -> None:
    """Runs, two at a time, while workers die: some in the middle of a call to Lago, some at any other moment."""
    client, pick = await Client.connect(address), random.Random()
    ended = asyncio.Event()

    async def again(name: str) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            with contextlib.suppress(WorkflowFailureError):
                await client.execute_workflow(
                    USAGE_SYNC, UsageSyncInput(batch=pick.choice((1, 2, 5))), id=f"{queue}-{name}-{number}",
                    task_queue=queue, task_timeout=timedelta(seconds=1),
                )  # fmt: skip

    running = [asyncio.ensure_future(again(name)) for name in "ab"]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and (workers.killed < KILLS or billing.calls < CALLS):
        calls, patience = billing.calls + pick.randrange(1, 9), time.monotonic() + 4
        while billing.calls < calls and time.monotonic() < patience:
            await asyncio.sleep(0.005)
        await asyncio.sleep(pick.choice((0.0, pick.uniform(0, 0.1))))
        workers.kill(pick.randrange(len(workers.running)))
        workers.start()
    ended.set()
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _result(handle: WorkflowHandle[Any, Any], workers: Workers) -> Any:
    """The result of a run, while somebody sees to it that there are workers."""
    ended, patience = asyncio.ensure_future(handle.result()), time.monotonic() + 90
    while not ended.done() and time.monotonic() < patience:
        workers.tend()
        await asyncio.wait({ended}, timeout=2)
    assert ended.done(), "a run did not end within 90 s although workers were there"
    return ended.result()


async def _finish(address: str, queue: str, platform: Platform, workers: Workers) -> None:
    """Runs until nothing waits: those under way, and one after the last unit was counted."""
    client = await Client.connect(address)

    def rest() -> int:
        with platform.database.session() as session:
            return session.execute(
                text(
                    "SELECT (SELECT count(*) FROM usage_events WHERE sent_at IS NULL)"
                    " + (SELECT count(*) FROM rate_limit_usage WHERE amount > billed OR over > billed_over)"
                )
            ).scalar_one()

    for number in range(20):
        handle = await client.start_workflow(
            USAGE_SYNC, UsageSyncInput(), id=f"{queue}-last-{number}", task_queue=queue,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE, task_timeout=timedelta(seconds=1),
        )  # fmt: skip
        result = await _result(handle, workers)
        if not await asyncio.to_thread(rest):
            assert number > 0 or result is not None
            return
    pytest.fail(f"{rest()} rows still wait")
