"""Qdrant: vector search. Totals come from one telemetry call, details from one call per collection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, Literal
from urllib.parse import quote

import httpx
from pydantic import Field, SecretStr

from adapters import qdrant_records as records
from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import deadline
from adapters.core.errors import Denied, Rejected, TimedOut, Unexpected
from adapters.core.http import NotSupported, request
from adapters.core.http import client as http_client
from adapters.core.model import Category, Health, Metric, Service, Setting, State, Unit
from adapters.qdrant_records import Collection, Collections, Telemetry, Traffic

MAX_COLLECTIONS = 200
SETTINGS_COLLECTIONS = 20
WRITE_SECONDS = 10.0
"""Making or deleting a collection is agreed on by the whole cluster: longer than a question."""


class QdrantConfig(ServiceConfig):
    """How to reach Qdrant's REST API."""

    url: str | None = Field(
        None, title="Address", description="https://host:port of the REST API.", json_schema_extra={"required": True}
    )
    api_key: SecretStr | None = Field(None, title="API key", description="Not needed where Qdrant asks for none.")
    vector_size: int = Field(
        1536, title="Vector size", description="Dimensions of a new tenant's collection.", ge=1, le=65_535
    )
    vector_distance: Literal["Cosine", "Euclid", "Dot", "Manhattan"] = Field(
        "Cosine", title="Distance", description="How vectors of a new tenant's collection are compared."
    )


