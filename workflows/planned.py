"""Schedules that the worker makes sure of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule as it is first made; what people change about it afterwards stays."""

    id: str
    """Of the schedule; its runs' ids begin with it."""
    workflow: str
    """The type it starts."""
    input: Any
    every: timedelta | str
    """An interval, or a cron expression in UTC."""
    note: str
    """What it is for, in words."""
    paused: bool = False
    at_once: bool = False
    """Whether it runs when it is first made, too."""
