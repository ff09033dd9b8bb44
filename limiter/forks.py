"""What a process inherits over a fork and must not use: threads that are not there, locks somebody else holds,
and what was promised to the parent."""

from __future__ import annotations

import os
from typing import Any, Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Has something that must not outlive a fork."""

    def after_fork(self) -> None:
        """Make it anew. Called in the child before anything else runs there: no I/O, no waiting."""


_known: WeakSet[Forkable] = WeakSet()


def remember(one: Forkable) -> None:
    """Have ``after_fork`` called in every child of this process."""
    _known.add(one)


_left: list[Any] = []


def leave(*parents: Any) -> None:
    """Keep what is the parent's from being cleaned up here: an event loop's selector is one for both processes, so
    closing a connection of the parent's loop would have the parent wait for its answers for ever."""
    _left.extend(parents)


def _forked() -> None:
    for one in list(_known):
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
