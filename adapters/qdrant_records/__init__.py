"""What the Qdrant adapter reads out of the server's answers: collections and request counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from adapters.core.errors import Unexpected

T = TypeVar("T")
PROBES = frozenset({"/healthz", "/livez", "/readyz", "/metrics", "/telemetry"})


@dataclass(frozen=True, slots=True)
class Vector:
    """One vector of a collection's points; ``name`` is "" for the only one."""

    name: str
    size: int | None
    """Dimensions; None for a sparse vector."""
    distance: str


@dataclass(frozen=True, slots=True)
class PayloadIndex:
    """One indexed payload field."""

    field: str
    kind: str
    points: int


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection as the server describes it."""

    name: str
    status: str
    """green, yellow (optimizing), grey (waiting to optimize) or red (an operation failed)."""
    optimizer: str
    """"ok", or the optimizer's error."""
    points: int
    indexed_vectors: int
    segments: int
    vectors: tuple[Vector, ...]
    shards: int
    replicas: int
    hnsw: Mapping[str, Any]
    optimizers: Mapping[str, Any]
    quantized: bool
    indexes: tuple[PayloadIndex, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """False where an operation failed or the optimizer reports an error."""
        return self.status != "red" and self.optimizer == "ok"


@dataclass(frozen=True, slots=True)
class Collections:
    """Collections that were read; ``total`` is how many the server has."""

    items: tuple[Collection, ...]
    total: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Requests to one endpoint since the server started; latency in milliseconds of the latest ones."""

    endpoint: str
    count: int
    failed: int
    """Answered with a 5xx status."""
    latency_ms: float | None


@dataclass(frozen=True, slots=True)
class Traffic:
    """All requests the server reports."""

    endpoints: tuple[Endpoint, ...]

    @property
    def count(self) -> int:
        """Requests that are not probes."""
        return sum(e.count for e in self.endpoints if e.endpoint.partition(" ")[2] not in PROBES)

    @property
    def failed(self) -> int:
        """Requests answered with a 5xx status."""
        return sum(e.failed for e in self.endpoints)

    @property
    def latency_ms(self) -> float | None:
        """Mean latency of requests for points, weighted by their count; None before the first."""
        data = [e for e in self.endpoints if "points" in e.endpoint.lower()]
        timed = [(e.count, e.latency_ms) for e in data if e.latency_ms is not None]
        total = sum(count for count, _ in timed)
        return sum(count * ms for count, ms in timed) / total if total else None


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The server's report on itself, as far as it went."""

    version: str
    started: str
    collections: int
    vectors: int | None
    """Total over all collections; None where the server does not tell at this level of detail."""
    optimizer_errors: tuple[str, ...]
    traffic: Traffic
    resident_bytes: int | None
    cluster: bool
    facts: tuple[tuple[str, str], ...]


def read(make: Callable[[Any], T], value: Any, what: str) -> T:
    """Build a record from an answer. Raises Unexpected where the answer has another shape."""
    try:
        return make(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        detail = f"{type(error).__name__}: {error}: {str(value)[:300]}"
        raise Unexpected(f"Qdrant answered {what} in an unexpected shape.", detail=detail) from error


def optimizer_status(value: Any) -> str:
    """ "ok", or the text of the error."""
    return str(value["error"]) if isinstance(value, dict) else str(value)


def _vectors(params: Any) -> tuple[Vector, ...]:
    given = params.get("vectors") or {}
    named = {"": given} if "size" in given else given
    dense = [Vector(name, int(one["size"]), str(one["distance"])) for name, one in named.items()]
    return (*dense, *(Vector(name, None, "sparse") for name in params.get("sparse_vectors") or {}))


def collection(name: str, row: Any) -> Collection:
    """A collection from ``GET /collections/{name}``."""
    config = row["config"]
    return Collection(
        name=name,
        status=str(row["status"]),
        optimizer=optimizer_status(row["optimizer_status"]),
        points=int(row.get("points_count") or 0),
        indexed_vectors=int(row.get("indexed_vectors_count") or 0),
        segments=int(row["segments_count"]),
        vectors=_vectors(config["params"]),
        shards=int(config["params"].get("shard_number") or 1),
        replicas=int(config["params"].get("replication_factor") or 1),
        hnsw=dict(config["hnsw_config"]),
        # The server calls it optimizer_config; the plural was the name in older versions.
        optimizers=dict(config.get("optimizer_config") or config.get("optimizers_config") or {}),
        quantized=bool(config.get("quantization_config")),
        indexes=tuple(
            PayloadIndex(field, str(one["data_type"]), int(one.get("points") or 0))
            for field, one in (row.get("payload_schema") or {}).items()
        ),
        warnings=tuple(str(one["message"]) for one in row.get("warnings") or ()),
    )


def traffic(requests: Any) -> Traffic:
    """Request counts from telemetry, REST and gRPC together."""
    found = []
    for kind in ("rest", "grpc"):
        responses = ((requests or {}).get(kind) or {}).get("responses") or {}
        for endpoint, answered in responses.items():
            # gRPC gives the statistics per endpoint, REST per endpoint and status.
            rows = {"200": answered} if "count" in answered else answered
            count = sum(int(one["count"]) for one in rows.values())
            failed = sum(int(one["count"]) for status, one in rows.items() if str(status).startswith("5"))
            timed = [
                (int(one["count"]), float(one["avg_duration_micros"]))
                for one in rows.values()
                if one.get("avg_duration_micros") is not None and one["count"]
            ]
            total = sum(many for many, _ in timed)
            mean = sum(many * micros for many, micros in timed) / total / 1000 if total else None
            found.append(Endpoint(str(endpoint), count, failed, mean))
    return Traffic(tuple(sorted(found, key=lambda e: (-e.count, e.endpoint))))


def telemetry(row: Any) -> Telemetry:
    """The server's report from ``GET /telemetry?details_level=1``."""
    app, listed = row.get("app") or {}, row["collections"].get("collections")
    one_by_one = listed or []
    complete = listed is not None and all("vectors" in one for one in one_by_one)
    statuses = [optimizer_status(one.get("optimizers_status", "ok")) for one in one_by_one]
    system, cluster = app.get("system") or {}, row.get("cluster") or {}
    facts = {
        "Started": app.get("startup"),
        "Cores": system.get("cores"),
        "Memory of the machine (kB)": system.get("ram_size"),
        "Distribution": system.get("distribution"),
        "In a container": system.get("is_docker"),
        "Role-based access by JWT": app.get("jwt_rbac"),
        "Collections allowed": row["collections"].get("max_collections"),
        "Cluster": "enabled" if cluster.get("enabled") else "disabled",
    }
    resident = (row.get("memory") or {}).get("resident_bytes")
    return Telemetry(
        version=str(app.get("version") or ""),
        started=str(app.get("startup") or ""),
        collections=int(row["collections"]["number_of_collections"]),
        vectors=sum(int(one["vectors"]) for one in one_by_one) if complete else None,
        optimizer_errors=tuple(status for status in statuses if status != "ok"),
        traffic=traffic(row.get("requests")),
        resident_bytes=None if resident is None else int(resident),
        cluster=bool(cluster.get("enabled")),
        facts=tuple((name, str(value)) for name, value in facts.items() if value is not None),
    )
