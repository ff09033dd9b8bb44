"""How far a run of one of the platform's own workflows is: what its query ``progress`` answers."""

from __future__ import annotations

from dataclasses import dataclass, field

QUERY = "progress"

WAITING = "waiting"
RUNNING = "running"
DONE = "done"
FAILED = "failed"
SKIPPED = "skipped"
COMPENSATING = "compensating"
COMPENSATED = "compensated"
STATES = (WAITING, RUNNING, DONE, FAILED, SKIPPED, COMPENSATING, COMPENSATED)


@dataclass
class Step:
    """One step. ``needs`` names the steps that must be done before it: the edges of the graph."""

    name: str
    title: str
    state: str = WAITING
    needs: list[str] = field(default_factory=list)
    started_at: str | None = None
    """ISO 8601, UTC."""
    ended_at: str | None = None
    detail: str = ""
    """What came of it, or why it failed, in words; never a secret."""


@dataclass
class Progress:
    """The steps in the order they are shown."""

    steps: list[Step] = field(default_factory=list)
    sentence: str = ""
    """What it does or waits for now."""

    @property
    def done(self) -> int:
        """Steps that are done, or had nothing to do; not those taken back: nothing of them is there."""
        return sum(step.state in (DONE, SKIPPED) for step in self.steps)

    @property
    def percent(self) -> float:
        """Share of the steps that are done, 0–100."""
        return 100.0 * self.done / len(self.steps) if self.steps else 0.0
