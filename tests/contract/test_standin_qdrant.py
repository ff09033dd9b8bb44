"""Every answer of the Qdrant stand-in is one its published description allows; the official client works on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from sandbox.standins import Host
from sandbox.standins import qdrant as standin
from sandbox.standins.qdrant_store import DEMO, Store
from tests.contract.openapi import Recorder, load, serve

KEY = "qdrant-key-for-tests"
SIZE = 4


class Served:
    """A running stand-in, and what it answered."""

    def __init__(self, url: str, store: Store) -> None:
        self.url, self.store = url, store
        self.http = httpx.Client(base_url=url, headers={"api-key": KEY})
        self.client = QdrantClient(url=url, api_key=KEY, prefer_grpc=False)


@pytest.fixture
def qdrant(tmp_path: Path) -> Iterator[Served]:
    """An empty stand-in; every answer it gave is checked when the test ends."""
    app = standin.create(tmp_path, None, [], host=Host(url="", secrets={"qdrant_api_key": KEY}))
    recorder = Recorder(app)
    with serve(recorder) as url:
        served = Served(url, app.state.standin)
        yield served
        served.client.close()
        served.http.close()
    spec = load("qdrant-1.19-openapi.json")
    for answer in recorder.answers:
        if not answer.path.endswith("/points/search"):  # older than the description
            spec.check(answer)


def points(count: int = 20) -> list[models.PointStruct]:
    return [
        models.PointStruct(
            id=n, vector=[float(n), 1.0, 0.5, -1.0], payload={"n": n, "kind": "even" if n % 2 == 0 else "odd"}
        )
        for n in range(count)
    ]


@pytest.fixture
def filled(qdrant: Served) -> Served:
    """A stand-in with one collection of twenty points."""
    client = qdrant.client
    client.create_collection("things", vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.COSINE))
    client.upsert("things", points())
    return qdrant


def test_root_and_probes_need_no_key(qdrant: Served) -> None:
    assert httpx.get(qdrant.url).json()["version"].startswith("1.19")
    for path in ("/healthz", "/livez", "/readyz"):
        assert httpx.get(qdrant.url + path).status_code == 200


def test_everything_else_needs_the_key(qdrant: Served) -> None:
    for path in ("/collections", "/telemetry", "/cluster"):
        assert httpx.get(qdrant.url + path).status_code == 401
        assert httpx.get(qdrant.url + path, headers={"api-key": "wrong"}).status_code == 401
        assert httpx.get(qdrant.url + path, headers={"authorization": f"Bearer {KEY}"}).status_code == 200


@pytest.mark.filterwarnings("error:Qdrant client version")
@pytest.mark.filterwarnings("error:Failed to obtain server version")
def test_the_official_client_finds_the_version_compatible(qdrant: Served) -> None:
    with_check = QdrantClient(url=qdrant.url.replace("127.0.0.1", "localhost"), check_compatibility=True)
    with_check.close()


def test_collections(qdrant: Served) -> None:
    client = qdrant.client
    assert client.get_collections().collections == []
    assert client.create_collection(
        "named",
        vectors_config={"text": models.VectorParams(size=SIZE, distance=models.Distance.DOT)},
        sparse_vectors_config={"words": models.SparseVectorParams()},
        hnsw_config=models.HnswConfigDiff(m=32),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1, default_segment_number=4),
        metadata={"owner": "tests"},
    )
    info = client.get_collection("named")
    assert (info.config.hnsw_config.m, info.segments_count) == (32, 4)
    assert client.collection_exists("named") and not client.collection_exists("other")
    client.update_collection("named", hnsw_config=models.HnswConfigDiff(ef_construct=200))
    changed = client.get_collection("named").config.hnsw_config
    assert (changed.m, changed.ef_construct) == (32, 200)
    client.create_payload_index("named", "kind", models.PayloadSchemaType.KEYWORD)
    client.create_payload_index("named", "text", models.TextIndexParams(type=models.TextIndexType.TEXT))
    assert set(client.get_collection("named").payload_schema) == {"kind", "text"}
    client.delete_payload_index("named", "kind")
    assert set(client.get_collection("named").payload_schema) == {"text"}
    assert client.delete_collection("named")
    assert not client.collection_exists("named")


def test_aliases(filled: Served) -> None:
    create = models.CreateAlias(collection_name="things", alias_name="current")
    filled.client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])
    assert [a.alias_name for a in filled.client.get_collection_aliases("things").aliases] == ["current"]
    assert len(filled.client.get_aliases().aliases) == 1
    assert filled.client.count("current").count == 20


def test_points(filled: Served) -> None:
    client = filled.client
    assert client.get_collection("things").points_count == 20
    assert [r.payload["n"] for r in client.retrieve("things", [3, 4])] == [3, 4]
    assert filled.http.get("/collections/things/points/3").json()["result"]["payload"] == {"n": 3, "kind": "odd"}
    seen: list[Any] = []
    offset: Any = None
    while True:
        records, offset = client.scroll("things", limit=7, offset=offset, with_vectors=True)
        seen += [r.id for r in records]
        if offset is None:
            break
    assert seen == list(range(20))
    even = models.Filter(must=[models.FieldCondition(key="kind", match=models.MatchValue(value="even"))])
    assert client.count("things", count_filter=even).count == 10
    client.set_payload("things", {"more": [1]}, points=[1])
    assert client.retrieve("things", [1])[0].payload == {"n": 1, "kind": "odd", "more": [1]}
    client.overwrite_payload("things", {"only": 1}, points=[2])
    client.delete_payload("things", ["n"], points=[4])
    client.clear_payload("things", points_selector=[6])
    assert [r.payload for r in client.retrieve("things", [2, 4, 6])] == [{"only": 1}, {"kind": "even"}, {}]
    client.update_vectors("things", [models.PointVectors(id=0, vector=[9.0, 9.0, 9.0, 9.0])])
    client.delete("things", points_selector=models.FilterSelector(filter=even))
    assert client.count("things").count == 12
    client.batch_update_points(
        "things",
        [
            models.DeleteOperation(delete=models.PointIdsList(points=[1])),
            models.UpsertOperation(upsert=models.PointsList(points=points(1))),
        ],
    )
    assert client.count("things").count == 12  # one away, and point 0 back


def test_a_null_in_a_payload_stays(filled: Served) -> None:
    filled.client.upsert("things", [models.PointStruct(id=77, vector=[1.0] * SIZE, payload={"a": None, "b": [None]})])
    answer = filled.http.get("/collections/things/points/77").json()["result"]
    assert answer["payload"] == {"a": None, "b": [None]}


def test_queries(filled: Served) -> None:
    client = filled.client
    best = client.query_points("things", query=[19.0, 1.0, 0.5, -1.0], limit=3, with_payload=True)
    assert best.points[0].id == 19
    assert [p.id for p in client.query_points("things", query=19, limit=1).points] == [18]
    odd = models.Filter(must=[models.FieldCondition(key="kind", match=models.MatchValue(value="odd"))])
    request = models.QueryRequest(query=[1.0, 1.0, 1.0, 1.0], filter=odd, limit=2, with_vector=True)
    batch = client.query_batch_points("things", [request, request])
    assert [len(b.points) for b in batch] == [2, 2]
    groups = client.query_points_groups("things", group_by="kind", query=[1.0, 1.0, 1.0, 1.0], group_size=2)
    assert {g.id for g in groups.groups} == {"even", "odd"}
    assert {h.value: h.count for h in client.facet("things", "kind").hits} == {"even": 10, "odd": 10}
    old = filled.http.post("/collections/things/points/search", json={"vector": [1, 1, 1, 1], "limit": 2}).json()
    assert len(old["result"]) == 2


def test_snapshots_are_files(filled: Served) -> None:
    made = filled.client.create_snapshot("things")
    assert made is not None and made.size > 0
    assert [s.name for s in filled.client.list_snapshots("things")] == [made.name]
    assert len(filled.http.get(f"/collections/things/snapshots/{made.name}").content) == made.size
    assert filled.client.delete_snapshot("things", made.name)
    assert filled.client.list_snapshots("things") == []
    assert filled.http.get(f"/collections/things/snapshots/{made.name}").status_code == 404


def test_telemetry_counts_requests(filled: Served) -> None:
    for _ in range(3):
        filled.client.count("things")
    for level in (0, 1, 2, 6):
        told = filled.http.get("/telemetry", params={"details_level": level, "per_collection": "true"}).json()["result"]
        assert told["collections"]["number_of_collections"] == 1
    counts = told["requests"]["rest"]["responses"]["POST /collections/{name}/points/count"]["200"]
    assert counts["count"] == 3 and counts["avg_duration_micros"] > 0
    mine = told["requests"]["rest"]["per_collection_responses"]["things"]
    assert mine["POST /collections/{name}/points/count"]["200"]["count"] == 3
    text = filled.http.get("/metrics").text
    assert 'collection_points{id="things"} 20' in text
    assert 'rest_responses_total{method="POST",endpoint="/collections/{name}/points/count",status="200"} 3' in text


def test_cluster(filled: Served) -> None:
    assert filled.http.get("/cluster").json()["result"] == {"status": "disabled"}
    assert filled.http.get("/collections/things/cluster").json()["result"]["shard_count"] == 1
    assert filled.http.get("/issues").json()["result"] == {"issues": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/collections/none", None, 404),
        ("POST", "/collections/none/points/count", {}, 404),
        ("PATCH", "/collections/none", {}, 404),
        ("GET", "/collections/things/points/99", None, 404),
        ("DELETE", "/collections/things/snapshots/none", None, 404),
        ("PUT", "/collections/things", {"vectors": {"size": 4, "distance": "Cosine"}}, 409),
        ("PUT", "/collections/new", {"vectors": {"size": "x", "distance": "Cosine"}}, 400),
        ("PUT", "/collections/things/points", {"points": [{"id": -1, "vector": []}]}, 400),
        ("PUT", "/collections/things/points", {"points": [{"id": 1, "vector": [1.0]}]}, 400),
        ("POST", "/collections/things/points/query", {"query": [1.0]}, 400),
        ("POST", "/collections/things/points/query", {"query": [1, 1, 1, 1], "limit": 0}, 400),
        ("POST", "/collections/things/points/scroll", {"limit": "many"}, 400),
    ],
)
def test_errors(filled: Served, method: str, path: str, body: Any, status: int) -> None:
    answer = filled.http.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["status"]["error"]


def test_a_body_that_is_no_json(filled: Served) -> None:
    answer = filled.http.post("/collections/things/points/count", content=b"{")
    assert answer.status_code == 400


def test_the_official_client_sees_errors(filled: Served) -> None:
    with pytest.raises(UnexpectedResponse) as caught:
        filled.client.get_collection("none")
    assert caught.value.status_code == 404


def test_demo_collections_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smaller = {name: (30, size, distance, fields) for name, (_, size, distance, fields) in DEMO.items()}
    monkeypatch.setattr("sandbox.standins.qdrant_store.DEMO", smaller)
    first = Store(tmp_path, 5)
    assert first.names() == sorted(DEMO)
    sample = first.client.retrieve("faq", [7], with_vectors=True)[0].vector
    first.client.delete_collection("memories")
    first.close()
    again = Store(tmp_path, 5)
    assert "memories" not in again.names()
    again.reset()
    assert again.names() == sorted(DEMO)
    assert again.client.retrieve("faq", [7], with_vectors=True)[0].vector == sample
    again.close()
    again.close()
