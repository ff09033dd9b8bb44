"""What the Qdrant stand-in keeps: collections in qdrant-client's local mode, the rest in a JSON file.

Local mode has no index, optimizer or snapshot of its own. Their configuration is kept as written and
answered as a server would, and snapshots are real archives of a collection's folder.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
import tarfile
import threading
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient, models

from sandbox.standins import BrokenState, Standin

Obj = dict[str, Any]

DEMO = {
    # name: (points, dimensions, distance, payload fields and their values)
    "memories": (1200, 64, models.Distance.COSINE, {"kind": ("episodic", "semantic", "procedural"), "tenant": 40}),
    "documents": (900, 96, models.Distance.COSINE, {"lang": ("en", "de", "fr", "es"), "tenant": 40}),
    "faq": (300, 32, models.Distance.DOT, {"topic": ("billing", "limits", "voice", "agents"), "tenant": 1}),
    "voiceprints": (180, 48, models.Distance.EUCLID, {"speaker": ("known", "unknown"), "tenant": 12}),
}
BATCH = 300


def now() -> str:
    """The present moment as Qdrant writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Missing(Exception):
    """No such collection, point or snapshot; the text is Qdrant's."""


def missing(name: str) -> Missing:
    """The error for a collection that does not exist."""
    return Missing(f"Not found: Collection `{name}` doesn't exist!")


