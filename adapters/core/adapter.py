"""The contract of an adapter, and how adapters are found."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict

from adapters.core.errors import Unconfigured
from adapters.core.model import Health, Metric, Service, Setting


class ServiceConfig(BaseModel):
    """Base of every adapter's configuration.

    Fields without which the service cannot be asked are declared ``X | None = None`` with
    ``json_schema_extra={"required": True}``; everything secret is ``SecretStr``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def missing(self) -> tuple[str, ...]:
        """Names of required fields that have no value, in declaration order."""
        return tuple(
            name
            for name, info in type(self).model_fields.items()
            if isinstance(info.json_schema_extra, dict)
            and info.json_schema_extra.get("required")
            and getattr(self, name) in (None, "")
        )


C = TypeVar("C", bound=ServiceConfig)


class Adapter(ABC, Generic[C]):
    """One administered service.

    The constructor does no I/O. Methods return values or raise :class:`AdapterError`.
    Instances are shared by all threads of a process; clients are made on first use and
    released by :meth:`close`.
    """

    service: ClassVar[Service]

    def __init__(self, config: C) -> None:
        self.config = config

    @classmethod
    def config_class(cls) -> type[ServiceConfig]:
        """The ``ServiceConfig`` the adapter is declared with."""
        for base in cls.__orig_bases__:  # type: ignore[attr-defined]
            found = [arg for arg in get_args(base) if isinstance(arg, type) and issubclass(arg, ServiceConfig)]
            if found:
                return found[0]
        raise TypeError(f"{cls.__name__} must be declared as Adapter[SomeConfig]")

    def require_config(self) -> None:
        """Raise :class:`Unconfigured` naming the environment variables to set, if any are missing."""
        missing = self.config.missing()
        if missing:
            names = tuple(f"PILOTHOUSE_{self.service.slug.upper()}_{name.upper()}" for name in missing)
            raise Unconfigured(f"{self.service.title} is not configured: set {', '.join(names)}.", missing=names)

    @abstractmethod
    def health(self) -> Health:
        """Perform a real operation of the service; return its health or raise AdapterError."""

    @abstractmethod
    def metrics(self) -> Sequence[Metric]:
        """What the card and the history show; exactly one is the headline."""

    @abstractmethod
    def settings(self) -> Sequence[Setting]:
        """The service's settings as it reports them now, secrets masked by type."""

    def close(self) -> None:
        """Release clients. Safe to call twice, and on an adapter never used."""


@cache
def adapter_classes() -> dict[str, type[Adapter[Any]]]:
    """Every adapter class by slug, in navigation order: one per module of ``adapters``."""
    import adapters

    found: dict[str, type[Adapter[Any]]] = {}
    for info in pkgutil.iter_modules(adapters.__path__):
        if info.ispkg or info.name.startswith("_"):
            continue
        module = importlib.import_module(f"adapters.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Adapter) and value.__module__ == module.__name__:
                found[value.service.slug] = value
    return dict(sorted(found.items(), key=lambda item: (item[1].service.order, item[0])))


def services() -> dict[str, Service]:
    """Every known service by slug, in navigation order."""
    return {slug: cls.service for slug, cls in adapter_classes().items()}
