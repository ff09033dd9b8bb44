"""Workers and the Temporal server killed at random moments while tenants are made: each is whole or nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from operations import outbox, ratelimit_wire, workflow_settings
from operations.access import SYSTEM
from operations.platform import Platform
from operations.tenant_systems import SYSTEMS
from operations.workflow_catalogue import PROVISIONING, TASK_QUEUE, Provisioned, ProvisioningInput
from sandbox.engines import Temporal
from sandbox.faults import Fault
from sandbox.inprocess import Services
from tests.support import ROOT, poll, start_engine
from tests.support_tenants import TIER, mails, make_tier, row, traces, where

pytestmark = pytest.mark.engines
TENANTS = 50
KILLS = 100
WORKERS = 2
UNSOLD = "unsold"
"""A tier that Lago has no plan for: whoever is on it is refused there, for good."""
WEATHER = (None, None, Fault.ERROR, Fault.REFUSE, Fault.RESET)
OUTSIDE = ("keycloak", "lago", "qdrant", "s3", "somabrain")
QUEUE = "tenants-killed"


class Crowd:
    """Tenants being made, workers in processes of their own, one server, and somebody with a gun."""

    def __init__(self, platform: Platform, standins: Services, folder: Path, seed: int) -> None:
        self.platform, self.standins, self.chance = platform, standins, random.Random(seed)
        self.server = start_engine(lambda port: Temporal(folder / f"temporal-{port}", port))
        self.log = (folder / "workers.log").open("wb")
        self.nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.support_worker", QUEUE], cwd=ROOT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            env={**os.environ, "PILOTHOUSE_TEMPORAL_ADDRESS": self.server.url},
        )  # fmt: skip
        self.workers: list[int] = []
        self.killed: Counter[str] = Counter()
        self.begun: list[ProvisioningInput] = []

    def breed(self) -> None:
        assert self.nursery.stdin
        assert self.nursery.stdout
        print("another", file=self.nursery.stdin, flush=True)
        self.workers.append(int(self.nursery.stdout.readline()))

    def begin(self) -> None:
        """Have the next tenant made; every fifth is to fail."""
        number = len(self.begun)
        tier = UNSOLD if number % 5 == 4 else TIER
        given = ProvisioningInput(f"crowd-{number}", f"Crowd {number}", tier, f"boss@crowd-{number}.example")

        async def start() -> None:
            client = await Client.connect(self.server.url)
            await client.start_workflow(
                PROVISIONING, given, id=f"{PROVISIONING}/{given.tenant}", task_queue=QUEUE,
                task_timeout=timedelta(seconds=2), id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                rpc_timeout=timedelta(seconds=2),
            )  # fmt: skip

        def started() -> bool:
            with contextlib.suppress(RPCError, RuntimeError):
                asyncio.run(start())
                return True
            return False

        poll(started, 20, what=f"the start of {given.tenant}")
        self.begun.append(given)

    def making(self) -> int:
        with self.platform.database.session() as session:
            return int(session.scalar(text("SELECT count(*) FROM tenants WHERE status = 'provisioning'")) or 0)

    def shoot(self) -> None:
        """Kill a worker or the server while a tenant is being made, and change the weather."""
        while not self.making() and len(self.begun) < TENANTS:
            self.begin()
            with contextlib.suppress(AssertionError):
                poll(self.making, 2)
        time.sleep(self.chance.random() * 0.2)
        if self.chance.random() < 0.25:
            self.server.kill()
            self.killed["server"] += 1
            time.sleep(self.chance.random() * 0.2)
            self.server.start()
        else:
            os.kill(self.workers.pop(self.chance.randrange(len(self.workers))), 9)
            self.killed["worker"] += 1
            self.breed()
        service = self.chance.choice(OUTSIDE)
        self.clear()
        self.standins.fault(service, self.chance.choice(WEATHER))

    def clear(self) -> None:
        for service in OUTSIDE:
            self.standins.fault(service, None)

    def ended(self) -> dict[str, WorkflowExecutionStatus | None]:
        """How each run ended; waits until all have."""

        async def ask() -> dict[str, WorkflowExecutionStatus | None]:
            client = await Client.connect(self.server.url)
            found = {}
            for given in self.begun:
                handle = client.get_workflow_handle(f"{PROVISIONING}/{given.tenant}")
                found[given.tenant] = (await handle.describe()).status
            return found

        def all_ended() -> dict[str, WorkflowExecutionStatus | None]:
            found = asyncio.run(ask())
            return {} if WorkflowExecutionStatus.RUNNING in found.values() else found

        return poll(all_ended, 200, every=0.3, what="the end of every run")

    def close(self) -> None:
        self.clear()
        kill_quietly(self.workers)
        self.nursery.kill()
        self.nursery.wait(5)
        self.log.close()
        self.server.kill()


def kill_quietly(processes: list[int]) -> None:
    for one in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, 9)


@pytest.fixture
def crowd(platform: Platform, standins: Services, tmp_path: Path) -> Iterator[Crowd]:
    seed = int(os.environ.get("PILOTHOUSE_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"PILOTHOUSE_TEST_SEED={seed}")
    ratelimit_wire.reconcile(platform)
    make_tier(platform)
    make_tier(platform, UNSOLD)
    # A step that is shot three times would fail, and its tenant be absent: right, but most are wanted whole here.
    wish = workflow_settings.Edit(PROVISIONING, {"retry_attempts": 8, "backoff_multiplier": 1.0})
    workflow_settings.save(platform, SYSTEM, [wish], reason="somebody shoots")
    made = Crowd(platform, standins, tmp_path, seed)
    yield made
    made.close()


@pytest.mark.timeout(400)
def test_every_tenant_is_whole_or_nowhere(crowd: Crowd) -> None:
    platform = crowd.platform
    for _ in range(WORKERS):
        crowd.breed()
    for shot in range(KILLS):
        if len(crowd.begun) < TENANTS and shot % 2 == 0:
            crowd.begin()
        crowd.shoot()
    crowd.clear()
    while len(crowd.begun) < TENANTS:
        crowd.begin()
    ends = crowd.ended()
    print(crowd.killed, Counter(end.name for end in ends.values() if end))
    with platform.database.session() as session:
        session.execute(text("UPDATE outbox SET next_attempt_at = now() WHERE delivered_at IS NULL"))
    outbox.relay_once(platform)
    for given in crowd.begun:
        left = traces(platform, given.tenant)
        if ends[given.tenant] is WorkflowExecutionStatus.COMPLETED:
            assert where(platform, given.tenant) == list(SYSTEMS), given.tenant
            made = row(platform, given.tenant)
            assert made is not None
            assert (made["status"], made["lago_subscription_id"]) == ("active", f"tenant-{given.tenant}")
            assert len(mails(platform, given.tenant)) == 1
        else:
            assert ends[given.tenant] is WorkflowExecutionStatus.FAILED
            assert left == [], given.tenant
    whole = [given for given in crowd.begun if ends[given.tenant] is WorkflowExecutionStatus.COMPLETED]
    assert not [given.tenant for given in whole if given.tier == UNSOLD]
    assert len(whole) >= TENANTS / 2
    assert min(crowd.killed["worker"], crowd.killed["server"]) >= KILLS / 10
    assert crowd.killed.total() == KILLS
    assert ratelimit_wire.reconcile(platform, repair=False).total == 0


def worker_process(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """The product's own worker, as ``make worker`` starts it."""
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "workflows"], cwd=ROOT, stdout=log, stderr=log, env=dict(os.environ)
        )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("who", ["another", "the same, started again"])
