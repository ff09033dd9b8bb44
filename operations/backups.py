"""Backups: made from one snapshot, stored encrypted, proved by restoring them, kept by rule.

A backup counts when it is ``proved``: its objects were read back, deciphered and restored into a scratch database,
whose tables have as many rows as the snapshot had and whose record of changes is unbroken up to the same entry.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy import make_url, select, update

from adapters.core import AdapterError, deadline, utcnow
from adapters.core.deadline import cut_off, remaining, shut_socket
from adapters.core.redact import redact
from adapters.s3 import S3
from models import Backup
from operations import access, audit, backup_export, backup_tools, stopping, workflow_settings
from operations.access import Actor, Permission
from operations.backup_seal import Sealer
from operations.backup_tools import BackupFailed
from operations.change import NotFound
from operations.database import Database, StoreUnavailable, connect_args, translated
from operations.platform import Platform
from operations.workflow_catalogue import MAINTENANCE

log = logging.getLogger(__name__)

ROOT = "pilothouse/"
DUMP_SECONDS = 3600.0
DROP_SECONDS = 60.0
CONNECT_SECONDS = 10
LIST_LIMIT = 200
UNFINISHED = ("running", "stored")
ENDING = timedelta(minutes=15)
"""What a run out of time may still need to end."""
FAILED_KEPT = timedelta(days=7)
SCRATCH_PREFIX = "pilothouse_proof_"
LEFT_BEHIND = timedelta(hours=2)
"""Longer than any proof takes."""

_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class BackupRow:
    """One backup as people see it. ``rows`` is the sum over its tables."""

    id: str
    status: str
    """running, stored, proved, failed or expired."""
    started_at: datetime
    stored_at: datetime | None
    proved_at: datetime | None
    expired_at: datetime | None
    bucket: str | None
    size_bytes: int | None
    tables: int
    rows: int
    error: str | None


def last_proved(platform: Platform, actor: Actor) -> BackupRow | None:
    """The newest backup that counts, however many have failed since. Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.INFRA_VIEW)
    query = select(Backup).where(Backup.status == "proved").order_by(Backup.started_at.desc()).limit(1)
    with platform.database.session() as session:
        return next((_shown(row) for row in session.scalars(query)), None)


