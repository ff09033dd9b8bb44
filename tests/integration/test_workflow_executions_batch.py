"""Batches: exactly what was previewed is touched, and nothing when the number has moved."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.temporal import Temporal, TemporalConfig
from operations import (
    audit,
    change,
    workflow_batch,
    workflow_batch_again,
    workflow_control,
    workflow_detail,
    workflow_executions,
)
from operations.access import Actor, Forbidden
from operations.workflow_batch import Preview
from operations.workflow_executions import Filters
from sandbox.engines import Postgres
from tests import support_executions
from tests.support import poll

pytestmark = pytest.mark.engines

IVO = Actor("ivo", "Ivo", frozenset({"infra_admin"}))
ANA = Actor("ana", "Ana", frozenset({"analyst"}))
QUEUE = f"batches-{os.getpid()}"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def console(postgres: Postgres, template_database: str, temporal_address: str) -> Iterator[Any]:
    with (
        support_executions.worker(temporal_address, QUEUE),
        support_executions.console(postgres, template_database, temporal_address) as made,
    ):
        yield made


def begin(console: Any, prefix: str, count: int) -> list[str]:
    """Start so many that wait for a signal, and wait until they are found."""
    idents = [f"{prefix}{next(_numbers)}" for _ in range(count)]
    adapter = console.adapters["temporal"]
    before = workflow_executions.count(console, IVO, Filters(id=prefix))
    for ident in idents:
        adapter.call(lambda c, ident=ident: c.start_workflow("Gate", id=ident, task_queue=QUEUE))
    poll(lambda: workflow_executions.count(console, IVO, Filters(id=prefix)) == before + count)
    poll(lambda: all(workflow_detail.detail(console, IVO, ident).points for ident in idents))
    return idents


def prefix() -> str:
    return f"b{os.getpid()}-{next(_numbers)}-"


def status(console: Any, ident: str) -> str:
    return workflow_detail.detail(console, IVO, ident).execution.status


def finished(console: Any, job: str) -> workflow_batch.Batch:
    def look() -> workflow_batch.Batch | None:
        found = workflow_batch.progress(console, IVO, job)
        return found if found.state != "running" else None

    return poll(look, 15)


def run(console: Any, seen: Preview, **more: Any) -> workflow_batch.Batch:
    return finished(console, workflow_batch.start(console, IVO, seen, confirmed=seen.name, reason="tidy", **more))


def test_exactly_the_previewed_are_terminated(console: Any) -> None:
    mine, others = prefix(), prefix()
    idents, kept = begin(console, mine, 4), begin(console, others, 1)
    seen = workflow_batch.preview(console, IVO, Filters(id=mine), "terminate")
    assert seen.total == 4
    assert {one.id for one in seen.rows} == set(idents)
    late = begin(console, mine, 1)
    done = run(console, seen)
    assert (done.total, done.done, done.failed) == (4, 4, 0)
    assert [status(console, ident) for ident in idents] == ["Terminated"] * 4
    assert [status(console, ident) for ident in (*late, *kept)] == ["Running"] * 2
    entries = audit.entries(console, IVO, "temporal:batch")[:2]
    assert [(one.action, one.after["outcome"], one.reason) for one in entries] == [
        ("temporal.batch.terminate", "done", "tidy"), ("temporal.batch.terminate", "asked for", "tidy"),
    ]  # fmt: skip
    assert entries[1].after["previewed"] == 4
    assert {one.split()[0] for one in entries[1].after["first"]} == set(idents)


def test_all_get_a_signal_are_canceled_or_begin_anew(console: Any) -> None:
    mine = prefix()
    idents = begin(console, mine, 3)
    before = {ident: workflow_detail.detail(console, IVO, ident).execution.run_id for ident in idents}
    run(console, workflow_batch.preview(console, IVO, Filters(id=mine), "reset"), to_first=True)
    runs = {ident: workflow_detail.detail(console, IVO, ident).execution.run_id for ident in idents}
    assert all(runs[ident] != before[ident] for ident in idents)
    running = Filters(id=mine, status="Running")
    poll(lambda: workflow_executions.count(console, IVO, running) == 3)
    poll(lambda: all(workflow_detail.detail(console, IVO, ident).points for ident in idents))
    seen = workflow_batch.preview(console, IVO, running, "signal")
    run(console, seen, signal_name="open", given='["sesame"]')
    poll(lambda: all(status(console, ident) == "Completed" for ident in idents))
    more = begin(console, mine, 2)
    run(console, workflow_batch.preview(console, IVO, Filters(id=mine), "cancel"))
    poll(lambda: all(status(console, ident) == "Canceled" for ident in more))


def test_our_own_types_get_no_signal_that_they_do_not_know(console: Any) -> None:
    at = datetime.now(UTC)
    seen = Preview("signal", Filters(type="usage-sync"), "WorkflowType = 'usage-sync'", 1, (), (("u", "r"),), at)
    with pytest.raises(change.Invalid, match="usage-sync knows no pilothouse_admitted"):
        workflow_batch.start(
            console, IVO, seen, confirmed=seen.name, reason="hurry", signal_name="pilothouse_admitted", given="[1]"
        )


def test_a_number_that_has_moved_refuses(console: Any) -> None:
    mine = prefix()
    begin(console, mine, 8)
    seen = workflow_batch.preview(console, IVO, Filters(id=mine), "terminate")
    for one in seen.rows[:6]:
        console.adapters["temporal"].call(lambda c, one=one: c.get_workflow_handle(one.id).terminate())
    poll(lambda: workflow_executions.count(console, IVO, Filters(id=mine, status="Running")) == 2)
    with pytest.raises(change.Invalid, match="2 match now, 8 were previewed"):
        workflow_batch.start(console, IVO, seen, confirmed=seen.name, reason="tidy")
    assert status(console, seen.rows[-1].id) == "Running"


def failed(console: Any, mine: str, count: int) -> list[str]:
    """Chains whose last step failed, found as such."""
    idents = [f"{mine}{next(_numbers)}" for _ in range(count)]
    support_executions.BROKEN.update(f"{ident}.two" for ident in idents)
    adapter = console.adapters["temporal"]
    for ident in idents:
        adapter.call(lambda c, ident=ident: c.start_workflow("Chain", ident, id=ident, task_queue=QUEUE))
    poll(lambda: workflow_executions.count(console, IVO, Filters(id=mine, status="Failed")) == count)
    return idents


def test_all_that_failed_run_again_but_those_that_do_already(console: Any) -> None:
    mine = prefix()
    idents = failed(console, mine, 20)
    begin(console, mine, 1)
    seen = workflow_batch.preview(console, IVO, Filters(id=mine), "again")
    assert (seen.total, seen.name, {one for one, _ in seen.all}) == (20, "run again 20", set(idents))
    support_executions.BROKEN.clear()
    workflow_control.again(console, IVO, idents[0], "", "faster")
    steps = [
        one.tried for one in workflow_batch_again.run(console, IVO, seen, confirmed="run again 20", reason="mended")
    ]
    assert steps == [0, 8, 16, 20]
    poll(lambda: all(status(console, ident) == "Completed" for ident in idents), 20)
    done, asked = audit.entries(console, IVO, "temporal:batch")[:2]
    assert (done.action, done.reason, asked.after["outcome"]) == ("temporal.batch.again", "mended", "asked for")
    assert len(asked.after["executions"]) == 20
    assert (done.after["outcome"], set(done.after["begun"])) == ("done", set(idents[1:]))
    assert list(done.after["left out"]) == idents[:1]
    poll(lambda: workflow_executions.count(console, IVO, Filters(id=mine, status="Completed")) == 20)
    assert workflow_batch.preview(console, IVO, Filters(id=mine), "again").total == 20, "the failed runs are kept"
    once_more = workflow_batch.preview(console, IVO, Filters(id=mine), "again")
    (*_, last) = workflow_batch_again.run(console, IVO, once_more, confirmed=once_more.name, reason="twice")
    assert (last.begun, len(last.left)) == ([], 20)


def test_running_again_stops_with_who_asked_and_with_temporal(console: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = prefix()
    idents = failed(console, mine, 10)
    seen = workflow_batch.preview(console, IVO, Filters(id=mine, status="Failed"), "again")
    steps = workflow_batch_again.run(console, IVO, seen, confirmed=seen.name, reason="try")
    assert [next(steps).tried, next(steps).tried] == [0, 8]
    steps.close()
    left = audit.entries(console, IVO, "temporal:batch")[0].after
    assert (left["outcome"], len(left["begun"])) == ("stopped: Who asked for it went away.", 8)
    assert len([ident for ident in idents if ident not in left["begun"]]) == 2

    away = Temporal(TemporalConfig(address="127.0.0.1:1"))
    monkeypatch.setitem(console.adapters, "temporal", away)
    (*_, last) = workflow_batch_again.run(console, IVO, seen, confirmed=seen.name, reason="try")
    assert (last.begun, last.stopped) == ([], "No connection to Temporal.")
    assert audit.entries(console, IVO, "temporal:batch")[0].after["outcome"].startswith("stopped: No connection")


def test_what_cannot_be_run_again_is_named(console: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = prefix()
    failed(console, mine, 3)
    with pytest.raises(change.Invalid, match="did not fail"):
        workflow_batch.preview(console, IVO, Filters(id=mine, status="Completed"), "again")
    seen = workflow_batch.preview(console, IVO, Filters(id=mine), "again")
    before = audit.entries(console, IVO, "temporal:batch")
    for who, typed, reason in ((IVO, "again 3", "x"), (IVO, seen.name, " "), (ANA, seen.name, "x")):
        with pytest.raises((change.Invalid, Forbidden)):
            list(workflow_batch_again.run(console, who, seen, confirmed=typed, reason=reason))
    assert audit.entries(console, IVO, "temporal:batch") == before
    monkeypatch.setattr(workflow_batch, "AGAIN_MOST", 2)
    with pytest.raises(change.Invalid, match=r"3 executions .*at most 2"):
        workflow_batch.preview(console, IVO, Filters(id=mine), "again")


def test_more_than_a_thousand_go_by_the_query_without_what_starts_later(console: Any) -> None:
    mine, many = prefix(), 1005
    adapter = console.adapters["temporal"]

    async def crowd(client: Any, numbers: range) -> None:
        await asyncio.gather(
            *(client.start_workflow("Gate", id=f"{mine}{number}", task_queue="nobody-polls") for number in numbers)
        )

    for start in range(0, many, 100):
        adapter.call(lambda c, start=start: crowd(c, range(start, min(many, start + 100))), 20)
    poll(lambda: workflow_executions.count(console, IVO, Filters(id=mine)) == many, 20)
    seen = workflow_batch.preview(console, IVO, Filters(id=mine), "terminate")
    assert (seen.total, seen.all, len(seen.rows)) == (many, (), 50)
    adapter.call(lambda c: crowd(c, range(many, many + 3)))
    poll(lambda: workflow_executions.count(console, IVO, Filters(id=mine)) == many + 3)
    job = workflow_batch.start(console, IVO, seen, confirmed=f"terminate {many}", reason="tidy")

    def ended() -> workflow_batch.Batch | None:
        found = workflow_batch.progress(console, IVO, job)
        return found if found.state != "running" else None

    done = poll(ended, 120, every=0.5)
    assert (done.total, done.done, done.failed) == (many, many, 0)
    running = Filters(id=mine, status="Running")
    poll(lambda: workflow_executions.count(console, IVO, running) == 3, 15)
    assert {one.id for one in workflow_executions.page(console, IVO, running).rows} == {
        f"{mine}{number}" for number in range(many, many + 3)
    }


def test_a_batch_is_refused_without_filter_permission_confirmation_or_reason(console: Any) -> None:
    mine, before = prefix(), audit.entries(console, IVO, "temporal:batch")
    (ident,) = begin(console, mine, 1)
    with pytest.raises(change.Invalid, match="filter"):
        workflow_batch.preview(console, IVO, Filters(), "terminate")
    with pytest.raises(change.Invalid, match="has ended"):
        workflow_batch.preview(console, IVO, Filters(id=mine, status="Failed"), "terminate")
    with pytest.raises(Forbidden):
        workflow_batch.preview(console, ANA, Filters(id=mine), "terminate")
    seen = workflow_batch.preview(console, IVO, Filters(id=mine), "terminate")
    with pytest.raises(Forbidden):
        workflow_batch.start(console, ANA, seen, confirmed=seen.name, reason="tidy")
    for typed, reason in (("", "tidy"), ("terminate 2", "tidy"), (seen.name, " ")):
        with pytest.raises(change.Invalid):
            workflow_batch.start(console, IVO, seen, confirmed=typed, reason=reason)
    assert status(console, ident) == "Running"
    assert audit.entries(console, IVO, "temporal:batch") == before
