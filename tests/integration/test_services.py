"""Configuration: where a value comes from, versions, secrets at rest, other processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from operations import audit, change, services
from operations.access import SYSTEM, Actor, Forbidden
from operations.platform import Platform
from tests import support
from tests import support_operations as own

pytestmark = pytest.mark.engines
SECRET = "canary-7d1f-secret"


@pytest.fixture
def store(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = own.make(database_url, redis_url, monkeypatch, tmp_path)
    yield platform
    platform.close()


def field(platform: Platform, slug: str, name: str) -> services.FieldView:
    return next(f for f in services.describe(platform, SYSTEM, slug).fields if f.name == name)


def test_environment_over_file_over_console_over_default(
    store: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert field(store, "smtp", "host").source == "default"
    services.change(store, SYSTEM, "smtp", 0, {"host": "console.example", "port": "2525"}, "r")
    assert (field(store, "smtp", "host").value, field(store, "smtp", "host").source) == ("console.example", "console")
    assert store.adapters["smtp"].config.port == 2525
    (tmp_path / "pilothouse.toml").write_text('[services.smtp]\nhost = "file.example"\n')
    assert (field(store, "smtp", "host").value, field(store, "smtp", "host").source) == ("file.example", "file")
    monkeypatch.setenv("PILOTHOUSE_SMTP_HOST", "env.example")
    found = field(store, "smtp", "host")
    assert (found.value, found.source, found.editable) == ("env.example", "environment", False)
    with pytest.raises(change.Invalid, match="environment"):
        services.change(store, SYSTEM, "smtp", 1, {"host": "mine"}, "r")


def test_secrets_are_encrypted_masked_and_kept(store: Platform) -> None:
    services.change(store, SYSTEM, "lago", 0, {"url": "http://127.0.0.1:9", "api_key": SECRET}, "r")
    with store.database.session() as session:
        everything = session.execute(
            text("SELECT (SELECT jsonb_agg(s)::text FROM service_configs s) || (SELECT jsonb_agg(a)::text FROM audit a)"
                 " || (SELECT jsonb_agg(o)::text FROM outbox o)")
        ).scalar_one()  # fmt: skip
    assert SECRET not in everything
    view = services.describe(store, SYSTEM, "lago")
    assert SECRET not in own.dumped(view.fields)
    assert SECRET not in own.dumped(audit.entries(store, SYSTEM))
    assert field(store, "lago", "api_key").value == services.MASK
    services.change(store, SYSTEM, "lago", 1, {"api_key": services.MASK, "url": "http://127.0.0.1:8"}, "r")
    assert store.adapters["lago"].config.api_key.get_secret_value() == SECRET
    services.change(store, SYSTEM, "lago", 2, {"api_key": None}, "r")
    assert store.adapters["lago"].config.api_key is None


def test_a_stale_version_is_a_conflict_with_both_values(store: Platform) -> None:
    services.change(store, SYSTEM, "smtp", 0, {"host": "first"}, "r")
    with pytest.raises(change.Conflict) as caught:
        services.change(store, SYSTEM, "smtp", 0, {"host": "second"}, "r")
    assert caught.value.current["host"] == "first" and caught.value.yours["host"] == "second"
    assert field(store, "smtp", "host").value == "first"


def test_every_wrong_field_is_named_with_what_is_allowed(store: Platform) -> None:
    with pytest.raises(change.Invalid) as caught:
        services.change(store, SYSTEM, "postgresql", 0, {"pool_size": 0, "bogus": 1, "max_overflow": "x"}, "r")
    found = {error.field: error.allowed for error in caught.value.errors}
    assert found["pool_size"] == "1 to 200" and {"bogus", "max_overflow"} <= found.keys()
    assert services.describe(store, SYSTEM, "postgresql").version == 0


def test_pool_settings_reach_our_own_engine_live(store: Platform) -> None:
    _ = store.adapters
    services.change(store, SYSTEM, "postgresql", 0, {"pool_size": 3}, "r")
    assert store.database.pool.pool_size == 3
    services.reset(store, SYSTEM, "postgresql", 1, None, "r")
    assert store.database.pool.pool_size == 10


def test_revert_brings_an_earlier_version_back(store: Platform) -> None:
    services.change(store, SYSTEM, "smtp", 0, {"host": "one"}, "r")
    services.change(store, SYSTEM, "smtp", 1, {"host": "two", "port": 99}, "r")
    assert services.revert(store, SYSTEM, "smtp", 2, 1, "back").version == 3
    assert field(store, "smtp", "host").value == "one"
    assert field(store, "smtp", "port").source == "default"
    assert [v["values"]["version"] for v in services.versions(store, SYSTEM, "smtp")] == [3, 2, 1]
    with pytest.raises(change.NotFound):
        services.revert(store, SYSTEM, "smtp", 3, 77, "back")


def test_other_processes_pick_a_change_up(
    store: Platform, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = own.make(database_url, redis_url, monkeypatch, tmp_path)
    watcher = services.Watcher(other)
    try:
        assert other.adapters["smtp"].config.host != "new.example"
        watcher.start()
        services.change(store, SYSTEM, "smtp", 0, {"host": "new.example"}, "r")
        services.describe(other, SYSTEM, "smtp")  # looking must not hide the change from the watcher
        support.poll(lambda: other.adapters["smtp"].config.host == "new.example", 12)
    finally:
        watcher.stop()
        other.close()


def test_only_those_who_may(store: Platform) -> None:
    viewer = Actor("v", "Viewer", frozenset({"ai_viewer"}))
    assert not any(f.editable for f in services.describe(store, viewer, "smtp").fields)
    with pytest.raises(Forbidden):
        services.change(store, viewer, "smtp", 0, {"host": "x"}, "r")
    with pytest.raises(change.NotFound):
        services.describe(store, SYSTEM, "nothing")
