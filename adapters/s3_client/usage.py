"""What is stored, and reading it from MinIO's own metrics."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket; sizes in bytes and objects where they were counted."""

    name: str
    objects: int | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What is stored, as counted at one time."""

    size_bytes: int
    objects: int
    complete: bool
    """False where the count stopped at its bound: then the numbers are lower bounds."""
    source: str
    """"server" (MinIO's own metrics) or "listing"."""
    counted_at: str
    buckets: tuple[Bucket, ...] = ()


def total(text: str, name: str) -> float | None:
    """Sum of a metric over its labels in Prometheus text; None where it is absent."""
    rows = re.findall(rf"^{name}(?:\{{[^}}\n]*\}})? ([0-9.eE+-]+)", text, re.MULTILINE)
    return sum(float(row) for row in rows) if rows else None
