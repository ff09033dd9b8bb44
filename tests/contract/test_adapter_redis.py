"""The Redis adapter on a real Valkey."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from adapters.core import State
from adapters.core.probe import probe
from adapters.redis import Redis, RedisConfig
from sandbox.faults import Fault
from sandbox.inprocess import Services
from tests.support_faulty import no_leaks


@pytest.fixture
def adapter(redis_url: str) -> Iterator[Redis]:
    made = Redis(RedisConfig(url=SecretStr(redis_url)))
    yield made
    made.close()


def test_a_well_server_is_healthy_with_one_headline(adapter: Redis, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("one", 1, ex=60)
        client.get("one")
        client.get("none")
    sample = probe(adapter)
    assert sample.health.state is State.HEALTHY, sample.health
    assert (sample.health.version or "").startswith("Valkey ")
    found = {m.name: m for m in sample.metrics}
    assert [m.name for m in sample.metrics if m.headline] == ["latency"]
    assert found["keys"].value == 1
    assert found["hit_rate"].value == 50.0
    assert found["memory"].value > 100_000


def test_settings_mask_the_password(adapter: Redis, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("masterauth", "canary-pw")
        settings = {s.name: s.value for s in adapter.settings()}
        client.config_set("masterauth", "")
    masked = [value for name, value in settings.items() if isinstance(value, SecretStr)]
    assert [value.get_secret_value() for value in masked].count("canary-pw") >= 1
    assert "canary-pw" not in repr(settings)
    assert str(settings["maxmemory"]).isdigit()


def test_nearly_out_of_memory_is_degraded(adapter: Redis, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", int(used * 1.01))
        health = probe(adapter).health
        client.config_set("maxmemory", 0)
    assert health.state is State.DEGRADED
    assert "memory" in health.message


def test_slow_log_and_command_statistics(adapter: Redis, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.set("slow", "x")
    assert any(row.command.startswith("SET") for row in adapter.slowlog())
    assert any(row.name == "set" and row.calls >= 1 for row in adapter.command_stats())


@pytest.mark.parametrize("fault", list(Fault))
def test_faults_in_the_middle_of_a_connection(redis_url: str, tmp_path: Path, fault: Fault) -> None:
    services = Services(tmp_path)
    try:
        target = redis.connection.parse_url(redis_url)["port"]
        port = services.front("redis", target, "redis")
        adapter = Redis(RedisConfig(url=SecretStr(f"redis://127.0.0.1:{port}/0")))
        assert probe(adapter).health.state is State.HEALTHY
        with no_leaks(ignore_threads=("adapter-loop", "asyncio_", "probe", "sandbox")):
            services.fault("redis", fault)
            start = time.monotonic()
            health = probe(adapter).health
            assert time.monotonic() - start < 3.4
            assert health.state in (State.DOWN, State.NO_ANSWER), health
            if fault is Fault.DENIED:
                assert health.kind == "Denied"
            adapter.close()
    finally:
        services.close()


def test_an_address_of_something_else_is_rejected() -> None:
    health = probe(Redis(RedisConfig(url=SecretStr("http://127.0.0.1:1")))).health
    assert (health.state, health.kind) == (State.DOWN, "Rejected")
