"""Connections for watching a PostgreSQL server: few, read-only, and never longer than the deadline."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from pydantic import SecretStr

from adapters.core.deadline import remaining
from adapters.core.errors import AdapterError, Denied, Rejected, TimedOut, Unexpected, Unreachable
from adapters.core.redact import redact

APPLICATION_NAME = "pilothouse-watch"
MAX_CONNECTIONS = 4
_PREPARE = (
    "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', '500', false),"
    " set_config('default_transaction_read_only', 'on', false), set_config('application_name', %s, false),"
    " set_config('TimeZone', 'UTC', false)"
)


class BoundedConnection(psycopg.Connection[DictRow]):
    """A connection whose every wait ends with the present deadline.

    psycopg drives libpq's non-blocking interface and measures its timeout over the whole
    operation, so a server that drips one byte a second does not outlive it.
    """

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Any:
        # connect_timeout counts whole seconds and starts again for every address of a host name;
        # asking here, each time the wait wakes up, keeps all attempts together within the deadline.
        end = time.monotonic() + remaining()
        gen = super()._connect_gen(conninfo)
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if time.monotonic() > end:
                    raise TimedOut("PostgreSQL did not answer in time.", detail="total deadline exceeded")
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value
        finally:
            gen.close()  # gives the half-made connection's socket back now, not at the next collection

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        left = remaining()
        return super().wait(gen, interval, left if timeout is None else min(timeout, left))


class Pool:
    """At most four connections to one server, opened on use and kept while they work."""

    def __init__(self, dsn: SecretStr, *, statement_timeout_ms: int = 2500) -> None:
        self._dsn = dsn
        self._timeout_ms = statement_timeout_ms
        self._idle: deque[BoundedConnection] = deque()
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._closed = False

    def rows(self, query: str, params: Sequence[Any] | dict[str, Any] | None = None) -> list[DictRow]:
        """All rows of a bounded query. Raises AdapterError."""
        with self.connection() as connection:
            return connection.execute(query.encode(), params).fetchall()

    def row(self, query: str, params: Sequence[Any] | dict[str, Any] | None = None) -> DictRow:
        """The one row of a query. Raises AdapterError, Unexpected when there is none."""
        found = self.rows(query, params)
        if not found:
            raise Unexpected("PostgreSQL answered without a row.")
        return found[0]

    @contextmanager
    def connection(self) -> Iterator[BoundedConnection]:
        """A connection for the length of the block; psycopg's errors leave it as AdapterError."""
        if not self._slots.acquire(timeout=remaining()):
            raise TimedOut("All of the console's connections to PostgreSQL are busy.", detail="pool exhausted")
        connection: BoundedConnection | None = None
        try:
            connection, reused = self._take()
            try:
                if reused and not _alive(connection):
                    connection.close()
                    connection = self._open()
                yield connection
            except (psycopg.Error, TimedOut, UnicodeDecodeError, OSError) as error:
                if not _reusable(connection, error):
                    _abandon(connection)
                    connection = None
                raise self._translate(error) from error
        finally:
            if connection is not None:
                if self._closed:
                    _abandon(connection)
                else:
                    self._idle.append(connection)
            self._slots.release()

    def close(self) -> None:
        """Close idle connections; busy ones close when they come back."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                _abandon(self._idle.pop())

    def _take(self) -> tuple[BoundedConnection, bool]:
        with suppress(IndexError):
            return self._idle.pop(), True
        return self._open(), False

    def _open(self) -> BoundedConnection:
        try:
            connection = BoundedConnection.connect(
                self._dsn.get_secret_value(),
                autocommit=True,
                row_factory=dict_row,
                # Prepared statements break behind PgBouncer in transaction mode, and save nothing here.
                prepare_threshold=None,
                connect_timeout=10,
            )
        except (psycopg.Error, TimedOut, UnicodeDecodeError, OSError) as error:
            raise self._translate(error) from error
        try:
            connection.execute(_PREPARE, (str(self._timeout_ms), APPLICATION_NAME))
        except (psycopg.Error, TimedOut, UnicodeDecodeError, OSError) as error:
            _abandon(connection)
            raise self._translate(error) from error
        return connection

    def _translate(self, error: Exception) -> AdapterError:
        if isinstance(error, AdapterError):
            return error
        with suppress(psycopg.Error):
            password = conninfo_to_dict(self._dsn.get_secret_value()).get("password")
            return translate(error, redact(error, self._dsn, str(password) if password else None))
        return translate(error, redact(error, self._dsn))


def _alive(connection: BoundedConnection) -> bool:
    """Whether a kept connection still answers; asking costs one round trip."""
    if connection.closed:
        return False
    try:
        connection.execute("SELECT 1")
    except (pg.OperationalError, pg.InterfaceError):
        return False
    return True


def _reusable(connection: BoundedConnection | None, error: Exception) -> bool:
    # A refused statement (no permission, no such table) leaves the connection sound; a
    # time-out leaves an unread answer on the wire.
    return (
        connection is not None
        and not connection.closed
        and isinstance(error, psycopg.Error)
        and error.sqlstate is not None
        and connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
    )


def _abandon(connection: BoundedConnection | None) -> None:
    # finish() closes the socket without the goodbye that a stuck server would make us wait for.
    if connection is not None:
        connection.pgconn.finish()


_REASONS: tuple[tuple[tuple[str, ...], type[AdapterError], str], ...] = (
    (("password authentication failed", "no pg_hba.conf entry", "authentication failed", "no password supplied"),
     Denied, "PostgreSQL refused the console's user name or password."),
    (("role \"",), Denied, "PostgreSQL does not know the console's user."),
    (("too many clients", "remaining connection slots", "too many connections"),
     Rejected, "PostgreSQL has no connection left to give."),
    (("database \"",), Rejected, "PostgreSQL has no database of that name."),
    (("starting up", "shutting down", "in recovery mode"), Unreachable,
     "PostgreSQL is starting or stopping and takes no connections."),
    (("timeout expired", "timed out"), TimedOut, "PostgreSQL did not answer in time."),
    (("invalid response", "expected authentication", "lost synchronization", "unexpected message",
      "unexpected response", "protocol version", "unsupported frontend", "message contents do not agree",
      "invalid message length", "received invalid", "received unencrypted"),
     Unexpected, "What answers at this address does not speak PostgreSQL."),
)  # fmt: skip


def translate(error: Exception, detail: str) -> AdapterError:
    """The AdapterError a psycopg error stands for; ``detail`` is its text without secrets."""
    if isinstance(error, UnicodeDecodeError):
        return Unexpected("PostgreSQL answered with unreadable text.", detail=detail)
    if isinstance(error, pg._WaitTimeout | pg.ConnectionTimeout):
        return TimedOut("PostgreSQL did not answer in time.", detail=detail or "total deadline exceeded")
    if isinstance(error, pg.QueryCanceled | pg.LockNotAvailable):
        return TimedOut("PostgreSQL took longer over a question than it may.", detail=detail)
    if isinstance(error, pg.InsufficientPrivilege | pg.InvalidAuthorizationSpecification):
        return Denied("The console's user may not read this in PostgreSQL.", detail=detail, advice=GRANT)
    if isinstance(error, psycopg.Error) and error.sqlstate and not isinstance(error, pg.OperationalError):
        return Rejected("PostgreSQL refused the question.", detail=detail)
    text = detail.lower()
    for needles, kind, sentence in _REASONS:
        if any(needle in text for needle in needles):
            return kind(sentence, detail=detail)
    if isinstance(error, pg.OperationalError | OSError):
        return Unreachable("No connection to PostgreSQL.", detail=detail)
    return Unexpected("PostgreSQL answered something unexpected.", detail=detail)


GRANT = "Give the console's user the role pg_monitor: GRANT pg_monitor TO <user>."
