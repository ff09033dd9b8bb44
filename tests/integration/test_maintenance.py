"""Housekeeping: what is removed and what never is; as a workflow; and the worker when Temporal goes and comes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Replayer, Worker

from adapters.core import Rejected, Unreachable, utcnow
from limiter import Scope
from operations import audit, backups, maintenance, ratelimits
from operations.access import SYSTEM
from operations.maintenance import CleanUp, clean_up
from operations.platform import Platform
from operations.ratelimits import Edit, Target
from operations.workflow_catalogue import BACKUP, RECONCILE, Maintained, MaintenanceInput
from sandbox.inprocess import Services
from tests.support_operations import make
from workflows.maintenance import WORKFLOWS, Maintenance, activities

pytestmark = pytest.mark.engines
VALUES = {"limit": 10, "window_seconds": 3600, "policy": "HARD"}


@pytest.fixture
def store(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    yield platform
    platform.close()


def fill(platform: Platform, old: int) -> None:
    """``old`` rows of each kind past their time, and one of each that stays."""
    with platform.database.session() as session:
        for number in range(old + 1):
            past = number < old
            session.execute(
                text("INSERT INTO outbox (topic, key, payload, delivered_at) VALUES ('t', :n, '{}', now() - :ago)"),
                {"n": str(number), "ago": timedelta(days=8 if past else 6)},
            )
            session.execute(
                text("INSERT INTO sessions (id_hash, subject, name, expires_at) VALUES (:n, 's', 'n', now() - :ago)"),
                {"n": str(number), "ago": timedelta(days=31 if past else 29)},
            )
            session.execute(
                text(
                    "INSERT INTO state_changes (service, at, from_state, to_state) "
                    "VALUES ('redis', now() - :ago - :n * interval '1 second', 'healthy', 'down')"
                ),
                {"n": number, "ago": timedelta(days=401 if past else 399)},
            )
        session.execute(
            text(
                "INSERT INTO outbox (topic, key, payload, created_at) "
                "VALUES ('t', 'w', '{}', now() - interval '1 year')"
            )
        )


def counts(platform: Platform) -> tuple[int, ...]:
    with platform.database.session() as session:
        return tuple(
            session.scalar(text(f"SELECT count(*) FROM {table}")) for table in ("outbox", "sessions", "state_changes")
        )


def test_only_what_is_past_its_time_goes_and_what_waits_never(store: Platform) -> None:
    fill(store, 3)
    assert clean_up(store) == CleanUp(3, 3, 3)
    assert counts(store) == (2, 1, 1)
    assert clean_up(store) == CleanUp()


def test_a_batch_is_bounded_and_says_that_there_is_more(store: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "BATCH", 2)
    fill(store, 3)
    first = clean_up(store)
    assert first == CleanUp(2, 2, 2)
    assert first.more
    assert not clean_up(store).more


def test_the_workflow_runs_in_batches_until_nothing_is_left_and_replays(
    store: Platform, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "BATCH", 2)
    fill(store, 5)
    queue = f"maintenance-{uuid.uuid4()}"

    result = asyncio.run(_run(store, temporal_address, queue, None))
    assert result.counts["outbox_rows"] == result.counts["sessions"] == result.counts["state_changes"] == 5
    assert counts(store) == (2, 1, 1)


async def _run(platform: Platform, address: str, queue: str, given: MaintenanceInput | None) -> Maintained:
    """One run on a worker of its own, asked for its progress and replayed."""
    client = await Client.connect(address)
    async with Worker(client, task_queue=queue, workflows=WORKFLOWS, activities=activities(platform)):
        args = [] if given is None else [given]
        handle = await client.start_workflow(Maintenance.run, args=args, id=queue, task_queue=queue)
        result = await asyncio.wait_for(handle.result(), 60)
        told = await handle.query(Maintenance.progress)
        assert told.percent == 100
    await Replayer(workflows=WORKFLOWS).replay_workflow(await handle.fetch_history())
    return result


def test_a_backup_is_made_proved_and_old_ones_removed(platform: Platform, temporal_address: str) -> None:
    result = asyncio.run(_run(platform, temporal_address, f"backup-{uuid.uuid4()}", MaintenanceInput(BACKUP)))
    row = backups.listing(platform, SYSTEM)[0]
    assert (row.status, row.size_bytes, row.rows) == ("proved", result.counts["bytes"], result.counts["rows"])


def test_a_proved_backup_counts_also_where_old_ones_could_not_be_removed(
    platform: Platform, temporal_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Platform) -> int:
        raise Rejected("The storage removes nothing.")

    monkeypatch.setattr(backups, "expire", full)
    said = asyncio.run(_failing(platform, temporal_address, f"backup-{uuid.uuid4()}"))
    assert backups.listing(platform, SYSTEM)[0].status == "proved"
    assert "The storage removes nothing." in said
    assert "does not count" not in said and "is proved and counts" in said


async def _failing(platform: Platform, address: str, queue: str) -> str:
    """A backup that does not come to its end: what it says of that, asked for its progress and replayed."""
    client = await Client.connect(address)
    async with Worker(client, task_queue=queue, workflows=WORKFLOWS, activities=activities(platform)):
        handle = await client.start_workflow(Maintenance.run, MaintenanceInput(BACKUP), id=queue, task_queue=queue)
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(handle.result(), 60)
        told = await handle.query(Maintenance.progress)
    await Replayer(workflows=WORKFLOWS).replay_workflow(await handle.fetch_history())
    return f"{caught.value.cause} {told.sentence}"


def test_reconciling_delivers_and_repairs(platform: Platform, temporal_address: str) -> None:
    ratelimits.save(platform, SYSTEM, [Edit(Target("api_calls"), VALUES)], reason="for the test")
    platform.redis.delete("ratelimit:config:api_calls")
    result = asyncio.run(_run(platform, temporal_address, f"reconcile-{uuid.uuid4()}", MaintenanceInput(RECONCILE)))
    assert result.counts["rate_limits_repaired"] >= 1
    assert platform.redis.exists("ratelimit:config:api_calls")


def test_a_part_that_is_away_is_named_and_keeps_no_other_from_its_turn(platform: Platform, standins: Services) -> None:
    platform.redis.ping()
    standins.fault("s3", "refuse")
    backups._note(platform, "one", status="stored", bucket="pilothouse-backups")
    with platform.database.session() as session:
        session.execute(text("INSERT INTO outbox (topic, key, payload) VALUES ('config', 'redis', '{}')"))
    with pytest.raises(Unreachable, match="backups missing: No connection to the storage"):
        maintenance.reconcile(platform)
    with platform.database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM outbox WHERE delivered_at IS NULL")) == 0


def test_overrides_expired_long_ago_are_removed_and_recorded(platform: Platform) -> None:
    with platform.database.session() as session:
        session.execute(text("INSERT INTO tenants (id, name, tier_code) VALUES ('a', 'A', 'free'), ('b', 'B', 'free')"))
    targets = [Target("api_calls", Scope.TENANT, name) for name in "ab"]
    edits = [Edit(Target("api_calls"), VALUES)]
    edits += [Edit(one, {"limit": 5, "expires_at": utcnow() + timedelta(days=1)}) for one in targets]
    ratelimits.save(platform, SYSTEM, edits, reason="for the test")
    with platform.database.session() as session:
        ago = "UPDATE rate_limit_policies SET expires_at = now() - :ago WHERE tenant_id = :tenant"
        session.execute(text(ago), {"ago": timedelta(days=31), "tenant": "a"})
        session.execute(text(ago), {"ago": timedelta(days=29), "tenant": "b"})
    assert maintenance.remove_expired_overrides(platform) == 1
    assert maintenance.remove_expired_overrides(platform) == 0
    assert ratelimits.get(platform, SYSTEM, targets[1])
    entry = audit.entries(platform, SYSTEM, limit=1)[0]
    assert (entry.action, entry.subject) == ("ratelimit.expired", targets[0].subject)
