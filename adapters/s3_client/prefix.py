"""Everything below a prefix: listing it and deleting it, in bounded pages."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from adapters.core.errors import Rejected

BATCH = 500
"""Objects deleted by one call: at most 1,000 by the protocol, fewer so that each call is short."""


def empty(client: Any, bucket: str, prefix: str) -> bool:
    """Whether nothing is below the prefix. Raises ClientError."""
    return not client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents")


def delete_batch(client: Any, bucket: str, prefix: str) -> int:
    """Delete the first objects below the prefix, every version of them; how many went, 0 when none are left.

    Raises ClientError, Rejected where the storage keeps an object.
    """
    found = _page(client, bucket, prefix)
    if not found:
        return 0
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
    errors = answer.get("Errors") or []
    if errors:
        first = errors[0]
        raise Rejected(
            f"The storage keeps {len(errors)} objects below {prefix}.",
            detail=f"{first.get('Key')}: {first.get('Code')} {first.get('Message')}"[:300],
            advice="Look for retention or legal holds on these objects, and at what the console's key may delete.",
        )
    return len(found)


def _page(client: Any, bucket: str, prefix: str) -> list[dict[str, str]]:
    if not _versioned(client, bucket):
        page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=BATCH)
        return [{"Key": row["Key"]} for row in page.get("Contents", [])]
    page = client.list_object_versions(Bucket=bucket, Prefix=prefix, MaxKeys=BATCH)
    rows = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    return [{"Key": row["Key"], "VersionId": row["VersionId"]} for row in rows]


def _versioned(client: Any, bucket: str) -> bool:
    """Whether objects of the bucket have, or had, versions; a suspended bucket keeps those it has."""
    try:
        return bool(client.get_bucket_versioning(Bucket=bucket).get("Status"))
    except ClientError as error:
        # Many servers know no versions, and a key may be refused the question.
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (403, 405, 501):
            return False
        raise
