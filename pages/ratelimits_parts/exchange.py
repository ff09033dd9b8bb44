"""Import and export of everything as YAML, and comparing Redis with PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import streamlit as st

from adapters.core import AdapterError, utcnow
from operations import change, ratelimit_repair, ratelimit_wire, ratelimit_yaml
from operations.change import FieldError
from operations.ratelimit_wire import Reconciled
from operations.ratelimit_yaml import Step
from operations.ratelimits import Edit
from pages.ratelimits_parts import common
from pages.ratelimits_parts.common import View
from pages.widgets import forms, state, table

NOTE = "rl_note_import"
STEPS_SHOWN = 100


@dataclass(slots=True)
class _Import:
    """A document under review; one per browser session. The edits shown are the edits applied."""

    generation: int = 0
    steps: list[Step] | None = None
    edits: list[Edit] = field(default_factory=list)
    errors: list[FieldError] = field(default_factory=list)


def draw(view: View) -> None:
    """Export, import, and what differs between the two stores."""
    forms.result(NOTE)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("#### Export")
        st.markdown(
            "Every policy, tier limit and override as one document: to keep, to compare, or to import elsewhere."
        )
        st.download_button(
            "Download YAML", partial(ratelimit_yaml.export_yaml, view.platform, view.actor),
            f"ratelimits-{utcnow():%Y%m%d-%H%M}.yaml", "application/yaml", key="rl_export", icon=":material/download:",
            on_click="ignore",
        )  # fmt: skip
    with right:
        _stores(view)
    st.markdown("#### Import")
    _document(view)


def _document(view: View) -> None:
    made: _Import = st.session_state.setdefault("_rl_import", _Import())
    with st.form(f"rl_import_{made.generation}", border=False):
        typed = st.text_area("YAML", key=f"rl_yaml_{made.generation}", height=200,
                             placeholder="ratelimits:\n  api_calls:\n    limit: 1000\n    window: 1 hour\n    …",
                             help="As exported. What the document does not name is deleted.")  # fmt: skip
        sent = st.file_uploader("or a file", type=["yaml", "yml"], key=f"rl_file_{made.generation}")
        asked = st.form_submit_button("Preview the difference", type="primary", icon=":material/difference:")
    if asked:
        source = sent.getvalue().decode("utf-8", "replace") if sent is not None else typed
        made.steps, made.edits, made.errors = None, [], []
        try:
            made.steps, made.edits = ratelimit_yaml.preview_yaml(view.platform, view.actor, source)
        except change.Invalid as error:
            made.errors = error.errors
    common.errors(made.errors)
    if made.steps is not None:
        _preview(view, made, made.steps)


def _preview(view: View, made: _Import, steps: list[Step]) -> None:
    if not steps:
        st.info("The document says what is in force already: nothing to apply.", icon=":material/check:")
        return
    counts = {kind: sum(step.kind == kind for step in steps) for kind in ("create", "change", "delete")}
    words = ", ".join(f"**{n:,}** to {kind}" for kind, n in counts.items() if n)
    with st.container(border=True, key="rl_import_review"):
        st.markdown(f"#### The difference: {words}")
        table.draw(
            ("", "Key", "For", "Now → then"),
            [(f"<b>{step.kind}</b>", state.text(step.target.key), state.text(common.whose(step.target)), _fields(step))
             for step in steps[:STEPS_SHOWN]],
        )  # fmt: skip
        if len(steps) > STEPS_SHOWN:
            common.hint(f"and {len(steps) - STEPS_SHOWN:,} more")
        if not view.edits:
            common.locked()
            return
        with st.form(f"rl_apply_{made.generation}", border=False):
            reason = forms.reason_field(f"rl_apply_reason_{made.generation}")
            go = st.form_submit_button("Apply all of it", type="primary", icon=":material/publish:")
        if not go:
            return
        if not reason.strip():
            common.errors([FieldError("reason", "is asked for", "a few words on why")])
            return

        def operation() -> change.Outcome:
            return ratelimit_yaml.import_yaml(view.platform, view.actor, made.edits, reason=reason).outcome

        if forms.run(operation, done=f"{len(steps):,} changes imported.", note=NOTE) is not None:
            st.session_state["_rl_import"] = _Import(made.generation + 1)
            st.rerun()


def _fields(step: Step) -> str:
    if step.kind == "delete":
        return f"<del>{common.amount(step.fields['limit'][0])}</del> → <b>deleted</b>"
    parts = [
        f"{common.FIELD_NAMES[name]} "
        + (f"<del>{state.text(common.shown(name, now))}</del> → " if step.kind == "change" else "")
        + f"<b>{state.text(common.shown(name, then))}</b>"
        for name, (now, then) in step.fields.items()
        if step.kind == "change" or then not in (None, "") or name == "limit"
    ]
    return ", ".join(parts)


def _stores(view: View) -> None:
    """PostgreSQL is the truth, Redis the wire: any difference can be seen and repaired."""
    st.markdown("#### PostgreSQL and Redis")
    st.markdown("Compared and repaired by itself at the start and every minute; here on demand.")
    with st.container(horizontal=True):
        compare = st.button("Compare now", key="rl_compare", icon=":material/compare_arrows:")
        repair = st.button("Repair Redis", key="rl_repair", icon=":material/build:", disabled=not view.edits,
                           help=None if view.edits else "Needs the permission to change limits")  # fmt: skip
    if not compare and not repair:
        return
    try:
        if repair:
            found = ratelimit_repair.repair(view.platform, view.actor, reason="Asked for on the page")
        else:
            found = ratelimit_wire.reconcile(view.platform, view.actor, repair=False)
    except AdapterError as error:
        st.error(f"{state.plain(error.sentence)} {state.plain(error.advice)}", icon=":material/error:")
        return
    _differences(found)


def _differences(found: Reconciled) -> None:
    if not found.total:
        st.success("No difference: Redis carries exactly what PostgreSQL holds.", icon=":material/check_circle:")
        return
    words = "repaired" if found.repaired else "found"
    st.warning(f"{found.total:,} difference{'s' if found.total > 1 else ''} {words}.", icon=":material/compare_arrows:")
    table.draw(
        ("Key", "What", "PostgreSQL", "Redis"),
        [
            (state.text(d.key), state.text(d.name), f"<code>{_short(d.postgresql)}</code>",
             f"<code>{_short(d.redis)}</code>")
            for d in found.differences[:50]
        ],
    )  # fmt: skip


def _short(value: object) -> str:
    words = "not there" if value is None else str(value)
    return state.text(words if len(words) < 120 else words[:117] + "…")
