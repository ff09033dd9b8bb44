"""The page of object storage: buckets and what they hold."""

from typing import cast

import streamlit as st

from adapters.core import Unit
from adapters.s3 import S3
from adapters.s3_client.usage import Bucket
from pages.widgets import listing, state
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("s3", icon=":material/inventory_2:")
LIMITS = "Uploads are limited by the policy `file_uploads`; the storage a tier may hold is its `storage_gb` quota."


def render() -> None:
    """Draw the page."""
    service(PAGE, monitor=_monitor, limits=LIMITS)


def _monitor(view: View) -> None:
    adapter = cast(S3, view.adapter)
    buckets = listing.known(view, "buckets", "Buckets", adapter.buckets, every=30.0)
    if buckets is None:
        return
    listing.shown(buckets, ("Bucket", "Objects", "Size"), _bucket, nothing="The key sees no bucket.", right=(1, 2))
    usage = next((m for m in view.now.metrics if m.name == "storage"), None)
    st.caption(
        f"Sizes are {state.plain(usage.note)}, and again every ten minutes."
        if usage
        else "Sizes are being counted; large buckets take a while."
    )


def _bucket(one: Bucket) -> tuple[str, ...]:
    return (
        f"<b>{state.text(one.name)}</b>",
        "–" if one.objects is None else f"{one.objects:,}",
        "–" if one.size_bytes is None else state.number(one.size_bytes, Unit.BYTES),
    )