def listing(platform: Platform, actor: Actor, limit: int = 50) -> list[BackupRow]:
    """Backups, newest first, at most ``limit`` (200). Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.INFRA_VIEW)
    query = select(Backup).order_by(Backup.started_at.desc()).limit(max(1, min(limit, LIST_LIMIT)))
    with platform.database.session() as session:
        return [_shown(row) for row in session.scalars(query)]


def _shown(row: Backup) -> BackupRow:
    return BackupRow(
        row.id, row.status, row.started_at, row.stored_at, row.proved_at, row.expired_at, row.bucket,
        row.size_bytes, len(row.tables), sum(row.tables.values()), row.error,
    )  # fmt: skip


def new_id() -> str:
    """An id for a backup that sorts by time: ``20261121T021500-1a2b3c4d``."""
    return f"{utcnow():%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"


def make(platform: Platform, ident: str) -> int:
    """Dump, export, encrypt and store one backup; its size in bytes. Done again for the same id, it starts over.

    Raises BackupFailed, AdapterError (the storage), StoreUnavailable. What was stored by then has no manifest and
    is removed by ``expire``.
    """
    prefix = f"{ROOT}{ident}/"
    bucket = platform.settings.backup_bucket
    _note(platform, ident, status="running", bucket=bucket, prefix=prefix, error=None)
    with _failures_noted(platform, ident):
        objects = cast(S3, platform.adapters["s3"]).objects(bucket)
        objects.ensure_bucket()
        sealer = Sealer(objects, prefix, platform.settings.fernet)
        tool = backup_tools.find(platform.settings, "pg_dump")
        dsn = platform.database.dsn.get_secret_value()
        with translated(), _connected(dsn) as connection:
            server = backup_tools.server_major(connection)
            backup_tools.check_version(tool, server)
            # The export and pg_dump read the very snapshot that is counted here, so that the proof can be exact.
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot = str(_one(connection, "SELECT pg_export_snapshot()"))
            tables = dict(_counts(connection))
            head = connection.execute("SELECT last_id, hash FROM audit_head").fetchone() or (0, "")
            revision = str(_one(connection, "SELECT version_num FROM alembic_version"))
            exported = sealer.write("configuration", [backup_export.document(platform, snapshot).encode()])
            dumped = sealer.write("dump", backup_tools.dump(tool, dsn, snapshot, DUMP_SECONDS))
        sealer.write_manifest(
            {
                "id": ident, "made_at": utcnow().isoformat(), "server_major": server, "revision": revision,
                "tables": tables, "audit": {"last_id": head[0], "hash": head[1]},
                "dump": dumped, "configuration": exported,
            }
        )  # fmt: skip
    size = int(dumped["size"]) + int(exported["size"])
    _note(
        platform,
        ident,
        status="stored",
        error=None,
        stored_at=utcnow(),
        size_bytes=size,
        sha256=dumped["sha256"],
        tables=tables,
    )
    return size


def prove(platform: Platform, ident: str) -> int:
    """Restore a stored backup into a scratch database and compare; how many rows were found there.

    Raises BackupFailed saying what differs, AdapterError, StoreUnavailable; the backup is then marked as failed.
    """
    with _failures_noted(platform, ident):
        manifest, sealer = _opened(platform, ident)
        server = platform.settings.backup_scratch_url or platform.database.dsn
        with scratch(server.get_secret_value()) as dsn:
            _restore(platform, manifest, sealer, dsn)
            with translated(), _connected(dsn) as connection:
                revision = str(_one(connection, "SELECT version_num FROM alembic_version"))
                found = dict(_counts(connection))
            _compare(manifest, revision, found)
            restored = Database(dsn, application_name="pilothouse-proof")
            try:
                chain = audit.verify(restored)
            finally:
                restored.close()
            if not chain.ok or chain.checked != manifest["audit"]["last_id"]:
                raise BackupFailed(f"The record of changes in the backup is broken: {chain.problem or 'it is short'}.")
        for _ in sealer.read(manifest["configuration"]):
            pass
    _note(platform, ident, status="proved", proved_at=utcnow(), error=None)
    return sum(found.values())


def restore(platform: Platform, ident: str, dsn: str) -> dict[str, int]:
    """Restore a backup into the empty database ``dsn`` names; rows by table. Raises BackupFailed, AdapterError."""
    manifest, sealer = _opened(platform, ident)
    with translated(), _connected(dsn) as connection:
        present = [row[0] for row in connection.execute(_TABLES).fetchall()]
    if present:
        raise BackupFailed(
            "The database is not empty, so nothing was restored into it.",
            detail=", ".join(present[:10]),
            advice="Create an empty database and name it.",
        )
    _restore(platform, manifest, sealer, dsn)
    with translated(), _connected(dsn) as connection:
        found = dict(_counts(connection))
    _compare(manifest, manifest["revision"], found)
    return found


def expire(platform: Platform) -> int:
    """Remove what the rule no longer keeps and what failed runs left; how many backups. Raises AdapterError."""
    settings, now = platform.settings, utcnow()
    with platform.database.session() as session:
        rows = list(session.scalars(select(Backup).where(Backup.status != "expired").order_by(Backup.started_at)))
    good = [row for row in rows if row.status in ("proved", "stored")]
    kept = keep(
        [(row.id, row.started_at, row.status == "proved") for row in good],
        settings.backup_keep_daily, settings.backup_keep_weekly, settings.backup_keep_monthly,
    )  # fmt: skip
    gone = [row for row in good if row.id not in kept]
    gone += [row for row in rows if row.status in ("failed", "running") and row.started_at < now - FAILED_KEPT]
    for row in gone:
        stopping.check()
        adapter = cast(S3, platform.adapters["s3"])
        prefix = row.prefix or f"{ROOT}{row.id}/"  # never the whole bucket
        Sealer(adapter.objects(row.bucket or settings.backup_bucket), prefix, settings.fernet).remove()
        _note(platform, row.id, status="expired", expired_at=utcnow())
    return len(gone)


def abandon(platform: Platform, ident: str, why: str) -> bool:
    """Note that the run of a backup that is not proved has ended; False where there is nothing to note.

    A failure that was noted already stays as it is. Raises StoreUnavailable.
    """
    unfinished = update(Backup).where(Backup.id == ident, Backup.status.in_(UNFINISHED))
    with platform.database.session() as session:
        return bool(session.scalars(unfinished.values(status="failed", error=why[:1000]).returning(Backup.id)).all())


def forsaken(platform: Platform) -> list[str]:
    """Ids of backups begun longer ago than their run may take: it was terminated, and notes nothing itself.

    They are marked as failed; should one be proved all the same, that is noted over it. Raises StoreUnavailable.
    """
    since = utcnow() - workflow_settings.effective(platform, MAINTENANCE).timeout - ENDING
    late = select(Backup.id).where(Backup.status.in_(UNFINISHED), Backup.started_at < since).limit(1000)
    with platform.database.session() as session:
        lost = list(session.scalars(late))
    return [ident for ident in lost if abandon(platform, ident, "Its run has ended without proving it.")]


def missing(platform: Platform) -> list[str]:
    """Ids of backups that should be in the bucket and are not; they are marked as failed. Raises AdapterError."""
    with platform.database.session() as session:
        rows = list(session.scalars(select(Backup).where(Backup.status.in_(("stored", "proved"))).limit(1000)))
    lost: list[str] = []
    for bucket in {row.bucket for row in rows if row.bucket}:
        there = cast(S3, platform.adapters["s3"]).objects(bucket).folders(ROOT)
        lost += [row.id for row in rows if row.bucket == bucket and row.id not in there]
    for ident in lost:
        _note(
            platform, ident, status="failed", error=f"Its objects are gone from the bucket since {utcnow():%Y-%m-%d}."
        )
    return lost


def keep(found: list[tuple[str, datetime, bool]], daily: int, weekly: int, monthly: int) -> set[str]:
    """Which of (id, started, proved) the rule keeps: the last proved of each of the latest days, weeks and months.

    The newest proved one and everything newer than it always stay, so that a backup under proof is never removed.
    """
    proved = sorted(((at.astimezone(UTC), ident) for ident, at, good in found if good), reverse=True)
    newest = proved[0][0] if proved else datetime.min.replace(tzinfo=UTC)
    kept = {ident for ident, at, _ in found if at >= newest}
    periods: tuple[tuple[int, Callable[[datetime], tuple[int, ...]]], ...] = (
        (daily, lambda at: (at.year, at.month, at.day)),
        (weekly, lambda at: tuple(at.isocalendar()[:2])),
        (monthly, lambda at: (at.year, at.month)),
    )
    for most, period in periods:
        seen: set[tuple[int, ...]] = set()
        for at, ident in proved:
            if period(at) not in seen and len(seen) < most:
                seen.add(period(at))
                kept.add(ident)
    return kept


@contextmanager
def scratch(dsn: str) -> Iterator[str]:
    """A new, empty database beside the one ``dsn`` names, dropped at the end. Raises BackupFailed, StoreUnavailable."""
    name = f"{_scratch(utcnow())}_{uuid4().hex[:12]}"
    with translated(), _connected(dsn) as connection:
        _drop_leftovers(connection)
        try:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise BackupFailed(
                "The role may not create a database to prove the backup in.",
                detail=str(error),
                advice="Grant it CREATEDB, or set PILOTHOUSE_BACKUP_SCRATCH_URL to a server where it may.",
            ) from error
    try:
        yield make_url(dsn).set(database=name).render_as_string(hide_password=False)
    finally:
        Context().run(_drop, dsn, name)  # out of time or told to stop, it goes all the same


def _drop(dsn: str, name: str) -> None:
    with translated(), _connected(dsn, DROP_SECONDS) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _drop_leftovers(connection: psycopg.Connection[Any]) -> None:
    """Drop old scratch databases nobody is connected to: a process killed during a proof leaves one behind."""
    query = (
        "SELECT datname FROM pg_database d WHERE starts_with(datname, %s) AND datname < %s"
        " AND pg_has_role(datdba, 'USAGE')"
        " AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.datname = d.datname)"
    )
    # How old a database is only superusers may see: its name says it.
    names = [row[0] for row in connection.execute(query, [SCRATCH_PREFIX, _scratch(utcnow() - LEFT_BEHIND)]).fetchall()]
    for name in names:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def _scratch(at: datetime) -> str:
    return f"{SCRATCH_PREFIX}{at:%Y%m%d%H%M%S}"


def _restore(platform: Platform, manifest: dict[str, Any], sealer: Sealer, dsn: str) -> None:
    tool = backup_tools.find(platform.settings, "pg_restore")
    backup_tools.check_version(tool, int(manifest["server_major"]))
    backup_tools.restore(tool, dsn, sealer.read(manifest["dump"]), DUMP_SECONDS)


def _compare(manifest: dict[str, Any], revision: str, found: dict[str, int]) -> None:
    wanted: dict[str, int] = manifest["tables"]
    wrong = [
        f"{name}: {found.get(name, 'absent')} instead of {wanted.get(name, 'absent')}"
        for name in sorted({*wanted, *found})
        if found.get(name) != wanted.get(name)
    ]
    if revision != manifest["revision"]:
        wrong.append(f"schema {revision} instead of {manifest['revision']}")
    if wrong:
        raise BackupFailed("What was restored differs from what was backed up.", detail="; ".join(wrong)[:1000])


def stored(platform: Platform) -> list[tuple[str, str]]:
    """Ids in the bucket, newest first, with what the console's database knows of each. Raises AdapterError."""
    there = cast(S3, platform.adapters["s3"]).objects(platform.settings.backup_bucket).folders(ROOT)
    try:
        known = {row.id: row.status for row in listing(platform, access.SYSTEM, LIST_LIMIT)}
    except StoreUnavailable:
        known = {}  # that is when backups are wanted most
    return [(ident, known.get(ident, "not known to the database")) for ident in sorted(there, reverse=True)]


