"""What runs beside the pages in every process: the migration, the sampler, the outbox relay, the
configuration watcher, the reconcilers of rate limits and of workflow settings."""

from __future__ import annotations

import logging
import threading

import operations.mail  # noqa: F401  the relay delivers what it queues
from adapters.core import AdapterError
from operations import workflow_wire
from operations.database import MigrationFailed, migrate
from operations.outbox import Relay
from operations.platform import Platform
from operations.ratelimit_wire import Reconciler
from operations.sampler import Sampler
from operations.services import Watcher

log = logging.getLogger(__name__)

MIGRATION_SECONDS = 8.0
RETRY_SECONDS = 2.0


class Migration:
    """Brings the tables to this version's shape: before anything else where PostgreSQL answers, else once it does."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._stop = threading.Event()
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="migration", daemon=True)

    def start(self) -> None:
        """Begin, and wait at most ``MIGRATION_SECONDS`` for the end: a start must not hang on PostgreSQL."""
        self._thread.start()
        self._settled.wait(MIGRATION_SECONDS)

    def stop(self) -> None:
        """Try no more."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(2)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                migrate(self._platform.database.url)
                self._settled.set()
                return
            except MigrationFailed as error:
                log.error("%s %s", error, error.detail)
                self._settled.set()
                return
            except AdapterError as error:
                log.warning("the console starts without its PostgreSQL: %s", error)
            except Exception:
                log.exception("the database could not be migrated; it is tried again")
            self._settled.set()
            self._stop.wait(RETRY_SECONDS)


class Background:
    """The background threads of one process."""

    def __init__(self, platform: Platform) -> None:
        self.sampler = Sampler(platform)
        self._parts = (
            Migration(platform),
            self.sampler,
            Relay(platform),
            Relay(platform, slow=True),
            Watcher(platform),
            Reconciler(platform),
            workflow_wire.Reconciler(platform),
        )
        platform.sampler = self.sampler

    def start(self) -> None:
        """Begin all."""
        for part in self._parts:
            part.start()

    def stop(self) -> None:
        """End all, within a few seconds. Safe to call twice."""
        for part in self._parts:
            part.stop()


def start(platform: Platform) -> Background:
    """Start the background work of a process."""
    running = Background(platform)
    running.start()
    return running
