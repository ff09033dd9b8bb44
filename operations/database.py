"""The console's own PostgreSQL: one engine whose pool can be changed live, and the migrations.

PostgreSQL's own ``statement_timeout`` ends a slow statement, but not a server that has stopped
answering: a watchdog therefore shuts the socket of any connection that is held longer than its
deadline, so that no thread waits for ever.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine, event, exc, make_url, text
from sqlalchemy.orm import Session

from adapters.core import AdapterError, Unreachable

CONNECT_TIMEOUT_S = 2
IDLE_BEFORE_PING_S = 5.0
MIGRATION_LOCK = 0x50_49_4C_4F_54_01
_held: ContextVar[float | None] = ContextVar("database_deadline", default=None)


class StoreUnavailable(Unreachable):
    """Pilothouse's own PostgreSQL cannot be used now. Nothing was changed."""

    advice = "Check that PostgreSQL runs and is reachable at the configured address. Nothing was lost or half done."


class MigrationFailed(AdapterError):
    """The tables could not be brought to this version's shape."""

    advice = "Look at the detail; the database was left as it was before the failing step."


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How the engine's pool behaves; every field can be changed while running."""

    pool_size: int = 10
    max_overflow: int = 10
    pool_timeout_s: float = 3.0
    statement_timeout_ms: int = 5000


def normalise(url: str) -> str:
    """The SQLAlchemy form (``postgresql+psycopg://``) of any PostgreSQL URL."""
    parsed = make_url(url)
    if not parsed.drivername.startswith("postgres"):
        raise ValueError(f"The database URL must be postgresql://…, not {parsed.drivername}://…")
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def connect_args(application_name: str, statement_timeout_ms: int) -> dict[str, Any]:
    """libpq parameters of every connection: short waits, dead peers noticed in seconds."""
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application_name,
        "keepalives": 1,
        "keepalives_idle": 3,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 8000,
        "options": f"-c statement_timeout={statement_timeout_ms} -c idle_in_transaction_session_timeout=60000"
        " -c timezone=UTC",
    }


@contextmanager
def hold_at_most(seconds: float) -> Iterator[None]:
    """Connections taken inside are cut off after ``seconds`` instead of the default."""
    token = _held.set(seconds)
    try:
        yield
    finally:
        _held.reset(token)


