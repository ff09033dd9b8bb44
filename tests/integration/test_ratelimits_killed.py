"""Consoles and Redis killed at random moments: nothing is lost, reordered, or applied twice with effect."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from limiter import Limiter, keys
from operations import apitokens, audit, outbox, ratelimit_explain, ratelimit_wire
from operations.access import SYSTEM
from operations.platform import Platform
from sandbox.engines import Valkey
from sandbox.processes import free_port, kill, spawn
from tests import support_console
from tests.support import ROOT, poll, start_engine
from tests.support_operations import KEY, make

pytestmark = pytest.mark.engines
CHANGES, SHOTS = 300, 5


class Listener:
    """Hears every announcement a subscriber can hear, whatever happens to Redis, with the server's run it came from."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=1)
        self.heard: list[tuple[str, list[object]]] = []
        self.ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self.client.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                run = str(self.client.info("server")["run_id"])
                with self.client.pubsub() as pubsub:
                    pubsub.subscribe(keys.CHANGES)
                    while not self._stop.is_set():
                        message = pubsub.get_message(timeout=0.2)
                        if message is not None and message["type"] == "subscribe":
                            self.ready.set()
                        elif message is not None and message["type"] == "message":
                            self.heard.append((run, json.loads(message["data"])))
            except (redis.RedisError, OSError):
                self.ready.clear()
                self._stop.wait(0.01)

    def effects(self, *, per_run: bool) -> dict[tuple[str, str, str], list[int]]:
        """The versions announced, in order of arrival, by run (if asked), key and what changed."""
        found: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for run, (key, _before, _revision, _epoch, config, pairs) in self.heard:
            where = run if per_run else ""
            items = list(pairs) if pairs else []  # type: ignore[call-overload]
            for name, document in zip(items[::2], items[1::2], strict=True):
                found[where, str(key), str(name)].append(json.loads(document)["version"])
            if config:
                base = found[where, str(key), "policy"]
                version = json.loads(str(config))["version"]
                if (
                    not items or not base or base[-1] != version
                ):  # an override's announcement carries the policy as it is
                    base.append(version)
        return found


class World:
    """One PostgreSQL database, one Redis, two consoles in processes of their own, and somebody with a gun.

    ``whole``: the consoles are the product as it is served, and changes come over HTTP. Else each changes limits
    itself, as fast as it can, which kills it in the middle of a change more often.
    """

    def __init__(self, platform: Platform, engine: Valkey, folder: Path, chance: random.Random, *, whole: bool) -> None:
        self.platform, self.engine, self.folder, self.chance, self.whole = platform, engine, folder, chance, whole
        self.environment = {
            **os.environ,
            "PILOTHOUSE_DATABASE_URL": platform.settings.database_url.get_secret_value(),
            "PILOTHOUSE_REDIS_URL": platform.settings.redis_url.get_secret_value(),
            "PILOTHOUSE_ENCRYPTION_KEYS": KEY,
            "PILOTHOUSE_OIDC_ISSUER": "http://127.0.0.1:1/realms/none",
        }
        self.consoles: list[subprocess.Popen[bytes] | BaseProcess] = []
        self.addresses: dict[int | None, str] = {}
        self.callers: list[support_console.Caller] = []
        self.killed = {"console": 0, "Redis": 0}
        self.started = self.shots = 0
        self.heard_of: list[tuple[str, int]] = []
        self.waited = 0

    def start_console(self) -> None:
        self.started += 1
        log = self.folder / f"console-{self.started}.log"
        if self.whole:
            port = free_port()
            address = f"http://127.0.0.1:{port}"
            served = support_console.serve({**self.environment, "PILOTHOUSE_PUBLIC_URL": address}, port, log)
            self.consoles.append(served)
            self.addresses[served.pid] = address
        else:
            command = [sys.executable, "-m", "tests.support_console", str(self.chance.randrange(10**6))]
            self.consoles.append(spawn(command, log=log, env=self.environment, cwd=ROOT))

    def call(self) -> None:
        """Begin to change limits over HTTP, two at a time."""
        token = apitokens.create(self.platform, SYSTEM, "caller", frozenset({"infra_admin"}), reason="a test")
        self.callers += [
            support_console.Caller(number, token, lambda: [self.addresses[one.pid] for one in list(self.consoles)])
            for number in range(2)
        ]

    def made(self) -> int:
        with self.platform.database.session() as session:
            return int(session.scalar(text("SELECT count(*) FROM outbox WHERE topic = 'ratelimit'")) or 0)

    def more(self, number: int) -> None:
        """Wait for so many further changes, and then any moment."""
        wanted = self.made() + number
        poll(lambda: self.made() >= wanted, 60, what=f"{number} further changes")
        time.sleep(self.chance.random() * 0.03)

    def shoot(self) -> None:
        self.shots += 1
        # A whole console takes seconds to start: the older one is shot, and not too often, so that some changes pass.
        if self.shots % 4 == 2 if self.whole else self.chance.random() < 0.5:
            victim = self.consoles[0 if self.whole else self.chance.randrange(2)]
            self.start_console()
            self.consoles.remove(victim)
            self.finish(victim)
            self.killed["console"] += 1
        else:
            self.engine.kill()
            self.killed["Redis"] += 1
            if self.chance.random() < 0.6:
                self.more(self.chance.randrange(1, 12))
            self.engine.start()

    def finish(self, console: subprocess.Popen[bytes] | BaseProcess) -> None:
        if isinstance(console, BaseProcess):
            console.kill()
            console.join()
        else:
            kill(console)

    def end(self) -> None:
        while self.consoles:
            self.finish(self.consoles.pop(0))
        while self.callers:
            caller = self.callers.pop()
            caller.close()
            self.heard_of += caller.kept
            self.waited += caller.waited
            assert not caller.odd, caller.odd

    def settle(self) -> None:
        """What a console's relay does until nothing waits; waits between attempts are cut short."""

        def empty() -> bool:
            with self.platform.database.session() as session:
                session.execute(text("UPDATE outbox SET next_attempt_at = now() WHERE delivered_at IS NULL"))
            outbox.relay_once(self.platform)
            return outbox.waiting(self.platform) == 0

        poll(empty, 20, what="an empty outbox")


