"""Statements of a bucket's policy, one per tenant, found by their Sid. Statements of others are left as they are."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from adapters.core.errors import Unexpected

VERSION = "2012-10-17"


def read(client: Any, bucket: str) -> dict[str, Any]:
    """The bucket's policy; an empty one where there is none. Raises ClientError, Unexpected."""
    try:
        raw = client.get_bucket_policy(Bucket=bucket)["Policy"]
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code != "NoSuchBucketPolicy" and status not in (405, 501):  # storage that knows no policies has none
            raise
        return {"Version": VERSION, "Statement": []}
    try:
        policy = json.loads(raw)
    except ValueError as error:
        raise Unexpected("The bucket's policy is not JSON.", detail=str(raw)[:300]) from error
    if not isinstance(policy, dict) or "Statement" not in policy:
        raise Unexpected("The bucket's policy has an unexpected shape.", detail=str(raw)[:300])
    statements = policy["Statement"]
    # One statement may stand alone, without a list.
    policy["Statement"] = statements if isinstance(statements, list) else [statements]
    return policy


def statement(policy: dict[str, Any], sid: str) -> dict[str, Any] | None:
    """The statement with this Sid."""
    found = (one for one in policy["Statement"] if isinstance(one, dict) and one.get("Sid") == sid)
    return next(found, None)


def put(client: Any, bucket: str, wanted: dict[str, Any]) -> bool:
    """Have a statement, known by its Sid; whether anything had to change. Not safe against another writer."""
    policy = read(client, bucket)
    if statement(policy, wanted["Sid"]) == wanted:
        return False
    _write(client, bucket, policy, [*_without(policy, wanted["Sid"]), wanted])
    return True


def remove(client: Any, bucket: str, sid: str) -> bool:
    """Take a statement out; whether it was there. Not safe against another writer."""
    policy = read(client, bucket)
    if statement(policy, sid) is None:
        return False
    _write(client, bucket, policy, _without(policy, sid))
    return True


def _without(policy: dict[str, Any], sid: str) -> list[Any]:
    return [one for one in policy["Statement"] if not (isinstance(one, dict) and one.get("Sid") == sid)]


def _write(client: Any, bucket: str, policy: dict[str, Any], statements: list[Any]) -> None:
    if statements:
        document = json.dumps({**policy, "Statement": statements}, separators=(",", ":"))
        client.put_bucket_policy(Bucket=bucket, Policy=document)
    else:
        client.delete_bucket_policy(Bucket=bucket)  # a policy without statements is refused
