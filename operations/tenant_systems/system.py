"""What every system a tenant lives in can do: make its part of the tenant, remove it, and say whether it is there."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from operations.platform import Platform

ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""What a tenant's id can be: every name in the systems is made from it."""
ID_ALLOWED = "1–63 of a–z, 0–9, - and _, beginning with a letter or digit"
Progress = Callable[[int], None]
"""Told how many things are done so far, after each bounded step of a removal that may take long."""


def silent(done: int) -> None:
    """A progress nobody listens to."""


@dataclass(frozen=True, slots=True)
class TenantSpec:
    """A tenant to be made. ``tenant`` is its id, ``tier`` a tier's code, ``email`` whom to write to."""

    tenant: str
    name: str
    tier: str
    email: str


@dataclass(frozen=True, slots=True)
class Made:
    """What a system holds for a tenant. ``identifier`` is its name there; "" where the system was skipped.

    ``also`` is a second name where there are two things: Lago's subscription beside its customer.
    """

    identifier: str
    detail: str
    skipped: bool = False
    also: str = ""


class System(ABC):
    """One system. Every method is synchronous, safe to repeat, and ends within seconds or reports its progress.

    Names in the system follow from the tenant's id alone, so that a run that forgot what it did finds it again.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def configured(self, platform: Platform) -> bool:
        """Whether the service can be asked at all, by what is set for it now."""

    @abstractmethod
    def make(self, platform: Platform, tenant: TenantSpec) -> Made:
        """Make the tenant's part, or complete what is half made. A service that is not configured is skipped.

        Ends within a minute. Raises AdapterError, Rejected where its names are somebody else's already.
        """

    @abstractmethod
    def remove(self, platform: Platform, tenant_id: str, progress: Progress = silent) -> bool:
        """Remove the tenant's part; whether there was any. What is somebody else's is left alone.

        Each step ends within a minute. Raises AdapterError.
        """

    @abstractmethod
    def present(self, platform: Platform, tenant_id: str) -> bool:
        """Whether the tenant's whole part is there; False where the service is not configured.

        Raises AdapterError.
        """


def not_configured(title: str) -> Made:
    """The answer of a system whose service has no address here."""
    return Made("", f"{title} is not configured.", skipped=True)
