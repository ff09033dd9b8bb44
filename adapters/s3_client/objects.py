"""Small objects of one bucket: written, read, listed and removed, each call within one deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from adapters.core.errors import Rejected

DELETE_AT_ONCE = 1000
"""As many keys as one DeleteObjects request takes."""

Asking = Callable[[], AbstractContextManager[Any]]


class Objects:
    """One bucket. Every method raises AdapterError; objects are at most a few MiB, as answers are capped."""

    def __init__(self, asking: Asking, bucket: str) -> None:
        self._asking = asking
        self.bucket = bucket

    def ensure_bucket(self) -> bool:
        """Make the bucket unless it is there; True when it was made."""
        try:
            with self._asking() as client:
                client.head_bucket(Bucket=self.bucket)
        except Rejected:
            with self._asking() as client:
                client.create_bucket(Bucket=self.bucket)
            return True
        return False

    def put(self, key: str, data: bytes) -> None:
        """Write one object, replacing what was there."""
        with self._asking() as client:
            client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        """One object. Raises Rejected where there is none."""
        with self._asking() as client:
            return bytes(client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def keys(self, prefix: str, most: int = 10_000) -> list[str]:
        """Keys that begin with ``prefix``, in order, at most ``most``."""
        found: list[str] = []
        token: dict[str, str] = {}
        while len(found) < most:
            with self._asking() as client:
                page = client.list_objects_v2(
                    Bucket=self.bucket, Prefix=prefix, MaxKeys=min(1000, most - len(found)), **token
                )
            found += [str(row["Key"]) for row in page.get("Contents", [])]
            if not page.get("IsTruncated") or "NextContinuationToken" not in page:
                break
            token = {"ContinuationToken": page["NextContinuationToken"]}
        return found

    def folders(self, prefix: str) -> set[str]:
        """The first path segments below ``prefix`` (which ends in "/"), at most 1,000."""
        with self._asking() as client:
            page = client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, Delimiter="/", MaxKeys=1000)
        return {str(row["Prefix"]).removeprefix(prefix).rstrip("/") for row in page.get("CommonPrefixes", [])}

    def delete(self, keys: Iterable[str]) -> int:
        """Remove objects; how many were asked for. Those already gone are no error."""
        wanted = list(keys)
        for start in range(0, len(wanted), DELETE_AT_ONCE):
            some = wanted[start : start + DELETE_AT_ONCE]
            with self._asking() as client:
                answer = client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in some], "Quiet": True}
                )
            failed = answer.get("Errors") or []
            if failed:
                raise Rejected(
                    f"The storage did not remove {len(failed)} of {len(some)} objects.", detail=str(failed[0])[:300]
                )
        return len(wanted)
