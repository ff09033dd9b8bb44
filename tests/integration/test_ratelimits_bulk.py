"""Changes by the thousand: each in bounded time, whole or not at all, and obeyed by Redis afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

from limiter import Scope
from operations import audit, change, outbox, ratelimit_impact, ratelimit_wire, ratelimit_yaml, ratelimits
from operations.access import SYSTEM, Permission
from operations.change import Conflict, Invalid, NotFound, StoreUnavailable
from operations.platform import Platform
from operations.ratelimits import Edit, Target, Under
from tests.support import poll
from tests.support_operations import make

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

TENANTS = 10_000
SECONDS = 50.0
"""Less than a bulk change may take. An idle machine needs about 5 s for 10,000; the tests share two cores."""
KEY = "api_calls"


@pytest.fixture
def console(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    with platform.database.session(seconds=30) as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code) SELECT 't' || n, 'T ' || n, 'team'"
                 " FROM generate_series(1, :n) n"), {"n": TENANTS},
        )  # fmt: skip
    ratelimit_wire.reconcile(platform)
    yield platform
    platform.close()


@contextmanager
def bounded(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    taken = time.monotonic() - began
    assert taken < SECONDS, f"{what} took {taken:.1f} s"


def target(number: int) -> Target:
    return Target(KEY, Scope.TENANT, f"t{number}")


def counted(platform: Platform, where: str = "true") -> int:
    with platform.database.session() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM rate_limit_policies WHERE {where}")) or 0)


def in_step(platform: Platform) -> bool:
    outbox.deliver(platform, ratelimit_wire.TOPIC, KEY)
    return ratelimit_wire.reconcile(platform, repair=False).total == 0


def fill(platform: Platform, count: int, limit: int = 7) -> None:
    edits = [Edit(target(number), {"limit": limit}, 0) for number in range(1, count + 1)]
    assert len(ratelimits.save(platform, SYSTEM, edits, reason="many").done) == count


def test_ten_thousand_are_set_edited_and_cleared(console: Platform) -> None:
    edits = [Edit(target(number), {"limit": number}, 0) for number in range(1, TENANTS + 1)]
    with bounded("the impact of a bulk set"):
        found = ratelimit_impact.impact(console, SYSTEM, edits)
    assert found[0].tenants == TENANTS - 1, "one gets what its tier gave it before"
    with bounded("a bulk set"):
        saved = ratelimits.save(console, SYSTEM, edits, reason="many")
    assert [done.after.limit for done in saved.done if done.after] == list(range(1, TENANTS + 1))
    versions = [done.after.version for done in saved.done if done.after]
    assert versions == sorted(set(versions)), "each policy has a version of its own"
    poll(lambda: in_step(console), 30)
    with bounded("reading what is to be edited"):
        stored = ratelimit_impact.present(console, SYSTEM, [edit.target for edit in edits])
    chosen = [Edit(p.target, {"policy": "SOFT"}, p.version) for p in stored.values() if p.limit and p.limit <= 3000]
    with bounded("an edit of 3,000 chosen rows"):
        ratelimits.save(console, SYSTEM, chosen, reason="softer")
    assert counted(console, "scope = 'TENANT' AND policy = 'SOFT' AND limit_value <= 3000") == 3000
    with bounded("a bulk clear"):
        ratelimits.save(console, SYSTEM, [Edit(edit.target, None) for edit in edits], reason="enough")
    assert counted(console, "scope = 'TENANT'") == 0
    poll(lambda: in_step(console), 30)
    with console.database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM audit WHERE reason IN ('many', 'softer', 'enough')")) == 23_000
    assert audit.verify_chain(console).ok


def test_a_key_goes_with_five_thousand_overrides_and_comes_back(console: Platform) -> None:
    fill(console, 5000)
    seen = ratelimits.under(console, SYSTEM, [KEY])[KEY]
    assert seen.count == 5000 + counted(console, f"key = '{KEY}' AND scope = 'TIER'")
    everyone = ratelimits.get(console, SYSTEM, Target(KEY))
    ratelimits.save(console, SYSTEM, [Edit(target(1), {"limit": 8})], reason="meanwhile")
    with pytest.raises(Conflict):
        ratelimits.save(console, SYSTEM, [Edit(Target(KEY), None, everyone.version, seen)], reason="gone")
    seen = ratelimits.under(console, SYSTEM, [KEY])[KEY]
    with bounded("deleting the key"):
        saved = ratelimits.save(console, SYSTEM, [Edit(Target(KEY), None, everyone.version, seen)], reason="gone")
    assert len(saved.done) == 1 + seen.count
    assert counted(console, f"key = '{KEY}'") == 0
    poll(lambda: in_step(console), 30)
    assert ratelimits.under(console, SYSTEM, [KEY]) == {KEY: Under()}


def test_an_import_of_five_thousand_is_applied_or_refused_as_a_whole(console: Platform) -> None:
    fill(console, 5000)
    document = yaml.safe_load(ratelimit_yaml.export_yaml(console, SYSTEM))
    for values in document["ratelimits"][KEY]["tenants"].values():
        values["limit"] = 9
    source = yaml.safe_dump(document)
    with bounded("the preview"):
        steps, edits = ratelimit_yaml.preview_yaml(console, SYSTEM, source)
    assert len(steps) == 5000
    ratelimits.save(console, SYSTEM, [Edit(target(4321), {"limit": 1})], reason="meanwhile")
    before = ratelimit_yaml.export_yaml(console, SYSTEM)
    with bounded("a refused import"), pytest.raises(Conflict):
        ratelimit_yaml.import_yaml(console, SYSTEM, edits, reason="part-way")
    document["ratelimits"][KEY]["tenants"]["nobody"] = {"limit": 1}
    _, wrong = ratelimit_yaml.preview_yaml(console, SYSTEM, yaml.safe_dump(document))
    with pytest.raises(NotFound, match="nobody"):
        ratelimit_yaml.import_yaml(console, SYSTEM, wrong, reason="part-way")
    assert ratelimit_yaml.export_yaml(console, SYSTEM) == before, "as it was"
    _, edits = ratelimit_yaml.preview_yaml(console, SYSTEM, source)
    with bounded("an import"):
        ratelimit_yaml.import_yaml(console, SYSTEM, edits, reason="whole")
    assert counted(console, "scope = 'TENANT' AND limit_value = 9") == 5000
    poll(lambda: in_step(console), 30)


def test_edits_of_one_save_are_done_in_their_order(console: Platform) -> None:
    key, mine = Target("exports"), Target("exports", Scope.TENANT, "t1")
    edits = [Edit(key, {"limit": 5}, 0), Edit(mine, {"limit": 3}, 0), Edit(mine, {"policy": "SOFT"}), Edit(mine, None),
             Edit(mine, {"limit": 4}, 0)]  # fmt: skip
    saved = ratelimits.save(console, SYSTEM, edits, reason="in turn")
    assert [(done.before is None, done.after is None) for done in saved.done] == [
        (True, False), (True, False), (False, False), (False, True), (True, False),
    ]  # fmt: skip
    assert ratelimits.get(console, SYSTEM, mine).policy is None
    ratelimits.save(console, SYSTEM, [Edit(key, None), Edit(key, {"limit": 6}, 0)], reason="anew")
    assert (counted(console, "key = 'exports'"), ratelimits.get(console, SYSTEM, key).limit) == (1, 6)
    assert ratelimit_wire.reconcile(console, repair=False).total == 0
    with pytest.raises(Invalid, match="no limit for everyone yet"):
        ratelimits.save(console, SYSTEM, [Edit(Target("other", Scope.TENANT, "t1"), {"limit": 4})], reason="alone")


def test_a_change_that_takes_too_long_says_so(console: Platform) -> None:
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with console.database.session(seconds=30) as session:
            session.execute(text("SELECT * FROM audit_head FOR UPDATE"))
            holding.set()
            done.wait(20)

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert holding.wait(10)
        with (
            pytest.raises(StoreUnavailable, match="took longer than 1 s and was stopped"),
            change.door(console, SYSTEM, Permission.RATELIMIT_EDIT, action="a", subject="s", seconds=1.0) as door,
        ):
            door.audit(None, {"a": 1})
    finally:
        done.set()
        other.join()
