"""What a sandbox folder remembers: seed, ports, secrets, people. And the lock that keeps it to one owner."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any

from sandbox.config import write_private
from sandbox.people import Person, demo_people
from sandbox.processes import SandboxError, free_port, port_is_free
from sandbox.secrets import new_secrets

FORMAT = 1
PROXIED = (
    "postgresql", "redis", "temporal", "qdrant", "keycloak", "lago", "somabrain", "whisper", "kokoro",
    "mcp-calendar", "mcp-files", "s3", "smtp",
)  # fmt: skip
"""What stands behind the fault proxy: a port in front and one behind each."""
DIRECT = ("mailbox", "control")


@dataclass
class State:
    """Kept in state.json of the folder."""

    seed: int | None
    today: str
    """The day the demo world was made for (ISO)."""
    secrets: dict[str, str]
    front: dict[str, int] = field(default_factory=dict)
    back: dict[str, int] = field(default_factory=dict)
    prepared: str = ""
    """The newest migration the database was brought to, "" before the first complete start."""
    format: int = FORMAT

    @property
    def anchor(self) -> date:
        """``today`` as a date."""
        return date.fromisoformat(self.today)


class Folder:
    """A sandbox folder, locked for this process. Raises SandboxError with a sentence for whatever is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: IO[bytes] | None = None

    def acquire(self) -> None:
        """Create the folder where absent and take its lock."""
        if self.path.exists() and not self.path.is_dir():
            raise SandboxError(f"The sandbox folder {self.path} is a file: move it away or set SANDBOX_DIR.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
            self._lock = (self.path / ".lock").open("ab")
        except PermissionError as error:
            raise SandboxError(f"The sandbox folder {self.path} cannot be written to: {error.strerror}.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SandboxError(
                f"A sandbox already runs in {self.path}: stop it, or choose another folder with SANDBOX_DIR."
            ) from error

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def broken(self, what: str) -> SandboxError:
        """The sentence for a folder that cannot be used."""
        return SandboxError(f"The sandbox folder {self.path} is damaged: {what}. Run make reset to start over.")

    def load(self, seed: int | None) -> tuple[State, bool]:
        """The folder's state and whether it is new; ``seed`` counts for a new one only."""
        path = self.path / "state.json"
        if not path.exists():
            if (self.path / "postgresql").exists():
                raise self.broken("state.json is missing")
            return State(seed=seed, today=datetime.now(UTC).date().isoformat(), secrets=new_secrets()), True
        values = self._read(path)
        try:
            if values["format"] != FORMAT:
                raise SandboxError(
                    f"The sandbox folder {self.path} was made by another version of Pilothouse. "
                    "Run make reset to start over."
                )
            state = State(**values)
            ports = {**state.front, **state.back}
            date.fromisoformat(state.today)
            if not all(isinstance(port, int) for port in ports.values()):
                raise ValueError("ports")
        except (KeyError, TypeError, ValueError) as error:
            raise self.broken("state.json is not complete") from error
        state.secrets = {**new_secrets(), **state.secrets}
        return state, False

    def save(self, state: State) -> None:
        """Write state.json, readable by its owner only."""
        write_private(self.path / "state.json", json.dumps(asdict(state), indent=1))

    def people(self) -> list[Person]:
        """The demo people, made up on the first start."""
        path = self.path / "people.json"
        if not path.exists():
            people = demo_people()
            write_private(path, json.dumps([person.as_dict() for person in people], indent=2))
            return people
        found: Any = self._read(path, list)
        try:
            return [Person.from_dict(one) for one in found]
        except (KeyError, TypeError) as error:
            raise self.broken("people.json is not complete") from error

    def _read(self, path: Path, expected: type = dict) -> Any:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self.broken(f"{path.name} cannot be read") from error
        if not isinstance(values, expected):
            raise self.broken(f"{path.name} is not complete")
        return values


def choose_ports(state: State, console: int) -> None:
    """Keep every port that is still free; choose another where one is not."""
    taken = {console}
    for ports, names in ((state.front, (*PROXIED, *DIRECT)), (state.back, PROXIED)):
        for name in names:
            port = ports.get(name)
            if port is None or port in taken or not port_is_free(port):
                port = free_port(taken)
            taken.add(port)
            ports[name] = port


def newest_migration(root: Path) -> str:
    """Name of the last migration in the tree."""
    return max((path.name for path in (root / "models" / "migrations" / "versions").glob("[0-9]*.py")), default="")


def environment_seed() -> int | None:
    """SEED of the environment: 7 where unset, None for ``none``. Raises SandboxError for anything but a number."""
    given = (os.environ.get("SEED") or "7").strip().lower()
    if given == "none":
        return None
    if not given.lstrip("-").isdigit():
        raise SandboxError(f"SEED must be a number or none, not {given!r}.")
    return int(given)
