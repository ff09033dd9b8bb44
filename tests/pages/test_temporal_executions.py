"""The Executions face: who sees and may do what, in the list and in one execution."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from adapters.core import utcnow
from operations import (
    access,
    health,
    workflow_control,
    workflow_detail,
    workflow_executions,
    workflow_filters,
    workflow_start,
)
from operations.access import SYSTEM, Permission
from operations.platform import Platform
from operations.workflow_filters import Filters
from pages.widgets.template import View
from tests import support_executions
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll

pytestmark = pytest.mark.engines

QUEUE = f"face-{os.getpid()}"
FACE = {"face_temporal": "Executions"}
_numbers = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def at_work(temporal_address: str) -> Iterator[None]:
    with support_executions.worker(temporal_address, QUEUE):
        yield
    support_executions.BROKEN.clear()


def begun(platform: Platform, kind: str, *, fails: bool = False, ends: bool = False) -> str:
    """One that runs, or one that has ended."""
    ident = f"face-{os.getpid()}-{next(_numbers)}"
    if fails:
        support_executions.BROKEN.add(f"{ident}.two")
    workflow_start.start(
        platform, SYSTEM, kind, given=f'["{ident}"]', workflow_id=ident, task_queue=QUEUE, reason="a test begins"
    )

    def there() -> bool:
        of = workflow_detail.detail(platform, SYSTEM, ident)
        return bool(of.points) and (of.execution.closed_at is not None or not (fails or ends))

    poll(there)
    return ident


def page(platform: Platform, role: str, query: Mapping[str, str], *words: str) -> AppTest:
    """The face, run until it says these words."""
    health.refresh(platform, SYSTEM)
    app = opened("temporal", signed_in(platform, role), {**FACE, **query})

    def said() -> bool:
        assert not app.exception
        drawn = texts(app)
        if all(word in drawn for word in words):
            return True
        app.run()
        return False

    poll(said, 20, what=f"{words} on the page")
    return app


def buttons(app: AppTest) -> set[str]:
    return {str(button.key) for button in app.button}


def test_an_admin_sees_all_of_a_failed_one_and_may_run_it_again(platform: Platform) -> None:
    ident = begun(platform, "Chain", fails=True)
    app = page(platform, "infra_admin", {"run": ident}, ident, "secret of", "Timeline", "The first step")
    drawn = texts(app)
    assert f"&quot;{ident}&quot;" in drawn, "the input"
    assert "Broken" in drawn
    assert {"ex_again", "ex_reset"} <= buttons(app)
    assert "ex_terminate" not in buttons(app), "it has ended"
    next(button for button in app.button if button.key == "ex_reset").click()
    app.run()
    assert not app.exception
    points = next(box for box in app.selectbox if box.key == "ex_reset_point")
    assert any("Before activity work" in option and "before it went wrong" in option for option in points.options)
    assert any(box.label == f"Type {ident} to confirm" for box in app.text_input)


def test_an_analyst_sees_the_same_masked_without_buttons_and_reads_whom_to_ask(platform: Platform) -> None:
    ident = begun(platform, "Chain", fails=True)
    app = page(platform, "analyst", {"run": ident}, ident, "Timeline", "Broken")
    drawn = texts(app)
    assert "secret" not in drawn
    assert f"&quot;{ident}&quot;" not in drawn
    assert workflow_detail.MASK in drawn
    assert "needs the permission workflows:payloads" in drawn
    assert "needs the permission workflows:operate" in drawn
    assert "**infra admin**" in drawn
    assert not buttons(app) & {"ex_signal", "ex_cancel", "ex_terminate", "ex_reset", "ex_again"}


def test_a_running_one_is_ended_only_after_its_name_was_typed(platform: Platform) -> None:
    ident = begun(platform, "Gate")
    app = page(platform, "infra_admin", {"run": ident}, ident, "Runs for")
    assert {"ex_signal", "ex_cancel", "ex_terminate"} <= buttons(app)
    next(button for button in app.button if button.key == "ex_terminate").click()
    app.run()
    assert not app.exception
    assert any(box.label == f"Type {ident} to confirm" for box in app.text_input)
    assert workflow_detail.detail(platform, SYSTEM, ident).execution.status == "Running"


def test_the_list_filters_by_the_address_and_leads_to_each(platform: Platform) -> None:
    ident = begun(platform, "Chain", ends=True)
    app = page(platform, "analyst", {"id": ident, "type": "Chain", "status": "Completed"}, ident, "1 match")
    assert f"run={ident}" in texts(app)
    assert "Starting, ending and resetting executions needs" in texts(app)
    assert not buttons(app) & {"ex_start", "ex_batch"}
    page(platform, "analyst", {"id": ident, "type": "Gate"}, "No executions match")


def inside(app: AppTest, opener: str, pressed: str = "") -> str:
    """Press a button of an open dialog, or none; a browser runs the dialog alone, here it is opened again."""
    for one in app.button:
        if one.key in (opener, pressed):
            one.click()
    app.run()
    assert not app.exception
    return texts(app).replace("\\", "")


def typed(app: AppTest, label: str, value: str) -> None:
    next(box for box in app.text_input if box.label == label).set_value(value)


def test_one_is_reset_to_a_point_once_named(platform: Platform) -> None:
    ident = begun(platform, "Chain", fails=True)
    app = page(platform, "infra_admin", {"run": ident}, ident, "Timeline")
    before = workflow_detail.detail(platform, SYSTEM, ident).execution.run_id
    inside(app, "ex_reset")
    typed(app, "Reason", "mended")
    assert f"What was typed is not {ident}." in inside(app, "ex_reset", "ex_reset_go")
    typed(app, f"Type {ident} to confirm", ident)
    support_executions.BROKEN.clear()
    said = inside(app, "ex_reset", "ex_reset_go")
    assert f"{ident} goes on from there: [the new run]" in said
    poll(lambda: workflow_detail.detail(platform, SYSTEM, ident).execution.status == "Completed")
    assert workflow_detail.detail(platform, SYSTEM, ident).execution.run_id != before


def test_a_batch_tells_what_it_touches_and_has_its_name_typed(platform: Platform) -> None:
    first, second = begun(platform, "Gate"), begun(platform, "Gate")
    common = f"face-{os.getpid()}-"
    query = {"id": common, "type": "Gate", "status": "Running"}
    app = page(platform, "infra_admin", query, f">{first}</a>", f">{second}</a>")
    said = inside(app, "ex_batch")
    total = workflow_executions.count(platform, SYSTEM, Filters("Gate", "Running", common))
    assert total >= 2
    assert f"**{total}** executions match" in said
    assert "ExecutionStatus = 'Running' AND WorkflowId STARTS_WITH" in said
    assert f"<code>{second}</code>" in said
    assert "Exactly these are touched." in [one.value for one in app.caption]
    typed(app, "Reason", "tidy")
    assert "is not what was asked for" in inside(app, "ex_batch", "ex_batch_go")
    typed(app, f"Type “terminate {total}” to confirm", f"terminate {total}")
    said = inside(app, "ex_batch", "ex_batch_go")
    assert f"Temporal has taken the batch over {total}" in said
    for ident in (first, second):
        poll(lambda ident=ident: workflow_detail.detail(platform, SYSTEM, ident).execution.status == "Terminated")


def test_a_batch_runs_again_what_failed_and_says_what_came_of_it(platform: Platform) -> None:
    ident = begun(platform, "Chain", fails=True)
    app = page(platform, "infra_admin", {"id": ident, "status": "Failed"}, f">{ident}</a>")
    said = inside(app, "ex_batch")
    assert "new run under the same id" in said
    typed(app, "Reason", "mended")
    typed(app, "Type “run again 1” to confirm", "run again 1")
    support_executions.BROKEN.clear()
    assert "1 of 1 run again." in inside(app, "ex_batch", "ex_batch_go")
    poll(lambda: workflow_detail.detail(platform, SYSTEM, ident).execution.status == "Completed")


def test_a_batch_without_permission_is_a_sentence(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = frozenset({Permission.INFRA_VIEW, Permission.WORKFLOWS_OPERATE})
    monkeypatch.setitem(access.ROLES, "operator", allowed)
    ident = begun(platform, "Gate")
    app = page(platform, "operator", {"id": ident}, f">{ident}</a>")
    monkeypatch.setitem(access.ROLES, "operator", frozenset({Permission.INFRA_VIEW}))
    # The page was drawn with the permission; the operation has the last word.
    monkeypatch.setattr(View, "may", lambda self, permission: True)
    assert "workflows:operate" in inside(app, "ex_batch")
    workflow_control.terminate(platform, SYSTEM, ident, "", "test ended")


@pytest.mark.parametrize(("fault", "sentence"), [("refuse", "No connection to Temporal"), ("drip", "in time")])
def test_the_list_stays_with_its_age_while_temporal_is_away_or_slow(
    platform: Platform, standins: Any, monkeypatch: pytest.MonkeyPatch, fault: str, sentence: str
) -> None:
    ident = begun(platform, "Chain", ends=True)
    query = {"id": ident, "hours": "24"}
    page(platform, "analyst", query, f">{ident}</a>", "1 match")
    standins.fault("temporal", fault)
    # The span is counted back from now: a minute later it is another query, and the same list.
    monkeypatch.setattr(workflow_filters, "utcnow", lambda: utcnow() + timedelta(minutes=5))
    page(
        platform, "analyst", query, sentence, "Could not read executions", "what was known", f">{ident}</a>", "1 match"
    )


def test_bad_filters_are_named_in_place_of_the_list(platform: Platform) -> None:
    app = page(platform, "infra_admin", {"attribute": "Nowhere=x", "id": ""}, "Nowhere is no search attribute")
    assert "attribute" in texts(app)
    page(platform, "infra_admin", {"id": "back\\slash", "status": "Nope"}, "cannot be searched for", "not a status")
    page(platform, "infra_admin", {"page": "???"}, "is not a page of this list")


def test_one_that_does_not_exist_is_one_sentence(platform: Platform) -> None:
    app = page(platform, "analyst", {"run": "<b>nobody</b>"}, "There is no execution &lt;b&gt;nobody&lt;/b&gt;.")
    assert "Timeline" not in texts(app)


def test_the_form_is_made_from_what_a_type_takes(platform: Platform) -> None:
    app = page(platform, "infra_admin", {"type": "sleep-cycle"}, "No executions match")
    next(button for button in app.button if button.key == "ex_start").click()
    app.run()
    assert not app.exception
    assert "Brings SomaBrain into a sleep mode" in texts(app)
    assert {box.label for box in app.number_input} == {"Ttl seconds", "Concurrency"}
    target = next(box for box in app.selectbox if box.label == "Target")
    assert target.help == "active, light, deep or freeze."
    assert (target.options, target.value) == (["active", "light", "deep", "freeze"], "light")
    batch = next(button for button in app.button if button.key == "ex_batch")
    assert not batch.disabled


def test_own_progress_falls_back_to_the_timeline_when_no_worker_answers(platform: Platform) -> None:
    done = workflow_start.start(platform, SYSTEM, "usage-sync", given={}, reason="a test begins")
    app = page(
        platform, "analyst", {"run": done.id, "run_id": done.run_id}, "Progress", "stands in the timeline below",
        "No steps yet",
    )  # fmt: skip
    assert "No worker answers" in texts(app)
