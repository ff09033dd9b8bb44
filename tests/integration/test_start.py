"""How the console and the worker start: with wrong settings not at all, without their PostgreSQL all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest
from pydantic import ValidationError

from operations.settings import Settings, SettingsError, load
from sandbox.engines import Postgres
from sandbox.inprocess import Services
from tests.support import poll
from tests.support_operations import KEY
from tests.support_server import Server, get, refused

pytestmark = pytest.mark.engines
GOOD = f"""
database_url = "postgresql://someone:canary-secret@127.0.0.1:1/none"
redis_url = "redis://:canary-secret@127.0.0.1:1/0"
encryption_keys = "{KEY}"
oidc_issuer = "http://127.0.0.1:1/realms/none"
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Make a text the settings file in use."""

    def made(text: str) -> Path:
        path = tmp_path / "pilothouse.toml"
        path.write_text(text)
        monkeypatch.setenv("PILOTHOUSE_CONFIG", str(path))
        return path

    return made


def test_good_settings_are_taken(write: Write) -> None:
    write(GOOD)
    assert load().public_url == "http://127.0.0.1:8501"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("redis_url", "#"), "PILOTHOUSE_REDIS_URL: is not set. It is: Redis or Valkey"),
        (lambda text: text.replace(KEY, "canary-secret"), "PILOTHOUSE_ENCRYPTION_KEYS: Fernet key must be 32"),
        (lambda text: text.replace("postgresql:", "mysql:"), "PILOTHOUSE_DATABASE_URL: must begin with postgresql://"),
        (lambda text: text.replace("redis:", "http:"), "PILOTHOUSE_REDIS_URL: must begin with redis://"),
        (lambda text: text.replace("http:", "ftp:"), "PILOTHOUSE_OIDC_ISSUER: must begin with http:// or https://"),
        (lambda text: text + "session_hours = -1", "PILOTHOUSE_SESSION_HOURS: Input should be greater than 0"),
        (lambda text: text + "sesion_hours = 1", "is no setting; session_hours is."),
        (lambda text: text + "[services.qdrnt]", "[services.qdrnt] in"),
        (lambda text: text + "x = [", "is not TOML"),
    ],
)
def test_wrong_settings_are_named_in_one_line_without_their_value(
    write: Write, change: Callable[[str], str], said: str
) -> None:
    write(change(GOOD))
    with pytest.raises(SettingsError) as caught:
        load()
    text = str(caught.value)
    assert text.startswith("Pilothouse cannot start. ")
    assert said in text
    assert "canary-secret" not in text
    assert KEY not in text
    assert "\n" not in text


def test_a_file_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PILOTHOUSE_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match="there is no such file"):
        load()


def test_the_environment_wins_over_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(GOOD)
    monkeypatch.setenv("PILOTHOUSE_SESSION_HOURS", "3")
    assert load().session_hours == 3
    monkeypatch.setenv("PILOTHOUSE_SESSION_HOURS", "many")
    with pytest.raises(ValidationError):
        Settings()


def test_console_and_worker_refuse_wrong_settings_with_exit_code_1(write: Write, tmp_path: Path) -> None:
    write(GOOD.replace("oidc_issuer", "#"))
    for name, command in (("console", ("uvicorn", "app:app", "--port", "1")), ("worker", ("workflows",))):
        said = refused(tmp_path / name, *command)
        assert said.startswith("Pilothouse cannot start. PILOTHOUSE_OIDC_ISSUER: is not set."), said


def test_the_console_starts_without_postgresql_says_so_and_migrates_it_when_it_comes(
    platform_settings: Settings, standins: Services, engine_proxies: dict[str, int], empty_database_url: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    port = engine_proxies["postgresql"]
    through = f"postgresql://postgres@127.0.0.1:{port}/{empty_database_url.rsplit('/', 1)[1]}"
    standins.fault("postgresql", "refuse")
    server = Server(tmp_path, PILOTHOUSE_DATABASE_URL=through, PILOTHOUSE_POSTGRESQL_URL=through)
    try:
        assert httpx.get(f"{server.url}/api/v2/health/ready").status_code == 503
        assert httpx.get(f"{server.url}/sign-in").status_code == 200
        assert "the console starts without its PostgreSQL: PostgreSQL cannot be reached." in server.text
        standins.fault("postgresql", None)
        poll(lambda: get(f"{server.url}/api/v2/health/ready").status_code == 200, 20, what="readiness")
        # Every loop has found its tables; the past is written from the first round on.
        with psycopg.connect(empty_database_url, autocommit=True) as connection:
            poll(lambda: connection.execute("SELECT count(*) FROM health_samples").fetchone() != (0,), 30)
    finally:
        server.stop()
    assert "Traceback" not in server.text.split("this process samples now")[-1]


def test_a_fresh_database_is_migrated_by_the_start(
    platform_settings: Settings, postgres: Postgres, empty_database_url: str, tmp_path: Path
) -> None:
    server = Server(tmp_path, PILOTHOUSE_DATABASE_URL=empty_database_url)
    try:
        with psycopg.connect(empty_database_url) as connection:
            assert connection.execute("SELECT count(*) FROM tenants").fetchone() == (0,)
        assert httpx.get(f"{server.url}/api/v2/health/ready").status_code == 200
    finally:
        server.stop()
    assert "Traceback" not in server.text
