"""Executions of workflows: which there are, by type, status, id, time and search attribute."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from sqlalchemy import select

from adapters.core.errors import Rejected, Unexpected
from adapters.temporal import Temporal
from adapters.temporal_client import executions as visible
from adapters.temporal_client.executions import Execution, Page
from models import WorkflowSlot
from operations import change
from operations.access import Actor, Permission, require
from operations.change import FieldError
from operations.platform import Platform
from operations.workflow_filters import FILTERED, PENDING, STATUSES, Filters, filters_of, query_of

__all__ = [
    "FILTERED", "STATUSES", "Execution", "Filters", "Page", "adapter_of", "count", "cut", "filters_of", "page",
    "query_for", "query_of", "token_of", "token_text",
]  # fmt: skip

T = TypeVar("T")
TOKEN_LETTERS = 2000
NO_PAGE = FieldError("page", "is not a page of this list", "start again from the first page")
PLACES_MOST = 500
"""Runs that a query names one by one."""


def adapter_of(platform: Platform) -> Temporal:
    """The adapter of Temporal with the configuration in force."""
    return cast(Temporal, platform.adapters["temporal"])


def page(platform: Platform, actor: Actor, filters: Filters, token: str = "") -> Page:
    """At most fifty that match: running ones, then the last to end. Raises Forbidden, Invalid, AdapterError."""
    require(actor, Permission.INFRA_VIEW)
    query = query_for(platform, filters)
    start = token_of(token)
    return _asked(
        platform, filters, lambda a: a.call(lambda c: visible.page(c, a.config.namespace, query, start)), start
    )


def count(platform: Platform, actor: Actor, filters: Filters) -> int:
    """How many match. Raises Forbidden, Invalid, AdapterError."""
    require(actor, Permission.INFRA_VIEW)
    query = query_for(platform, filters)
    return _asked(platform, filters, lambda a: a.call(lambda c: visible.count(c, a.config.namespace, query)))


def query_for(platform: Platform, filters: Filters) -> str:
    """The query of the filters on this platform: its namespace's attributes, its own list of who waits.

    Raises Invalid, StoreUnavailable.
    """
    places = _waiting(platform, filters)[:PLACES_MOST]
    return query_of(filters, kinds(platform) if filters.attribute else None, places=places)


def cut(platform: Platform, filters: Filters) -> bool:
    """Whether more runs wait for a place than a query can name: the rest is not among the pending it finds.

    Raises StoreUnavailable.
    """
    return len(_waiting(platform, filters)) > PLACES_MOST


def _waiting(platform: Platform, filters: Filters) -> Sequence[tuple[str, str]]:
    """The runs of the type, or of all, that wait for a place, those that wait longest first; one more than is used."""
    if filters.status != PENDING:
        return ()
    asked = select(WorkflowSlot.workflow_id, WorkflowSlot.run_id).where(WorkflowSlot.state == "waiting")
    if filters.type:
        asked = asked.where(WorkflowSlot.type == change.clean(filters.type))

    def fetch() -> list[tuple[str, str]]:
        with platform.database.session() as session:
            rows = session.execute(asked.order_by(WorkflowSlot.asked_at).limit(PLACES_MOST + 1))
            return [(row.workflow_id, row.run_id) for row in rows]

    found = platform.readings.get(f"temporal:places:{filters.type}", fetch, 5.0, 1.0)
    if found.value is None and found.error is not None:
        raise found.error
    return found.value or ()


def kinds(platform: Platform) -> dict[str, int] | None:
    """The namespace's search attributes with the number of their type; None while they are not known."""
    adapter = adapter_of(platform)
    found = platform.readings.get(
        "temporal:attributes",
        lambda: adapter.call(lambda client: visible.attributes(client, adapter.config.namespace)),
        60.0,
        1.0,
    )
    return found.value


def token_text(token: bytes) -> str:
    """A server's page token as an address can carry it."""
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def token_of(text: str) -> bytes:
    """The server's page token in an address. Raises Invalid."""
    try:
        if len(text) > TOKEN_LETTERS:
            raise ValueError(text[:20])
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise change.Invalid([NO_PAGE]) from error


def _asked(platform: Platform, filters: Filters, ask: Callable[[Temporal], T], token: bytes = b"") -> T:
    try:
        return ask(adapter_of(platform))
    except Rejected as error:
        raise _explained(error, filters) from error
    except Unexpected as error:
        if not token:
            raise
        # A token the server cannot read makes it fail without saying why.
        raise change.Invalid([NO_PAGE]) from error


def _explained(error: Rejected, filters: Filters) -> Exception:
    """What the server's refusal of a query means for the person who filters."""
    said = error.detail.lower()
    if "search attribute" in said and filters.attribute:
        name = filters.attribute.partition("=")[0].strip()
        return change.Invalid([FieldError("attribute", f"{name} cannot be searched in this namespace")])
    if "page token" in said or "pagetoken" in said or "next page" in said:
        return change.Invalid([NO_PAGE])
    return error
