"""A graph of steps inside a workflow: in parallel where it allows, told by progress, taken back when one fails.

Whatever was begun may have taken effect, also where its activity failed, timed out or was canceled: all of it is
taken back, each step after those that needed it. Taking back never gives up and no cancel cuts it short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as TimedOut

from operations import workflow_progress as progress
from operations.workflow_progress import Progress, Step

FAILED = "StepFailed"
"""Type of the error a workflow fails with when one of its steps did."""
TAKE_BACK = "Take back: "
"""Goes before a step's title where the history tells that it is taken back."""
UNTIL_DONE = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
"""How activities that take something back are retried: without end, at least every 30 s. Not for people to tune."""


@dataclass(frozen=True, slots=True)
class Came:
    """What a step came to, in words; ``skipped`` where there was nothing for it to do."""

    detail: str = ""
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One step: what to do once those it ``needs`` are done, and how to take it back.

    ``undo`` must hold for a step done, half done and not done at all; it returns False where the step stays as it is.
    None: nothing to take back.
    """

    name: str
    title: str
    do: Callable[[], Awaitable[Came]]
    undo: Callable[[], Awaitable[object]] | None = None
    needs: tuple[str, ...] = ()


class Steps:
    """The steps of one run, each listed after those it needs. ``progress`` is what the query "progress" answers.

    ``afterwards`` says in what state a run that did not come to its end leaves things; asked when that is so.
    """

    def __init__(self, tasks: Sequence[Task], afterwards: Callable[[], str]) -> None:
        self._afterwards = afterwards
        self._tasks = {task.name: task for task in tasks}
        self._steps = {task.name: Step(task.name, task.title, needs=list(task.needs)) for task in tasks}
        self._failed: set[str] = set()
        """Steps that failed by themselves, and were not canceled because another did."""
        self.progress = Progress(list(self._steps.values()))

    async def run(self) -> None:
        """Do all steps.

        A step that fails ends the others and is raised as ApplicationError "StepFailed" that names it; a cancel is
        raised as CancelledError: both after everything that was begun has been taken back.
        """
        failure, canceled = await self._forward()
        if failure is None and canceled is None:
            return
        await self._backward()
        after = self._afterwards()
        if failure is None:
            self.progress.sentence = f"Canceled. {after}"
            raise asyncio.CancelledError(str(canceled or "canceled"))
        name, error = failure
        self.progress.sentence = f"{self._steps[name].title}: {_end(said(error))} {after}"
        raise ApplicationError(self.progress.sentence, name, type=FAILED, non_retryable=True) from error

    async def _forward(self) -> tuple[tuple[str, BaseException] | None, asyncio.CancelledError | None]:
        """Until all is done, or one has failed or a cancel has come, and nothing runs any more."""
        failure: tuple[str, BaseException] | None = None
        canceled: asyncio.CancelledError | None = None
        running: dict[str, asyncio.Task[None]] = {}
        while True:
            if failure is None and canceled is None:
                running |= {name: asyncio.create_task(self._do(name)) for name in self._ready()}
            if not running:
                return failure, canceled
            try:
                await workflow.wait(running.values(), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as error:
                canceled = error
            for name in [name for name, task in running.items() if task.done()]:
                ended = running.pop(name)
                problem = asyncio.CancelledError() if ended.cancelled() else ended.exception()
                if problem is None:
                    continue
                if not isinstance(problem, FailureError | asyncio.CancelledError):
                    raise problem  # a mistake of the program fails the task, not the run: it waits to be mended
                if failure is None and canceled is None:  # what fails after a cancel, fails because of it
                    failure = name, problem
            if failure is not None or canceled is not None:
                for task in running.values():
                    task.cancel()

    def _ready(self) -> list[str]:
        ended = {name for name, step in self._steps.items() if step.state in (progress.DONE, progress.SKIPPED)}
        waiting = [name for name, step in self._steps.items() if step.state == progress.WAITING]
        ready = [name for name in waiting if ended.issuperset(self._tasks[name].needs)]
        for name in ready:
            step = self._steps[name]
            step.state, step.started_at = progress.RUNNING, workflow.now().isoformat()
        return ready

    async def _do(self, name: str) -> None:
        step = self._steps[name]
        try:
            came = await self._tasks[name].do()
        except (FailureError, asyncio.CancelledError) as error:
            step.state, step.ended_at = progress.FAILED, workflow.now().isoformat()
            if is_cancelled_exception(error):
                step.detail = "Canceled."
            else:
                self._failed.add(name)
                step.detail = said(error)
            raise
        step.state = progress.SKIPPED if came.skipped else progress.DONE
        step.ended_at, step.detail = workflow.now().isoformat(), came.detail

    async def _backward(self) -> None:
        """Take back what was begun, whatever cancels come meanwhile."""
        begun = [step.name for step in self.progress.steps if step.state != progress.WAITING]
        undoing: dict[str, asyncio.Task[None]] = {}
        for name in reversed(begun):
            first = [undoing[other] for other in undoing if name in self._tasks[other].needs]
            undoing[name] = asyncio.create_task(self._undo(name, first))
        if not undoing:
            return
        whole = asyncio.ensure_future(workflow.wait(undoing.values()))
        while not whole.done():
            try:
                await asyncio.shield(whole)
            except asyncio.CancelledError:
                if whole.done():
                    raise
        for task in undoing.values():
            task.result()

    async def _undo(self, name: str, first: list[asyncio.Task[None]]) -> None:
        for other in first:
            await asyncio.shield(other)
        undo, step = self._tasks[name].undo, self._steps[name]
        if undo is None or step.state == progress.SKIPPED:
            return
        self.progress.sentence = "Taking back what was begun."
        if name in self._failed:
            # It goes on to say that it failed, and why: the others were taken back because of it.
            why = _end(step.detail)
            step.detail = f"{why} It is being taken back."
            step.detail = why if await undo() is False else f"{why} Taken back."
            return
        before, step.state = step.state, progress.COMPENSATING
        if await undo() is False:
            step.state = before
        else:
            step.state, step.ended_at = progress.COMPENSATED, workflow.now().isoformat()


def said(error: BaseException) -> str:
    """Why an activity failed, in the words of whatever failed first."""
    while isinstance(error, ActivityError) and error.cause is not None:
        error = error.cause
    if isinstance(error, TimedOut):
        return "The worker did not answer in time."
    return error.message if isinstance(error, FailureError) else str(error)


def _end(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
