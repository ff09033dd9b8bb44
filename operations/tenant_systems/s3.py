"""A tenant's files: a prefix of the platform's bucket, and a statement of the bucket's policy for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import text

from adapters.core import Denied, Rejected, TimedOut
from adapters.s3 import S3, S3Config
from operations.database import take_turns
from operations.platform import Platform
from operations.tenant_systems import row
from operations.tenant_systems.system import Made, Progress, System, TenantSpec, not_configured, silent

ACTIONS = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
TAG = "${aws:PrincipalTag/tenant}"
SHARED_SID = "Tenants"
TURN_SECONDS = 10.0
"""How long a change of the bucket's policy waits for its turn."""
_turn = threading.Lock()


def prefix(tenant_id: str) -> str:
    """Where a tenant's objects are, ending in a slash."""
    return f"tenants/{tenant_id}/"


def sid(tenant_id: str) -> str:
    """A statement's name: letters and digits only, different for different tenants."""
    return "Tenant" + tenant_id.replace("-", "D").replace("_", "U")


def statement(config: S3Config, tenant_id: str) -> dict[str, Any] | None:
    """What the bucket's policy says of a tenant's prefix; None where nobody is configured to work there.

    A principal naming {tenant} gets a statement per tenant; AWS takes about eighty of them, a policy being at most
    20 KB. A principal without it gets one statement for all tenants, told apart by its tag ``tenant``.
    """
    if not config.tenant_principal:
        return None
    own = "{tenant}" in config.tenant_principal
    where = prefix(tenant_id) if own else prefix(TAG)
    return {
        "Sid": sid(tenant_id) if own else SHARED_SID,
        "Effect": "Allow",
        "Principal": {"AWS": config.tenant_principal.replace("{tenant}", tenant_id)},
        "Action": ACTIONS,
        "Resource": f"arn:aws:s3:::{config.bucket}/{where}*",
    }


class S3System(System):
    """The prefix ``tenants/{id}/``, marked by a small object, and its statement."""

    name = "s3"
    title = "S3 storage"

    def configured(self, platform: Platform) -> bool:
        """Whether there are credentials and a bucket."""
        return _configured(_adapter(platform))

    def make(self, platform: Platform, tenant: TenantSpec) -> Made:
        """Put the statement, then the mark: whoever sees the mark sees the whole.

        Raises Rejected where somebody's objects are there already.
        """
        adapter = _adapter(platform)
        if not _configured(adapter):
            return _skipped(adapter)
        where = prefix(tenant.tenant)
        if not _ours(platform, adapter, tenant.tenant):
            raise Rejected(
                f"The storage has objects below {where} that were not made here.",
                advice="Choose another id for the tenant, or move those objects away.",
            )
        wanted = statement(adapter.config, tenant.tenant)
        if wanted is not None and adapter.prefixes().statement(wanted["Sid"]) != wanted:
            with _turn_of(platform, adapter):
                adapter.prefixes().put_statement(wanted)
        mark = json.dumps({"tenant": tenant.tenant}).encode()
        adapter.prefixes().put(_mark(tenant.tenant), mark)
        told = f" in the policy as {wanted['Sid']}" if wanted else ", without a policy of its own"
        return Made(where, f"Prefix {where}{told}.")

    def remove(self, platform: Platform, tenant_id: str, progress: Progress = silent) -> bool:
        """Remove the statement, then every object below the prefix, 500 at a time.

        In this order: as long as the statement stands, a tenant that still writes leaves objects behind.
        """
        adapter = _adapter(platform)
        if not _configured(adapter):
            return False
        removed, done = False, 0
        if _has_statement(adapter, tenant_id):
            with _turn_of(platform, adapter):
                removed = adapter.prefixes().remove_statement(sid(tenant_id))
        if _ours(platform, adapter, tenant_id):
            while batch := adapter.prefixes().delete_some(prefix(tenant_id)):
                done += batch
                progress(done)
        return done > 0 or removed

    def present(self, platform: Platform, tenant_id: str) -> bool:
        """Whether the mark is there, and the statement where one is wanted."""
        adapter = _adapter(platform)
        if not _configured(adapter) or not adapter.prefixes().has(_mark(tenant_id)):
            return False
        wanted = statement(adapter.config, tenant_id)
        return wanted is None or adapter.prefixes().statement(wanted["Sid"]) is not None


def _ours(platform: Platform, adapter: S3, tenant_id: str) -> bool:
    # The mark is put before anything else is, and goes with the rest.
    if not row.provisioning(platform, tenant_id) or adapter.prefixes().has(_mark(tenant_id)):
        return True
    return not adapter.prefixes().used(prefix(tenant_id))


def _has_statement(adapter: S3, tenant_id: str) -> bool:
    try:
        return adapter.prefixes().statement(sid(tenant_id)) is not None
    except Denied:
        if adapter.config.tenant_principal:
            raise
        return False  # where no policy is wanted, the key need not be allowed to read it


def _mark(tenant_id: str) -> str:
    return f"{prefix(tenant_id)}.tenant"


@contextmanager
def _turn_of(platform: Platform, adapter: S3) -> Iterator[None]:
    """Be the only one, in all processes, who changes the bucket's policy. Raises TimedOut, StoreUnavailable.

    S3 replaces the whole policy and knows no condition on what it was: two who change it at once lose a statement.
    """
    late = "Another change of the bucket's policy did not end in time."
    # Within a process one waits here, so that many waiting do not hold a connection each.
    if not _turn.acquire(timeout=TURN_SECONDS):
        raise TimedOut(late)
    try:
        with platform.database.session(seconds=2 * TURN_SECONDS) as session:
            session.execute(text(f"SET LOCAL lock_timeout = '{int(TURN_SECONDS)}s'"))
            session.execute(text(f"SET LOCAL statement_timeout = '{int(TURN_SECONDS) + 1}s'"))
            take_turns(session, f"s3-policy/{adapter.config.endpoint_url}/{adapter.config.bucket}")
            yield
    finally:
        _turn.release()


def _adapter(platform: Platform) -> S3:
    return cast(S3, platform.adapters["s3"])


def _configured(adapter: S3) -> bool:
    return not adapter.config.missing() and bool(adapter.config.bucket)


def _skipped(adapter: S3) -> Made:
    if adapter.config.missing():
        return not_configured(S3System.title)
    return Made("", "No bucket is set for S3 storage.", skipped=True)
