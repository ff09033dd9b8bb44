"""The services of the sandbox that are no engines: stand-ins, MCP servers and mail, in one process.

``python -m sandbox.services PLAN.json`` serves them until a signal comes.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox.people import Person
from sandbox.processes import SandboxError
from sandbox.standins import BrokenState, Host

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from sandbox.demo.world import World

STANDINS = {
    "keycloak": "sandbox.standins.keycloak",
    "lago": "sandbox.standins.lago",
    "qdrant": "sandbox.standins.qdrant",
    "somabrain": "sandbox.standins.somabrain",
    "whisper": "sandbox.standins.voice",
    "kokoro": "sandbox.standins.voice",
}
"""Service -> module with ``create``. A module that serves several is told which by ``service=``."""
MCP_SERVERS = ("calendar", "files")
PROTOCOLS = {"postgresql": "postgresql", "redis": "redis", "temporal": "grpc", "smtp": "smtp"}
"""Services that do not speak HTTP."""
SAVE_SECONDS = 1.0


@dataclass
class Setting:
    """What every service is built from."""

    state_dir: Path
    seed: int | None
    people: list[Person]
    secrets: Mapping[str, str]
    console_url: str
    world: World | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further keyword arguments by service, such as ``{"lago": {"premium": True}}``."""


def build(name: str, url: str, setting: Setting) -> Starlette:
    """Build one service by name (``lago``, ``mcp-files``, …); ``url`` is where clients will reach it.

    Raises SandboxError when its saved state cannot be read.
    """
    if name.startswith("mcp-"):
        from sandbox.mcp_servers import SERVERS

        factory: Callable[..., Any] = SERVERS[name.removeprefix("mcp-")]
        arguments: dict[str, Any] = {}
        positional: tuple[Any, ...] = (setting.state_dir, setting.seed)
    else:
        factory = importlib.import_module(STANDINS[name]).create
        host = Host(url=url, console_url=setting.console_url, secrets=dict(setting.secrets), world=setting.world)
        arguments = {"host": host, "service": name, **setting.options.get(name, {})}
        positional = (setting.state_dir, setting.seed, setting.people)
    try:
        return factory(*positional, **arguments)  # type: ignore[no-any-return]
    except BrokenState as error:
        raise SandboxError(f"{error} Run make reset to start over.") from error


async def main(plan: dict[str, Any]) -> None:
    """Serve a plan: ``folder``, ``seed``, ``today``, ``people``, ``secrets``, ``console``, ``back``, ``front``."""
    from sandbox.hosting import serve_until_signalled
    from sandbox.mail import Mailbox, mailbox_app, serve_smtp

    folder = Path(plan["folder"])
    seed = plan["seed"]
    world = None
    if seed is not None:
        from sandbox.demo.world import world as make_world

        world = make_world(seed, date.fromisoformat(plan["today"]))
    setting = Setting(
        state_dir=folder / "standins",
        seed=seed,
        people=[Person.from_dict(one) for one in plan["people"]],
        secrets=plan["secrets"],
        console_url=plan["console"],
        world=world,
    )
    back, front = plan["back"], plan["front"]
    names = [*STANDINS, *(f"mcp-{name}" for name in MCP_SERVERS)]
    apps = {name: build(name, f"http://127.0.0.1:{front[name]}", setting) for name in names}
    mailbox = Mailbox(folder / "mails")
    smtp = await serve_smtp(
        mailbox, back["smtp"], username=plan["secrets"]["smtp_username"], password=plan["secrets"]["smtp_password"]
    )
    saving = asyncio.ensure_future(_save_now_and_then(apps))
    try:
        await serve_until_signalled(
            [*((app, back[name]) for name, app in apps.items()), (mailbox_app(mailbox), back["mailbox"])]
        )
    finally:
        saving.cancel()
        smtp.close()
        save(apps)


def save(apps: Mapping[str, Any]) -> None:
    """Have every service write what it knows."""
    for app in apps.values():
        app.state.standin.save()


async def _save_now_and_then(apps: Mapping[str, Any]) -> None:
    while True:
        await asyncio.sleep(SAVE_SECONDS)
        for name, app in apps.items():
            try:
                app.state.standin.save()
            except OSError as error:
                print(f"The state of {name} could not be saved: {error.strerror}.", file=sys.stderr, flush=True)
                app.state.standin.changed()


if __name__ == "__main__":
    from sandbox.hosting import run

    run(main(json.loads(Path(sys.argv[1]).read_text())))
