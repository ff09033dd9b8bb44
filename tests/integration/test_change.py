"""The one door: whole or not at all, in one order, recorded for ever, delivered in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from operations import access, audit, change, outbox
from operations.access import SYSTEM, Actor, Permission
from operations.database import Database, StoreUnavailable, together
from operations.platform import Platform
from tests import support_operations as support

pytestmark = pytest.mark.engines
TOPIC = "test.topic"


@pytest.fixture
def store(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    platform = support.make(database_url, redis_url, monkeypatch, tmp_path)
    yield platform
    platform.close()


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What the test topic's handler got, in order; ``broken`` in its key makes it fail."""
    got: list[int] = []

    def handle(_platform: Platform, messages: Sequence[outbox.Message]) -> None:
        if messages[0].key in Broken.keys:
            raise ConnectionError("redis://user:hunter2@host is away")
        got.extend(message.payload["n"] for message in messages)

    monkeypatch.setitem(outbox._handlers, TOPIC, ("Redis", handle))
    yield got
    Broken.keys.clear()


class Broken:
    keys: set[str] = set()


def act(platform: Platform, n: int, key: str = "k", actor: Actor = SYSTEM) -> change.Outcome:
    with change.door(
        platform, actor, Permission.INFRA_CONFIGURE, action="test", subject=f"s:{key}", reason="because"
    ) as door:
        door.audit({"n": n - 1, "x": 1e20, "y": 0.1, "z": "a\x00b"}, {"n": n, "e": 1e-7, "nested": {"b": [1.0, None]}})
        door.publish(TOPIC, key, {"n": n})
        door.version = n
    return door.outcome


def test_a_thousand_changes_at_once_lose_nothing(store: Platform, delivered: list[int]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: act(store, n, f"k{n % 5}"), range(1000), timeout=120))
    assert audit.verify_chain(store) == audit.Chain(True, 1000)
    while outbox.waiting(store):
        outbox.relay_once(store)
    assert sorted(delivered) == list(range(1000))
    assert len(audit.entries(store, SYSTEM, limit=10_000)) == audit.LIMIT


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE audit SET after = '{\"n\": 9}' WHERE id = 2",
        "DELETE FROM audit WHERE id = 2",
        "DELETE FROM audit WHERE id = 3",
        "UPDATE audit SET at = at + interval '1 second' WHERE id = 1",
    ],
)
def test_tampering_is_found(store: Platform, delivered: list[int], tamper: str) -> None:
    for n in range(3):
        act(store, n)
    assert audit.verify_chain(store).ok
    with store.database.session() as session:
        with pytest.raises(Exception, match="only ever added"), session.begin_nested():
            session.execute(text(tamper))
        session.execute(text("ALTER TABLE audit DISABLE TRIGGER audit_append_only"))
        session.execute(text(tamper))
    assert not audit.verify_chain(store).ok


def test_an_error_inside_leaves_nothing(store: Platform, delivered: list[int]) -> None:
    with (
        pytest.raises(KeyError),
        change.door(store, SYSTEM, Permission.INFRA_CONFIGURE, action="a", subject="s") as door,
    ):
        door.audit(None, {"n": 1})
        door.publish(TOPIC, "k", {"n": 1})
        raise KeyError("stop")
    assert audit.entries(store, SYSTEM) == [] and outbox.waiting(store) == 0 and delivered == []


def test_without_permission_nothing_happens(store: Platform) -> None:
    viewer = Actor("v", "Viewer", frozenset({"ai_viewer"}))
    with pytest.raises(access.Forbidden):
        act(store, 1, actor=viewer)
    with pytest.raises(access.Forbidden):
        audit.entries(store, viewer)


def test_undelivered_waits_and_keeps_its_order(store: Platform, delivered: list[int]) -> None:
    Broken.keys.add("k")
    for n in range(3):
        assert act(store, n) == change.Outcome(n, False, "Redis")
    assert act(store, 100, "other").delivered
    with store.database.session() as session:
        errors = session.scalars(text("SELECT last_error FROM outbox WHERE last_error IS NOT NULL")).all()
        assert errors and "hunter2" not in str(errors)
        session.execute(text("UPDATE outbox SET next_attempt_at = now()"))
    Broken.keys.clear()
    outbox.relay_once(store)
    assert delivered == [100, 0, 1, 2] and outbox.waiting(store) == 0


