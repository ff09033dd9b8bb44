"""What the faces share: who looks, how limits are written and read, and why something cannot be changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import streamlit as st

from adapters.core import utcnow
from limiter import Scope
from operations import ratelimit_subjects
from operations.access import Actor, Permission, roles_with
from operations.change import FieldError
from operations.platform import Platform
from operations.ratelimit_rules import LIMIT_RANGE, WINDOW_RANGE, parse_window, window_text
from operations.ratelimits import Policy, Target
from pages.widgets import state

MODES = ("HARD", "SOFT", "WARN")
MODE_HELP = (
    "HARD rejects above the limit. SOFT admits and counts what is over, which is billable. "
    "WARN admits and tells admins alone: a limit on trial."
)
LIMIT_HELP = "Units per window: a number, 0 (blocks everything) or Unlimited."
WINDOW_HELP = "“1 hour”, “24 hours”, “90 s” or seconds."


@dataclass(frozen=True, slots=True)
class View:
    """Who looks at what."""

    platform: Platform
    actor: Actor

    @property
    def edits(self) -> bool:
        """Whether the person may change limits: for hiding, the operation checks for itself."""
        return self.actor.may(Permission.RATELIMIT_EDIT)


def locked() -> None:
    """Say that everything can be read and nothing changed, why, and whom to ask."""
    roles = " or ".join(f"**{role.replace('_', ' ')}**" for role in roles_with(Permission.RATELIMIT_EDIT))
    st.markdown(
        f":small[:gray[:material/lock: You can read everything here and change nothing: changing limits needs the "
        f"permission {Permission.RATELIMIT_EDIT}, which none of your roles grants. Ask someone who is {roles}.]]"
    )


def amount(limit: int | None) -> str:
    """A limit as people write it."""
    return "Unlimited" if limit is None else f"{limit:,}"


def read_limit(value: Any) -> int | None:
    """A limit from what was typed: "2,000", 2000, "unlimited". Raises ValueError saying what is allowed."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    words = str(value if value is not None else "").strip().lower()
    if words in ("unlimited", "∞", "none"):
        return None
    digits = words.replace(",", "").replace("_", "").replace(" ", "").replace("\u202f", "")
    if not digits.removeprefix("-").isdecimal():
        raise ValueError("is empty" if not words else "is not a whole number")
    return int(digits)


def limit_of(value: Any, field: str, errors: list[FieldError]) -> int | None:
    """``read_limit``, with a failure noted instead of raised."""
    try:
        return read_limit(value)
    except ValueError as error:
        errors.append(FieldError(field, str(error), LIMIT_RANGE))
        return None


def window_of(value: Any, field: str, errors: list[FieldError]) -> int | None:
    """Seconds from what was typed, with a failure noted instead of raised."""
    try:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return parse_window("" if value is None else value)
    except ValueError as error:
        errors.append(FieldError(field, str(error), WINDOW_RANGE))
        return None


def per(seconds: int) -> str:
    """A window after "per": "hour", "24 hours"."""
    return window_text(seconds).removeprefix("1 ")


def mode(name: str | None) -> str:
    """A mode as a small HTML badge; what inherits it says so."""
    if name is None:
        return "<span class='ph-inherits'>inherits</span>"
    return f"<span class='ph-mode {name.lower()}'>{state.text(name)}</span>"


def window(seconds: int | None) -> str:
    """A window as HTML."""
    return state.text(window_text(seconds)) if seconds else "<span class='ph-inherits'>inherits</span>"


def meter(share: float | None, warn: float = 80) -> str:
    """A share of a limit (percent) as an HTML bar with its number."""
    if share is None:
        return "<span class='ph-inherits'>no limit</span>"
    tone = "full" if share >= 100 else "near" if share >= warn else ""
    shown = f"{share:.0f} %" if share < 10_000 else ">9,999 %"
    return f"<span class='ph-meter {tone}'><i><b style='width:{min(share, 100):.0f}%'></b></i><em>{shown}</em></span>"


