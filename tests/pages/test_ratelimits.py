"""The rate limits page: every face for every role in every situation, and edits through the grids."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from adapters.core import utcnow
from limiter import Limiter, Scope, keys
from operations import audit, ratelimit_explain, ratelimit_signals, ratelimit_wire, ratelimits
from operations.access import SYSTEM, Actor
from operations.change import NotFound
from operations.platform import Platform
from operations.ratelimit_usage import BlockedCall
from operations.ratelimits import Edit, Target
from pages.ratelimits import FACES
from pages.ratelimits_parts import live
from sandbox.inprocess import Services
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll

pytestmark = pytest.mark.engines

ROLES = ("platform_admin", "infra_admin", "product_manager", "security_auditor")
READERS = ("product_manager", "security_auditor")
PLATFORM_KEYS = ["api_calls", "file_uploads", "llm_tokens", "memory_queries", "voice_minutes"]


@pytest.fixture
def well(platform: Platform) -> None:
    """Tenants, a past, and Redis with every policy."""
    ratelimit_wire.reconcile(platform)


@pytest.fixture
def down(platform: Platform, standins: Services) -> None:
    """Redis refuses."""
    standins.fault("redis", "refuse")


@pytest.fixture
def empty(platform: Platform) -> None:
    """No limit and no tenant."""
    with platform.database.session() as session:
        session.execute(text("DELETE FROM rate_limit_policies"))


@pytest.fixture
def acme(platform: Platform) -> Platform:
    """One tenant with an agent, one without."""
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code) VALUES ('acme', 'Acme', 'team'), ('zero', 'Zero', 'free')")
        )
        session.execute(text("INSERT INTO agents (id, tenant_id, name) VALUES ('bot', 'acme', 'Bot')"))
    ratelimit_wire.reconcile(platform)
    return platform


@pytest.fixture
def limiter(acme: Platform) -> Iterator[Limiter]:
    with Limiter(acme.redis, timeout=2.0) as made:
        assert made.wait_ready()
        yield made


@pytest.mark.parametrize("situation", ["well", "down", "empty"])
@pytest.mark.parametrize("face", FACES)
def test_every_face_in_every_situation(
    face: str, situation: str, platform: Platform, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(situation)
    for role in ROLES:
        app = opened("ratelimits", signed_in(platform, role), {"face": face})
        assert not app.exception, f"{role}: {app.exception[0].value}"
        assert ("You can read everything here and change nothing" in texts(app)) is (role in READERS)


def admin(platform: Platform, face: str = "Policies", **query: str) -> AppTest:
    return opened("ratelimits", signed_in(platform, "infra_admin"), {"face": face, **query})


def press(app: AppTest, label: str) -> None:
    next(button for button in app.button if button.label.startswith(label)).click()
    app.run()
    assert not app.exception, app.exception[0].value


def edit(app: AppTest, face: str, **delta: Any) -> None:
    """What a browser sends after typing into the grid, and Review."""
    state = {"edited_rows": {}, "added_rows": [], "deleted_rows": [], **delta}
    app.session_state[f"rl_{face}_{app.session_state[f'_rl_draft_{face}'].generation}"] = state
    press(app, "Review changes")


def save(app: AppTest, why: str = "a test") -> None:
    next(box for box in app.text_input if box.label == "Reason").set_value(why)
    press(app, "Save")


def stored(platform: Platform) -> Callable[..., Any]:
    return lambda key="api_calls", scope=Scope.GLOBAL, reference="": ratelimits.get(
        platform, SYSTEM, Target(key, scope, reference)
    )


def test_a_limit_is_edited_reviewed_saved_and_obeyed(limiter: Limiter, acme: Platform) -> None:
    assert limiter.peek("api_calls", "nobody").limit == 1000
    app = admin(acme)
    edit(app, "policies", edited_rows={0: {"limit": "2,000", "window": "30 minutes"}})
    drawn = texts(app)
    for words in ("<del>1,000</del> → <b>2,000</b>", "<del>1 hour</del> → <b>30 minutes</b>", "touches <b>2 tenants"):
        assert words in drawn
    assert stored(acme)().limit == 1000, "a review saves nothing"
    press(app, "Save")
    assert "reason" in texts(app)
    assert stored(acme)().limit == 1000, "nothing without a reason"
    save(app, "summer")
    assert "saved" in texts(app)
    poll(lambda: limiter.peek("api_calls", "nobody").limit == 2000)
    assert limiter.peek("api_calls", "nobody").window_seconds == 1800
    entry = audit.entries(acme, SYSTEM, limit=1)[0]
    assert (entry.reason, entry.before["limit"], entry.after["limit"]) == ("summer", 1000, 2000)


def test_who_is_above_the_new_limit_is_named_before_saving(limiter: Limiter, acme: Platform) -> None:
    limiter.check("api_calls", "acme", cost=50)
    app = admin(acme, "Tiers")
    edit(app, "tiers", edited_rows={2: {"api_calls": "40"}})
    drawn = texts(app)
    assert "touches <b>1 tenant</b>" in drawn
    assert "Above the new limit right now" in drawn
    assert "Acme (50 of 40)" in drawn
    assert "<b>Team</b> gets less api_calls than <b>Starter</b>" in drawn
    save(app)
    poll(lambda: limiter.peek("api_calls", "acme").limit == 40)


def test_tiers_blank_inherits_unlimited_and_nought(limiter: Limiter, acme: Platform) -> None:
    app = admin(acme, "Tiers")
    edit(app, "tiers", edited_rows={2: {"api_calls": "", "llm_tokens": "Unlimited"}, 0: {"file_uploads": "0"}})
    save(app)
    poll(lambda: limiter.peek("api_calls", "acme").limit == 1000)
    assert limiter.peek("api_calls", "acme").source == "global"
    poll(lambda: limiter.peek("llm_tokens", "acme").limit is None)
    poll(lambda: limiter.peek("file_uploads", "zero").limit == 0)
    assert "from everyone" in texts(app)


@pytest.mark.parametrize(
    ("cells", "field", "allowed"),
    [
        ({"limit": "-5"}, "api_calls: limit", "0 (blocks everything) to 1000000000000"),
        ({"limit": "many"}, "api_calls: limit", "0 (blocks everything) to 1000000000000"),
        ({"limit": None}, "api_calls: limit", "or unlimited"),
        ({"window": "soon"}, "api_calls: window", "1 second to 31 days"),
        ({"window": "99 days"}, "api_calls: window", "1 second to 31 days"),
        ({"window": "0"}, "api_calls: window", "1 second to 31 days"),
        ({"window": "0 hours"}, "api_calls: window", "1 second to 31 days"),
        ({"window": 0}, "api_calls: window", "1 second to 31 days"),
        ({"policy": "MAYBE"}, "api_calls: policy", "HARD, SOFT, WARN"),
        ({"warn_percent": 0}, "api_calls: warning level", "1 to 100 %"),
        ({"key": "other"}, "api_calls: key", "a new row"),
    ],
)
def test_bad_values_name_the_field_and_the_range_and_save_nothing(
    acme: Platform, cells: dict[str, Any], field: str, allowed: str
) -> None:
    before = ratelimits.policies(acme, SYSTEM)
    app = admin(acme)
    edit(app, "policies", edited_rows={0: cells, 1: {"limit": "77"}})
    said = "\n".join(error.value for error in app.error)
    assert "Nothing was saved" in said
    assert field.replace("_", "\\_").replace(":", "\\:") in said or field in said
    assert allowed in said
    assert not [button for button in app.button if button.label.startswith("Save")]
    assert ratelimits.policies(acme, SYSTEM) == before


def test_a_key_is_added_deactivated_and_deleted(limiter: Limiter, acme: Platform) -> None:
    app = admin(acme)
    row = {"key": "exports", "limit": "10", "window": "1 hour", "policy": "HARD", "active": True}
    edit(app, "policies", added_rows=[row, {"policy": "HARD", "active": True}])
    save(app)
    poll(lambda: limiter.peek("exports", "acme").limit == 10)
    at = [p.target.key for p in ratelimits.policies(acme, SYSTEM)].index("exports")
    edit(app, "policies", edited_rows={at: {"active": False}})
    save(app)
    poll(lambda: limiter.peek("exports", "acme").limit is None)
    under = [Target("exports", Scope.TENANT, "acme"), Target("exports", Scope.TIER, "team")]
    ratelimits.save(acme, SYSTEM, [Edit(target, {"limit": 3}) for target in under], reason="two under it")
    edit(app, "policies", deleted_rows=[at])
    assert "deleted, with the 2 tier limits and overrides under it" in texts(app)
    ratelimits.save(acme, SYSTEM, [Edit(Target("exports", Scope.TENANT, "zero"), {"limit": 4})], reason="meanwhile")
    save(app)
    assert stored(acme)("exports").limit == 10, "an override came that nobody has seen"
    drawn = texts(app)
    assert "2 when you looked, 3 now" in drawn
    assert "deleted, with the 3 tier limits and overrides under it" in drawn
    save(app)
    with pytest.raises(NotFound):
        stored(acme)("exports")


def test_a_conflict_shows_both_values_and_keeps_the_typing(acme: Platform) -> None:
    app = admin(acme)
    delta = {0: {"limit": "2000"}}
    edit(app, "policies", edited_rows=delta)
    ratelimits.save(acme, SYSTEM, [Edit(Target("api_calls"), {"limit": 1500})], reason="faster")
    save(app, "mine")
    drawn = texts(app)
    assert "Somebody else changed this" in drawn
    assert "1,500" in drawn
    assert "2,000" in drawn
    assert stored(acme)().limit == 1500, "theirs stands until decided"
    assert app.session_state["rl_policies_0"]["edited_rows"] == delta
    save(app, "mine after all")
    assert stored(acme)().limit == 2000


def test_with_redis_away_it_is_saved_and_shown_as_waiting(acme: Platform, standins: Services) -> None:
    app = admin(acme)
    standins.fault("redis", "refuse")
    edit(app, "policies", edited_rows={0: {"limit": "1234", "policy": "SOFT"}})
    assert "nobody knows who is above" in texts(app)
    save(app)
    assert "waiting for Redis" in texts(app)
    assert stored(acme)().limit == 1234


def test_whoever_may_only_read_cannot_edit_by_any_means(acme: Platform) -> None:
    for face in FACES:
        app = opened("ratelimits", signed_in(acme, "product_manager"), {"face": face})
        drawn = texts(app)
        assert "infra admin" in drawn, "whom to ask"
        labels = {button.label.split()[0] for button in app.button if not button.disabled}
        assert not labels & {"Save", "Review", "Revert", "Reset", "Clear", "Apply", "Repair"}
    app = opened("ratelimits", signed_in(acme, "product_manager"))
    for key in PLATFORM_KEYS:
        assert key in texts(app)


def test_overrides_are_set_for_many_listed_and_cleared(limiter: Limiter, acme: Platform) -> None:
    app = admin(acme, "Overrides")
    app.toggle(key="ov_set").set_value(True)
    app.run()
    app.button_group(key="ov_set_how_0").set_value("Many tenants by id")
    app.run()
    next(area for area in app.text_area if area.label == "Tenant ids").set_value("acme, zero")
    app.text_input(key="ov_limit_0").set_value("500")
    app.selectbox(key="ov_expiry_0").set_value("In 7 days")
    press(app, "Review")
    assert "touches <b>2 tenants</b>" in texts(app)
    save(app)
    poll(lambda: limiter.peek("api_calls", "zero").limit == 500)
    found = ratelimits.listing(acme, SYSTEM, scopes=(Scope.TENANT,))
    assert {p.target.reference for p in found.rows} == {"acme", "zero"}
    assert all(p.expires_at for p in found.rows)


def test_an_explanation_and_its_proof(acme: Platform) -> None:
    target = Target("api_calls", Scope.TENANT, "acme")
    ratelimits.save(acme, SYSTEM, [Edit(target, {"limit": 50})], reason="a trial")
    app = admin(acme, "Explain", tenant="acme", key="api_calls")
    drawn = texts(app)
    assert "50 per hour, from the override for Acme" in drawn
    assert "tier Team says 10,000" in drawn
    press(app, "Prove it")
    assert "number 51 rejected" in texts(app)
    assert "exactly right" in texts(app)


def test_a_change_is_taken_back_in_one_click(acme: Platform) -> None:
    ratelimits.save(acme, SYSTEM, [Edit(Target("api_calls"), {"limit": 5})], reason="too low")
    app = admin(acme, "History")
    assert "too low" in texts(app)
    press(app, "Revert")
    assert stored(acme)().limit == 1000
    assert audit.entries(acme, SYSTEM, limit=1)[0].action == "ratelimit.revert"


def test_a_revert_that_deletes_or_overwrites_is_shown_first(acme: Platform) -> None:
    key, mine = Target("exports"), Target("exports", Scope.TENANT, "acme")
    ratelimits.save(acme, SYSTEM, [Edit(key, {"limit": 5}, 0)], reason="a new key")
    ratelimits.save(acme, SYSTEM, [Edit(mine, {"limit": 3}, 0)], reason="an exception")
    app = admin(acme, "History", hi_key="exports")
    app.button(key=[b.key for b in app.button if b.label == "Revert"][1]).click().run()
    drawn = texts(app)
    assert "Revert exports for everyone?" in drawn
    assert "1 override would be deleted" in drawn
    assert stored(acme)("exports").limit == 5, "asked first"
    press(app, "Leave it as it is")
    assert "would be deleted" not in texts(app)
    app.button(key=[b.key for b in app.button if b.label == "Revert"][1]).click().run()
    press(app, "Revert all the same")
    with pytest.raises(NotFound):
        stored(acme)("exports")
    assert "of it, as one new change" in next(b.help for b in app.button if b.label == "Revert")
    press(app, "Revert")  # the deletion taken back in one click, with everything
    assert (stored(acme)("exports").limit, stored(acme)("exports", Scope.TENANT, "acme").limit) == (5, 3)
    # Something newer: both are shown, nothing is overwritten unseen.
    ratelimits.save(acme, SYSTEM, [Edit(mine, {"limit": 11})], reason="first")
    ratelimits.save(acme, SYSTEM, [Edit(mine, {"limit": 12})], reason="second")
    app.run()
    app.button(key=[b.key for b in app.button if b.label == "Revert"][1]).click().run()
    drawn = texts(app)
    assert "Changed again since" in drawn
    assert "| 12 | 3 |" in drawn
    assert stored(acme)("exports", Scope.TENANT, "acme").limit == 12
    press(app, "Revert all the same")
    assert stored(acme)("exports", Scope.TENANT, "acme").limit == 3


def test_a_change_of_many_is_one_in_the_history(acme: Platform) -> None:
    with acme.database.session() as session:
        session.execute(text("INSERT INTO tenants (id, name, tier_code) SELECT 'n' || n, 'N ' || n, 'free'"
                             " FROM generate_series(1, 30) n"))  # fmt: skip
    edits = [Edit(Target("api_calls", Scope.TENANT, f"n{n}"), {"limit": n}, 0) for n in range(1, 31)]
    ratelimits.save(acme, SYSTEM, edits, reason="thirty")
    app = admin(acme, "History")
    assert "and 25 more" in texts(app)
    assert texts(app).count("“thirty”") == 1
    press(app, "Revert")
    assert "30 overrides would be deleted" in texts(app)
    press(app, "Revert all the same")
    assert not ratelimits.listing(acme, SYSTEM, scopes=(Scope.TENANT,)).rows


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("ratelimits: {k: {limit: 1, tenants: {a: {limit: 1, expires_at: 2030-02-30}}}}", "expires_at"),
        ("[" * 3000, "nested too deeply"),
    ],
)
def test_a_document_that_cannot_be_read_is_refused_on_the_page(acme: Platform, document: str, words: str) -> None:
    app = admin(acme, "Import and export")
    app.text_area(key="rl_yaml_0").set_value(document)
    press(app, "Preview")
    assert words.replace("_", "\\_") in "\n".join(error.value for error in app.error)


def test_a_document_is_previewed_and_applied_as_a_whole(acme: Platform) -> None:
    app = admin(acme, "Import and export")
    document = "ratelimits:\n  api_calls:\n    limit: 7\n    window: 1 hour\n  exports:\n    limit: unlimited\n"
    app.text_area(key="rl_yaml_0").set_value(document)
    press(app, "Preview")
    drawn = texts(app)
    assert "<del>1,000</del> → <b>7</b>" in drawn
    assert stored(acme)().limit == 1000
    next(box for box in app.text_input if box.label == "Reason").set_value("as elsewhere")
    press(app, "Apply all")
    assert stored(acme)().limit == 7
    assert [p.target.key for p in ratelimits.policies(acme, SYSTEM)] == ["api_calls", "exports"]


def test_the_overview_has_its_card(acme: Platform) -> None:
    drawn = texts(opened("overview", signed_in(acme, "product_manager")))
    assert "blocked last hour" in drawn
    assert "Normal" in poll(
        lambda: (t := texts(opened("overview", signed_in(acme, "analyst")))) and "Normal" in t and t
    )


def test_live_names_people_and_says_who_was_told(limiter: Limiter, acme: Platform) -> None:
    with acme.database.session() as session:
        session.execute(text("UPDATE tenants SET contact_email = 'ops@acme.test' WHERE id = 'acme'"))
    targets = (Target("api_calls", Scope.AGENT, "bot"), Target("api_calls", Scope.TENANT, "zero"))
    edits = [Edit(target, {"limit": 2}) for target in targets]
    ratelimits.save(acme, SYSTEM, edits, reason="a test")
    poll(lambda: limiter.peek("api_calls", "zero").limit == 2)
    for tenant, agent in (("acme", "bot"), ("zero", None)):
        for _ in range(3):
            limiter.check("api_calls", tenant, agent)
    ratelimit_signals.Collector(acme).collect()
    drawn = str(poll(lambda: (t := texts(admin(acme, "Live"))) and "mail waits" in t and "no address" in t and t))
    assert "<span title='acme'>Acme</span>" in drawn and "<span title='bot'>Bot</span>" in drawn
    assert "1 tenant among the newest" in drawn
    for words, count in (("ZER", 1), ("bot", 1), ("acme", 1), ("o", 2)):  # part of a name or an id, of either
        said = texts(admin(acme, "Live", bl_who=words))
        assert f"{count} blocked call{'s match' if count > 1 else ' matches'}" in said


@pytest.mark.parametrize(
    ("face", "delta", "target"),
    [
        ("Policies", {"edited_rows": {0: {"limit": "1,717"}}}, Target("api_calls")),
        ("Tiers", {"edited_rows": {2: {"api_calls": "1,717"}}}, Target("api_calls", Scope.TIER, "team")),
    ],
)
def test_typing_waits_while_another_face_is_looked_at(
    acme: Platform, face: str, delta: dict[str, Any], target: Target
) -> None:
    name = face.lower()
    app = admin(acme, face)
    assert "Unsaved" not in texts(app)
    app.session_state[f"rl_{name}_0"] = {"added_rows": [], "deleted_rows": [], **delta}
    app.run()
    assert "Unsaved changes." in texts(app)
    app.button_group(key="face").set_value("History").run()
    assert f"Unsaved changes in {face}" in texts(app)
    app.button_group(key="face").set_value(face).run()
    assert "Unsaved changes." in texts(app) and "1,717" in str(app.dataframe[0].value.to_dict())
    # Typed over what was kept: the last word counts; a second journey keeps that too.
    if face == "Policies":
        app.session_state["rl_policies_1"] = {
            "edited_rows": {0: {"window": "2 hours"}},
            "added_rows": [{"key": "exports", "limit": "9"}],
            "deleted_rows": [1],
        }
        app.run()
        app.button_group(key="face").set_value("Tiers").run()
        app.button_group(key="face").set_value(face).run()
    press(app, "Review changes")
    drawn = texts(app)
    assert "<b>1,717</b>" in drawn
    save(app)
    after = stored(acme)(target.key, target.scope, target.reference)
    assert after.limit == 1717
    if face == "Policies":
        assert after.window_seconds == 7200 and stored(acme)("exports").limit == 9
        with pytest.raises(NotFound):
            stored(acme)("console_api")
    assert "Unsaved" not in texts(app)
    app.session_state[f"rl_{name}_{app.session_state[f'_rl_draft_{name}'].generation}"] = {
        "added_rows": [], "deleted_rows": [], **delta, "edited_rows": {1: next(iter(delta["edited_rows"].values()))},
    }  # fmt: skip
    app.run()
    press(app, "Discard")
    assert "Unsaved" not in texts(app)


def chosen(app: AppTest, *rows: int) -> None:
    """Choose rows in the table of overrides as a browser does."""
    name = app.dataframe[0].proto.id.rpartition("-")[2]
    app.session_state[name] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    app.run()


def set_form(app: AppTest, g: int = 0, **fields: str) -> None:
    for field, value in fields.items():
        boxes = [box for kind in (app.text_input, app.selectbox) for box in kind if box.key == f"ov_{field}_{g}"]
        boxes[0].set_value(value)
    press(app, "Review")


def test_an_override_says_everything_a_policy_can(limiter: Limiter, acme: Platform) -> None:
    app = admin(acme, "Overrides")
    app.toggle(key="ov_set").set_value(True).run()
    next(box for box in app.selectbox if box.key == "ov_set_tenant_0").set_value("acme").run()
    set_form(app, limit="9", window="0")
    said = "\n".join(error.value for error in app.error)
    assert "window" in said and "1 second to 31 days" in said
    set_form(app, window="2 hours", mode="SOFT", warn="101")
    assert "1 to 100" in "\n".join(error.value for error in app.error)
    set_form(app, warn="60 %", gone="deny", active="Inactive")
    save(app)
    made = stored(acme)("api_calls", Scope.TENANT, "acme")
    assert (made.limit, made.window_seconds, made.policy, made.warn_percent, made.on_redis_failure, made.active) == (
        9, 7200, "SOFT", 60, "deny", False,
    )  # fmt: skip
    assert limiter.peek("api_calls", "acme").limit == 10_000, "inactive: the tier decides"
    drawn = app.dataframe[0].value.to_dict("records")[0]
    assert (drawn["Warns at"], drawn["Without Redis"], drawn["Expires"]) == ("60 %", "deny", "inactive")
    # The same form for a tenant that has one: blank is what it says, inherits.
    app.run()
    next(box for box in app.selectbox if box.key == "ov_set_tenant_1").set_value("acme").run()
    set_form(app, 1, limit="8", active="Active")
    save(app)
    made = stored(acme)("api_calls", Scope.TENANT, "acme")
    assert (made.limit, made.window_seconds, made.policy, made.warn_percent, made.on_redis_failure, made.active) == (
        8, None, None, None, None, True,
    )  # fmt: skip
    poll(lambda: limiter.peek("api_calls", "acme").limit == 8)


def test_chosen_overrides_keep_what_is_left_blank(acme: Platform) -> None:
    targets = [Target("api_calls", Scope.TENANT, tenant) for tenant in ("acme", "zero")]
    values = {"window_seconds": 60, "policy": "WARN", "warn_percent": 50}
    edits = [Edit(target, {"limit": n, **values}) for n, target in enumerate(targets, 5)]
    ratelimits.save(acme, SYSTEM, edits, reason="two")
    app = admin(acme, "Overrides")
    app.toggle(key="ov_set").set_value(True).run()
    chosen(app, 0, 1)
    assert app.text_input(key="ov_window_0").placeholder == "as it is"
    set_form(app)
    assert "at least one value" in "\n".join(error.value for error in app.error)
    set_form(app, mode="HARD", window="inherits")
    save(app)
    for n, target in enumerate(targets, 5):
        made = ratelimits.get(acme, SYSTEM, target)
        assert (made.limit, made.window_seconds, made.policy, made.warn_percent) == (n, None, "HARD", 50)


@pytest.mark.parametrize("face", ["Policies", "Tiers"])
def test_a_grid_is_renewed_while_nothing_is_typed_and_says_what_changed_otherwise(acme: Platform, face: str) -> None:
    name, team = face.lower(), Target("api_calls", Scope.TIER, "team")
    app = admin(acme, face)
    ratelimits.save(acme, SYSTEM, [Edit(Target("exports"), {"limit": 5}, 0)], reason="a new key")
    ratelimits.save(
        acme, SYSTEM, [Edit(team, {"limit": 777}), Edit(Target("api_calls"), {"limit": 777})], reason="less"
    )
    app.run()
    assert "meanwhile" not in texts(app)
    grid = str(app.dataframe[0].value.to_dict())
    assert "exports" in grid and "777" in grid, "nobody typed: it is as it is stored"
    # Somebody types: nothing is taken away, and what others did is said, deletions too.
    generation = app.session_state[f"_rl_draft_{name}"].generation
    cells = {"limit": "5"} if face == "Policies" else {"llm_tokens": "5"}
    app.session_state[f"rl_{name}_{generation}"] = {"edited_rows": {0: cells}, "added_rows": [], "deleted_rows": []}
    app.run()
    ratelimits.save(
        acme, SYSTEM, [Edit(Target("exports"), None), Edit(Target("file_uploads"), {"limit": 3})], reason="x"
    )
    app.run()
    drawn = texts(app)
    assert "Changed by somebody else meanwhile: file\\_uploads" in drawn
    assert "Deleted meanwhile: exports" in drawn
    assert "Unsaved changes." in drawn
    mine = Actor("person-infra_admin", "Person infra_admin", frozenset({"infra_admin"}))
    fresh = ratelimits.get(acme, SYSTEM, Target("voice_minutes")).version
    press(app, "Show what is stored")
    assert "meanwhile" not in texts(app) and "Unsaved" not in texts(app)
    generation = app.session_state[f"_rl_draft_{name}"].generation
    app.session_state[f"rl_{name}_{generation}"] = {"edited_rows": {0: cells}, "added_rows": [], "deleted_rows": []}
    app.run()
    ratelimits.save(acme, mine, [Edit(Target("voice_minutes"), {"limit": 3}, fresh)], reason="by import")
    app.run()
    assert "Changed by yourself, elsewhere, meanwhile: voice\\_minutes" in texts(app)


def test_tiers_praise_nothing_before_it_was_read(acme: Platform, standins: Services) -> None:
    standins.fault("redis", "hang")
    drawn = texts(admin(acme, "Tiers"))
    assert "no tier's limit is below present use" not in drawn.replace("\n", " ")
    assert "Reading present use" in drawn


def test_what_if_on_the_page(acme: Platform) -> None:
    at = (utcnow() - timedelta(days=1)).replace(hour=9, minute=0, second=0, microsecond=0)
    with acme.database.session() as session:
        session.execute(
            text("INSERT INTO rate_limit_usage (key, subject, hour, amount) VALUES ('api_calls', 'zero', :at, 70)"),
            {"at": at},
        )
        session.execute(text("DELETE FROM rate_limit_policies WHERE scope = 'TIER'"))
    app = admin(acme, "What if")
    for width, limit, words in (
        ("0", "50", "window"),
        ("1 hour", "1000000000001", "limit"),
        ("99 days", "1", "window"),
    ):
        app.text_input(key="wi_window").set_value(width)
        app.text_input(key="wi_limit").set_value(limit)
        press(app, "Replay")
        assert words in "\n".join(error.value for error in app.error)
        assert "No proposal yet" in texts(app)
    app.text_input(key="wi_window").set_value("")
    app.text_input(key="wi_limit").set_value("50")
    app.selectbox(key="wi_mode").set_value("SOFT")
    press(app, "Replay")
    drawn = texts(app)
    for said in ("per hour, SOFT", "Zero", "<b>20</b>", "At what hours", "would have been billed as overage", "09:00"):
        assert said in drawn, said


def test_live_ranks_per_key_and_filters_before_it_cuts(limiter: Limiter, acme: Platform) -> None:
    for key, limit in (("exports", 10), ("tokens", 100_000)):
        ratelimits.save(acme, SYSTEM, [Edit(Target(key), {"limit": limit}, 0)], reason="a test")
    poll(lambda: limiter.peek("exports", "x").limit == 10 and limiter.peek("tokens", "x").limit == 100_000)
    limiter.check("exports", "zero", cost=6)
    for n in range(12):
        limiter.check("tokens", f"t{n}", cost=50_000 + n)
    limiter.check("tokens", "acme", cost=95_000)
    limiter.check("exports", "rare", cost=11)  # blocked once, and first
    for _ in range(40):
        for n in range(15):
            limiter.check("exports", f"loud{n}", cost=11)
    app = admin(acme, "Live")
    drawn = str(
        poll(lambda: app.run() and (t := texts(app)) and "Zero" in t and "601 blocked calls match" in t and t, 30)
    )
    assert "95 %" in drawn and "60 %" in drawn
    assert "and 12 more" not in drawn, "three of each key"
    assert drawn.count("title='t11'") == 1 and "title='t3'" not in drawn
    app.selectbox(key="rl_top").set_value("tokens")
    app.run()
    assert "and 3 more" in texts(app), "thirteen used tokens, ten are shown"
    assert near_of(app) == {"acme"}
    app.select_slider(key="rl_near").set_value(60).run()
    assert near_of(app) == {"acme", "zero"}
    app.text_input(key="bl_who").set_value("rare").run()
    assert "1 blocked call matches" in texts(app), "the oldest of 601 is found"
    app.text_input(key="bl_who").set_value("")
    app.selectbox(key="bl_key").set_value("tokens").run()
    assert "Nothing was blocked" in texts(app)
    app.selectbox(key="bl_key").set_value("exports").run()
    assert "601 blocked calls match" in texts(app)
    then = utcnow() - timedelta(minutes=30)
    line = BlockedCall(then, "exports", "old", None, 10, 0, 11, "global")
    assert live.since([line], "exports", 60) == [line]
    assert live.since([line], "exports", 5) == live.since([line], "tokens", 0) == []


def near_of(app: AppTest) -> set[str]:
    tables = [str(element.value) for element in app.get("html") if "Share of limit" in str(element.value)]
    return {one for one in ("acme", "zero", "t11") if f"title='{one}'" in tables[0]}


def test_what_was_decided_without_redis_is_shown(limiter: Limiter, acme: Platform) -> None:
    minute = int(time.time()) // 60
    acme.redis.hincrby(keys.fallback(minute), "api_calls|allow", 17)
    app = admin(acme, "Live")
    drawn = str(poll(lambda: app.run() and (t := texts(app)) and "Without Redis" in t and t, 20))
    assert ">17</b>" in drawn
    assert "17 decisions of the last hour were taken without Redis" in drawn


def test_redis_is_compared_and_repaired_from_the_page(acme: Platform) -> None:
    acme.redis.delete(keys.config("api_calls"))
    app = admin(acme, "Import and export")
    press(app, "Compare now")
    assert "1 difference found" in texts(app)
    press(app, "Repair Redis")
    assert "1 difference repaired" in texts(app)
    entry = audit.entries(acme, SYSTEM, limit=1)[0]
    assert (entry.action, entry.actor_name) == ("ratelimit.reconcile", "Person infra_admin")
    press(app, "Compare now")
    assert "No difference" in texts(app)
    assert "ratelimit.reconcile" not in texts(admin(acme, "History")), "shown in words"


def test_a_key_deleted_since_the_page_was_drawn_cannot_be_proved(
    acme: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = admin(acme, "Explain", tenant="acme", key="api_calls")

    def gone(*_: object) -> None:
        raise NotFound("There is no limit api_calls.")

    monkeypatch.setattr(ratelimit_explain, "prove", gone)
    press(app, "Prove it")
    assert "There is no limit" in texts(app)


def test_the_page_sets_overrides_for_a_whole_tier_by_the_thousand(acme: Platform) -> None:
    with acme.database.session(seconds=30) as session:
        session.execute(text("INSERT INTO tenants (id, name, tier_code, status) SELECT 'b' || n, 'B', 'starter',"
                             " CASE WHEN n > 3000 THEN 'closed' ELSE 'active' END"
                             " FROM generate_series(1, 3010) n"))  # fmt: skip
    app = admin(acme, "Overrides")
    app.toggle(key="ov_set").set_value(True).run()
    app.button_group(key="ov_set_how_0").set_value("All tenants of a tier").run()
    next(box for box in app.selectbox if box.key == "ov_set_tier_0").set_value("starter").run()
    assert "3,000 tenants." in texts(app), "closed ones are not among them"
    set_form(app, limit="3")
    assert "touches <b>3,000 tenants</b>" in texts(app)
    save(app)
    assert "3,000 changes of limits saved" in texts(app)
    assert ratelimits.listing(acme, SYSTEM, scopes=(Scope.TENANT,)).total == 3000