def _opened(platform: Platform, ident: str) -> tuple[dict[str, Any], Sealer]:
    bucket, prefix = platform.settings.backup_bucket, f"{ROOT}{ident}/"
    with suppress(StoreUnavailable), platform.database.session() as session:
        row = session.get(Backup, ident)
        if row is not None:
            bucket, prefix = row.bucket or bucket, row.prefix or prefix
    objects = cast(S3, platform.adapters["s3"]).objects(bucket)
    if ident not in objects.folders(ROOT):
        raise NotFound(f"There is no backup {ident} in the bucket {bucket}.")
    sealer = Sealer(objects, prefix, platform.settings.fernet)
    return sealer.read_manifest(), sealer


@contextmanager
def _connected(dsn: str, seconds: float = DUMP_SECONDS) -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own, cut off after ``seconds``, with the present deadline, or when told to stop.

    Statements may run that long, and a transaction may stand still while pg_dump reads its snapshot; a peer that is
    lost is noticed in seconds all the same.
    """
    with deadline(seconds):
        most = max(1, int(remaining() * 1000))
        args = connect_args("pilothouse-backup", most) | {"connect_timeout": CONNECT_SECONDS}
        args["options"] += f" -c idle_in_transaction_session_timeout={most}"
        with psycopg.connect(dsn, autocommit=True, **args) as connection:

            def cut() -> None:
                shut_socket(connection.fileno())

            with cut_off(cut) as late, stopping.ending(cut):
                try:
                    yield connection
                except psycopg.OperationalError as error:
                    if late.is_set():
                        raise StoreUnavailable("PostgreSQL did not answer in time.", detail=str(error)) from error
                    raise


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    if row is None:
        raise BackupFailed("The database has no schema of Pilothouse.", detail=query)
    return row[0]


def _counts(connection: psycopg.Connection[Any]) -> Iterator[tuple[str, int]]:
    for (name,) in connection.execute(_TABLES).fetchall():
        stopping.check()
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))).fetchone()
        yield name, int(row[0]) if row else 0


def _note(platform: Platform, ident: str, **values: Any) -> None:
    with platform.database.session() as session:
        row = session.get(Backup, ident)
        if row is None:
            row = Backup(id=ident)
            session.add(row)
        for name, value in values.items():
            setattr(row, name, value)


@contextmanager
def _failures_noted(platform: Platform, ident: str) -> Iterator[None]:
    try:
        yield
    except AdapterError as error:
        stopping.check()  # what was cut off has not failed: another attempt makes it whole
        log.warning("backup %s failed: %s %s", ident, error.sentence, redact(error.detail))
        with suppress(StoreUnavailable):  # the reason it failed for is the one to be told
            _note(platform, ident, status="failed", error=f"{error.sentence} {redact(error.detail)}".strip()[:1000])
        raise
