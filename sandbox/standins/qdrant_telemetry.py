"""What the Qdrant stand-in reports of itself: telemetry and Prometheus metrics."""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

from sandbox.standins.qdrant_store import Obj, Store


def resident_bytes() -> int:
    """Largest resident size of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def telemetry(store: Store, version: str, level: int, *, per_collection: bool) -> Obj:
    """``GET /telemetry``: the more, the higher the level of detail (0 to 2 and above)."""
    names = store.names()
    collections: Obj = {"number_of_collections": len(names), "max_collections": None}
    if level >= 1:
        collections["collections"] = [_collection(store, name, whole=level >= 2) for name in names]
    rest: Obj = {"responses": store.state["requests"].get("", {})}
    if per_collection:
        rest["per_collection_responses"] = {name: store.state["requests"].get(name, {}) for name in names}
    made: Obj = {
        "id": "sandbox",
        "app": {"name": "qdrant", "version": version, "startup": store.started},
        "collections": collections,
        "cluster": {"enabled": False},
        "requests": {"rest": rest, "grpc": {"responses": {}}},
    }
    if level >= 1:
        size = resident_bytes()
        made["app"]["system"] = {"is_docker": False, "cores": os.cpu_count(), "cpu_flags": ""}
        made["memory"] = {
            "active_bytes": size,
            "allocated_bytes": size,
            "metadata_bytes": 0,
            "resident_bytes": size,
            "retained_bytes": 0,
        }
    return made


def _collection(store: Store, name: str, *, whole: bool) -> Obj:
    info = store.info(name)
    points = info["points_count"]
    if not whole:
        return {"vectors": points, "optimizers_status": info["optimizer_status"], "params": info["config"]["params"]}
    size = points * store.dimensions(info["config"]) * 4
    local = {
        "variant_name": "local_shard",
        "status": info["status"],
        "total_optimized_points": info["indexed_vectors_count"],
        "vectors_size_bytes": size,
        "payloads_size_bytes": points * 64,
        "num_points": points,
        "num_vectors": points,
    }
    shard = {"id": 0, "local": local, "remote": [], "replicate_states": {"1": "Active"}}
    return {"id": name, "init_time_ms": 1, "config": info["config"], "shards": [shard], "transfers": []}


def _line(name: str, value: Any, /, **labels: str) -> str:
    inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"


def metrics_text(store: Store, version: str) -> str:
    """``GET /metrics``: Prometheus text format, with the names the server uses."""
    with store.lock:
        counts = {name: store.client.count(name).count for name in store.names()}
        answered = [
            (endpoint, status, dict(one))
            for endpoint, statuses in store.state["requests"].get("", {}).items()
            for status, one in statuses.items()
        ]
    lines = [
        "# HELP app_info information about qdrant server",
        "# TYPE app_info gauge",
        _line("app_info", 1, name="qdrant", version=version),
        "# HELP cluster_enabled is cluster support enabled",
        "# TYPE cluster_enabled gauge",
        _line("cluster_enabled", 0),
        "# HELP collections_total number of collections",
        "# TYPE collections_total gauge",
        _line("collections_total", len(counts)),
        "# HELP collection_points approximate amount of points per collection",
        "# TYPE collection_points gauge",
        *(_line("collection_points", count, id=name) for name, count in counts.items()),
        "# HELP collections_vector_total total number of vectors in all collections",
        "# TYPE collections_vector_total gauge",
        _line("collections_vector_total", sum(counts.values())),
        "# HELP memory_resident_bytes Maximum number of bytes in physically resident data pages mapped",
        "# TYPE memory_resident_bytes gauge",
        _line("memory_resident_bytes", resident_bytes()),
    ]
    for name, kind, about, field, factor in (
        ("rest_responses_total", "counter", "total number of responses", "count", 1),
        ("rest_responses_fail_total", "counter", "total number of failed responses", "fail_count", 1),
        ("rest_responses_avg_duration_seconds", "gauge", "average response duration", "avg_duration_micros", 1e-6),
        ("rest_responses_max_duration_seconds", "gauge", "maximum response duration", "max_duration_micros", 1e-6),
    ):
        lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        for endpoint, status, one in answered:
            method, path = endpoint.split(" ", 1)
            value = one[field] if factor == 1 else f"{one[field] * factor:.9f}"
            lines.append(_line(name, value, method=method, endpoint=path, status=status))
    return "\n".join(lines) + "\n"
