"""Running again all that failed and match a filter: what Temporal has no batch operation for, done one by one.

Bounded to what is done in seconds, so that it needs no memory of its own: who asked watches it, and the record of
changes has what came of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass, field

from temporalio.client import Client

from adapters.core import AdapterError
from adapters.temporal_client import control
from adapters.temporal_client.control import AlreadyThere
from adapters.temporal_client.executions import NoExecution
from operations.access import Actor
from operations.change import FieldError, Invalid
from operations.platform import Platform
from operations.workflow_audit import recorded
from operations.workflow_batch import Preview, agreed
from operations.workflow_executions import adapter_of

AT_ONCE = 8


@dataclass
class Progress:
    """How far it is."""

    total: int
    begun: list[str] = field(default_factory=list)
    """Ids that run again."""
    left: dict[str, str] = field(default_factory=dict)
    """Ids that were left out, and why."""
    stopped: str = ""
    """Why the rest was not tried."""

    @property
    def tried(self) -> int:
        """How many it has come past."""
        return len(self.begun) + len(self.left)


def run(
    platform: Platform, actor: Actor, seen: Preview, *, confirmed: str, reason: str, request_id: str | None = None
) -> Generator[Progress]:
    """Start what was previewed once more, each as a new run with the same input; how far it is, step by step.

    One that runs again or has completed since is left out. When the caller stops asking, or Temporal fails, the rest is
    left as it is. Raises as :func:`operations.workflow_batch.start`.
    """
    if seen.action != "again":
        raise Invalid([FieldError("action", f"{seen.action} is a batch of Temporal's own", "again")])
    agreed(actor, seen, confirmed)
    adapter, came = adapter_of(platform), Progress(seen.total)
    asked = {"batch": seen.action, "query": seen.query, "executions": [f"{one} {run}" for one, run in seen.all]}

    async def some(client: Client, chunk: tuple[tuple[str, str], ...]) -> None:
        space = adapter.config.namespace
        ended = await asyncio.gather(*(_again(client, space, *one, came) for one in chunk), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    with recorded(
        platform, actor, action="temporal.batch.again", subject="temporal:batch", reason=reason, asked=asked,
        request_id=request_id,
    ) as record:  # fmt: skip
        try:
            yield came
            for start in range(0, len(seen.all), AT_ONCE):
                chunk = seen.all[start : start + AT_ONCE]
                adapter.call(lambda client, chunk=chunk: some(client, chunk))  # type: ignore[misc]
                yield came
        except AdapterError as error:
            came.stopped = error.sentence
        except GeneratorExit:
            came.stopped = "Who asked for it went away."
        finally:
            record.after = {"begun": came.begun, "left out": came.left}
            if came.stopped:
                record.after["outcome"] = f"stopped: {came.stopped}"
            platform.readings.forget("temporal:executions:")


async def _again(client: Client, space: str, workflow_id: str, run_id: str, came: Progress) -> None:
    try:
        first = await control.started(client, space, workflow_id, run_id)
        await control.start(
            client, space, kind=first.workflow_type.name, workflow_id=workflow_id, task_queue=first.task_queue.name,
            given=list(first.input.payloads), again=first,
        )  # fmt: skip
    except (AlreadyThere, NoExecution) as error:
        came.left[workflow_id] = error.sentence
    else:
        came.begun.append(workflow_id)