def test_a_change_of_thousands_is_recorded_and_sent_in_its_order(store: Platform, delivered: list[int]) -> None:
    many = 2 * change.ROWS_TOGETHER + 1
    with change.door(store, SYSTEM, Permission.INFRA_CONFIGURE, action="test", subject="s", seconds=30) as door:
        for n in range(many):
            door.audit(None if n % 2 else {"n": -n}, {"n": n, "text": "a\x00“é”\\ :id %(id)s"}, f"s/{n}")
        for n in range(500):
            door.publish(TOPIC, "k", {"n": n})
    assert door.outcome.delivered and delivered == list(range(500))
    assert audit.verify_chain(store) == audit.Chain(True, many)
    with store.database.session() as session:
        known = session.execute(text("SELECT subject, before IS NULL, request_id IS NULL FROM audit ORDER BY id")).all()
    assert [tuple(row) for row in known] == [(f"s/{n}", n % 2 == 1, True) for n in range(many)]


def test_two_relays_deliver_each_message_once(store: Platform, delivered: list[int]) -> None:
    Broken.keys |= {f"k{n}" for n in range(20)}
    for n in range(20):
        act(store, n, f"k{n}")
    with store.database.session() as session:
        session.execute(text("UPDATE outbox SET next_attempt_at = now()"))
    Broken.keys.clear()
    threads = [threading.Thread(target=outbox.relay_once, args=(store,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(delivered) == list(range(20))


def test_postgresql_away_is_said(store: Platform, delivered: list[int]) -> None:
    from operations.database import Database
    from sandbox.processes import free_port

    store.database.close()
    store.database = Database(f"postgresql://postgres@127.0.0.1:{free_port()}/none")
    with pytest.raises(change.StoreUnavailable):
        act(store, 1)


def test_a_key_somebody_else_delivers_for_too_long_waits(
    store: Platform, delivered: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SOON_SECONDS", 0.3)
    with store.database.session() as session:
        outbox.hold(session, TOPIC, "k")
        assert act(store, 1) == change.Outcome(1, False, "Redis")
        assert act(store, 2, "other").delivered, "the connection is whole"
    assert outbox.relay_once(store) == 1
    assert delivered == [2, 1] and outbox.waiting(store) == 0


def test_a_connection_lost_between_two_questions_is_said_and_replaced(store: Platform) -> None:
    end = ("SELECT pg_terminate_backend(pg_backend_pid())", {})
    for _ in range(store.database.pool.pool_size + 2):
        with pytest.raises(StoreUnavailable), store.database.session() as session:
            together(session, end, ("SELECT %(one)s", {"one": 1}))
    with pytest.raises(StoreUnavailable, match="not there yet"), store.database.session() as session:
        together(session, ("SELECT 1", {}), ("SELECT 1 FROM nowhere", {}))
    with store.database.session() as session:
        assert together(session, ("SELECT %(one)s::int", {"one": 1}), ("SELECT 2", {})) == [[(1,)], [(2,)]]
    assert store.database.pool_status()["checked_out"] == 0


def test_a_reading_is_no_transaction_and_leaves_none(store: Platform) -> None:
    with store.database.reading() as connection:
        moments = [connection.scalar(text("SELECT now()")) for _ in range(2)]
    assert moments[0] < moments[1], "in a transaction the time stands still"
    with pytest.raises(KeyError), store.database.session() as session:
        session.execute(text("INSERT INTO rate_limit_keys (key) VALUES ('never')"))
        raise KeyError
    with store.database.reading() as connection:
        assert not connection.scalar(text("SELECT count(*) FROM rate_limit_keys WHERE key = 'never'"))
    with pytest.raises(StoreUnavailable), Database("postgresql://u@127.0.0.1:1/none").reading():
        pass
