"""Policies from the console's operations through PostgreSQL and Redis to a limiter's decision."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text

from adapters.core import utcnow
from limiter import Limiter, Scope, keys
from operations import (
    access,
    audit,
    change,
    ratelimit_explain,
    ratelimit_history,
    ratelimit_impact,
    ratelimit_minutes,
    ratelimit_subjects,
    ratelimit_usage,
    ratelimit_wire,
    ratelimit_yaml,
    ratelimits,
)
from operations.access import SYSTEM, Actor, Forbidden
from operations.change import Conflict, Invalid, NotFound
from operations.platform import Platform
from operations.ratelimits import Edit, Target
from tests.support import poll

PIM = Actor("pim", "Pim", frozenset({"product_manager"}))


@pytest.fixture
def tenants(platform: Platform) -> Platform:
    with platform.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code) VALUES ('acme', 'Acme', 'team'), ('zero', 'Zero', 'free')")
        )
        session.execute(text("INSERT INTO agents (id, tenant_id, name) VALUES ('bot', 'acme', 'Bot')"))
    ratelimit_wire.reconcile(platform)
    return platform


@pytest.fixture
def limiter(tenants: Platform) -> Iterator[Limiter]:
    with Limiter(tenants.redis, timeout=2.0) as made:
        assert made.wait_ready()
        yield made


def set_limit(platform: Platform, target: Target, **values: Any) -> ratelimits.Saved:
    return ratelimits.save(platform, SYSTEM, [Edit(target, values)], reason="a test")


def test_srs_defaults_are_obeyed_after_one_reconciliation(limiter: Limiter, tenants: Platform) -> None:
    assert limiter.check("api_calls", "acme").limit == 10_000
    free = limiter.check("voice_minutes", "zero")
    assert not free.allowed
    assert free.limit == 0
    assert limiter.check("api_calls", "nobody").source == "global"
    assert ratelimit_wire.reconcile(tenants).total == 0


def test_a_change_reaches_redis_and_a_running_limiter(limiter: Limiter, tenants: Platform) -> None:
    saved = set_limit(tenants, Target("api_calls", Scope.TENANT, "acme"), limit=500)
    assert saved.outcome.delivered
    poll(lambda: limiter.peek("api_calls", "acme").limit == 500)
    set_limit(tenants, Target("api_calls", Scope.AGENT, "bot"), limit=7)
    poll(lambda: limiter.peek("api_calls", "acme", "bot").limit == 7)
    assert limiter.peek("api_calls", "acme").limit == 500
    ratelimits.save(tenants, SYSTEM, [Edit(Target("api_calls", Scope.AGENT, "bot"), None)], reason="over")
    poll(lambda: limiter.peek("api_calls", "acme", "bot").limit == 500)
    assert audit.verify_chain(tenants).ok


def asked_of(platform: Platform, do: Callable[[], object]) -> list[str]:
    """What PostgreSQL is asked meanwhile; several statements that travel together count once."""
    asked: list[str] = []
    pipeline = psycopg.Connection.pipeline

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    def travel(connection: psycopg.Connection[Any]) -> Any:
        asked.append("several together")
        return pipeline(connection)

    event.listen(platform.database.engine, "before_cursor_execute", note)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(psycopg.Connection, "pipeline", travel)
            do()
    finally:
        event.remove(platform.database.engine, "before_cursor_execute", note)
    return asked


@pytest.mark.parametrize(
    ("target", "most"), [(Target("api_calls"), 6), (Target("api_calls", Scope.TENANT, "acme"), 7)], ids=str
)
def test_a_save_asks_postgresql_a_few_times_only(tenants: Platform, target: Target, most: int) -> None:
    set_limit(tenants, target, limit=500)
    saved: list[ratelimits.Saved] = []
    asked = asked_of(tenants, lambda: saved.append(set_limit(tenants, target, limit=501)))
    assert saved[0].outcome.delivered
    assert len(asked) <= most, "\n".join(asked)


def test_what_a_page_reads_at_every_run_is_one_question_each(tenants: Platform) -> None:
    set_limit(tenants, Target("api_calls", Scope.TENANT, "acme"), limit=500)
    set_limit(tenants, Target("api_calls", Scope.AGENT, "bot"), limit=7)
    tiers, own = ratelimits.matrix(tenants, SYSTEM)
    assert tiers == ratelimit_impact.tier_names(tenants, SYSTEM)
    assert own["team", "api_calls"] == ratelimits.get(tenants, SYSTEM, Target("api_calls", Scope.TIER, "team"))
    with tenants.database.session() as session:
        session.execute(text("INSERT INTO tiers (code, name, rank) VALUES ('new', 'New', 99)"))
    assert ratelimits.matrix(tenants, SYSTEM)[0] == [*tiers, ("new", "New")], "a tier without a limit is one too"
    found = ratelimits.listing(tenants, SYSTEM, scopes=(Scope.TENANT, Scope.AGENT), limit=1)
    assert ([row.name for row in found.rows], found.total) == (["Bot"], 2)
    beyond = ratelimits.listing(tenants, SYSTEM, scopes=(Scope.TENANT, Scope.AGENT), offset=50)
    assert beyond == ratelimits.Listing((), 2)
    assert ratelimits.listing(tenants, SYSTEM, query="nobody") == ratelimits.Listing((), 0)
    for read, most in (
        (lambda: ratelimits.policies(tenants, SYSTEM), 1),
        (lambda: ratelimits.matrix(tenants, SYSTEM), 1),
        (lambda: ratelimits.listing(tenants, SYSTEM), 1),
        (lambda: ratelimit_explain.explain(tenants, SYSTEM, "api_calls", "acme", "bot"), 2),
    ):
        asked = asked_of(tenants, read)
        assert len(asked) <= most, asked


def test_stale_versions_conflict_and_bad_values_name_the_field(tenants: Platform) -> None:
    target = Target("api_calls")
    seen = ratelimits.get(tenants, SYSTEM, target).version
    ratelimits.save(tenants, SYSTEM, [Edit(target, {"limit": 2000}, seen)], reason="more")
    with pytest.raises(Conflict) as conflict:
        ratelimits.save(tenants, SYSTEM, [Edit(target, {"limit": 3000}, seen)], reason="mine")
    assert conflict.value.current["limit"] == 2000
    with pytest.raises(Invalid) as bad:
        edits = [Edit(target, {"limit": 5}), Edit(target, {"limit": -1, "policy": "SOMETIMES"})]
        ratelimits.save(tenants, SYSTEM, edits, reason="no")
    assert {error.field for error in bad.value.errors} == {"limit", "policy"}
    assert ratelimits.get(tenants, SYSTEM, target).limit == 2000
    with pytest.raises(Forbidden):
        ratelimits.save(tenants, PIM, [Edit(target, {"limit": 5})], reason="no")
    assert access.Permission.RATELIMIT_VIEW in PIM.permissions


@pytest.mark.parametrize("key", ["never", "Never", "a\x00b", "@tenants"])
@pytest.mark.parametrize(("scope", "reference"), [(Scope.GLOBAL, ""), (Scope.TENANT, "acme")])
def test_what_is_not_there_cannot_be_deleted(tenants: Platform, key: str, scope: Scope, reference: str) -> None:
    with tenants.database.session() as session:
        before = session.execute(text("SELECT key, version FROM rate_limit_keys ORDER BY key")).all()
    with pytest.raises(NotFound, match="There is no limit"):
        ratelimits.save(tenants, SYSTEM, [Edit(Target(key, scope, reference), None)], reason="x")
    with tenants.database.session() as session:
        assert session.execute(text("SELECT key, version FROM rate_limit_keys ORDER BY key")).all() == before


def test_reconcile_repairs_whatever_was_done_to_redis(tenants: Platform) -> None:
    set_limit(tenants, Target("api_calls", Scope.TENANT, "acme"), limit=500)
    redis = tenants.redis
    redis.set(keys.config("api_calls"), '{"limit": 1, "version": 900}')
    redis.hset(keys.overrides("api_calls"), "tenant:acme", "not json")
    redis.hset(keys.overrides("api_calls"), "tenant:zero", '{"limit": 5, "version": 1}')
    redis.delete(keys.config("llm_tokens"))
    seen = ratelimit_wire.reconcile(tenants, repair=False)
    assert seen.total == 4
    assert not seen.repaired
    assert ratelimit_wire.reconcile(tenants).total == 4
    assert ratelimit_wire.reconcile(tenants).total == 0
    redis.flushall()
    assert ratelimit_wire.reconcile(tenants).total > 5
    with Limiter(redis, timeout=2.0) as limiter:
        assert limiter.wait_ready()
        assert limiter.peek("api_calls", "acme").limit == 500


def test_explanation_use_and_proof(limiter: Limiter, tenants: Platform) -> None:
    until = utcnow() + timedelta(days=1)
    set_limit(tenants, Target("api_calls", Scope.TENANT, "acme"), limit=500, expires_at=until)
    poll(lambda: limiter.peek("api_calls", "acme").limit == 500)
    limiter.check("api_calls", "acme", cost=3)
    said = ratelimit_explain.explain(tenants, PIM, "api_calls", "acme")
    assert said.limit == 500
    assert said.used == 3
    assert "override for Acme" in said.sentence
    assert "tier Team says 10,000" in said.sentence
    for key, tenant in (("api_calls", "acme"), ("voice_minutes", "acme"), ("voice_minutes", "zero")):
        proof = ratelimit_explain.prove(tenants, SYSTEM, key, tenant)
        assert proof.right, proof
    assert ratelimit_explain.prove(tenants, SYSTEM, "api_calls", "acme").rejected_at == 501
    assert ratelimit_explain.reset(tenants, SYSTEM, "api_calls", "acme") == 3
    assert limiter.peek("api_calls", "acme").used == 0


def test_live_usage_blocked_log_and_what_if(limiter: Limiter, tenants: Platform) -> None:
    set_limit(tenants, Target("file_uploads", Scope.TENANT, "zero"), limit=5)
    poll(lambda: limiter.peek("file_uploads", "zero").limit == 5)
    answers = [limiter.check("file_uploads", "zero").allowed for _ in range(7)]
    assert answers == [True] * 5 + [False] * 2
    now = ratelimit_usage.live(tenants, PIM)
    assert ("zero", 5) in {(row.tenant, row.used) for row in now.near}
    assert now.subscribers >= 1
    assert len(ratelimit_usage.blocked(tenants, PIM, tenant="zero")) == 2
    assert ratelimit_usage.collect(tenants) == 1
    assert ratelimit_usage.collect(tenants) == 1
    what = ratelimit_usage.simulate(tenants, PIM, "file_uploads", limit=3, tenant="zero")
    assert what.over_total == 4
    assert what.affected[0].tenant == "zero"


def test_a_minute_that_is_over_is_read_once_and_those_still_counted_each_time(
    limiter: Limiter, tenants: Platform
) -> None:
    redis = tenants.redis
    present = int(redis.time()[0]) // 60
    for ago, number in ((40, 3), (2, 5), (1, 7)):
        redis.hset(keys.minutes(9, present - ago), "file_uploads|b", number)

    def reads() -> int:
        return int(redis.info("commandstats").get("cmdstat_hgetall", {}).get("calls", 0))

    def counted() -> dict[int, int]:
        found = ratelimit_minutes.last(tenants, 60)
        return {at: count["file_uploads"]["blocked"] if "file_uploads" in count else 0 for at, count in found.items()}

    before, first = reads(), counted()
    assert list(first) == list(range(max(first) - 59, max(first) + 1))
    assert {at: number for at, number in first.items() if number} == {present - 40: 3, present - 2: 5, present - 1: 7}
    assert reads() - before >= 60 * keys.SHARDS
    redis.hset(keys.minutes(9, present - 1), "file_uploads|b", 8)
    redis.hset(keys.minutes(9, present), "file_uploads|b", 1)
    before, then = reads(), counted()
    assert (then[present - 40], then[present - 1], then[present]) == (3, 8, 1)
    assert reads() - before <= 4 * keys.SHARDS, "the rest was read before"


def test_history_revert_and_yaml_round_trip(tenants: Platform) -> None:
    document = ratelimit_yaml.export_yaml(tenants, PIM)
    assert ratelimit_yaml.preview_yaml(tenants, PIM, document) == ([], [])
    set_limit(tenants, Target("api_calls"), limit=2000)
    set_limit(tenants, Target("api_calls", Scope.TENANT, "acme"), limit=None)
    steps, _ = ratelimit_yaml.preview_yaml(tenants, PIM, document)
    assert sorted(step.kind for step in steps) == ["change", "delete"]
    newest = ratelimit_history.history(tenants, PIM, key="api_calls")
    ratelimit_history.revert(tenants, SYSTEM, newest[1].id)
    assert ratelimits.get(tenants, SYSTEM, Target("api_calls")).limit == 1000
    _, edits = ratelimit_yaml.preview_yaml(tenants, SYSTEM, document)
    ratelimit_yaml.import_yaml(tenants, SYSTEM, edits, reason="back")
    assert ratelimit_yaml.export_yaml(tenants, PIM) == document
    with pytest.raises(Invalid):
        ratelimit_yaml.preview_yaml(tenants, PIM, "ratelimits: {api_calls: {limit: -4}}")


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        (
            "ratelimits: {k: {limit: 1, tenants: {a: {limit: 1, expires_at: 2030-02-30}}}}",
            "k.a.expires_at",
            "no moment",
        ),
        ("ratelimits: {k: {limit: !!int many}}", "document", "cannot be read"),
        ("ratelimits: {k: {limit: !!timestamp soon}}", "k/global.limit", "not a whole number"),
        ("[" * 3000, "document", "nested too deeply"),
        ("ratelimits: {k: {limit: 1, description: &a [*a]}}", "k.description", "not a single value"),
        ("ratelimits: {k: {limit: 1", "document", "is not YAML"),
        ("- 1", "ratelimits", "missing"),
    ],
)
def test_a_document_that_cannot_be_read_names_the_field(
    tenants: Platform, document: str, field: str, words: str
) -> None:
    with pytest.raises(Invalid) as refused:
        ratelimit_yaml.preview_yaml(tenants, PIM, document)
    assert refused.value.errors[0].field == field
    assert words in refused.value.errors[0].message


def test_a_whole_change_is_reverted_and_nothing_newer_is_lost(tenants: Platform) -> None:
    key, mine, team = Target("exports"), Target("exports", Scope.TENANT, "acme"), Target("exports", Scope.TIER, "team")
    made = [Edit(key, {"limit": 5}, 0), Edit(mine, {"limit": 3}, 0), Edit(team, {"limit": 4}, 0)]
    ratelimits.save(tenants, SYSTEM, made, reason="a new key")
    created = ratelimit_history.changes(tenants, PIM, key="exports")[0]
    assert (created.size, created.revertible, created.entries[0].subject) == (3, True, "ratelimit/exports/global")
    deleted = ratelimits.save(tenants, SYSTEM, [Edit(key, None)], reason="gone")
    assert len(deleted.done) == 3
    # The deletion taken back brings all three back, with what they said.
    ratelimit_history.revert(tenants, SYSTEM, ratelimit_history.changes(tenants, PIM, key="exports")[0].newest)
    found = ratelimits.listing(tenants, SYSTEM, key="exports", limit=10).rows
    assert {policy.target: policy.limit for policy in found} == {key: 5, mine: 3, team: 4}
    again = ratelimit_history.changes(tenants, PIM, key="exports")[0]
    assert (again.entries[0].action, again.size) == ("ratelimit.revert", 3)
    # Taking back what brought them back would delete two with their key: it is planned, and says so.
    set_limit(tenants, Target("exports", Scope.TENANT, "zero"), limit=9)
    plan = ratelimit_history.plan(tenants, SYSTEM, again.newest)
    assert (plan.lost, [edit.values for edit in plan.decided], plan.conflicts) == (3, [None], ())
    with pytest.raises(Conflict):  # an override came under it since
        ratelimit_history.revert(tenants, SYSTEM, again.newest)
    set_limit(tenants, Target("exports", Scope.TENANT, "zero"), limit=10)
    with pytest.raises(Conflict):  # and changed since the plan was looked at
        ratelimit_history.revert(tenants, SYSTEM, again.newest, shown=plan)
    assert ratelimits.get(tenants, SYSTEM, key).limit == 5
    plan = ratelimit_history.plan(tenants, SYSTEM, again.newest)
    assert len(ratelimit_history.revert(tenants, SYSTEM, again.newest, shown=plan).done) == 4
    with pytest.raises(Invalid, match="taken back already"):
        ratelimit_history.revert(tenants, SYSTEM, again.newest)


def test_a_revert_never_overwrites_a_newer_change_unseen(tenants: Platform) -> None:
    target = Target("api_calls", Scope.TENANT, "acme")
    set_limit(tenants, target, limit=5)
    first = ratelimit_history.history(tenants, PIM, key="api_calls")[0].id
    set_limit(tenants, target, limit=6)
    with pytest.raises(Conflict) as newer:
        ratelimit_history.revert(tenants, SYSTEM, first)
    assert newer.value.current["limit"] == 6
    plan = ratelimit_history.plan(tenants, SYSTEM, first)
    assert [(edit.values, stored and stored.limit) for edit, stored in plan.conflicts] == [(None, 6)]
    ratelimit_history.revert(tenants, SYSTEM, first, shown=plan)
    with pytest.raises(change.NotFound):
        ratelimits.get(tenants, SYSTEM, target)
    second = ratelimit_history.history(tenants, PIM, key="api_calls")[0].id
    ratelimit_history.revert(tenants, SYSTEM, second)  # a deletion taken back
    assert ratelimits.get(tenants, SYSTEM, target).limit == 6


def test_of_many_who_revert_the_same_change_one_does(tenants: Platform) -> None:
    set_limit(tenants, Target("api_calls"), limit=77)
    entry = ratelimit_history.history(tenants, PIM, key="api_calls")[0].id
    start = threading.Barrier(6)

    def attempt(_: int) -> str:
        start.wait(10)
        try:
            ratelimit_history.revert(tenants, SYSTEM, entry)
        except (Conflict, Invalid) as refused:
            return type(refused).__name__
        return "done"

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(attempt, range(6)))
    assert said.count("done") == 1
    assert ratelimits.get(tenants, SYSTEM, Target("api_calls")).limit == 1000
    reverts = [one for one in ratelimit_history.history(tenants, PIM) if one.action == "ratelimit.revert"]
    assert len(reverts) == 1
    assert audit.verify_chain(tenants).ok


@pytest.mark.parametrize("limit", [1_000_000_201, 5_000_000_000, 999_999_999_999])
def test_a_limit_above_the_largest_cost_is_proved_too(tenants: Platform, limit: int) -> None:
    set_limit(tenants, Target("bytes"), limit=limit)
    proof = ratelimit_explain.prove(tenants, SYSTEM, "bytes", "acme")
    assert (proof.right, proof.admitted, proof.rejected_at) == (True, limit, limit + 1)


@pytest.mark.parametrize("tenant", ["caller-abc", None, "-", "a/b", "acme"])
def test_every_counter_can_be_reset_whoever_it_is_of(limiter: Limiter, tenants: Platform, tenant: str | None) -> None:
    limiter.check("voice_minutes", tenant, cost=2)
    limiter.check("api_calls", tenant, cost=4)
    assert ratelimit_explain.reset(tenants, SYSTEM, "api_calls", tenant, reason="asked for") == 4
    assert limiter.peek("api_calls", tenant).used == 0
    entry = audit.entries(tenants, SYSTEM, limit=1)[0]
    assert (entry.action, entry.before, entry.reason) == ("ratelimit.reset", {"used": 4}, "asked for")
    for key, who in (("nothing", "acme"), ("a\x00b", "acme"), ("api_calls", "a\x00b")):
        with pytest.raises(change.NotFound):
            ratelimit_explain.reset(tenants, SYSTEM, key, who, reason="asked for")
    with pytest.raises(Forbidden):
        ratelimit_explain.reset(tenants, PIM, "api_calls", tenant, reason="asked for")


def test_top_consumers_and_near_are_ranked_and_cut_per_key(
    limiter: Limiter, tenants: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratelimit_usage, "MOST", 3)
    set_limit(tenants, Target("tokens"), limit=10_000)
    set_limit(tenants, Target("uploads"), limit=10)
    poll(lambda: (limiter.peek("tokens", "x").limit, limiter.peek("uploads", "x").limit) == (10_000, 10))
    for n in range(5):
        limiter.check("tokens", f"t{n}", cost=9000 + n)
        limiter.check("uploads", f"t{n}", cost=n + 5)
    now = ratelimit_usage.live(tenants, PIM, near_percent=60)
    top = {key: [row.tenant for row in now.top if row.key == key] for key in ("tokens", "uploads")}
    assert top == {"tokens": ["t4", "t3", "t2"], "uploads": ["t4", "t3", "t2"]}
    assert [row.tenant for row in now.near if row.key == "uploads"] == ["t4", "t3", "t2"]
    shares = [row.share for row in now.near]
    assert shares == sorted(shares, key=lambda share: -(share or 0))
    of_key = ratelimit_usage.key_usage(tenants, PIM, "uploads")
    assert [row.used for row in of_key["top"]] == [9, 8, 7]
    assert [row.used for row in of_key["near"]] == [9, 8]
    assert (of_key["now"].active_subjects, of_key["now"].top_share) == (5, 90.0)


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": 10**12 + 1}, "limit"),
        ({"limit": 1, "window_seconds": 0}, "window_seconds"),
        ({"limit": 1, "window_seconds": 10**12}, "window_seconds"),
        ({"limit": 1, "policy": "MAYBE"}, "policy"),
    ],
)
def test_a_proposal_obeys_the_rules_of_a_policy(tenants: Platform, wish: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        ratelimit_usage.simulate(tenants, PIM, "api_calls", **wish)
    assert [error.field for error in refused.value.errors] == [field]


def test_what_if_over_a_rolling_window_says_the_hours(tenants: Platform) -> None:
    """A window of three hours, SOFT, against use recorded by the hour: 4, 4, 4, 9, nothing, 4 of a limit of 10."""
    start = (utcnow() - timedelta(days=1)).replace(hour=6, minute=0, second=0, microsecond=0)
    with tenants.database.session() as session:
        for at, amount in ((0, 4), (1, 4), (2, 4), (3, 9), (5, 4)):
            session.execute(
                text("INSERT INTO rate_limit_usage (key, subject, hour, amount)"
                     " VALUES ('file_uploads', 'acme', :at, :n)"),
                {"at": start + timedelta(hours=at), "n": amount},
            )  # fmt: skip
    wish: dict[str, Any] = {"limit": 10, "window_seconds": 3 * 3600, "tenant": "acme"}
    found = ratelimit_usage.simulate(tenants, PIM, "file_uploads", policy="SOFT", **wish)
    # 4, 8, then 2 of 4 fit; of the 9, 4 fit (4 + 2 are still inside); at 11 o'clock 4 + 4 are inside no more but 4.
    assert {at: n for at, n in enumerate(found.by_hour) if n} == {8: 2, 9: 5}
    assert (found.over_total, found.policy, found.window_seconds, found.granularity) == (7, "SOFT", 10_800, "hour")
    assert found.affected[0].hours == (start + timedelta(hours=3), start + timedelta(hours=2))
    warn = ratelimit_usage.simulate(tenants, PIM, "file_uploads", policy="WARN", **wish)
    assert (warn.policy, warn.over_total, warn.affected[0].used) == ("WARN", 7, 25)
    as_it_is = ratelimit_usage.simulate(tenants, PIM, "file_uploads", limit=10, tenant="acme")
    assert as_it_is.window_seconds == ratelimits.get(tenants, PIM, Target("file_uploads")).window_seconds


def test_closed_tenants_are_neither_counted_nor_offered(tenants: Platform) -> None:
    with tenants.database.session() as session:
        session.execute(
            text("INSERT INTO tenants (id, name, tier_code, status) VALUES ('left', 'Left', 'free', 'closed')")
        )
        session.execute(text("INSERT INTO agents (id, tenant_id, name) VALUES ('ghost', 'left', 'Ghost')"))
    set_limit(tenants, Target("exports"), limit=5)
    set_limit(tenants, Target("exports", Scope.TENANT, "left"), limit=4)
    set_limit(tenants, Target("exports", Scope.AGENT, "ghost"), limit=4)
    found = ratelimit_impact.impact(tenants, PIM, [Edit(Target("exports"), None)])[0]
    assert (found.tenants, found.agents) == (2, 0)
    assert ratelimit_subjects.of_tier(tenants, PIM, "free") == ["zero"]
    assert ratelimit_subjects.find(tenants, PIM, "left").total == 0
    assert ratelimit_subjects.find(tenants, PIM).total == 2


def test_overrides_that_end_soon_come_first_and_can_be_asked_for(tenants: Platform) -> None:
    with tenants.database.session() as session:
        session.execute(text("INSERT INTO tenants (id, name, tier_code) SELECT 'n' || n, 'N', 'free'"
                             " FROM generate_series(1, 6) n"))  # fmt: skip
    hours = {"n1": 24 * 40, "n2": None, "n3": 2, "n4": -5, "n5": 24 * 5, "n6": 30}
    for tenant, after in hours.items():
        expires = None if after is None else utcnow() + timedelta(hours=after)
        set_limit(tenants, Target("api_calls", Scope.TENANT, tenant), limit=1, expires_at=expires)

    def found(days: int | None = None) -> list[str]:
        rows = ratelimits.listing(tenants, PIM, scopes=(Scope.TENANT,), expiring_days=days).rows
        return [policy.target.reference for policy in rows]

    assert found() == ["n3", "n6", "n5", "n1", "n2", "n4"], "those that ended already come last"
    assert (found(1), found(7), found(30), found(60)) == (
        ["n3"], ["n3", "n6", "n5"], ["n3", "n6", "n5"], ["n3", "n6", "n5", "n1"],
    )  # fmt: skip
