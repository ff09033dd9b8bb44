"""Executions on a real Temporal server: found, told in detail, and changed on record."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from adapters.temporal_client import history
from operations import audit, change, workflow_control, workflow_detail, workflow_executions, workflow_start
from operations.access import Actor, Forbidden
from operations.workflow_control import AlreadyThere
from operations.workflow_executions import Filters, filters_of
from sandbox.engines import Postgres
from tests import support_executions
from tests.support import poll

pytestmark = pytest.mark.engines

IVO = Actor("ivo", "Ivo", frozenset({"infra_admin"}))
ANA = Actor("ana", "Ana", frozenset({"analyst"}))
QUEUE = f"executions-{os.getpid()}"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def console(postgres: Postgres, template_database: str, temporal_address: str) -> Iterator[Any]:
    with (
        support_executions.worker(temporal_address, QUEUE),
        support_executions.console(postgres, template_database, temporal_address) as made,
    ):
        yield made


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    support_executions.BROKEN.clear()


def begun(console: Any, kind: str, *given: str, queue: str = QUEUE) -> str:
    """Start one with an id of its own, and return the id."""
    ident = f"x{os.getpid()}-{next(_numbers)}"
    text = "[" + ", ".join(f'"{one}"' for one in given) + "]"
    done = workflow_start.start(
        console, IVO, kind, given=text, workflow_id=ident, task_queue=queue, reason="a test begins"
    )
    assert done.id == ident
    return ident


def now(console: Any, ident: str, run: str = "", actor: Actor = IVO) -> workflow_detail.Detail:
    return workflow_detail.detail(console, actor, ident, run)


def ended(console: Any, ident: str, run: str = "") -> workflow_detail.Detail:
    return poll(lambda: (of := now(console, ident, run)).execution.closed_at and of)


def waiting(console: Any, ident: str) -> None:
    """Until a worker has taken it on."""
    poll(lambda: now(console, ident).points)


def outcomes(console: Any, ident: str) -> list[tuple[str, str, str]]:
    found = audit.entries(console, IVO, f"temporal:execution:{ident}")
    return [(one.action.removeprefix("temporal.execution."), one.after["outcome"], one.reason) for one in found][::-1]


def matching(console: Any, **given: str) -> list[str]:
    filters = filters_of(given)
    return [one.id for one in workflow_executions.page(console, ANA, filters).rows]


def test_one_is_started_found_and_told_in_detail(console: Any) -> None:
    ident = begun(console, "Chain", "alpha")
    of = ended(console, ident)
    assert (of.execution.status, of.execution.type, of.execution.task_queue) == ("Completed", "Chain", QUEUE)
    assert [value.text for value in of.input] == ['"alpha"']
    assert [value.text for value in of.result] == ['"result of alpha.two"']
    assert [(step.kind, step.name, step.note, step.state) for step in of.steps] == [
        ("local activity", "work", "", "done"),
        ("activity", "work", "The first step", "done"),
        ("activity", "work", "", "done"),
    ]
    assert of.expires_at is not None, "a foreign type gets its settings' timeout"
    assert of.build_id
    poll(lambda: matching(console, id=ident, status="Completed") == [ident])
    assert matching(console, id=ident, type="Gate") == []
    assert outcomes(console, ident) == [("start", "asked for", "a test begins"), ("start", "done", "a test begins")]


def test_a_failure_is_told_and_values_are_masked_for_who_may_not_read_them(console: Any) -> None:
    support_executions.BROKEN.add("beta.two")
    ident = begun(console, "Chain", "beta")
    of = ended(console, ident)
    assert of.failure is not None
    assert of.failure.root.type == "Broken"
    assert of.failure.root.message == "secret of beta.two"
    assert [step.state for step in of.steps] == ["done", "done", "failed"]
    masked = repr(now(console, ident, actor=ANA))
    assert "secret" not in masked
    assert "beta" not in masked
    assert "Broken" in masked


def test_a_pending_activity_tells_attempt_error_and_next_try(console: Any) -> None:
    support_executions.BROKEN.add("gamma.two:later")
    ident = begun(console, "Chain", "gamma")
    of = poll(lambda: (found := now(console, ident)).pending and found.pending[0].failure and found)
    one = of.pending[0]
    assert (one.type, one.state, one.attempt, one.failure.message) == ("work", "waiting", 2, "secret of gamma.two")
    assert one.next_at is not None
    assert of.steps[-1].attempts == 2
    shown = now(console, ident, actor=ANA).pending[0].failure
    assert shown is not None
    assert shown.message == workflow_detail.MASK
    workflow_control.terminate(console, IVO, ident, "", "enough")


def test_a_signal_a_cancel_and_a_terminate_reach_it_and_stand_on_record(console: Any) -> None:
    first, second, third = (begun(console, "Gate") for _ in range(3))
    for ident in (first, second, third):
        waiting(console, ident)
    workflow_control.signal(console, IVO, first, "", "open", '["sesame"]', "let it through")
    assert [value.text for value in ended(console, first).result] == ['"sesame"']
    workflow_control.cancel(console, IVO, second, "", "not wanted")
    assert ended(console, second).execution.status == "Canceled"
    workflow_control.terminate(console, IVO, third, "", "it hangs")
    of = ended(console, third)
    assert of.execution.status == "Terminated"
    assert of.ended == "it hangs (Ivo, Pilothouse) by pilothouse"
    for ident, verb, why in (
        (first, "signal", "let it through"), (second, "cancel", "not wanted"), (third, "terminate", "it hangs"),
    ):  # fmt: skip
        assert outcomes(console, ident)[2:] == [(verb, "asked for", why), (verb, "done", why)]
    with pytest.raises(change.NotFound, match="has ended"):
        workflow_control.terminate(console, IVO, third, "", "again")


def test_a_reset_repeats_nothing_before_the_point_and_all_after_it(console: Any) -> None:
    support_executions.BROKEN.add("delta.two")
    ident = begun(console, "Chain", "delta")
    of = ended(console, ident)
    point = workflow_detail.good_point(of)
    assert point is not None
    assert point.before == "activity work"
    support_executions.BROKEN.clear()
    support_executions.DONE.clear()
    run = workflow_control.reset(console, IVO, ident, of.execution.run_id, point.event, "mended")
    again = ended(console, ident, run)
    assert again.execution.status == "Completed"
    assert support_executions.DONE == ["delta.two"], "what went well is not done again"
    assert any(step.kind == "reset" and "mended (Ivo" in step.note for step in again.steps)
    assert now(console, ident, of.execution.run_id).continued_as == run
    with pytest.raises(change.Invalid, match="no point"):
        workflow_control.reset(console, IVO, ident, run, 2, "no")
    assert outcomes(console, ident)[-1] == ("reset", "done", "mended")


def test_what_failed_runs_again_with_the_same_input_until_it_completes(console: Any) -> None:
    support_executions.BROKEN.add("eta.one")
    ident = begun(console, "Chain", "eta")
    of = ended(console, ident)
    assert of.execution.status in ("Failed", "Running")
    support_executions.BROKEN.clear()
    run = workflow_control.again(console, IVO, ident, of.execution.run_id, "mended")
    done = ended(console, ident, run)
    assert done.execution.status == "Completed"
    assert [value.text for value in done.input] == ['"eta"']
    with pytest.raises(AlreadyThere):
        workflow_control.again(console, IVO, ident, of.execution.run_id, "once more")
    with pytest.raises(change.Invalid, match="Completed"):
        workflow_control.again(console, IVO, ident, run, "it did not fail")


def test_an_id_that_runs_is_taken(console: Any) -> None:
    ident = begun(console, "Gate")
    with pytest.raises(AlreadyThere, match=f"The id {ident} is taken"):
        workflow_start.start(console, IVO, "Gate", given="", workflow_id=ident, task_queue=QUEUE, reason="a second one")
    assert outcomes(console, ident)[-1][1].startswith("failed: The id")
    workflow_control.terminate(console, IVO, ident, "", "enough")


def test_an_execution_that_does_not_exist_is_one_sentence(console: Any) -> None:
    for ident, run in (("no-namespace-here", ""), ("x", "not-a-run"), ("x", "01a1fd99-2dda-7b4d-bb95-7f40a4be1297")):
        with pytest.raises(change.NotFound, match=f"There is no execution {ident}"):
            now(console, ident, run)


def test_nothing_is_done_without_permission_or_reason(console: Any) -> None:
    ident = begun(console, "Gate")
    waiting(console, ident)
    event = now(console, ident).points[0].event
    acts = {
        "signal": lambda who, why: workflow_control.signal(console, who, ident, "", "open", '"x"', why),
        "cancel": lambda who, why: workflow_control.cancel(console, who, ident, "", why),
        "terminate": lambda who, why: workflow_control.terminate(console, who, ident, "", why),
        "reset": lambda who, why: workflow_control.reset(console, who, ident, "", event, why),
        "start": lambda who, why: workflow_start.start(
            console, who, "Gate", given="", task_queue=QUEUE, reason=why
        ),
    }  # fmt: skip
    before = outcomes(console, ident)
    for act in acts.values():
        with pytest.raises(Forbidden):
            act(ANA, "curious")
        with pytest.raises(change.Invalid, match="reason"):
            act(IVO, "  ")
    assert outcomes(console, ident) == before
    assert now(console, ident).execution.status == "Running"
    workflow_control.terminate(console, IVO, ident, "", "enough")


ODD = ("o'brien", "' OR 'a'='a", "') OR (WorkflowId != '", "per%cent", "under_score", "tick`", "ü 世", "a AND b")


def test_what_is_typed_is_looked_for_and_never_becomes_the_query(console: Any) -> None:
    adapter, run = console.adapters["temporal"], f"q{os.getpid()}-{next(_numbers)}"
    idents = [f"{run} {text}!" for text in ODD]
    for ident in (*idents, f"{run} other"):
        adapter.call(lambda c, ident=ident: c.start_workflow("Nothing", id=ident, task_queue="nobody"))
    poll(lambda: workflow_executions.count(console, ANA, Filters(id=run)) == len(ODD) + 1)
    for text, ident in zip(ODD, idents, strict=True):
        assert matching(console, id=f"{run} {text}") == [ident]
        assert matching(console, id=run, type=text) == []
        assert matching(console, id=run, attribute=f"TaskQueue={text}") == []


@pytest.mark.parametrize("text", ["back\\slash", '"quoted"', "line\nbreak", "\\' OR 1=1 --", "nul\0", "x" * 256])
@pytest.mark.parametrize("field", ["id", "type"])
def test_what_the_server_cannot_match_is_refused_by_name(text: str, field: str) -> None:
    with pytest.raises(change.Invalid) as caught:
        filters_of({field: text})
    assert caught.value.errors[0].field == field


def test_a_bad_attribute_is_named(console: Any) -> None:
    for attribute, says in (
        ("TenantId", "is not a name and a value"), ("=acme", "is not a name and a value"),
        ("Ten'ant=acme", "is no name"), ("Tenant`Id=acme", "is no name"), ('TenantId=a"b', "cannot be searched"),
        ("Nowhere=acme", "Nowhere is no search attribute"),
    ):  # fmt: skip
        with pytest.raises(change.Invalid, match=says) as caught:
            workflow_executions.page(console, ANA, filters_of({"attribute": attribute}))
        assert [error.field for error in caught.value.errors] == ["attribute"]


def test_bad_status_hours_and_page_are_named(console: Any) -> None:
    with pytest.raises(change.Invalid) as caught:
        filters_of({"status": "Nope", "hours": "-1"})
    assert [error.field for error in caught.value.errors] == ["status", "hours"]
    for token in ("!!!", "bm90IGEgdG9rZW4"):
        with pytest.raises(change.Invalid) as caught:
            workflow_executions.page(console, ANA, Filters(), token)
        assert caught.value.errors[0].field == "page"


def test_pages_follow_each_other_without_gap_or_repeat(console: Any) -> None:
    prefix = f"p{os.getpid()}-{next(_numbers)}-"
    adapter = console.adapters["temporal"]
    for number in range(53):
        adapter.call(lambda c, n=number: c.start_workflow("Nothing", id=f"{prefix}{n}", task_queue="nobody"))
    filters = Filters(id=prefix)
    poll(lambda: workflow_executions.count(console, ANA, filters) == 53)
    first = workflow_executions.page(console, ANA, filters)
    assert len(first.rows) == 50
    second = workflow_executions.page(console, ANA, filters, workflow_executions.token_text(first.next_token))
    assert {one.id for one in (*first.rows, *second.rows)} == {f"{prefix}{number}" for number in range(53)}
    assert matching(console, id=prefix, status="Pending") == [one.id for one in first.rows], "nobody has begun them"


def test_of_a_long_history_the_ends_are_read_and_the_rest_is_counted(
    console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ident = begun(console, "Many", queue=f"{QUEUE}-nobody")
    adapter = console.adapters["temporal"]
    for number in range(40):
        adapter.call(lambda c, n=number: c.get_workflow_handle(ident).signal("told", n))
    monkeypatch.setattr(history, "FIRST", 10)
    monkeypatch.setattr(history, "LAST", 10)
    of = now(console, ident)
    assert (of.events, of.skipped, len(of.steps)) == (42, 22, 18)
    assert [step.given[0].text for step in of.steps] == [str(n) for n in (*range(8), *range(30, 40))]
    monkeypatch.setattr(history, "FIRST", 20)
    assert now(console, ident).skipped == 12
    monkeypatch.setattr(history, "FIRST", 32)
    whole = now(console, ident)
    assert (whole.skipped, len(whole.steps)) == (0, 40)
    workflow_control.terminate(console, IVO, ident, "", "enough")