class Qdrant(Adapter[QdrantConfig]):
    """One Qdrant server, or the cluster behind one address."""

    service = Service(
        slug="qdrant",
        title="Qdrant",
        category=Category.DATA,
        path="/platform/infrastructure/qdrant",
        purpose="Keeps vectors and finds the nearest.",
        affects="vector search and recall",
        order=40,
    )

    @cached_property
    def _http(self) -> httpx.Client:
        self.require_config()
        key = self.config.api_key.get_secret_value() if self.config.api_key else ""
        return http_client((self.config.url or "").rstrip("/"), headers={"api-key": key} if key else None)

    def _get(self, path: str, **params: Any) -> Any:
        """The ``result`` of one GET."""
        body = request(self._http, "GET", path, expect=dict, service="Qdrant", params=params)
        if "result" not in body:
            raise Unexpected("Qdrant answered JSON of an unexpected shape.", detail=str(body)[:300])
        return body["result"]

    def health(self) -> Health:
        """``/readyz``, the version, and one read with the configured key."""
        with deadline():
            try:
                request(self._http, "GET", "/readyz", expect=str, service="Qdrant")
            except Unexpected as error:
                if "HTTP 503" not in error.detail:
                    raise
                return Health(State.DOWN, "Qdrant says it is not ready: shards are still loading.", detail=error.detail)
            except NotSupported:
                pass  # servers before 1.5 have no readiness; the reads below decide
            root = request(self._http, "GET", "/", expect=dict, service="Qdrant")
            version = root.get("version")
            if not isinstance(version, str):
                raise Unexpected("What answers at this address is not Qdrant.", detail=str(root)[:300])
            told = self.telemetry()
            count = told.collections if told else len(self._names())
        if told and told.optimizer_errors:
            first = told.optimizer_errors[0][:200]
            many = len(told.optimizer_errors)
            whose = "one collection reports" if many == 1 else f"{many} collections report"
            return Health(State.DEGRADED, f"The optimizer of {whose} an error: {first}", version[:40])
        sentence = f"Qdrant is ready; {count} {'collection' if count == 1 else 'collections'}."
        return Health(State.HEALTHY, sentence, version[:40])

    def metrics(self) -> Sequence[Metric]:
        """Vectors (headline), collections, requests, latency and memory, as far as the server tells."""
        with deadline():
            told = self.telemetry()
            if told is not None and told.vectors is not None:
                found = [
                    Metric("vectors", "Vectors", told.vectors, headline=True),
                    Metric("collections", "Collections", told.collections),
                ]
            else:
                listed = self.collections()
                points = sum(one.points for one in listed.items)
                note = f"first {len(listed.items)} of {listed.total} collections" if listed.truncated else ""
                found = [
                    Metric("vectors", "Points", points, headline=True, note=note),
                    Metric("collections", "Collections", listed.total),
                ]
        return found + (_traffic(told.traffic, told.resident_bytes) if told else [])

    def settings(self) -> Sequence[Setting]:
        """What telemetry says of the server, and the configuration of the first twenty collections."""
        found: list[Setting] = []
        with deadline():
            told = self.telemetry()
            if told:
                found += [Setting("Version", told.version), *(Setting(name, value) for name, value in told.facts)]
            for one in self.collections(SETTINGS_COLLECTIONS).items:
                found += _collection_settings(one)
        return found

    def telemetry(self) -> Telemetry | None:
        """The server's report on itself; None where it has none or the key may not read it."""
        try:
            row = self._get("/telemetry", details_level=1)
        except NotSupported:
            return None
        except Denied as error:
            # 403 is a key for some collections only; 401 is a key that is wrong for everything.
            if "HTTP 403" not in error.detail:
                raise
            return None
        return records.read(records.telemetry, row, "its telemetry")

    def traffic(self) -> Traffic | None:
        """Requests and latency per endpoint since the server started; None where it does not tell."""
        told = self.telemetry()
        return told.traffic if told else None

    def collections(self, limit: int = MAX_COLLECTIONS) -> Collections:
        """Collections by name with status and configuration, as many as ``limit`` and the deadline allow."""
        found: list[Collection] = []
        with deadline():
            names = self._names()
            gone = 0
            for name in names[:limit]:
                try:
                    row = self._get(f"/collections/{quote(name, safe='')}")
                except NotSupported:
                    gone += 1  # deleted since the list was read
                    continue
                except TimedOut:
                    if not found:
                        raise
                    break
                found.append(records.read(partial(records.collection, name), row, "a collection"))
        total = len(names) - gone
        return Collections(tuple(found), total, truncated=len(found) < total)

    def has_collection(self, name: str) -> bool:
        """Whether a collection exists. Raises AdapterError."""
        path = f"/collections/{quote(name, safe='')}"
        try:
            return records.read(lambda row: bool(row["exists"]), self._get(f"{path}/exists"), "a collection")
        except NotSupported:
            pass  # servers before 1.8 do not know the question: the collection itself answers
        try:
            self._get(path)
        except NotSupported:
            return False
        return True

    def points(self, name: str) -> int:
        """How many points a collection holds, about; 0 where there is none. Raises AdapterError."""
        try:
            row = self._get(f"/collections/{quote(name, safe='')}")
        except NotSupported:
            return 0
        return records.read(lambda one: int(one.get("points_count") or 0), row, "a collection")

    def create_collection(self, name: str) -> bool:
        """Create a collection of the configured size and distance; False where it is there already, as it is.

        Raises AdapterError.
        """
        vectors = {"size": self.config.vector_size, "distance": self.config.vector_distance}
        with deadline(WRITE_SECONDS):
            if self.has_collection(name):
                return False
            try:
                self._write("PUT", name, json={"vectors": vectors})
            except Rejected:
                # Made by another at the same moment: versions differ in the status, not in the outcome.
                if not self.has_collection(name):
                    raise
                return False
        return True

    def delete_collection(self, name: str) -> bool:
        """Delete a collection and every vector in it; False where there is none. Raises AdapterError."""
        try:
            return self._write("DELETE", name) is True
        except NotSupported:
            return False

    def _write(self, method: str, name: str, **kw: Any) -> Any:
        path = f"/collections/{quote(name, safe='')}"
        body = request(self._http, method, path, expect=dict, service="Qdrant", seconds=WRITE_SECONDS, **kw)
        if not isinstance(body.get("result"), bool):
            raise Unexpected("Qdrant answered JSON of an unexpected shape.", detail=str(body)[:300])
        return body["result"]

    def close(self) -> None:
        """Close the client."""
        http = self.__dict__.pop("_http", None)
        if http is not None:
            http.close()

    def _names(self) -> list[str]:
        listed = self._get("/collections")
        return records.read(lambda row: sorted(str(one["name"]) for one in row["collections"]), listed, "collections")


def _traffic(traffic: Traffic, resident_bytes: int | None) -> list[Metric]:
    latency_ms = traffic.latency_ms
    found = [
        Metric("requests", "Requests", traffic.count, note="since it started"),
        Metric("failed_requests", "Failed requests", traffic.failed, note="since it started"),
    ]
    if latency_ms is not None:
        found.append(Metric("latency", "Latency of points", round(latency_ms, 3), Unit.MILLISECONDS, note="mean"))
    if resident_bytes is not None:
        found.append(Metric("memory", "Resident memory", resident_bytes, Unit.BYTES))
    return found


def _collection_settings(one: Collection) -> list[Setting]:
    group = f"Collection {re.sub(r'[^ -~]', '?', one.name)[:80]}"
    vectors = ", ".join(f"{v.name or 'vector'}: {v.size or 'sparse'} {v.distance}" for v in one.vectors)
    shown = {"vectors": vectors, "shards": one.shards, "replicas": one.replicas, "quantized": one.quantized}
    shown |= {f"hnsw {key}": value for key, value in one.hnsw.items() if value is not None}
    shown |= {f"optimizer {key}": value for key, value in one.optimizers.items() if value is not None}
    return [Setting(name, str(value), group=group) for name, value in shown.items()]
