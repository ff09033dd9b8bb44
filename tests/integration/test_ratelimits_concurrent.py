"""Many editors at once: nobody's change is lost, and the record of them is complete and unbroken."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from api import create_api
from limiter import Limiter, Scope
from operations import apitokens, audit, ratelimit_wire, ratelimits
from operations.access import SYSTEM, Actor
from operations.change import Conflict
from operations.platform import Platform
from operations.ratelimits import Edit, Target
from tests.support import poll
from tests.support_operations import make

pytestmark = pytest.mark.engines

EDITORS, EACH = 20, 50
TARGETS = (
    Target("api_calls"),
    Target("api_calls", Scope.TENANT, "acme"),
    Target("file_uploads"),
    Target("llm_tokens", Scope.TIER, "team"),
    Target("llm_tokens", Scope.TIER, "free"),
    Target("voice_minutes"),
    Target("memory_queries"),
    Target("memory_queries", Scope.TIER, "starter"),
)


@pytest.fixture
def console(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    with platform.database.session() as session:
        session.execute(text("INSERT INTO tenants (id, name, tier_code) VALUES ('acme', 'Acme', 'team')"))
    ratelimits.save(platform, SYSTEM, [Edit(TARGETS[1], {"limit": 1})], reason="a start")
    ratelimit_wire.reconcile(platform)
    yield platform
    platform.close()


class Editor:
    """Raises a limit by one, again and again, from what was read: a lost update would show in the sum."""

    def __init__(self, number: int, platform: Platform, client: TestClient | None) -> None:
        self.platform, self.client = platform, client
        self.actor = Actor(f"editor-{number}", f"Editor {number}", frozenset({"infra_admin"}))
        self.chance = random.Random(number)
        self.made: list[tuple[Target, int, int]] = []
        self.conflicts = 0

    def work(self, start: threading.Barrier) -> None:
        start.wait(30)
        while len(self.made) < EACH:
            target = self.chance.choice(TARGETS)
            done = self.by_page(target) if self.client is None else self.by_api(self.client, target)
            if done is None:
                self.conflicts += 1
            else:
                self.made.append((target, *done))

    def by_page(self, target: Target) -> tuple[int, int] | None:
        """As the page does: the version seen goes along. The version and limit made, None for a conflict."""
        seen = ratelimits.get(self.platform, self.actor, target)
        edit = Edit(target, {"limit": (seen.limit or 0) + 1}, seen.version)
        try:
            saved = ratelimits.save(self.platform, self.actor, [edit], reason="one more")
        except Conflict as conflict:
            assert conflict.current["version"] > seen.version
            return None
        after = saved.done[0].after
        assert after is not None
        return after.version, after.limit or 0

    def by_api(self, client: TestClient, target: Target) -> tuple[int, int] | None:
        path = f"/infrastructure/ratelimits/{target.key}"
        if target.scope is not Scope.GLOBAL:
            path += f"/{target.scope.lower()}s/{target.reference}"
        seen = client.get(path)
        assert seen.status_code == 200, seen.text
        body = {"limit": seen.json()["limit"] + 1, "reason": "one more"}
        done = client.put(path, json=body, headers={"If-Match": seen.headers["etag"]})
        if done.status_code == 412:
            return None
        assert done.status_code == 200, done.text
        return done.json()["version"], done.json()["limit"]


@pytest.mark.timeout(180)
def test_twenty_editors_make_a_thousand_changes_and_none_is_lost(console: Platform) -> None:
    before = {target: ratelimits.get(console, SYSTEM, target) for target in TARGETS}
    with console.database.session() as session:
        versions = dict(session.execute(text("SELECT key, version FROM rate_limit_keys")).all())
        last = session.scalar(text("SELECT max(id) FROM audit")) or 0
    api, editors = create_api(console), []
    for number in range(EDITORS):
        client = None
        if number % 2:
            token = apitokens.create(console, SYSTEM, f"editor-{number}", frozenset({"infra_admin"}))
            client = TestClient(api, headers={"Authorization": f"Bearer {token}"})
        editors.append(Editor(number, console, client))
    with console.database.session() as session:
        last = session.scalar(text("SELECT max(id) FROM audit")) or last
    start = threading.Barrier(EDITORS)
    with Limiter(console.redis, timeout=2.0) as limiter, ThreadPoolExecutor(EDITORS) as pool:
        assert limiter.wait_ready()
        for job in [pool.submit(editor.work, start) for editor in editors]:
            job.result(170)
        made = [change for editor in editors for change in editor.made]
        assert len(made) == EDITORS * EACH
        assert sum(editor.conflicts for editor in editors) > 0  # they did get into each other's way

        for key in {target.key for target in TARGETS}:
            mine = sorted(version for target, version, _ in made if target.key == key)
            assert mine == list(range(versions[key] + 1, versions[key] + 1 + len(mine)))
        for target in TARGETS:
            mine = [(version, limit) for of, version, limit in made if of == target]
            start_limit = before[target].limit or 0
            assert [limit for _, limit in sorted(mine)] == list(range(start_limit + 1, start_limit + 1 + len(mine)))
            assert ratelimits.get(console, SYSTEM, target).limit == start_limit + len(mine)

        with console.database.session() as session:
            rows = session.execute(
                text("SELECT subject, actor_name, after->>'version', after->>'limit' FROM audit WHERE id > :last"),
                {"last": last},
            ).all()
            waiting = session.scalar(text("SELECT count(*) FROM outbox WHERE delivered_at IS NULL"))
        assert len(rows) == len(made)
        assert {(row[0], int(row[2]), int(row[3])) for row in rows} == {
            (target.subject, version, limit) for target, version, limit in made
        }
        assert audit.verify_chain(console).ok
        assert waiting == 0
        assert ratelimit_wire.reconcile(console, repair=False).total == 0
        acme = ratelimits.get(console, SYSTEM, TARGETS[1]).limit
        poll(lambda: limiter.peek("api_calls", "acme").limit == acme)
