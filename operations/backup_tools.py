"""pg_dump and pg_restore: found, checked against the server's version, and run with their output as a stream.

The address goes to them by environment, never on the command line, where every user of the machine could read it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from adapters.core import AdapterError
from adapters.core.deadline import remaining
from adapters.core.redact import redact
from operations import stopping
from operations.settings import Settings

READ_BYTES = 1 << 20
KEEPALIVES = "keepalives=1 keepalives_idle=3 keepalives_interval=2 keepalives_count=3"
"""For libpq, which takes the rest from the environment: a server that is lost ends the tool within seconds."""
_VARIABLES = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD",
    "dbname": "PGDATABASE", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY", "target_session_attrs": "PGTARGETSESSIONATTRS",
}  # fmt: skip


class BackupFailed(AdapterError):
    """A backup could not be made, proved or restored. The sentence says why."""

    advice = "Look at the detail; the console's own database is untouched."


def find(settings: Settings, name: str) -> str:
    """The path of a tool. Raises BackupFailed where there is none."""
    folder = settings.postgresql_tools
    found = shutil.which(name, path=folder) if folder else shutil.which(name)
    if found is None:
        where = f"in {folder}" if folder else "on the PATH"
        raise BackupFailed(
            f"There is no {name} {where}.",
            advice="Install PostgreSQL's client tools, or set PILOTHOUSE_POSTGRESQL_TOOLS.",
        )
    return found


def check_version(tool: str, server: int) -> None:
    """Raise BackupFailed for a tool older than the server (``server``: its major version)."""
    try:
        told = subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackupFailed(f"{Path(tool).name} could not be run.", detail=str(error)) from error
    match = re.search(r"(\d+)", told)
    if match is None or int(match.group(1)) < server:
        raise BackupFailed(
            f"{Path(tool).name} is version {match.group(1) if match else 'unknown'}, the server is {server}.",
            advice=f"Install PostgreSQL's client tools {server} or newer, or set PILOTHOUSE_POSTGRESQL_TOOLS.",
        )


def environment(dsn: str) -> dict[str, str]:
    """The variables that make libpq connect to ``dsn``; of this process's own, only what a tool needs to run."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
    parts: Mapping[str, object] = conninfo_to_dict(dsn)
    given = {_VARIABLES[name]: str(value) for name, value in parts.items() if name in _VARIABLES and value is not None}
    return kept | given | {"PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "pilothouse-backup"}


def dump(tool: str, dsn: str, snapshot: str, seconds: float) -> Iterator[bytes]:
    """The database as pg_dump writes it (custom format), at an exported snapshot, chunk by chunk.

    Raises BackupFailed at the end when pg_dump failed, or when it took longer than ``seconds``.
    """
    command = [
        tool, "--format=custom", "--compress=6", "--no-owner", "--no-privileges", "--no-password",
        f"--dbname={KEEPALIVES}", f"--snapshot={snapshot}",
    ]  # fmt: skip
    with _running(command, dsn, seconds, stdout=True) as process:
        assert process.stdout is not None
        while chunk := process.stdout.read(READ_BYTES):
            yield chunk


def restore(tool: str, dsn: str, chunks: Iterable[bytes], seconds: float) -> None:
    """Feed a dump to pg_restore, into the empty database ``dsn`` names. Raises BackupFailed."""
    conninfo = make_conninfo(KEEPALIVES, dbname=str(conninfo_to_dict(dsn).get("dbname") or ""))
    command = [tool, "--exit-on-error", "--no-owner", "--no-privileges", "--no-password", f"--dbname={conninfo}"]
    with _running(command, dsn, seconds, stdin=True) as process:
        assert process.stdin is not None
        try:
            for chunk in chunks:
                process.stdin.write(chunk)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended early: its exit code and its words say why
        process.wait()


@contextmanager
def _running(
    command: list[str], dsn: str, seconds: float, *, stdin: bool = False, stdout: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A tool at work, ended when the block ends, after ``seconds``, with the present deadline, or when told to stop.

    Its failure is raised at the end of the block.
    """
    late = threading.Event()
    seconds = min(seconds, remaining(seconds))
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            command,
            env=environment(dsn),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stderr=words,
        )

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            with stopping.ending(process.kill):
                yield process
                process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)
        if late.is_set():
            raise BackupFailed(f"{Path(command[0]).name} did not end within {seconds:.0f} s.")
        if process.returncode != 0:
            words.seek(0)
            said = words.read(4000).decode("utf-8", "replace").strip()
            raise BackupFailed(f"{Path(command[0]).name} failed.", detail=redact(said)[:1000])


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # the tool is gone, and what was still in the pipe with it
        pipe.close()


def server_major(connection: psycopg.Connection[object]) -> int:
    """The server's major version."""
    return connection.info.server_version // 10000
