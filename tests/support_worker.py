"""Workers to be killed: ``python -m tests.support_worker QUEUE``, settings from the environment.

Each line read from standard input makes a worker, a fork of this process, which is quick because everything is
imported already; its process id is answered on standard output. At the end of the input all of them end.
It is the product's own worker; only its patience is shorter, so that what died is tried again sooner.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import sys
from datetime import timedelta
from functools import partial

from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from operations.platform import Platform
from operations.settings import Settings
from workflows import tenant_provisioning, worker

ATTEMPT = timedelta(seconds=5)
"""How long an attempt may take here."""
_PARENT_DEATH = 1


def prepare(queue: str) -> None:
    """Shorten what would have tests wait."""
    worker.modules()
    worker.TASK_QUEUE = queue
    worker.RETRY_SECONDS = 0.1
    worker.schedules = lambda: ()
    worker.Worker = partial(  # type: ignore[misc, assignment]
        Worker,
        # Workflows in their sandbox import their module anew, and would not see the attempt's time given here.
        workflow_runner=UnsandboxedWorkflowRunner(),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    )
    tenant_provisioning.TIMEOUT = ATTEMPT


def main(queue: str) -> None:
    """Make a worker per line."""
    prepare(queue)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(2, 1)
            random.seed()
            asyncio.run(worker.run(Platform(Settings()), asyncio.Event()))
        print(child, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