class Store(Standin):
    """The state of the stand-in. Everything that touches :attr:`client` holds :attr:`lock`."""

    def __init__(self, state_dir: Path, seed: int | None) -> None:
        self.folder, self.snapshots = state_dir / "qdrant", state_dir / "qdrant-snapshots"
        self.seed, self.lock = seed, threading.RLock()
        new = not (state_dir / "qdrant.json").exists()
        super().__init__("qdrant", state_dir, lambda: {"configs": {}, "indexes": {}, "requests": {}, "operations": 0})
        self.started = now()
        self._closed = False
        self.written = True
        """Whether anything was written to a collection since it was filled."""
        self._filled: Obj | None = None
        if new:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.client = self._open()
        for name in self.names():
            self._relax(name)
        if new:
            self._fill()

    def _open(self) -> QdrantClient:
        try:
            return QdrantClient(path=str(self.folder), force_disable_check_same_thread=True)
        except (RuntimeError, ValueError, KeyError, OSError, EOFError) as error:
            raise BrokenState(f"The collections of qdrant in {self.folder} cannot be opened: {error}") from error

    def _relax(self, name: str) -> None:
        """Spare the disk a flush per point: a sandbox may lose what it knew at a power failure, not at a kill."""
        collection: Any = getattr(self.client, "_client").collections[name]  # noqa: B009  no public way there
        if collection.storage is not None:
            for pragma in ("journal_mode=WAL", "synchronous=OFF"):
                collection.storage.storage.execute(f"PRAGMA {pragma}").fetchall()

    def reset(self) -> None:
        with self.lock:
            shutil.rmtree(self.snapshots, ignore_errors=True)
            super().reset()
            if self._filled is not None and not self.written:
                self.state.update(copy.deepcopy(self._filled))
                return
            for one in self.client.get_collections().collections:
                self.client.delete_collection(one.name)
            self._fill()

    def save(self) -> None:
        # The host saves from its event loop, which must not wait for a long search; the next save comes soon.
        if self.lock.acquire(timeout=0.02):
            try:
                super().save()
            finally:
                self.lock.release()

    def close(self) -> None:
        """Save, and release the folder. Safe to call twice."""
        with self.lock:
            if not self._closed:
                self._closed = True
                self.save()
                self.client.close()

    def _fill(self) -> None:
        """Make the demo collections; nothing without a seed."""
        if self.seed is None:
            return
        for name, (count, size, distance, fields) in DEMO.items():
            rng = random.Random(f"{self.seed}/{name}")
            self.create(name, models.CreateCollection(vectors=models.VectorParams(size=size, distance=distance)))
            centres = [[rng.gauss(0, 1) for _ in range(size)] for _ in range(6)]
            points = []
            for number in range(count):
                centre = rng.choice(centres)
                payload: Obj = {key: rng.choice(of) for key, of in fields.items() if isinstance(of, tuple)}
                payload |= {"tenant": f"tenant-{rng.randrange(fields['tenant']):02d}", "rank": number}
                vector = [round(c + rng.gauss(0, 0.3), 4) for c in centre]
                points.append(models.PointStruct(id=number, vector=vector, payload=payload))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for start in range(0, count, BATCH):
                    self.client.upsert(name, points[start : start + BATCH])
            self.index(name, "tenant", "keyword")
        self._filled, self.written = copy.deepcopy(self.state), False

    # Collections

    def name_of(self, name: str) -> str:
        """The collection a name or an alias stands for. Raises Missing."""
        if self.client.collection_exists(name):
            for alias in self.client.get_aliases().aliases:
                if alias.alias_name == name:
                    return alias.collection_name
            return name
        raise missing(name)

    def names(self) -> list[str]:
        """All collections, by name."""
        return sorted(one.name for one in self.client.get_collections().collections)

    def create(self, name: str, given: models.CreateCollection) -> None:
        """Make a collection and remember the configuration it was made with."""
        self.client.create_collection(
            name,
            vectors_config=given.vectors,
            sparse_vectors_config=given.sparse_vectors,
            metadata=given.metadata,
        )
        self._relax(name)
        extra = given.model_dump(mode="json", exclude_none=True, exclude={"vectors", "sparse_vectors", "metadata"})
        self.state["configs"][name] = extra
        self.state["indexes"][name] = {}
        self.changed()

    def update(self, name: str, given: models.UpdateCollection) -> None:
        """Change a collection's configuration."""
        self.client.update_collection(name, sparse_vectors_config=given.sparse_vectors, metadata=given.metadata)
        keep = self.state["configs"].setdefault(name, {})
        for key, value in given.model_dump(mode="json", exclude_none=True).items():
            if key not in ("vectors", "sparse_vectors", "metadata"):
                keep[key] = keep.get(key, {}) | value if isinstance(value, dict) else value
        self.changed()

    def delete(self, name: str) -> bool:
        """Remove a collection, with its snapshots."""
        gone = bool(self.client.delete_collection(name))
        for part in ("configs", "indexes"):
            self.state[part].pop(name, None)
        shutil.rmtree(self.snapshots / name, ignore_errors=True)
        self.changed()
        return gone

    def index(self, name: str, field: str, schema: Any) -> None:
        """Remember a payload index."""
        self.state["indexes"].setdefault(name, {})[field] = schema
        self.changed()

    def drop_index(self, name: str, field: str) -> None:
        """Forget a payload index."""
        self.state["indexes"].get(name, {}).pop(field, None)
        self.changed()

    def info(self, name: str) -> Obj:
        """A collection as ``GET /collections/{name}`` answers it."""
        found: Obj = self.client.get_collection(name).model_dump(mode="json", exclude_none=True)
        kept = self.state["configs"].get(name, {})
        config = found["config"]
        config["hnsw_config"] |= kept.get("hnsw_config", {})
        config["optimizer_config"] |= kept.get("optimizers_config", {})
        config["wal_config"] |= kept.get("wal_config", {})
        params = {"shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1, "on_disk_payload": True}
        config["params"] = params | config["params"] | kept.get("params", {})
        for key in ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload"):
            if key in kept:
                config["params"][key] = kept[key]
        if "quantization_config" in kept:
            config["quantization_config"] = kept["quantization_config"]
        points = found["points_count"]
        threshold_kb = config["optimizer_config"].get("indexing_threshold")
        size_kb = points * self.dimensions(config) * 4 / 1024
        found["indexed_vectors_count"] = points if threshold_kb and size_kb > threshold_kb else 0
        found["segments_count"] = config["optimizer_config"].get("default_segment_number") or 2
        found["payload_schema"] = {}
        for field, schema in self.state["indexes"].get(name, {}).items():
            kind = schema if isinstance(schema, str) else schema["type"]
            made: Obj = {"data_type": kind, "points": points}
            if not isinstance(schema, str):
                made["params"] = schema
            found["payload_schema"][field] = made
        found["update_queue"] = {"length": 0}
        return found

    @staticmethod
    def dimensions(config: Obj) -> int:
        """Sum of the dimensions of a collection's dense vectors."""
        vectors = config["params"].get("vectors") or {}
        named = [vectors] if "size" in vectors else vectors.values()
        return sum(int(one["size"]) for one in named)

    def operation(self) -> int:
        """Number of the next write."""
        self.state["operations"] += 1
        self.changed()
        return int(self.state["operations"])

    # Snapshots

    def snapshot(self, name: str) -> Obj:
        """Archive a collection's folder; describe the archive."""
        folder = self.snapshots / name
        folder.mkdir(parents=True, exist_ok=True)
        label = f"{name}-{time.time_ns()}-{datetime.now(UTC):%Y-%m-%d-%H-%M-%S}.snapshot"
        path = folder / label
        config = folder / "config.json"
        config.write_text(json.dumps(self.info(name)))
        with tarfile.open(path, "w") as archive:
            archive.add(config, "config.json")
            source = self.folder / "collection" / name
            if source.exists():
                archive.add(source, "collection")
        config.unlink()
        return self.describe(path)

    def snapshots_of(self, name: str) -> list[Obj]:
        """A collection's snapshots, oldest first."""
        return [self.describe(path) for path in sorted((self.snapshots / name).glob("*.snapshot"))]

    def snapshot_path(self, name: str, label: str) -> Path:
        """Where a snapshot lies. Raises Missing."""
        for path in (self.snapshots / name).glob("*.snapshot"):
            if path.name == label:
                return path
        raise Missing(f"Not found: Snapshot {label} not found")

    @staticmethod
    def describe(path: Path) -> Obj:
        """Name, size, time and checksum of a snapshot."""
        stat = path.stat()
        return {
            "name": path.name,
            "creation_time": datetime.fromtimestamp(stat.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "size": stat.st_size,
            "checksum": hashlib.sha256(path.read_bytes()).hexdigest(),
        }

    # Requests

    def count(self, endpoint: str, status: int, seconds: float, collection: str | None) -> None:
        """Add one answered request to what telemetry reports."""
        micros = max(1, round(seconds * 1e6))
        for owner in ("", collection) if collection else ("",):
            one = (
                self.state["requests"]
                .setdefault(owner, {})
                .setdefault(endpoint, {})
                .setdefault(
                    str(status),
                    {"count": 0, "fail_count": 0, "total_duration_micros": 0, "avg_duration_micros": float(micros)},
                )
            )
            one["count"] += 1
            one["fail_count"] += status >= 500
            one["total_duration_micros"] += micros
            # A weighted mean of about the latest 128, as the server reports.
            one["avg_duration_micros"] += (micros - one["avg_duration_micros"]) / min(one["count"], 128)
            one["min_duration_micros"] = float(min(micros, one.get("min_duration_micros", micros)))
            one["max_duration_micros"] = float(max(micros, one.get("max_duration_micros", micros)))
            one["last_responded"] = now()
        self.changed()