@pytest.fixture(params=[True, False], ids=["Redis keeps its data", "Redis forgets"])
def world(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    # "always": what was answered was written. Anything less may lose what was delivered; then reconciling repairs.
    more = ("appendfsync always",) if request.param else ()
    engine = start_engine(lambda port: Valkey(tmp_path / f"valkey-{port}", port, durable=request.param, more=more))
    platform = make(database_url, engine.url, monkeypatch, tmp_path)
    with platform.database.session() as session:
        session.execute(
            text(
                "INSERT INTO tenants (id, name, tier_code) SELECT id, id, 'team' FROM unnest(CAST(:ids AS text[])) id"
            ),
            {"ids": list(support_console.TENANTS)},
        )
    ratelimit_wire.reconcile(platform)
    made = World(platform, engine, tmp_path, random.Random(20260719), whole=request.param)
    yield made
    made.end()
    platform.close()
    engine.kill()


@pytest.mark.timeout(240)
def test_after_kills_redis_equals_postgresql_in_order_and_once(world: World) -> None:
    platform, engine = world.platform, world.engine
    listener = Listener(engine.url)
    poll(listener.ready.is_set)
    with Limiter(platform.redis, timeout=2.0) as limiter:
        assert limiter.wait_ready()
        world.start_console()
        world.start_console()
        if world.whole:
            world.call()
        # However fast the changes are, each is shot at several times among them.
        while world.made() < CHANGES or min(world.killed.values()) < SHOTS:
            world.more(world.chance.randrange(5, 25))
            world.shoot()
        world.end()
        with platform.database.session() as session:
            delivered = session.scalar(text("SELECT count(*) FROM outbox WHERE delivered_at IS NOT NULL"))
        assert delivered > CHANGES / 2  # by the consoles, between the shots
        world.settle()
        if (
            not engine.durable
        ):  # what Redis lost, no message brings back: the reconciler does, at its start at the latest
            ratelimit_wire.reconcile(platform)
        assert ratelimit_wire.reconcile(platform, repair=False).total == 0
        assert min(world.killed.values()) >= SHOTS, world.killed
        assert audit.verify_chain(platform).ok
        if world.whole:
            _answered_is_kept(world)

        # The running limiter, which lived through it all, decides as PostgreSQL says.
        who = [(key, tenant, None) for key in support_console.KEYS for tenant in support_console.TENANTS]

        def equal() -> bool:
            right = [(one.limit, one.source) for one in ratelimit_explain.effective_many(platform, who)]
            return [(one.limit, one.source) for one in (limiter.core.effective(*item) for item in who)] == right

        poll(equal, what="a limiter equal to PostgreSQL")

    with platform.database.session() as session:
        rows = session.execute(
            text(
                "SELECT key, (payload->>'version')::bigint AS version FROM outbox WHERE topic = 'ratelimit' ORDER BY id"
            )
        ).all()
    commits: dict[str, list[int]] = defaultdict(list)
    for key, version in rows:
        commits[key].append(version)
    for versions in commits.values():
        assert versions == sorted(set(versions))  # outbox ids follow the order of commits
    heard = listener.effects(per_run=not engine.durable)
    assert sum(map(len, heard.values())) > 100
    for what, announced in heard.items():
        assert announced == sorted(set(announced)), what  # in the order of commits, and no version twice

    if engine.durable:
        _deliver_everything_again(world, listener)
    assert ratelimit_wire.reconcile(platform, repair=False).total == 0
    listener.close()


def _answered_is_kept(world: World) -> None:
    """Whatever a console called saved is on record, once, wherever it was shot afterwards."""
    with world.platform.database.session() as session:
        rows = session.execute(text("SELECT subject, (after->>'version')::bigint FROM audit WHERE after ? 'version'"))
        recorded = Counter((row[0], int(row[1])) for row in rows)
    assert len(world.heard_of) > CHANGES / 3
    assert world.waited > 0  # while Redis was away
    assert {one: recorded[one] for one in world.heard_of} == dict.fromkeys(world.heard_of, 1)


def _deliver_everything_again(world: World, listener: Listener) -> None:
    """Oldest first, as a relay that died before noting its deliveries would: no effect, not even an announcement."""
    before, announcements = _dump(world.platform), len(listener.heard)
    with world.platform.database.session() as session:
        session.execute(text("UPDATE outbox SET delivered_at = NULL WHERE topic = 'ratelimit'"))
    world.settle()
    assert _dump(world.platform) == before
    world.platform.redis.publish(keys.CHANGES, json.dumps(["end", "0", "0", "0", "", []]))
    poll(lambda: listener.heard[-1][1][0] == "end")
    assert len(listener.heard) == announcements + 1


def _dump(platform: Platform) -> dict[str, object]:
    found: dict[str, object] = {keys.VERSIONS: platform.redis.hgetall(keys.VERSIONS)}
    for key in support_console.KEYS:
        found[key] = platform.redis.get(keys.config(key))
        found[f"{key} overrides"] = platform.redis.hgetall(keys.overrides(key))
        found[f"{key} changes"] = platform.redis.zrange(keys.changes(key), 0, -1, withscores=True)
    return found
