"""The Backups page: what counts, what is late, who may make one now."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from adapters.core import utcnow
from operations import backup_restore, backups
from operations.platform import Platform
from tests.pages.driver import opened, signed_in, texts

pytestmark = pytest.mark.engines


def _backup(platform: Platform, ident: str, **values: Any) -> None:
    backups._note(platform, ident, **{"bucket": "pilothouse-backups", **values})


def test_it_says_what_counts_and_what_failed(platform: Platform) -> None:
    sid = signed_in(platform, "platform_admin")
    assert "No backup counts yet" in texts(opened("backups", sid))
    now = utcnow()
    _backup(platform, "a", status="failed", error="No connection to the storage.")
    _backup(platform, "b", status="proved", proved_at=now, size_bytes=3 << 20, tables={"tenants": 1200, "tiers": 34})
    drawn = texts(opened("backups", sid))
    for words in ("found equal", "1,234", "No connection to the storage.", "proved", "failed"):
        assert words in drawn, words
    _backup(platform, "b", proved_at=now - timedelta(days=3))
    assert "There should be one a day" in texts(opened("backups", sid))


def test_a_newer_one_that_failed_is_said_beside_the_last_that_counts(platform: Platform) -> None:
    sid = signed_in(platform, "platform_admin")
    now = utcnow()
    _backup(
        platform, "good", status="proved", started_at=now - timedelta(hours=9), proved_at=now - timedelta(hours=8),
        size_bytes=3 << 20, tables={"tenants": 1},
    )  # fmt: skip
    app = opened("backups", sid)
    assert f"{now - timedelta(hours=9):%Y-%m-%d %H:%M}" in app.success[0].value and not app.warning
    _backup(platform, "bad", status="failed", started_at=now - timedelta(hours=1), error="The storage was full.")
    app = opened("backups", sid)
    assert not app.success
    said = app.warning[0].value
    assert f"{now - timedelta(hours=9):%Y-%m-%d %H:%M}" in said and f"{now - timedelta(hours=1):%Y-%m-%d %H:%M}" in said
    assert "The storage was full." in said
    # However many have failed since, the one that counts is found.
    for number in range(70):
        _backup(platform, f"more-{number}", status="failed", started_at=now - timedelta(minutes=number), error="Full.")
    assert "No backup counts" not in texts(opened("backups", sid))


def test_only_who_operates_workflows_may_make_one(platform: Platform) -> None:
    app = opened("backups", signed_in(platform, "analyst"))
    assert not [button for button in app.button if button.label == "Back up now"]
    assert "workflows:operate" in texts(app)
    app = opened("backups", signed_in(platform, "infra_admin"))
    app.text_input(key="backup_reason").set_value("before the upgrade")
    next(button for button in app.button if button.label == "Back up now").click().run()
    assert not app.exception
    # No worker has made the schedule on this server, and the page says so.
    assert "There is no schedule pilothouse-backup" in texts(app)


def test_restoring_by_hand(
    platform: Platform, empty_database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ident = backups.new_id()
    backups.make(platform, ident)
    assert backup_restore.main([]) == 0
    assert f"{ident}  stored" in capsys.readouterr().out
    # The console's own database is lost: the bucket and the keys are enough.
    monkeypatch.setenv("PILOTHOUSE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/gone")
    assert backup_restore.main([]) == 0
    assert f"{ident}  not known to the database" in capsys.readouterr().out
    assert backup_restore.main([ident, empty_database_url]) == 0
    assert "as the manifest says" in capsys.readouterr().out
    assert backup_restore.main(["none", empty_database_url]) == 1
    assert "There is no backup none" in capsys.readouterr().err
    assert backup_restore.main(["only one"]) == 2