def test_a_worker_stopped_in_the_middle_loses_nothing(
    platform: Platform, standins: Services, temporal_address: str, tmp_path: Path, who: str
) -> None:
    ratelimit_wire.reconcile(platform)
    make_tier(platform)
    wish = workflow_settings.Edit(PROVISIONING, {"retry_attempts": 50, "backoff_multiplier": 1.0})
    workflow_settings.save(platform, SYSTEM, [wish], reason="somebody stops workers")
    name = f"stopped-{len(who)}"
    given = ProvisioningInput(name, "Stopped", TIER, "boss@stopped.example")
    ident = f"{PROVISIONING}/{name}"
    standins.fault("lago", "hang")

    async def begin() -> None:
        client = await Client.connect(temporal_address)
        await client.start_workflow(PROVISIONING, given, id=ident, task_queue=TASK_QUEUE)

    async def result() -> Provisioned:
        client = await Client.connect(temporal_address)
        handle = client.get_workflow_handle(ident, result_type=Provisioned)
        return await asyncio.wait_for(handle.result(), 60)

    first = worker_process(tmp_path, "first")
    second: subprocess.Popen[bytes] | None = None
    try:
        asyncio.run(begin())
        poll(lambda: SYSTEMS["keycloak"].present(platform, name), 40, what="the first parts")
        if who == "another":
            second = worker_process(tmp_path, "second")
        first.terminate()
        assert first.wait(40) == 0
        assert (row(platform, name) or {}).get("status") == "provisioning"
        standins.fault("lago", None)
        second = second or worker_process(tmp_path, "second")
        done = asyncio.run(result())
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait(5)
    assert where(platform, name) == list(SYSTEMS)
    assert (done.lago_subscription_id, done.skipped) == (f"tenant-{name}", [])
    assert len(mails(platform, name)) == 1
