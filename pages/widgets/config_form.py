"""The configuration of a service: what is in force, where it comes from, and the form to change it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import streamlit as st

from operations import services
from operations.access import Permission, roles_with
from pages.widgets import forms, state, table

if TYPE_CHECKING:
    from operations.services import FieldView, ServiceConfigView
    from pages.widgets.template import View

_SOURCE = {
    "environment": "environment",
    "file": "pilothouse.toml",
    "console": "this page",
    "default": "default",
}


def draw(view: View) -> None:
    """Fields with their source; a form for people who may change them, an explanation for the others."""
    config = services.describe(view.platform, view.actor, view.slug)
    st.markdown("#### Configuration in force")
    _table(config)
    editable = [field for field in config.fields if field.editable]
    if not view.may(Permission.INFRA_CONFIGURE):
        roles = ", ".join(role.replace("_", " ") for role in roles_with(Permission.INFRA_CONFIGURE))
        st.markdown(f":gray[:material/lock: Changing this needs the role {roles}.]")
        return
    if not editable:
        st.markdown(
            ":gray[:material/lock: Every value is set by the environment or the file, which win over this page.]"
        )
        return
    note = f"config_note_{view.slug}"
    forms.result(note)
    with st.expander("Change the configuration", icon=":material/edit:", expanded=_touched(view.slug)):
        _form(view, config, editable, note)


def _touched(slug: str) -> bool:
    return bool(st.session_state.get(f"config_open_{slug}"))


def _table(config: ServiceConfigView) -> None:
    table.draw(
        ("Field", "Value", "From", "Meaning"),
        (
            (
                f"<b>{state.text(f.title)}</b><br><code>{state.text(f.name)}</code>",
                _shown(f),
                f"<span class='ph-src'>{_SOURCE.get(f.source, f.source)}</span>",
                state.text(f.description or ""),
            )
            for f in config.fields
        ),
    )


def _shown(field: FieldView) -> str:
    if field.problem:
        return f"<b class='ph-pill ph-down'>not used</b><br>{state.text(field.problem)}"
    if field.value is None or field.value == "":
        return "<span class='ph-old'>not set</span>"
    return f"<span class='ph-mono'>{state.text(field.value)}</span>"


def _form(view: View, config: ServiceConfigView, editable: list[FieldView], note: str) -> None:
    seen_key, generation_key = f"config_seen_{view.slug}", f"config_generation_{view.slug}"
    generation = st.session_state.setdefault(generation_key, 0)
    # The version the person saw stays with the form until it is saved or a conflict has shown the newer one.
    seen = st.session_state.setdefault(seen_key, config.version)
    with st.form(f"config_{view.slug}", border=False):
        typed = {field.name: _parsed(field, _field(view.slug, field, generation)) for field in editable}
        reason = forms.reason_field(f"config_reason_{view.slug}_{generation}")
        saved = st.form_submit_button("Save", type="primary", icon=":material/save:")
    if not saved:
        return
    st.session_state[f"config_open_{view.slug}"] = True
    values = {field.name: typed[field.name] for field in editable if _changed(field, typed[field.name])}
    if not values:
        st.info("Nothing was changed.", icon=":material/info:")
        return
    outcome = forms.run(
        lambda: services.change(view.platform, view.actor, view.slug, seen, values, reason),
        done=f"{view.page.title}: configuration saved.",
        note=note,
    )
    if outcome is None:
        # After a conflict the next Save stands on the version just shown.
        st.session_state[seen_key] = services.describe(view.platform, view.actor, view.slug).version
        return
    st.session_state[generation_key] = generation + 1
    st.session_state.pop(seen_key, None)
    st.session_state.pop(f"config_open_{view.slug}", None)
    st.rerun()


def _changed(field: FieldView, typed: Any) -> bool:
    if field.secret:
        return bool(typed)
    return typed != field.value and not (typed in ("", None) and field.value in ("", None))


def _field(slug: str, field: FieldView, generation: int) -> Any:
    key = f"config_{slug}_{field.name}_{generation}"
    help_text = field.description or None
    if field.secret:
        return st.text_input(
            field.title,
            key=key,
            type="password",
            help=help_text,
            autocomplete="new-password",
            placeholder="unchanged" if field.value else "not set",
        )
    if field.type in ("boolean", "bool"):
        return st.toggle(field.title, key=key, value=bool(field.value), help=help_text)
    if field.type in ("integer", "int"):
        return st.number_input(
            field.title, key=key, value=None if field.value is None else int(field.value), step=1, help=help_text
        )
    if field.type in ("number", "float"):
        return st.number_input(
            field.title, key=key, value=None if field.value is None else float(field.value), help=help_text
        )
    if field.type in ("array", "object"):
        shown = json.dumps(field.value, indent=2, ensure_ascii=False) if field.value is not None else ""
        return st.text_area(field.title, key=key, value=shown, help=help_text, height=120)
    options = list(field.constraints.get("enum", ()))
    if options:
        at = options.index(field.value) if field.value in options else None
        return st.selectbox(field.title, options, index=at, key=key, help=help_text)
    return st.text_input(field.title, key=key, value="" if field.value is None else str(field.value), help=help_text)


def _parsed(field: FieldView, typed: Any) -> Any:
    """What was typed, with JSON read where the field is a list or a table; text that is no JSON is refused later."""
    if field.type not in ("array", "object") or not isinstance(typed, str):
        return typed
    try:
        return json.loads(typed) if typed.strip() else None
    except ValueError:
        return typed
