"""Backups: the last that counts, all that were made, how long they are kept, and how one is restored."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from functools import partial

import streamlit as st

from adapters.core import AdapterError, Unit, utcnow
from operations import backups, workflow_schedule_runs, workflow_schedules
from operations.access import SYSTEM, Permission, roles_with
from operations.backups import BackupRow
from operations.change import NotFound
from operations.platform import Platform
from operations.workflow_catalogue import BACKUP_SCHEDULE
from pages.widgets import cached, forms, session, state, table
from pages.widgets.page import Page, link, slug_at

PAGE = Page(
    slug="backups",
    title="Backups",
    section="Data",
    path="/platform/infrastructure/database/backups",
    permission=Permission.INFRA_VIEW,
    icon=":material/backup:",
    order=15,
    summary="Encrypted copies of the console's database and of every configuration, each proved by restoring it.",
)
LATE = timedelta(hours=36)
HEADS = ("Started", "Backup", "State", "Size", "Rows", "Stored", "Proved", "What went wrong")
PILLS = {"proved": "healthy", "stored": "unknown", "running": "unknown", "failed": "down", "expired": "unconfigured"}
SHOWN = 60


def render() -> None:
    """Draw the page."""
    _overview()
    _now()
    _keeping()


@cached.live()
def _overview() -> None:
    platform, actor = session.platform(), session.actor()
    rows = backups.listing(platform, actor, SHOWN)
    proved = backups.last_proved(platform, actor)
    _verdict(proved, next((row for row in rows if row.status == "failed"), None))
    facts = [
        ("Last that counts", f"{state.since(proved.proved_at)} ago" if proved else "none", _moment(proved)),
        ("Size", state.number(proved.size_bytes or 0, Unit.BYTES) if proved else "–", "before encryption"),
        ("Rows restored and found equal", f"{proved.rows:,}" if proved else "–", "in every table of the database"),
        ("Next", _next(), "by the schedule"),
    ]
    cells = "".join(
        f'<div title="{state.text(title)}"><small>{state.text(name)}</small><b>{state.text(value)}</b></div>'
        for name, value, title in facts
    )
    st.html(f"<div class='ph-banner'><div class='ph-facts'>{cells}</div></div>")
    st.markdown("#### Backups")
    if not rows:
        table.empty("No backup yet", "The first is made by the schedule, or now by the button below.")
        return
    table.draw(HEADS, (_row(row) for row in rows), quiet=(0, 5, 6), right=(3, 4))


def _verdict(proved: BackupRow | None, failed: BackupRow | None) -> None:
    """What counts now; ``failed`` is the newest that failed."""
    if failed is not None and proved is not None and failed.started_at < proved.started_at:
        failed = None
    after = (
        f" One begun at {state.moment(failed.started_at)} failed: {state.plain(failed.error or '')}" if failed else ""
    )
    if proved is None:
        st.warning(
            f"No backup counts yet: none was restored and found equal so far.{after}", icon=":material/gpp_maybe:"
        )
    elif proved.proved_at is not None and utcnow() - proved.proved_at > LATE:
        since = state.since(proved.proved_at)
        st.error(
            f"The last backup that counts was proved {since} ago. There should be one a day.{after}",
            icon=":material/gpp_bad:",
        )
    elif failed is not None:
        st.warning(
            f"The last backup that counts is of {state.moment(proved.started_at)}.{after}", icon=":material/gpp_maybe:"
        )
    else:
        st.success(
            f"The backup of {state.moment(proved.started_at)} was restored into a scratch database and found equal.",
            icon=":material/verified:",
        )


def _next() -> str:
    found = cached.reading("temporal:backup-schedule", partial(_schedule, session.platform()), every=30.0)
    if found.value is None:
        return "Temporal does not answer" if found.error else "…"
    if not found.value:
        return "no schedule yet"
    schedule = found.value[0]
    if schedule.paused:
        return "paused"
    return f"in {state.span((schedule.next[0] - utcnow()).total_seconds())}" if schedule.next else "not planned"


def _schedule(platform: Platform) -> tuple[workflow_schedules.Schedule, ...]:
    with suppress(NotFound):  # no worker has been here yet
        return (workflow_schedules.one(platform, SYSTEM, BACKUP_SCHEDULE),)  # shared by all: only times are shown
    return ()


def _row(row: BackupRow) -> tuple[str, ...]:
    return (
        table.when(row.started_at),
        f"<code>{state.text(row.id)}</code>",
        f"<span class='ph-pill ph-{PILLS.get(row.status, 'unknown')}'>{state.text(row.status)}</span>",
        "–" if row.size_bytes is None else state.text(state.number(row.size_bytes, Unit.BYTES)),
        f"{row.rows:,}" if row.rows else "–",
        table.when(row.stored_at),
        table.when(row.proved_at),
        state.text(row.error or ""),
    )


def _moment(proved: BackupRow | None) -> str:
    return state.moment(proved.proved_at) if proved else "no backup was proved yet"


def _now() -> None:
    actor = session.actor()
    if "backup_now" in st.session_state:
        # Begun: a reason that stays would invite a second one.
        st.session_state["backup_reason"] = ""
    forms.result("backup_now")
    if not actor.may(Permission.WORKFLOWS_OPERATE):
        roles = " or ".join(f"**{role.replace('_', ' ')}**" for role in roles_with(Permission.WORKFLOWS_OPERATE))
        st.markdown(f":small[:gray[:material/lock: Making one now needs {Permission.WORKFLOWS_OPERATE}: ask {roles}.]]")
        return
    with st.form("backup_now_form"), st.container(horizontal=True, vertical_alignment="bottom"):
        reason = forms.reason_field("backup_reason")
        asked = st.form_submit_button("Back up now", icon=":material/backup:", type="primary")
    if not asked:
        return
    trigger = partial(workflow_schedule_runs.trigger, session.platform(), actor, BACKUP_SCHEDULE, reason=reason)
    try:
        if forms.run(lambda: trigger().outcome, done="A backup is being made and proved.", note="backup_now"):
            st.rerun()
    except AdapterError as error:
        st.error(f"Nothing was started. {state.plain(error.sentence)}", icon=":material/error:")


def _keeping() -> None:
    settings = session.platform().settings
    st.markdown("#### How long, where, and back again")
    st.markdown(
        f"The last backup is kept of each of **{settings.backup_keep_daily} days**, "
        f"**{settings.backup_keep_weekly} weeks** and **{settings.backup_keep_monthly} months**, "
        f"in the bucket **{state.plain(settings.backup_bucket)}**, encrypted with the console's encryption keys: "
        "keep those somewhere else. To restore one into an empty database, on the machine of the console:"
    )
    st.code("python -m operations.backup_restore BACKUP postgresql://…/empty_database", language="shell")
    link(slug_at("temporal"), "Runs and schedule of the backups", icon=":material/route:")
