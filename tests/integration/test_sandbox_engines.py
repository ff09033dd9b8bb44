"""The engines start, serve, keep what they were told, and stop without leaving anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from sandbox.engines import Postgres, Temporal, Valkey
from sandbox.processes import SandboxError, answers, free_port
from tests.support import ROOT, poll, start_engine

pytestmark = pytest.mark.engines


def test_postgres_keeps_data_over_a_crash_and_wants_the_password(tmp_path: Path) -> None:
    engine = start_engine(lambda port: Postgres(tmp_path / f"pg-{port}", port, password="a-secret"))
    with psycopg.connect(engine.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (42)")
        (version,) = connection.execute("SHOW server_version_num").fetchone() or ("",)
        assert int(version) // 10000 == 18
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(engine.url.replace("a-secret", "wrong"))
    engine.kill()
    assert not answers(engine.port)
    engine.start()
    with psycopg.connect(engine.url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(42,)]
    engine.stop()
    assert not answers(engine.port)


def test_postgres_says_what_is_wrong_with_a_broken_folder(tmp_path: Path) -> None:
    folder = tmp_path / "pg"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("15\n")
    with pytest.raises(SandboxError, match="made by PostgreSQL 15, not 18"):
        Postgres(folder, free_port()).start()
    (folder / "PG_VERSION").write_text("18\n")
    with pytest.raises(SandboxError, match="damaged"):
        Postgres(folder, free_port()).start()
    (folder / "PG_VERSION").unlink()
    (folder / "other").write_text("")
    with pytest.raises(SandboxError, match="damaged"):
        Postgres(folder, free_port()).start()


def test_valkey_keeps_data_and_wants_the_password(tmp_path: Path) -> None:
    engine = start_engine(lambda port: Valkey(tmp_path / f"valkey-{port}", port, password="a-secret"))
    with redis.Redis.from_url(engine.url) as client:
        client.set("kept", "1")
    with pytest.raises(redis.exceptions.AuthenticationError), redis.Redis(port=engine.port) as client:
        client.ping()
    engine.stop()
    engine.start()
    with redis.Redis.from_url(engine.url) as client:
        assert client.get("kept") == b"1"
    engine.stop()
    assert not answers(engine.port)


def test_temporal_serves_its_namespace(temporal: Temporal) -> None:
    assert temporal.ready()
    assert not Temporal(temporal.folder, free_port()).ready()


def test_engines_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.support import start_engine\n"
        "from sandbox.engines import Postgres, Temporal, Valkey\n"
        "folder = Path(sys.argv[1])\n"
        "kinds = Postgres, Valkey, Temporal\n"
        "engines = [start_engine(lambda p, k=k: k(folder / f'{k.__name__}-{p}', p)) for k in kinds]\n"
        "print(*[e.port for e in engines], flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}
    )
    assert child.stdout is not None
    ports = [int(port) for port in child.stdout.readline().split()]
    assert len(ports) == 3
    assert all(answers(port) for port in ports)
    child.kill()
    child.wait()
    child.stdout.close()
    poll(lambda: not any(answers(port) for port in ports), 5, what="all engines ended")
