"""Batches: exactly what was previewed is touched, and nothing when the number has moved."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from operations import audit, change, workflow_batch, workflow_detail, workflow_executions
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
