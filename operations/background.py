"""What runs beside the pages in every process: the sampler, the outbox relay, the configuration
watcher, the rate limits' reconciler."""

from __future__ import annotations

from operations.outbox import Relay
from operations.platform import Platform
from operations.ratelimit_wire import Reconciler
from operations.sampler import Sampler
from operations.services import Watcher


class Background:
    """The background threads of one process."""

    def __init__(self, platform: Platform) -> None:
        self.sampler = Sampler(platform)
        self._parts = (self.sampler, Relay(platform), Watcher(platform), Reconciler(platform))
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
