"""Many editors at once, at pages and over the API: nobody's change is lost, the record complete and unbroken."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from api import create_api
from limiter import Limiter, Scope
from operations import apitokens, audit, ratelimit_wire, ratelimits, sessions
from operations.access import SYSTEM, Actor
from operations.change import Conflict
from operations.platform import Platform, install
from operations.ratelimits import Edit, Target
from tests.pages.driver import opened, texts
from tests.support import poll
from tests.support_operations import make

pytestmark = pytest.mark.engines

CHANGES = 1000
AT_PAGES, BY_PAGE = 4, 8
"""Editors who type into the grid of a page drawn for them, and how often each; the others share the rest."""
AT_ONCE, BY_API = 8, 8
"""Editors who call what a page calls, and editors over HTTP."""
EDITORS = AT_PAGES + AT_ONCE + BY_API
KEYS = ("api_calls", "exports", "file_uploads", "imports", "llm_tokens", "memory_queries", "searches", "voice_minutes")
TARGETS = tuple(
    target
    for key in KEYS
    for target in (Target(key), Target(key, Scope.TIER, "team"), Target(key, Scope.TENANT, "acme"))
)


@pytest.fixture
def console(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = make(database_url, redis_url, monkeypatch, tmp_path)
    with platform.database.session() as session:
        session.execute(text("INSERT INTO tenants (id, name, tier_code) VALUES ('acme', 'Acme', 'team')"))
    ratelimits.save(platform, SYSTEM, [Edit(target, {"limit": 100}) for target in TARGETS], reason="a start")
    ratelimit_wire.reconcile(platform)
    install(platform)
    yield platform
    install(None)
    platform.close()


class Editor:
    """Raises a limit by one, again and again, from what was read: a lost update would show in the sum."""

    targets = TARGETS

    def __init__(self, number: int, platform: Platform, each: int) -> None:
        self.platform, self.each = platform, each
        self.name = f"Editor {number}"
        self.actor = Actor(f"editor-{number}", self.name, frozenset({"infra_admin"}))
        self.chance = random.Random(number)
        self.made: list[tuple[Target, int]] = []
        """What was raised, and the limit it was raised to."""
        self.conflicts = 0

    def work(self, start: threading.Barrier) -> None:
        start.wait(30)
        while len(self.made) < self.each:
            target = self.chance.choice(self.targets)
            done = self.change(target)
            if done is None:
                self.conflicts += 1
            else:
                self.made.append((target, done))

    def change(self, target: Target) -> int | None:
        """As the page does: the version seen goes along. The limit made, None for a conflict."""
        seen = ratelimits.get(self.platform, self.actor, target)
        edit = Edit(target, {"limit": (seen.limit or 0) + 1}, seen.version)
        try:
            saved = ratelimits.save(self.platform, self.actor, [edit], reason="one more")
        except Conflict as conflict:
            assert conflict.current["version"] > seen.version
            return None
        after = saved.done[0].after
        assert after is not None
        return after.limit


class ApiEditor(Editor):
    """Over HTTP, with If-Match."""

    client: TestClient

    def change(self, target: Target) -> int | None:
        path = f"/infrastructure/ratelimits/{target.key}"
        if target.scope is not Scope.GLOBAL:
            path += f"/{target.scope.lower()}s/{target.reference}"
        seen = self.client.get(path)
        assert seen.status_code == 200, seen.text
        body = {"limit": seen.json()["limit"] + 1, "reason": "one more"}
        done = self.client.put(path, json=body, headers={"If-Match": seen.headers["etag"]})
        if done.status_code == 412:
            return None
        assert done.status_code == 200, done.text
        return int(done.json()["limit"])


class PageEditor(Editor):
    """In the grid of a page drawn for the editor: type, Review, Save; what somebody else changed is let be."""

    one_at_a_time = threading.Lock()
    """The test driver draws pages by replacing what belongs to the whole process."""
    app: AppTest
    targets = tuple(target for target in TARGETS if target.scope is Scope.GLOBAL)

    def sign_in(self) -> None:
        claims = {
            "sub": self.actor.id, "name": self.name, "email": "editor@example.test",
            "realm_access": {"roles": ["infra_admin"]}, "exp": time.time() + 3600,
        }  # fmt: skip
        self.app = opened("ratelimits", sessions.create(self.platform, claims, {}))
        assert not self.app.exception

    def change(self, target: Target) -> int | None:
        with self.one_at_a_time:
            self.app.run()
            fresh = [button for button in self.app.button if button.label == "Show theirs"]
            if fresh:
                fresh[0].click().run()
            draft = self.app.session_state["_rl_draft_policies"]
            place = next(place for place, row in enumerate(draft.rows) if row.target == target)
            wanted = (draft.rows[place].limit or 0) + 1
            self.app.session_state[f"rl_policies_{draft.generation}"] = {
                "edited_rows": {place: {"limit": f"{wanted:,}"}}, "added_rows": [], "deleted_rows": [],
            }  # fmt: skip
            if not self.press("Review changes"):
                return None
            assert f"<b>{wanted:,}</b>" in texts(self.app)
        with self.one_at_a_time:
            next(box for box in self.app.text_input if box.label == "Reason").set_value("one more")
            return wanted if self.press("Save") else None

    def press(self, label: str) -> bool:
        """Press a button; False, with the typing thrown away, where somebody else was faster."""
        next(button for button in self.app.button if button.label.startswith(label)).click()
        self.app.run()
        assert not self.app.exception, self.app.exception[0].value
        if "Somebody else changed this" not in texts(self.app):
            return True
        next(button for button in self.app.button if button.label == "Discard").click()
        self.app.run()
        return False


@pytest.mark.timeout(180)
def test_twenty_editors_make_a_thousand_changes_and_none_is_lost(console: Platform) -> None:
    before = {target: ratelimits.get(console, SYSTEM, target) for target in TARGETS}
    assert {one.limit for one in before.values()} == {100}
    each, left = divmod(CHANGES - AT_PAGES * BY_PAGE, AT_ONCE + BY_API)
    editors: list[Editor] = []
    for number in range(EDITORS):
        kind = PageEditor if number < AT_PAGES else ApiEditor if number < AT_PAGES + BY_API else Editor
        share = BY_PAGE if kind is PageEditor else each + (number == EDITORS - 1) * left
        editors.append(kind(number, console, share))
    with ExitStack() as stack:
        api = create_api(console)
        for editor in editors:
            if isinstance(editor, ApiEditor):
                token = apitokens.create(console, SYSTEM, editor.name, frozenset({"infra_admin"}))
                client = TestClient(api, headers={"Authorization": f"Bearer {token}"})
                editor.client = stack.enter_context(client)
            elif isinstance(editor, PageEditor):
                editor.sign_in()
        with console.database.session() as session:
            versions = dict(session.execute(text("SELECT key, version FROM rate_limit_keys")).all())
            last = session.scalar(text("SELECT max(id) FROM audit"))
        start = threading.Barrier(EDITORS)
        limiter = stack.enter_context(Limiter(console.redis, timeout=2.0))
        assert limiter.wait_ready()
        with ThreadPoolExecutor(EDITORS) as pool:
            for job in [pool.submit(editor.work, start) for editor in editors]:
                job.result(170)
        made = [change for editor in editors for change in editor.made]
        assert len(made) == CHANGES
        assert sum(editor.conflicts for editor in editors) > 0  # they did get into each other's way

        with console.database.session() as session:
            rows = session.execute(
                text(
                    "SELECT subject, actor_name, (after->>'version')::bigint, (after->>'limit')::bigint FROM audit"
                    " WHERE id > :last"
                ),
                {"last": last},
            ).all()
            waiting = session.scalar(text("SELECT count(*) FROM outbox WHERE delivered_at IS NULL"))
        recorded = Counter((row[0], row[3]) for row in rows)
        assert recorded == Counter((target.subject, limit) for target, limit in made)
        for editor in editors:
            mine = Counter((row[0], row[3]) for row in rows if row[1] == editor.name)
            assert mine == Counter((target.subject, limit) for target, limit in editor.made), editor.name
        for target in TARGETS:
            limits = [limit for _, limit in sorted((row[2], row[3]) for row in rows if row[0] == target.subject)]
            assert limits == list(range(101, 101 + len(limits)))
            assert ratelimits.get(console, SYSTEM, target).limit == 100 + len(limits)
        for key in KEYS:
            mine = sorted(row[2] for row in rows if row[0].split("/")[1] == key)
            assert mine == list(range(versions[key] + 1, versions[key] + 1 + len(mine)))
        assert audit.verify_chain(console).ok
        assert waiting == 0
        assert ratelimit_wire.reconcile(console, repair=False).total == 0
        acme = ratelimits.get(console, SYSTEM, TARGETS[2]).limit
        poll(lambda: limiter.peek("api_calls", "acme").limit == acme)
