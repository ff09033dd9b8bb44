"""Parts of a bucket that belong to somebody: a prefix with everything below it, and a statement of the policy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from botocore.exceptions import ClientError

from adapters.core.errors import Rejected, Unexpected
from adapters.s3_client import policy

BATCH = 500
"""Objects deleted by one call: at most 1,000 by the protocol, fewer so that each call is short."""
SECONDS = 2.5
WRITE_SECONDS = 10.0

Asking = Callable[[float], AbstractContextManager[Any]]


class Prefixes:
    """The prefixes of one bucket. Every method raises AdapterError."""

    def __init__(self, asking: Asking, bucket: str) -> None:
        self._asking = asking
        self.bucket = bucket

    def put(self, key: str, body: bytes) -> None:
        """Store a small JSON object."""
        with self._asking(SECONDS) as client:
            _told(client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType="application/json"))

    def has(self, key: str) -> bool:
        """Whether there is an object."""
        with self._asking(SECONDS) as client:
            try:
                _told(client.head_object(Bucket=self.bucket, Key=key))
            except ClientError as error:
                # A HEAD has no body, so a missing bucket looks alike: the bucket itself tells them apart.
                if _status(error) != 404:
                    raise
                client.head_bucket(Bucket=self.bucket)
                return False
        return True

    def used(self, prefix: str) -> bool:
        """Whether anything is below a prefix."""
        with self._asking(SECONDS) as client:
            return bool(client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=1).get("Contents"))

    def delete_some(self, prefix: str) -> int:
        """Delete the first 500 objects below a prefix, in every version; how many. Ask again until it is 0.

        Raises Rejected where the storage keeps an object.
        """
        with self._asking(WRITE_SECONDS) as client:
            found = self._page(client, prefix)
            if not found:
                return 0
            answer = client.delete_objects(Bucket=self.bucket, Delete={"Objects": found, "Quiet": True})
        errors = answer.get("Errors") or []
        if errors:
            first = errors[0]
            raise Rejected(
                f"The storage keeps {len(errors)} of {len(found)} objects below {prefix}.",
                detail=f"{first.get('Key')}: {first.get('Code')} {first.get('Message')}"[:300],
                advice="Look for retention or legal holds on these objects, and at what the console's key may delete.",
            )
        return len(found)

    def statement(self, sid: str) -> dict[str, Any] | None:
        """One statement of the bucket's policy; None where there is none with this Sid."""
        with self._asking(SECONDS) as client:
            return policy.statement(policy.read(client, self.bucket), sid)

    def put_statement(self, wanted: dict[str, Any]) -> bool:
        """Have a statement in the policy, known by its Sid; whether anything changed.

        Reads and writes the whole policy: callers take turns.
        """
        with self._asking(WRITE_SECONDS) as client:
            return policy.put(client, self.bucket, wanted)

    def remove_statement(self, sid: str) -> bool:
        """Take a statement out of the policy; whether it was there. Callers take turns."""
        with self._asking(WRITE_SECONDS) as client:
            return policy.remove(client, self.bucket, sid)

    def _page(self, client: Any, prefix: str) -> list[dict[str, str]]:
        if not self._versioned(client):
            page = client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=BATCH)
            return [{"Key": row["Key"]} for row in page.get("Contents", [])]
        page = client.list_object_versions(Bucket=self.bucket, Prefix=prefix, MaxKeys=BATCH)
        rows = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        return [{"Key": row["Key"], "VersionId": row["VersionId"]} for row in rows]

    def _versioned(self, client: Any) -> bool:
        """Whether objects of the bucket have, or had, versions; a suspended bucket keeps those it has."""
        try:
            return bool(client.get_bucket_versioning(Bucket=self.bucket).get("Status"))
        except ClientError as error:
            # Many servers know no versions, and a key may be refused the question.
            if _status(error) in (403, 405, 501):
                return False
            raise


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _told(answer: Any) -> None:
    """Raise Unexpected unless an answer about an object is one of S3: a status alone any web server gives."""
    if not answer.get("ETag"):
        raise Unexpected("What answers at this address does not speak S3.", detail="no ETag in its answer")
