"""Setting overrides: the rows chosen, one tenant or agent, or many tenants at once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from adapters.core import utcnow
from limiter import Scope
from operations import ratelimit_impact, ratelimit_subjects
from operations.change import FieldError
from operations.ratelimits import Edit, Policy, Target
from pages.ratelimits_parts import common, review
from pages.ratelimits_parts.common import View

EXPIRY: dict[str, timedelta | None] = {
    "As it is (new: never)": None, "Never": None, "In 1 hour": timedelta(hours=1), "In 1 day": timedelta(days=1),
    "In 7 days": timedelta(days=7), "In 30 days": timedelta(days=30), "At…": None,
}  # fmt: skip
INHERITS = "inherits"
ACTIVE: dict[str, bool | None] = {"As it is": None, "Active": True, "Inactive": False}
MOST = 10_000
ONE, MANY, TIER = "One tenant or agent", "Many tenants by id", "All tenants of a tier"


def draw(view: View, made: review.Draft, chosen: list[Policy], keys: list[str]) -> None:
    """The form, and the review it leads to."""
    errors: list[FieldError] = []
    g = made.generation
    targets = [policy.target for policy in chosen] or _whom(view, keys, g, errors)
    values = _values(g, errors, as_it_is=bool(chosen))
    if not st.button("Review", key=f"ov_review_{g}", type="primary", icon=":material/fact_check:"):
        return
    if not targets and not errors:
        errors.append(FieldError("for", "is missing", "at least one tenant or agent"))
    seen = {policy.target: policy.version for policy in chosen}
    if targets and not chosen:
        stored = ratelimit_impact.present(view.platform, view.actor, targets)
        seen = {target: stored[target].version if target in stored else 0 for target in targets}
    review.begin(view, made, [Edit(target, values, seen.get(target, 0)) for target in targets], errors)


def _whom(view: View, keys: list[str], g: int, errors: list[FieldError]) -> list[Target]:
    key = st.selectbox("Key", keys, key=f"ov_set_key_{g}", placeholder="Choose a key", width=260)
    # On a line of its own: beside the key its last choice is cut off at 800 pixels.
    how = st.segmented_control("For", (ONE, MANY, TIER), default=ONE, required=True, key=f"ov_set_how_{g}")
    if how == ONE:
        tenant = common.tenant_picker(view, "Tenant", f"ov_set_tenant_{g}")
        workers = dict(ratelimit_subjects.agents(view.platform, view.actor, tenant)) if tenant else {}
        agent = st.selectbox(
            "Agent", list(workers), index=None, key=f"ov_set_agent_{g}_{tenant}",
            format_func=lambda a: workers.get(a, a),
            placeholder="The whole tenant", disabled=not workers,
        )  # fmt: skip
        if not key or not tenant:
            return []
        return [Target(key, Scope.AGENT, agent) if agent else Target(key, Scope.TENANT, tenant)]
    if how == MANY:
        pasted = st.text_area("Tenant ids", key=f"ov_set_ids_{g}", placeholder="One per line, or separated by commas")
        ids = list(dict.fromkeys(one for one in re.split(r"[\s,;]+", pasted or "") if one))
        if len(ids) > MOST:
            errors.append(FieldError("tenant ids", "are too many", f"at most {MOST:,}"))
            return []
        unknown = ratelimit_subjects.missing(view.platform, view.actor, ids) if ids else []
        if unknown:
            errors.append(FieldError("tenant ids", f"{', '.join(unknown[:5])} unknown", "ids of tenants"))
        return [Target(key, Scope.TENANT, one) for one in ids] if key else []
    tiers = dict(ratelimit_impact.tier_names(view.platform, view.actor))
    tier = st.selectbox("Tier", list(tiers), key=f"ov_set_tier_{g}", format_func=lambda one: tiers.get(one, one))
    ids = ratelimit_subjects.of_tier(view.platform, view.actor, tier, MOST) if tier else []
    st.markdown(
        f":gray[{len(ids):,} tenants. A tier's own limit is the better place when all of them are meant to stay equal.]"
    )
    return [Target(key, Scope.TENANT, one) for one in ids] if key else []


def _values(g: int, errors: list[FieldError], *, as_it_is: bool) -> dict[str, Any]:
    """What the form says. For rows chosen in the table what is left blank stays as it is; else it inherits."""
    blank = "as it is" if as_it_is else INHERITS
    first = st.columns(4, vertical_alignment="bottom")
    with first[0]:
        words = "as it is" if as_it_is else "500, 0 or Unlimited"
        limit = st.text_input("Limit", key=f"ov_limit_{g}", placeholder=words, help=common.LIMIT_HELP)
    with first[1]:
        width = st.text_input("Window", key=f"ov_window_{g}", placeholder=blank,
                              help=f"{common.WINDOW_HELP} Or “{INHERITS}”.")  # fmt: skip
    with first[2]:
        mode = st.selectbox("Policy", (*common.MODES, INHERITS), index=None, key=f"ov_mode_{g}", placeholder=blank,
                            help=common.MODE_HELP)  # fmt: skip
    with first[3]:
        expiry = st.selectbox("Expires", list(EXPIRY), key=f"ov_expiry_{g}")
    second = st.columns(4, vertical_alignment="bottom")
    with second[0]:
        warn = st.text_input("Warn at %", key=f"ov_warn_{g}", placeholder=blank,
                             help=f"The share of the limit that is near: 1 to 100, or “{INHERITS}”.")  # fmt: skip
    with second[1]:
        gone = st.selectbox("Without Redis", ("allow", "deny", INHERITS), index=None, key=f"ov_gone_{g}",
                            placeholder=blank, help="What a call gets while Redis does not answer")  # fmt: skip
    with second[2]:
        active = st.selectbox(
            "State",
            list(ACTIVE),
            key=f"ov_active_{g}",
            help="Inactive is as if it were not there; a new one is active.",
        )
    with second[3]:
        owner = st.text_input("Owner", key=f"ov_owner_{g}", max_chars=200, placeholder="Who answers for it")
    values: dict[str, Any] = {}
    if limit.strip() or not as_it_is:
        values["limit"] = common.limit_of(limit, "limit", errors)
    for name, label, typed, read in (
        ("window_seconds", "window", width.strip(), common.window_of),
        ("policy", "policy", mode or "", None),
        ("warn_percent", "warning level", warn.strip().removesuffix("%").strip(), _percent),
        ("on_redis_failure", "without Redis", gone or "", None),
    ):
        if typed.lower() == INHERITS or (not typed and not as_it_is):
            values[name] = None
        elif typed:
            before = len(errors)
            found = typed if read is None else read(typed, label, errors)
            if len(errors) == before:
                values[name] = found
    if (wanted := ACTIVE.get(active or "")) is not None:
        values["active"] = wanted
    if owner.strip():
        values["owner"] = owner
    values |= _expiry(g, expiry, errors)
    if not values and not errors:
        errors.append(FieldError("limit", "and everything else is left as it is", "at least one value"))
    return values


def _percent(words: str, field: str, errors: list[FieldError]) -> int | None:
    if words.isdecimal():
        return int(words)
    errors.append(FieldError(field, "is not a whole number", "1 to 100 %"))
    return None


def _expiry(g: int, expiry: str | None, errors: list[FieldError]) -> dict[str, Any]:
    if expiry == "At…":
        moment: datetime | None = st.datetime_input("Expires at (UTC)", value=None, key=f"ov_at_{g}")
        if moment is not None:
            return {"expires_at": moment.replace(tzinfo=UTC)}
        errors.append(FieldError("expires", "is missing", "a moment in UTC"))
    elif expiry == "Never":
        return {"expires_at": None}
    elif expiry and (after := EXPIRY[expiry]) is not None:
        return {"expires_at": (utcnow() + after).replace(microsecond=0)}
    return {}
