"""The Qdrant adapter on the stand-in, and on a server that does everything wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from qdrant_client import models

from adapters import qdrant_records as records
from adapters.core.errors import Denied, Unexpected
from adapters.core.model import State
from adapters.core.probe import probe
from adapters.qdrant import Qdrant, QdrantConfig
from sandbox.standins import Host
from sandbox.standins import qdrant as standin
from sandbox.standins.qdrant_store import Store
from tests.contract.openapi import serve
from tests.support_adapters import fail_in_time, health_is_a_value
from tests.support_faulty import BODIES, FAULTS, FaultyServer, no_leaks

KEY = "qdrant-key-for-tests"


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return standin.create(tmp_path, None, [], host=Host(url="", secrets={"qdrant_api_key": KEY}))


@pytest.fixture
def store(app: Any) -> Store:
    """Two collections: "a" of three points, "b c" of five, which its optimizer has indexed."""
    store: Store = app.state.standin
    for name, count, size in (("a", 3, 4), ("b c", 5, 8)):
        config = models.VectorParams(size=size, distance=models.Distance.COSINE)
        store.create(name, models.CreateCollection(vectors=config))
        store.client.upsert(name, [models.PointStruct(id=n, vector=[float(n + 1)] * size) for n in range(count)])
    store.index("a", "tenant", "keyword")
    return store


@pytest.fixture
def url(app: Any) -> Iterator[str]:
    with serve(app) as address:
        yield address


@pytest.fixture
def qdrant(url: str) -> Iterator[Qdrant]:
    adapter = Qdrant(QdrantConfig(url=url, api_key=SecretStr(KEY)))
    yield adapter
    adapter.close()


def test_health(store: Store, qdrant: Qdrant) -> None:
    health = qdrant.health()
    assert (health.state, health.version) == (State.HEALTHY, "1.19.0")
    assert "2 collections" in health.message


def test_a_wrong_key_is_denied(qdrant: Qdrant) -> None:
    other = Qdrant(QdrantConfig(url=qdrant.config.url, api_key=SecretStr("wrong-key")))
    with pytest.raises(Denied) as caught:
        other.health()
    assert "wrong-key" not in f"{caught.value.sentence} {caught.value.detail}"
    other.close()


def test_unconfigured() -> None:
    sample = probe(Qdrant(QdrantConfig()))
    assert sample.health.state is State.UNCONFIGURED
    assert "PILOTHOUSE_QDRANT_URL" in sample.health.message


def test_metrics(store: Store, qdrant: Qdrant) -> None:
    httpx.post(f"{qdrant.config.url}/collections/a/points/count", json={}, headers={"api-key": KEY})
    metrics = {metric.name: metric for metric in qdrant.metrics()}
    assert [m.name for m in metrics.values() if m.headline] == ["vectors"]
    assert (metrics["vectors"].value, metrics["collections"].value) == (8, 2)
    assert metrics["requests"].value >= 1
    assert metrics["latency"].value > 0


def test_an_empty_qdrant(qdrant: Qdrant) -> None:
    metrics = {metric.name: metric.value for metric in qdrant.metrics()}
    assert (metrics["vectors"], metrics["collections"]) == (0, 0)
    assert qdrant.collections() == records.Collections((), 0, False)
    assert qdrant.health().state is State.HEALTHY


def test_collections(store: Store, qdrant: Qdrant) -> None:
    listed = qdrant.collections()
    assert (listed.total, listed.truncated) == (2, False)
    first, second = listed.items
    assert (first.name, first.points, first.status, first.optimizer, first.healthy) == ("a", 3, "green", "ok", True)
    assert first.vectors == (records.Vector("", 4, "Cosine"),)
    assert first.indexes == (records.PayloadIndex("tenant", "keyword", 3),)
    assert (second.name, second.points) == ("b c", 5)
    assert first.hnsw["m"] == 16 and first.optimizers["flush_interval_sec"] == 5
    short = qdrant.collections(limit=1)
    assert (len(short.items), short.total, short.truncated) == (1, 2, True)


def test_settings(store: Store, qdrant: Qdrant) -> None:
    settings = {(s.group, s.name): s.value for s in qdrant.settings()}
    assert settings["General", "Version"] == "1.19.0"
    assert settings["Collection a", "hnsw m"] == "16"
    assert KEY not in str(settings)


def between(url: str, changes: dict[str, tuple[int, Any]]) -> Any:
    """Answers of the stand-in, except for paths that begin with one of ``changes``."""

    def answer(method: str, path: str) -> tuple[int, Any]:
        for start, changed in changes.items():
            if path.startswith(start):
                return changed
        got = httpx.request(method, url + path, headers={"api-key": KEY})
        return got.status_code, got.json() if "json" in got.headers["content-type"] else got.text

    return answer


@pytest.mark.parametrize("status", [403, 404])
def test_without_telemetry_collections_are_counted(store: Store, url: str, status: int) -> None:
    with FaultyServer(answer=between(url, {"/telemetry": (status, {"status": {"error": "no"}})})) as server:
        adapter = Qdrant(QdrantConfig(url=server.url))
        assert adapter.health().state is State.HEALTHY
        metrics = {metric.name: metric for metric in adapter.metrics()}
        assert set(metrics) == {"vectors", "collections"}
        assert (metrics["vectors"].value, metrics["vectors"].label) == (8, "Points")
        assert adapter.traffic() is None
        assert {s.group for s in adapter.settings()} == {"Collection a", "Collection b c"}
        adapter.close()


def test_a_collection_that_went_away_meanwhile_is_no_failure(store: Store, url: str) -> None:
    gone = {"/collections/a": (404, {"status": {"error": "Not found"}})}
    with FaultyServer(answer=between(url, gone)) as server:
        adapter = Qdrant(QdrantConfig(url=server.url))
        listed = adapter.collections()
        assert [one.name for one in listed.items] == ["b c"] and not listed.truncated
        adapter.close()


def test_not_ready(url: str) -> None:
    with FaultyServer(answer=between(url, {"/readyz": (503, "some shards are not ready")})) as server:
        adapter = Qdrant(QdrantConfig(url=server.url))
        assert adapter.health().state is State.DOWN
        adapter.close()


def test_an_optimizer_in_trouble_is_degraded(url: str) -> None:
    one = {"vectors": 5, "optimizers_status": {"error": "disk full"}, "params": {}}
    result = {"id": "x", "collections": {"number_of_collections": 1, "collections": [one]}}
    with FaultyServer(answer=between(url, {"/telemetry": (200, {"result": result})})) as server:
        adapter = Qdrant(QdrantConfig(url=server.url))
        health = adapter.health()
        assert health.state is State.DEGRADED and "disk full" in health.message
        adapter.close()


def test_many_collections_are_bounded(url: str, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    names = {"collections": [{"name": f"n{n:03}"} for n in range(500)]}
    one = httpx.get(f"{url}/collections/a", headers={"api-key": KEY}).json()

    def answer(method: str, path: str) -> tuple[int, Any]:
        if path == "/collections":
            return 200, {"result": names}
        return (200, one) if path.startswith("/collections/") else (404, {})

    monkeypatch.setattr("adapters.qdrant.Qdrant.collections.__defaults__", (20,))
    with FaultyServer(answer=answer) as server:
        adapter = Qdrant(QdrantConfig(url=server.url))
        headline = next(m for m in adapter.metrics() if m.headline)
        assert headline.value == 60 and headline.note == "first 20 of 500 collections"
        adapter.close()


@pytest.mark.parametrize("fault", FAULTS + BODIES)
def test_health_is_a_value_whatever_happens(fault: str) -> None:
    health_is_a_value(fault, lambda url: Qdrant(QdrantConfig(url=url, api_key=SecretStr(KEY))), KEY)


@pytest.mark.parametrize("fault", ["hang", "drip", "500", "garbage", "huge", "reset", "unexpected", "invalid", "404"])
def test_everything_else_is_bounded_too(fault: str) -> None:
    with no_leaks(), FaultyServer(fault) as server:
        adapter = Qdrant(QdrantConfig(url=server.url))
        fail_in_time(fault, adapter.metrics, adapter.settings, adapter.collections)
        adapter.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"result": None},
        {"result": {"collections": None}},
        {"result": {"collections": [{}]}},
        {"result": []},
        {"result": {"collections": {"number_of_collections": "many"}}},
        {"result": {"collections": {"number_of_collections": 1, "collections": [{"vectors": None}]}}},
    ],
)
def test_unexpected_shapes_are_named(wrong: Any) -> None:
    with FaultyServer(answer=lambda method, path: (200, wrong)) as server:
        adapter = Qdrant(QdrantConfig(url=server.url))
        with pytest.raises(Unexpected):
            adapter.metrics()
        adapter.close()
