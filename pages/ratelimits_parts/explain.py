"""Explain: why a tenant or agent gets what it gets, and the proof."""

from __future__ import annotations

import streamlit as st

from adapters.core import AdapterError
from limiter import Scope
from operations import change, ratelimit_explain, ratelimit_subjects, ratelimits
from operations.ratelimit_explain import Explanation, Link, Proof
from pages.ratelimits_parts import common
from pages.ratelimits_parts.common import View
from pages.widgets import state, table

_WHOM = {Scope.GLOBAL: "Everyone", Scope.TIER: "Tier", Scope.TENANT: "Tenant", Scope.AGENT: "Agent"}


def draw(view: View) -> None:
    """Whom and what, then the answer."""
    keys = [policy.target.key for policy in ratelimits.policies(view.platform, view.actor)]
    if not keys:
        table.empty("No limits yet", "Every call passes until an admin sets one.")
        return
    tenant = common.tenant_picker(view, "Tenant", "rl_tenant", parameter="tenant")
    left, right = st.columns(2, vertical_alignment="bottom")
    workers = dict(ratelimit_subjects.agents(view.platform, view.actor, tenant)) if tenant else {}
    state_key = f"rl_agent_{tenant}"
    if state_key not in st.session_state and st.query_params.get("agent") in workers:
        st.session_state[state_key] = st.query_params["agent"]
    with left:
        agent = st.selectbox(
            "Agent",
            list(workers),
            index=None,
            key=state_key,
            disabled=not workers,
            format_func=lambda one: workers.get(one, one),
            placeholder="The tenant as a whole",
        )
    common.keep_in_address("agent", agent)
    with right:
        key = st.selectbox("Key", keys, key="key", bind="query-params")
    if not tenant:
        table.empty(
            "Choose a tenant", "Its limit, where it comes from, what is used and when it resets are shown here."
        )
        return
    try:
        said = ratelimit_explain.explain(view.platform, view.actor, key or keys[0], tenant, agent)
    except change.NotFound as error:
        st.warning(state.plain(str(error)), icon=":material/search_off:")
        return
    _said(said)
    st.markdown("#### The chain, narrowest first")
    _chain(said)
    _prove(view, said)


def _said(said: Explanation) -> None:
    share = None if said.used is None or not said.limit else 100 * said.used / said.limit
    used = "unknown" if said.used is None else f"{said.used:,}"
    left = "unknown" if said.used is None else "unlimited" if said.remaining is None else f"{said.remaining:,}"
    reset = "–" if said.reset_at is None else f"in {state.span(-common.ago(said.reset_at))}"
    facts = (
        ("Limit", f"{common.amount(said.limit)} per {common.per(said.window_seconds)}"), ("Policy", said.policy),
        ("Used now", used), ("Left", left), ("Window ends", reset), ("Warns at", f"{said.warn_percent} %"),
        ("Without Redis", said.on_redis_failure),
    )  # fmt: skip
    cells = "".join(f"<div><small>{a}</small><b>{state.text(b)}</b></div>" for a, b in facts)
    bar = f"<div style='margin-top:.7rem'>{common.meter(share, said.warn_percent)}</div>" if share is not None else ""
    st.html(f"<div class='ph-said'><p>{state.text(said.sentence)}</p><div class='ph-facts'>{cells}</div>{bar}</div>")
    if said.used is None:
        st.markdown(":orange[:material/timer_off: Redis does not answer, so present use is unknown.]")
    if said.valid_until is not None:
        common.hint(f":material/event: One of these rules expires at {state.moment(said.valid_until)}.")


def _chain(said: Explanation) -> None:
    items = "".join(_item(link) for link in said.chain)
    st.html(f"<ol class='ph-chain'>{items}</ol>")


def _item(link: Link) -> str:
    p = link.policy
    scope = p.target.scope
    name = "" if scope is Scope.GLOBAL else f" {state.text(link.name)}"
    until = f" until {state.moment(p.expires_at)}" if p.expires_at else ""
    by = f"set by {state.text(p.updated_by)}" if p.updated_by else "set from the start"
    why = f" · “{state.text(p.reason)}”" if p.reason else ""
    verdict = state.text(link.sentence.rpartition(": ")[2])
    per = f"<small> per {common.per(p.window_seconds)}</small>" if p.window_seconds else ""
    return (
        f"<li class='{'in' if link.decides else 'out'}'><b></b><span>{_WHOM[scope]}{name}</span>"
        f"<strong>{common.amount(p.limit)}{per}</strong><span>{verdict}<br><small>{by}{until}{why}</small></span></li>"
    )


def _prove(view: View, said: Explanation) -> None:
    st.markdown("#### Prove it")
    st.markdown(
        ":gray[A probe with exactly this limit uses it up, through the real limiter and the real Redis. "
        "Nobody's own use is touched.]"
    )
    who = (said.key, said.tenant, said.agent, said.limit, said.policy)
    if st.button("Prove it", key="rl_prove", icon=":material/science:"):
        st.session_state.pop("_rl_proof", None)
        try:
            proof = ratelimit_explain.prove(view.platform, view.actor, said.key, said.tenant, said.agent)
        except AdapterError as error:
            st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
            return
        except change.NotFound as error:  # deleted since the page was drawn
            st.warning(state.plain(str(error)), icon=":material/search_off:")
            return
        st.session_state["_rl_proof"] = (who, proof)
    found = st.session_state.get("_rl_proof")
    if found and found[0] == who:
        _proof(found[1])


def _proof(proof: Proof) -> None:
    words = state.plain(proof.sentence)
    if proof.right:
        st.success(words, icon=":material/verified:")
    else:
        st.error(f"{words} Expected the first rejection at {proof.expected_at}.", icon=":material/error:")

    def at(number: int | None) -> str:
        return "none" if number is None else f"number {number:,}"

    common.big(
        (
            ("Limit", common.amount(proof.limit), ""), ("Admitted", f"{proof.admitted:,}", ""),
            ("Over, counted apart", f"{proof.over:,}", ""), ("First rejection", at(proof.rejected_at), ""),
            ("Expected", at(proof.expected_at), ""),
        )
    )  # fmt: skip
