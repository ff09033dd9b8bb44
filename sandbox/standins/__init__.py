"""Stand-ins for services no wheel exists of.

Each module of this package exposes::

    def create(state_dir: Path, seed: int | None, people: list[Person], *, host: Host, **options) -> Starlette

The ASGI application returned carries ``app.state.standin``, a :class:`Standin`. A stand-in keeps what
it was told in ``state_dir`` so that it survives a restart, and obeys what the console changes.
``seed=None`` starts empty (the people exist all the same).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.demo.world import World


class BrokenState(RuntimeError):
    """A stand-in's state file cannot be read. The text is one sentence naming the file."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a stand-in may know of the sandbox around it."""

    url: str
    """Where clients reach this stand-in (through the fault proxy), without a trailing slash."""
    console_url: str = "http://127.0.0.1:8501"
    """Where browsers reach the console: redirect URIs of the OIDC client begin with it."""
    secrets: dict[str, str] = field(default_factory=dict)
    """``lago_api_key``, ``qdrant_api_key``, ``oidc_client_id``, ``oidc_client_secret``,
    ``keycloak_admin_client_id``, ``keycloak_admin_client_secret``, ``somabrain_api_key``."""
    world: World | None = None
    """The demo world, None when the sandbox starts empty."""


class Standin:
    """State of one stand-in: a JSON-able dictionary, saved atomically to ``state_dir/<name>.json``.

    ``fresh`` builds the first state; it is called on first start and by :meth:`reset`.
    Change ``state`` and call :meth:`changed`; the host saves once a second and at the end.
    Stand-ins that keep their state elsewhere (Qdrant) override :meth:`reset` and :meth:`save`.
    """

    def __init__(self, name: str, state_dir: Path, fresh: Callable[[], dict[str, Any]]) -> None:
        self.name = name
        self.path = state_dir / f"{name}.json"
        self._fresh = fresh
        self._dirty = False
        state_dir.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            try:
                self.state: dict[str, Any] = json.loads(self.path.read_text())
                if not isinstance(self.state, dict):
                    raise ValueError("not an object")
            except (ValueError, OSError) as error:
                raise BrokenState(f"The state of {name} in {self.path} cannot be read.") from error
        else:
            self.state = fresh()
            self._dirty = True

    def changed(self) -> None:
        """Say that ``state`` was changed and is to be saved soon."""
        self._dirty = True

    def reset(self) -> None:
        """Return to the first state, as if just created."""
        self.state.clear()
        self.state.update(self._fresh())
        self._dirty = True

    def save(self) -> None:
        """Write the state if it changed; atomic, so that a kill in the middle harms nothing."""
        if not self._dirty:
            return
        self._dirty = False
        temporary = self.path.with_suffix(".tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(json.dumps(self.state, separators=(",", ":")))
        temporary.replace(self.path)