class _Watchdog:
    """Shuts the sockets of connections held past their deadline. One thread per Database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[int, tuple[float, weakref.ref[psycopg.Connection[Any]]]] = {}
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def watch(self, connection: psycopg.Connection[Any], seconds: float) -> None:
        with self._lock:
            self._due[id(connection)] = (time.monotonic() + seconds, weakref.ref(connection))
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._run, name="database-watchdog", daemon=True)
                self._thread.start()
            self._wake.set()

    def release(self, connection: psycopg.Connection[Any]) -> None:
        with self._lock:
            self._due.pop(id(connection), None)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._wake.set()
        if thread is not None:
            thread.join(2)

    def _run(self) -> None:
        while not self._stopped:
            now = time.monotonic()
            with self._lock:
                for key in [key for key, (due, _) in self._due.items() if due <= now]:
                    self._cut(self._due.pop(key)[1]())
                waiting = bool(self._due)
                if not waiting:
                    self._wake.clear()
            if waiting:
                time.sleep(0.2)
            else:
                self._wake.wait()

    @staticmethod
    def _cut(connection: psycopg.Connection[Any] | None) -> None:
        if connection is None or connection.closed:
            return
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as sock:
            sock.shutdown(socket.SHUT_RDWR)


class Database:
    """PostgreSQL as Pilothouse uses it. The constructor does no I/O; all threads share one instance."""

    def __init__(
        self, url: SecretStr | str, *, pool: PoolSettings | None = None, application_name: str = "pilothouse"
    ) -> None:
        self._url = normalise(url.get_secret_value() if isinstance(url, SecretStr) else url)
        self._application_name = application_name
        self._watchdog = _Watchdog()
        self._swap = threading.Lock()
        self.pool = pool or PoolSettings()
        self._engine = self._build()

    @property
    def engine(self) -> Engine:
        """The engine in use now; do not keep it, a change of settings replaces it."""
        return self._engine

    @property
    def url(self) -> SecretStr:
        """The address with its password, in SQLAlchemy's form."""
        return SecretStr(self._url)

    @property
    def dsn(self) -> SecretStr:
        """The address as libpq and psycopg take it."""
        return SecretStr(self._url.replace("postgresql+psycopg://", "postgresql://", 1))

    @contextmanager
    def session(self, *, seconds: float | None = None) -> Iterator[Session]:
        """A session in one transaction, committed at the end, rolled back on any error.

        The connection is cut off after ``seconds`` (default: statement timeout + 2 s). Raises
        StoreUnavailable when PostgreSQL cannot be reached, is too slow, or the pool is exhausted.
        """
        with (
            translated(),
            hold_at_most(seconds or self.pool.statement_timeout_ms / 1000 + 2),
            Session(self.engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def reading(self, *, seconds: float | None = None) -> Iterator[Connection]:
        """A connection for questions that need no transaction: each sees what is committed when it is asked.

        Spares the round trips that begin and end one. Cut off, and raises, as ``session``.
        """
        with (
            translated(),
            hold_at_most(seconds or self.pool.statement_timeout_ms / 1000 + 2),
            self.engine.connect() as connection,
        ):
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def reconfigure(
        self,
        *,
        pool_size: int | None = None,
        max_overflow: int | None = None,
        pool_timeout_s: float | None = None,
        statement_timeout_ms: int | None = None,
    ) -> PoolSettings:
        """Use new pool settings from the next session on; sessions under way finish on the old pool."""
        given: dict[str, Any] = {
            "pool_size": pool_size,
            "max_overflow": max_overflow,
            "pool_timeout_s": pool_timeout_s,
            "statement_timeout_ms": statement_timeout_ms,
        }
        with self._swap:
            wanted = replace(self.pool, **{name: value for name, value in given.items() if value is not None})
            if wanted != self.pool:
                self.pool, old = wanted, self._engine
                self._engine = self._build()
                old.dispose()
            return self.pool

    def dedicated(self, application_name: str, *, options: str = "") -> psycopg.Connection[Any]:
        """A connection of its own, outside the pool, in autocommit. Raises StoreUnavailable."""
        args = connect_args(application_name, self.pool.statement_timeout_ms)
        args["options"] += f" {options}"
        with translated():
            return psycopg.connect(self.dsn.get_secret_value(), autocommit=True, **args)

    @contextmanager
    def guarded(self, connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
        """Cut a dedicated connection off when the block takes longer than ``seconds``."""
        self._watchdog.watch(connection, seconds)
        try:
            with translated():
                yield
        finally:
            self._watchdog.release(connection)

    def pool_status(self) -> dict[str, int]:
        """Connections of our pool now: size, checked_out, idle, overflow."""
        pool: Any = self.engine.pool
        return {
            "size": pool.size(),
            "checked_out": pool.checkedout(),
            "idle": pool.checkedin(),
            "overflow": max(pool.overflow(), 0),
        }

    def close(self) -> None:
        """Close every idle connection and end the watchdog."""
        self._engine.dispose()
        self._watchdog.stop()

    def _build(self) -> Engine:
        engine = create_engine(
            self._url,
            pool_size=self.pool.pool_size,
            max_overflow=self.pool.max_overflow,
            pool_timeout=self.pool.pool_timeout_s,
            pool_recycle=1800,
            use_native_hstore=False,
            connect_args=connect_args(self._application_name, self.pool.statement_timeout_ms),
        )
        default = self.pool.statement_timeout_ms / 1000 + 2
        watchdog = self._watchdog

        @event.listens_for(engine, "checkout")
        def _checkout(connection: psycopg.Connection[Any], record: Any, _proxy: Any) -> None:
            # Our own ping instead of pool_pre_ping: under the watchdog, and only after idleness.
            idle = time.monotonic() - record.info.get("returned", float("-inf"))
            if "returned" in record.info and idle > IDLE_BEFORE_PING_S:
                watchdog.watch(connection, CONNECT_TIMEOUT_S)
                try:
                    connection.execute("SELECT 1")
                    connection.rollback()
                except psycopg.Error as error:
                    raise exc.DisconnectionError(str(error)) from error
            watchdog.watch(connection, _held.get() or default)

        @event.listens_for(engine, "checkin")
        def _checkin(connection: psycopg.Connection[Any] | None, record: Any) -> None:
            record.info["returned"] = time.monotonic()
            if connection is not None:
                watchdog.release(connection)

        return engine


def take_turns(session: Session, name: str) -> None:
    """Wait until no other transaction holds ``name``, and hold it until this one ends, in whichever process."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


TURNS_IN_TIME = (
    "SELECT set_config('lock_timeout', %(wait)s, true), pg_advisory_xact_lock(hashtextextended(%(name)s, 0))"
)
"""As ``take_turns``; waiting for this and any other lock of the transaction ends after ``wait``."""


def together(session: Session, *asked: tuple[str, Mapping[str, Any]]) -> list[list[Any]]:
    """The rows of several statements, in psycopg's spelling, in one round trip.

    They run one after the other, each seeing what is committed when it begins, as if asked apart.
    """
    connection: Any = session.connection().connection.driver_connection
    with connection.pipeline():
        cursors = [connection.execute(statement, values) for statement, values in asked]
        return [cursor.fetchall() for cursor in cursors]


@contextmanager
def translated() -> Iterator[None]:
    """Turn PostgreSQL being away, too slow or exhausted into StoreUnavailable; let every other error pass."""
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreUnavailable(
            "Every connection to PostgreSQL is in use.",
            detail=str(error),
            advice="Raise the pool size on the PostgreSQL page, or look for slow statements.",
        ) from error
    except (exc.ProgrammingError, psycopg.ProgrammingError) as error:
        said = error.orig if isinstance(error, exc.ProgrammingError) else error
        if not isinstance(said, psycopg.errors.UndefinedTable):
            raise
        # Between the start and the end of the migration, which waits for PostgreSQL to come.
        raise StoreUnavailable("Pilothouse's tables are not there yet.", detail=str(said)) from error
    except (exc.OperationalError, exc.InterfaceError) as error:
        raise _unavailable(error.orig or error) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise _unavailable(error) from error


def _unavailable(error: BaseException) -> StoreUnavailable:
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return StoreUnavailable("PostgreSQL did not finish a statement in time.", detail=str(error))
    return StoreUnavailable("PostgreSQL cannot be reached.", detail=str(error).strip())


def alembic_config() -> Config:
    """Alembic's configuration, without a connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "models" / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def migrate(url: SecretStr | str, *, revision: str = "head", wait_s: int = 60) -> None:
    """Bring the tables to this version's shape; any number of processes may call it at once.

    Waits up to ``wait_s`` seconds for another process's migration. Raises StoreUnavailable or MigrationFailed.
    """
    plain = normalise(url.get_secret_value() if isinstance(url, SecretStr) else url)
    engine = create_engine(
        plain, use_native_hstore=False, connect_args=connect_args("pilothouse-migrate", 0), pool_size=1, max_overflow=0
    )
    try:
        with translated(), engine.connect() as connection:
            connection.execute(text(f"SET lock_timeout = '{int(wait_s)}s'"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            try:
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
                connection.commit()
            except exc.ProgrammingError as error:
                connection.rollback()
                raise MigrationFailed("The database could not be migrated.", detail=str(error.orig)) from error
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
                connection.commit()
    finally:
        engine.dispose()