def big(facts: Iterable[tuple[str, str, str]]) -> None:
    """Numbers in a row: (label, value, what comes small after it)."""
    cells = "".join(
        f"<div><small>{state.text(label)}</small><b>{state.text(value)}</b><em>{state.text(after)}</em></div>"
        for label, value, after in facts
    )
    st.html(f"<div class='ph-big'>{cells}</div>")


def whose(target: Target, name: str = "") -> str:
    """Whom a policy is for, in words."""
    if target.scope is Scope.GLOBAL:
        return "everyone"
    return f"{target.scope.lower()} {name or target.reference}"


def shown(name: str, value: Any) -> str:
    """A field's value in words."""
    if name == "limit":
        return amount(value)
    if name in ("window_seconds", "window"):
        return window_text(value) or "inherits"
    if value is None:
        return {"expires_at": "never"}.get(name, "inherits")
    if name == "warn_percent":
        return f"{value} %"
    if name == "active":
        return "active" if value else "inactive"
    if isinstance(value, datetime):
        return state.moment(value)
    return str(value) or "–"


FIELD_NAMES = {
    "limit": "limit", "window_seconds": "window", "policy": "policy", "warn_percent": "warning level",
    "on_redis_failure": "without Redis", "active": "state", "expires_at": "expires", "description": "description",
    "owner": "owner",
}  # fmt: skip


def errors(found: Iterable[FieldError]) -> None:
    """Name every bad field with what is allowed."""
    lines = [
        f"- **{state.plain(one.field)}** {state.plain(one.message)}."
        + (f" Allowed: {state.plain(one.allowed)}." if one.allowed else "")
        for one in found
    ]
    if lines:
        st.error("Nothing was saved.\n\n" + "\n".join(lines[:20]), icon=":material/error:")


def tenant_picker(view: View, label: str, key: str, *, parameter: str = "") -> str | None:
    """A search and the tenants it finds; the id chosen. Works for ten thousand tenants as for ten.

    ``parameter`` is where the address keeps the id. Bound by hand: a binding would keep the name shown.
    """
    search, choice = st.columns([2, 3], vertical_alignment="bottom")
    with search:
        words = st.text_input(
            f"Search {label.lower()}", key=f"{key}_search", placeholder="Part of a name or id", icon=":material/search:"
        )
    found = ratelimit_subjects.find(view.platform, view.actor, words or "", 50)
    names = dict(found.rows)
    if parameter and key not in st.session_state and parameter in st.query_params:
        st.session_state[key] = st.query_params[parameter]
    kept = st.session_state.get(key)
    if kept and kept not in names:
        known = ratelimit_subjects.names(view.platform, view.actor, [kept])
        names |= known
        if not known:
            del st.session_state[key]
    more = found.total - len(found.rows)
    with choice:
        chosen: str | None = st.selectbox(
            label,
            list(names),
            index=None,
            key=key,
            format_func=lambda one: names.get(one, one),
            placeholder="Choose a tenant" if not more else f"Choose, or search among {more:,} more",
        )
    keep_in_address(parameter, chosen)
    return chosen


def keep_in_address(parameter: str, value: str | None) -> None:
    """Put a choice into the page's address, or take it out."""
    if not parameter or st.query_params.get(parameter) == value:
        return
    if value is None:
        st.query_params.pop(parameter, None)
    else:
        st.query_params[parameter] = value


def hint(words: str) -> None:
    """A quiet sentence beside a control."""
    st.markdown(f":small[:gray[{words}]]")


def ago(at: datetime) -> float:
    """Seconds since a moment; negative for one still to come."""
    return (utcnow() - at).total_seconds()


def by_key(policies: Iterable[Policy]) -> dict[str, Policy]:
    """GLOBAL policies by key."""
    return {policy.target.key: policy for policy in policies}
