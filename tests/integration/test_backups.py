"""Backups: stored encrypted, proved by restoring, kept by rule, restored by hand."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from adapters.core import AdapterError, deadline
from operations import audit, backup_export, backup_seal, backup_tools, backups, ratelimits
from operations.access import SYSTEM
from operations.backup_tools import BackupFailed
from operations.database import StoreUnavailable
from operations.platform import Platform
from operations.ratelimits import Edit, Target
from operations.stopping import Stop, Stopped, heeding

SECRET = "hunter2-in-the-clear"


def _bucket(platform: Platform) -> Any:
    return platform.adapters["s3"].objects(platform.settings.backup_bucket)


def _limit(platform: Platform, amount: int) -> None:
    values = {"limit": amount, "window_seconds": 3600, "policy": "HARD", "description": SECRET}
    ratelimits.save(platform, SYSTEM, [Edit(Target("api_calls"), values)], reason="for the test")


def _scratch_databases(platform: Platform) -> list[str]:
    with psycopg.connect(platform.database.dsn.get_secret_value()) as connection:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
        return [row[0] for row in connection.execute(query, [backups.SCRATCH_PREFIX]).fetchall()]


def test_made_encrypted_proved_and_restored(platform: Platform, empty_database_url: str) -> None:
    _limit(platform, 1234)
    ident = backups.new_id()
    size = backups.make(platform, ident)
    made = backups.listing(platform, SYSTEM)[0]
    assert (made.id, made.status, made.size_bytes) == (ident, "stored", size)
    assert size > 10_000
    assert made.tables > 20
    objects = _bucket(platform)
    stored = [objects.get(key) for key in objects.keys(f"{backups.ROOT}{ident}/")]
    assert len(stored) == 3
    assert not any(SECRET.encode() in one or b"PGDMP" in one or b"api_calls" in one for one in stored)

    _limit(platform, 99)  # what happens after the snapshot is not in the backup
    rows = backups.prove(platform, ident)
    proved = backups.listing(platform, SYSTEM)[0]
    assert (proved.status, proved.rows) == ("proved", rows)
    assert proved.proved_at is not None
    assert _scratch_databases(platform) == []

    found = backups.restore(platform, ident, empty_database_url)
    assert sum(found.values()) == rows
    with psycopg.connect(empty_database_url) as connection:
        query = "SELECT limit_value FROM rate_limit_policies WHERE key = 'api_calls' AND scope = 'GLOBAL'"
        assert connection.execute(query).fetchone() == (1234,)
    with pytest.raises(BackupFailed, match="not empty"):
        backups.restore(platform, ident, empty_database_url)


def test_the_export_holds_every_configuration_and_no_secret(platform: Platform) -> None:
    _limit(platform, 7)
    ident = backups.new_id()
    backups.make(platform, ident)
    sealer = backup_seal.Sealer(_bucket(platform), f"{backups.ROOT}{ident}/", platform.settings.fernet)
    text = b"".join(sealer.read(sealer.read_manifest()["configuration"])).decode()
    for word in ("postgresql:", "smtp:", "workflow_settings:", "rate_limits:", "tiers:", "limit: 7"):
        assert word in text
    password = platform.adapters["smtp"].config.password.get_secret_value()
    assert password not in text


def test_the_export_is_of_the_snapshot_that_is_dumped(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    _limit(platform, 7)
    real = backups._counts

    def counted(connection: Any) -> Any:
        yield from real(connection)
        _limit(platform, 8)  # somebody changes it while the backup is made

    monkeypatch.setattr(backups, "_counts", counted)
    ident = backups.new_id()
    backups.make(platform, ident)
    monkeypatch.undo()
    sealer = backup_seal.Sealer(_bucket(platform), f"{backups.ROOT}{ident}/", platform.settings.fernet)
    text = b"".join(sealer.read(sealer.read_manifest()["configuration"])).decode()
    assert "limit: 7" in text and "limit: 8" not in text


def test_a_snapshot_that_is_gone_is_no_export(platform: Platform) -> None:
    with pytest.raises(BackupFailed, match="snapshot of the backup is gone"):
        backup_export.document(platform, "00000003-0000001B-1")


@pytest.mark.parametrize("fault", ["hang", "refuse"])
def test_a_database_that_stops_answering_holds_no_backup(
    platform: Platform, standins: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    real = backups._counts

    def counted(connection: Any) -> Any:
        standins.fault("postgresql", fault)
        yield from real(connection)

    monkeypatch.setattr(backups, "_counts", counted)
    began = time.monotonic()
    with deadline(3), pytest.raises(StoreUnavailable):
        backups.make(platform, backups.new_id())
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("where", ["counting", "dumping", "restoring", "comparing"])
def test_told_to_stop_it_ends_at_once_and_another_attempt_makes_it_whole(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    ident, stop = backups.new_id(), Stop()
    work = backups.make if where in ("counting", "dumping") else backups.prove
    if work is backups.prove:
        backups.make(platform, ident)
    real = backup_tools._running

    def slow(command: list[str], *args: Any, **more: Any) -> Any:
        begun.set()
        return real(["/bin/sleep", "60"], *args, **more)

    def counted(connection: Any) -> Any:
        begun.set()
        connection.execute("SELECT pg_sleep(60)")
        yield "", 0

    begun = threading.Event()
    if where in ("counting", "comparing"):
        monkeypatch.setattr(backups, "_counts", counted)
    else:
        monkeypatch.setattr(backup_tools, "_running", slow)

    def told() -> None:
        with heeding(stop):
            work(platform, ident)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(told)
        assert begun.wait(30)
        time.sleep(0.2)
        stop.set()
        with pytest.raises(Stopped):
            working.result(8)
    monkeypatch.undo()
    assert backups.listing(platform, SYSTEM)[0].error is None
    assert _scratch_databases(platform) == []
    backups.make(platform, ident)
    backups.prove(platform, ident)
    assert backups.listing(platform, SYSTEM)[0].status == "proved"


@pytest.mark.parametrize("damage", ["altered", "gone", "rows"])
def test_a_damaged_backup_is_not_proved(platform: Platform, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ident = backups.new_id()
    prefix = f"{backups.ROOT}{ident}/"
    if damage == "rows":
        # Counted before the last row came: as if the dump had missed it.
        real = backups._counts
        monkeypatch.setattr(backups, "_counts", lambda c: ((n, k + (n == "tiers")) for n, k in real(c)))
    backups.make(platform, ident)
    monkeypatch.undo()
    objects = _bucket(platform)
    if damage == "altered":
        token = bytearray(objects.get(f"{prefix}dump.00001.fernet"))
        token[500] ^= 1
        objects.put(f"{prefix}dump.00001.fernet", bytes(token))
    elif damage == "gone":
        objects.delete([f"{prefix}dump.00001.fernet"])
    with pytest.raises(AdapterError):
        backups.prove(platform, ident)
    failed = backups.listing(platform, SYSTEM)[0]
    assert failed.status == "failed"
    assert failed.error
    assert _scratch_databases(platform) == []


def test_a_tool_that_is_missing_or_fails_says_so(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    object.__setattr__(platform.settings, "postgresql_tools", "/nowhere")
    with pytest.raises(BackupFailed, match="no pg_dump in /nowhere"):
        backups.make(platform, "one")
    monkeypatch.undo()
    with pytest.raises(BackupFailed, match="failed"):
        list(backup_tools.dump("/bin/false", platform.database.dsn.get_secret_value(), "x", 5))
    dsn = platform.database.dsn.get_secret_value()
    with pytest.raises(BackupFailed, match="did not end"), backup_tools._running(["/bin/sleep", "60"], dsn, 0.1):
        pass
    sleep = ["/bin/sleep", "60"]  # the end of the attempt it belongs to is its own
    with deadline(0.1), pytest.raises(BackupFailed, match="did not end"), backup_tools._running(sleep, dsn, 50):
        pass
    with pytest.raises(BackupFailed, match="version"):
        backup_tools.check_version("/bin/true", 18)


def test_what_a_killed_proof_left_behind_is_dropped_without_a_superuser(
    platform: Platform,
) -> None:
    owner = f"proof_{uuid.uuid4().hex[:8]}"
    dsn = make_url(platform.database.dsn.get_secret_value())
    with psycopg.connect(platform.database.dsn.get_secret_value(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {owner} LOGIN CREATEDB PASSWORD 'proof'".encode())
    own = dsn.set(username=owner, password="proof").render_as_string(hide_password=False)
    try:
        with backups.scratch(own) as young, psycopg.connect(own, autocommit=True) as connection:
            old = f"{backups.SCRATCH_PREFIX}20200101000000_{owner}"
            connection.execute(f"CREATE DATABASE {old} TEMPLATE template0".encode())
            with backups.scratch(own):
                assert old not in _scratch_databases(platform)
                assert make_url(young).database in _scratch_databases(platform)
    finally:
        with psycopg.connect(platform.database.dsn.get_secret_value(), autocommit=True) as connection:
            for name in [one for one in _scratch_databases(platform) if one.endswith(owner)]:
                connection.execute(f"DROP DATABASE {name}".encode())
            connection.execute(f"DROP ROLE {owner}".encode())


def test_storage_away_fails_and_starts_over(platform: Platform, standins: Any) -> None:
    ident = backups.new_id()
    standins.fault("s3", "refuse")
    with pytest.raises(AdapterError):
        backups.make(platform, ident)
    assert backups.listing(platform, SYSTEM)[0].status == "failed"
    standins.fault("s3", None)
    backups.make(platform, ident)
    backups.prove(platform, ident)
    assert backups.listing(platform, SYSTEM)[0].status == "proved"


def test_objects_that_vanish_are_noticed(platform: Platform) -> None:
    ident = backups.new_id()
    backups.make(platform, ident)
    assert backups.missing(platform) == []
    objects = _bucket(platform)
    objects.delete(objects.keys(f"{backups.ROOT}{ident}/"))
    assert backups.missing(platform) == [ident]
    assert "gone" in (backups.listing(platform, SYSTEM)[0].error or "")


def test_expired_backups_leave_the_bucket(platform: Platform) -> None:
    object.__setattr__(platform.settings, "backup_keep_weekly", 0)
    object.__setattr__(platform.settings, "backup_keep_monthly", 0)
    object.__setattr__(platform.settings, "backup_keep_daily", 1)
    for ident in ("old", "new"):
        backups.make(platform, ident)
        backups._note(platform, ident, status="proved", proved_at=datetime.now(UTC))
    backups._note(platform, "old", started_at=datetime.now(UTC) - timedelta(days=3))
    assert backups.expire(platform) == 1
    assert {row.id: row.status for row in backups.listing(platform, SYSTEM)} == {"old": "expired", "new": "proved"}
    assert _bucket(platform).folders(backups.ROOT) == {"new"}
    assert audit.verify_chain(platform).ok


def test_however_many_objects_a_backup_has_all_go_and_no_other_ones(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_seal, "DELETE_AT_ONCE", 2)
    backups.make(platform, "kept")
    objects = _bucket(platform)
    for number in range(7):
        objects.put(f"{backups.ROOT}gone/dump.{number:05d}.fernet", b"x")
    long_ago = datetime.now(UTC) - backups.FAILED_KEPT - timedelta(days=1)
    backups._note(platform, "gone", status="failed", started_at=long_ago)  # it failed before it knew its place
    assert backups.expire(platform) == 1
    assert objects.folders(backups.ROOT) == {"kept"}
    assert len(objects.keys(f"{backups.ROOT}kept/")) == 3


def test_the_rule_keeps_days_weeks_and_months() -> None:
    newest = datetime(2026, 11, 21, 3, tzinfo=UTC)
    found = [(f"d{age}", newest - timedelta(days=age), True) for age in range(400)]
    kept = backups.keep(found, 7, 5, 12)
    assert {f"d{age}" for age in range(7)} <= kept
    assert len(kept) <= 7 + 5 + 12
    months = {(newest - timedelta(days=int(name[1:]))).strftime("%Y-%m") for name in kept}
    assert len(months) == 12
    # One that is not proved is kept while it is newer than the newest proved one, and is no reason to drop another.
    assert backups.keep([*found, ("fresh", newest + timedelta(hours=1), False)], 1, 0, 0) == {"fresh", "d0"}
    assert backups.keep([("a", newest, False)], 1, 0, 0) == {"a"}
