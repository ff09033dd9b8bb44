"""A thread of the process that takes turns until it is stopped, whatever a turn meets."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from adapters.core import AdapterError

STOP_SECONDS = 3.0


class Loop:
    """Calls ``turn`` in a daemon thread, ``every`` seconds after the last call ended; the first after ``first``.

    A turn that meets a system that is away (AdapterError) is a warning, and the next comes after ``retry`` seconds
    (default: ``every``); any other failure is logged as the fault it is. Neither ends the thread.
    ``what`` says in the log what did not happen: "the outbox waits".
    """

    def __init__(
        self, name: str, turn: Callable[[], object], log: logging.Logger, what: str,
        *, every: float, first: float = 0.0, retry: float | None = None,
    ) -> None:  # fmt: skip
        self._turn, self._log, self._what = turn, log, what
        self._first, self._every = first, every
        self._retry = every if retry is None else retry
        self.stopping = threading.Event()
        """Set once the thread is to end: for turns that wait."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the turn under way, at most 3 s later. Safe to call twice, and before ``start``."""
        self.stopping.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        wait = self._first
        while not self.stopping.wait(wait):
            wait = self._every
            try:
                self._turn()
            except AdapterError as error:
                wait = self._retry
                self._log.warning("%s: %s", self._what, error)
            except Exception:  # noqa: BLE001  logged whole; the next turn may go well
                self._log.exception("%s; it goes on", self._what)
