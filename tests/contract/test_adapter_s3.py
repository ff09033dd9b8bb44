"""The S3 adapter on moto's server, and on MinIO's metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from adapters.core import State
from adapters.core.probe import probe
from adapters.s3 import S3, S3Config
from sandbox.inprocess import Services
from tests.support import poll
from tests.support_faulty import FaultyServer


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    made = Services(Path(tmp_path_factory.mktemp("s3")))
    yield made
    made.close()


def config(url: str, bucket: str | None = None) -> S3Config:
    return S3Config(endpoint_url=url, access_key=SecretStr("sandbox"), secret_key=SecretStr("sandbox"), bucket=bucket)


@pytest.mark.parametrize("bucket", [None, "pilothouse-uploads"])
def test_a_well_server_is_healthy_and_counts_what_is_stored(services: Services, bucket: str | None) -> None:
    made = S3(config(services.url("s3"), bucket))
    assert probe(made).health.state is State.HEALTHY
    usage = poll(made.usage)
    found = {m.name: m for m in made.metrics()}
    assert [m.name for m in found.values() if m.headline] == ["storage"]
    assert found["storage"].value == usage.size_bytes > 0
    assert found["objects"].value == (40 if bucket else 72)
    assert found["buckets"].value == (1 if bucket else 3)
    assert usage.source == "listing"
    assert any(s.name == "region" for s in made.settings())
    made.close()


def test_counting_is_not_repeated_within_ten_minutes(services: Services) -> None:
    made = S3(config(services.url("s3")))
    poll(made.usage)
    before = services.traffic("s3").requests
    for _ in range(5):
        made.usage()
    assert services.traffic("s3").requests == before
    made.close()


def test_a_count_that_is_cut_off_says_at_least(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.s3.COUNT_PAGES", 1)
    made = S3(config(services.url("s3")))
    usage = poll(made.usage)
    assert not usage.complete
    assert next(m for m in made.metrics() if m.name == "storage").note.startswith("at least")
    made.close()


def test_a_missing_bucket_is_rejected(services: Services) -> None:
    health = probe(S3(config(services.url("s3"), "nowhere"))).health
    assert (health.state, health.kind) == (State.DOWN, "Rejected")


def test_minio_tells_its_usage_itself() -> None:
    page = (
        'minio_cluster_usage_total_bytes{server="127.0.0.1:9000"} 1.5e+06\n'
        'minio_cluster_usage_object_total{server="127.0.0.1:9000"} 12\n'
    )
    listing = (
        '<?xml version="1.0"?><ListAllMyBucketsResult><Buckets><Bucket><Name>one</Name></Bucket></Buckets>'
        "</ListAllMyBucketsResult>"
    )
    with FaultyServer(answer=lambda method, path: (200, page if "minio" in path else listing)) as server:
        made = S3(config(server.url))
        usage = poll(made.usage)
        assert (usage.size_bytes, usage.objects, usage.source, usage.complete) == (1_500_000, 12, "server", True)
        assert [bucket.name for bucket in made.buckets()] == ["one"]
        made.close()
