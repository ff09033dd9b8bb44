"""Starts everything a sandbox consists of, keeps it running, and stops it without leaving anything."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import config
from sandbox.engines import Engine, Postgres, Temporal, Valkey, postgres_tools
from sandbox.people import Person
from sandbox.processes import (
    SandboxError,
    answers,
    die_with_parent,
    disk_full,
    kill,
    port_is_free,
    spawn,
    tail,
)
from sandbox.services import MCP_SERVERS, PROTOCOLS, STANDINS
from sandbox.state import PROXIED, Folder, State, choose_ports, environment_seed, newest_migration

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 90.0
STOP_SECONDS = 1.6
MANY_RESTARTS = 5


class Stopped(Exception):
    """A signal asked for the end while starting."""


@dataclass
class Child:
    """One supervised process."""

    name: str
    log: Path
    launch: Callable[[], subprocess.Popen[bytes]]
    stop_signal: int = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    due: float = 0.0
    """When it is to be started again, in monotonic seconds."""

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; call from the main thread, with whose death it ends."""
        self.process = self.launch()


class Supervisor:
    """One run of one sandbox folder."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = Folder(folder)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.begun = time.monotonic()
        self.children: list[Child] = []
        self.stop_asked = threading.Event()
        self.state: State
        self.people: list[Person]

    @property
    def path(self) -> Path:
        """The sandbox folder."""
        return self.folder.path

    def say(self, text: str) -> None:
        """One line of progress with the seconds since the start."""
        _print(f"{time.monotonic() - self.begun:6.1f} s  {text}")

    # The course of a run

    def run(self) -> None:
        """Start, stay until a signal, stop. Raises SandboxError with one sentence when it cannot start."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: self.stop_asked.set())
        if not port_is_free(self.port):
            raise SandboxError(f"Port {self.port} is taken: stop what listens there, or choose another with PORT=….")
        self.folder.acquire()
        try:
            with contextlib.suppress(Stopped):
                self.start()
                self.supervise()
        finally:
            self.stop()
            self.folder.release()

    def start(self) -> None:
        """Bring everything up and print the ready line."""
        seed = environment_seed()
        self.state, new = self.folder.load(seed)
        if not new and os.environ.get("SEED") and seed != self.state.seed:
            self.say(f"The sandbox keeps SEED={self._seed_text()}; make reset forgets it.")
        self.people = self.folder.people()
        choose_ports(self.state, self.port)
        self.folder.save(self.state)
        self._check_space()
        (self.path / "logs").mkdir(exist_ok=True)
        self.say("First start: a new sandbox is made" if new else "The sandbox picks up where it was")

        postgres = self._engines()
        self._write_files(postgres)
        self._module("faults", "sandbox.faults", self.path / "plan.faults.json")
        prepared = self.state.prepared == newest_migration(ROOT)
        if prepared:
            self._wait("PostgreSQL", postgres.ready)
            self._console()
        self._module("services", "sandbox.services", self.path / "plan.json")
        self._module("storage", "sandbox.storage", self.state.back["s3"], self._seed_text())
        if not prepared:
            self._wait("PostgreSQL", postgres.ready)
            self.say("PostgreSQL 18, Valkey 9 and Temporal run")
            self._prepare()
            self._console()
        self._wait_for_all()
        self._worker()
        if self.state.seed is not None and os.environ.get("TRAFFIC") != "none":
            self._module("traffic", "sandbox.traffic", self.path / "plan.json")
        self.say("All services answer")
        _print(f"Pilothouse is ready: {self.url}")
        first = self.people[0]
        _print(f"Sign in as {first.username} with the password {first.password}")
        _print(f"Everybody else: {self.path / 'people.json'}   Stop: Ctrl-C")

    def supervise(self) -> None:
        """Start again what ends by itself, until a signal comes."""
        while not self.stop_asked.wait(0.25):
            for child in self.children:
                if child.running:
                    continue
                now = time.monotonic()
                if child.due == 0.0:
                    code = child.process.returncode if child.process else "?"
                    kill(child.process)
                    child.restarts += 1
                    pause = 0.0 if child.restarts <= MANY_RESTARTS else 15.0
                    child.due = now + pause
                    self.say(
                        f"{child.name} ended (code {code}) and is started again"
                        f"{f' in {pause:.0f} s' if pause else ''}; its log is {child.log}"
                    )
                if now >= child.due:
                    child.due = 0.0
                    with contextlib.suppress(OSError, SandboxError):
                        child.start()

    def stop(self) -> None:
        """End every child together, by force after a while; what they started ends with them."""
        for child in reversed(self.children):
            if child.running and child.process is not None:
                child.process.send_signal(child.stop_signal)
        end = time.monotonic() + STOP_SECONDS
        while time.monotonic() < end and any(child.running for child in self.children):
            time.sleep(0.01)
        for child in self.children:
            kill(child.process)

    # What is started

    def _engines(self) -> Postgres:
        secrets, back = self.state.secrets, self.state.back
        postgres = Postgres(self.path / "postgresql", back["postgresql"], password=secrets["postgresql_password"])
        valkey = Valkey(self.path / "valkey", back["redis"], password=secrets["redis_password"])
        temporal = Temporal(self.path / "temporal", back["temporal"])
        for engine in (temporal, valkey, postgres):
            self._engine(engine)
        self.engines: tuple[Engine, ...] = (postgres, valkey, temporal)
        return postgres

    def _engine(self, engine: Engine) -> None:
        def launch() -> subprocess.Popen[bytes]:
            engine.launch()
            assert engine.process is not None
            return engine.process

        self._add(Child(engine.name, engine.log, launch, engine.stop_signal))

    def _module(self, name: str, module: str, *arguments: object) -> None:
        log = self.path / "logs" / f"{name}.log"
        command = [sys.executable, "-m", module, *map(str, arguments)]
        self._add(Child(f"The {name} process", log, lambda: spawn(command, log=log, cwd=ROOT, env=self._environment())))

    def _console(self) -> None:
        log = self.path / "logs" / "console.log"
        command = [
            sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(self.port),
            "--no-access-log", "--log-level", "warning", "--no-server-header", "--timeout-graceful-shutdown", "1",
            "--ws", "websockets-sansio",
        ]  # fmt: skip
        environment = {**self._environment(), "WEBSOCKETS_MAX_LINE_LENGTH": "65536"}
        self._add(Child("The console", log, lambda: spawn(command, log=log, cwd=ROOT, env=environment)))

    def _worker(self) -> None:
        self._module("worker", "workflows")

    def _add(self, child: Child) -> None:
        if self.stop_asked.is_set():
            raise Stopped
        self.children.append(child)
        child.start()

    def _environment(self) -> dict[str, str]:
        """Ours, without settings that would point the console away from the sandbox."""
        given = {f"PILOTHOUSE_{key}".upper() for key in self.configuration if key != "services"}
        for slug, fields in self.configuration["services"].items():
            given |= {f"PILOTHOUSE_{slug}_{key}".upper() for key in fields}
        kept = {key: value for key, value in os.environ.items() if key.upper() not in given}
        return {
            **kept,
            "PILOTHOUSE_CONFIG": str(self.path / "pilothouse.toml"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": kept.get("PYTHONDONTWRITEBYTECODE", ""),
        }

    def _prepare(self) -> None:
        """Migrate the database and make the demo history, in a process of its own so that its memory goes."""
        log = self.path / "logs" / "prepare.log"
        command = [sys.executable, "-m", "sandbox.demo", str(self.path / "plan.json")]
        child = Child("Preparation", log, lambda: spawn(command, log=log, cwd=ROOT, env=self._environment()))
        self._add(child)
        assert child.process is not None
        end = time.monotonic() + START_SECONDS
        while child.process.poll() is None:
            if self.stop_asked.wait(0.02):
                raise Stopped
            if time.monotonic() > end:
                raise SandboxError(f"The database was not prepared within {START_SECONDS:.0f} s; see {log}.")
        self.children.remove(child)
        if child.process.returncode:
            raise SandboxError(f"The database could not be prepared: {tail(log, 1)}")
        self.state.prepared = newest_migration(ROOT)
        self.folder.save(self.state)
        self.say("The database is migrated" + ("" if self.state.seed is None else " and the demo history is in it"))

    # What is waited for

    def _wait_for_all(self) -> None:
        for engine in self.engines:
            self._wait(engine.name, engine.ready)
        back = self.state.back
        self._wait("The fault proxy", lambda: answers(self.state.front["control"]))
        for name in (*STANDINS, *(f"mcp-{name}" for name in MCP_SERVERS), "smtp", "s3"):
            self._wait(name, lambda name=name: answers(back[name]))  # type: ignore[misc]
        self.say("Engines and services run; the console comes up")
        self._wait("The console", lambda: _http_ok(f"{self.url}/api/v2/health/live"))

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + START_SECONDS
        while not ready():
            if self.stop_asked.wait(0.02):
                raise Stopped
            for child in self.children:
                if not child.running:
                    raise SandboxError(f"{child.name} could not start: {tail(child.log, 1)} (log: {child.log})")
            if time.monotonic() > end:
                raise SandboxError(
                    f"{what} was not ready within {START_SECONDS:.0f} s; logs are in {self.path / 'logs'}."
                )

    # What is written

    def _write_files(self, postgres: Postgres) -> None:
        front, back, secrets = self.state.front, self.state.back, self.state.secrets
        database = postgres.dsn("pilothouse", front["postgresql"])
        valkey = self.engines[1]
        assert isinstance(valkey, Valkey)
        control = f"http://127.0.0.1:{front['control']}"
        mailbox = f"http://127.0.0.1:{front['mailbox']}"
        self.configuration: dict[str, Any] = config.configuration(
            ports=front,
            secrets=secrets,
            database=database,
            redis=valkey.at(front["redis"]),
            console_url=self.url,
            control_url=control,
            mailbox_url=mailbox,
            postgresql_tools=str(postgres_tools()),
        )
        config.write_private(self.path / "pilothouse.toml", config.toml(self.configuration))
        endpoints: dict[str, Any] = {
            "console": self.url,
            "postgresql": database,
            "redis": valkey.at(front["redis"]),
            "temporal": f"127.0.0.1:{front['temporal']}",
            **{name: f"http://127.0.0.1:{front[name]}" for name in (*STANDINS, "s3")},
            "mcp": [f"http://127.0.0.1:{front[f'mcp-{name}']}/mcp" for name in MCP_SERVERS],
            "smtp": f"smtp://127.0.0.1:{front['smtp']}",
            "mailbox": mailbox,
            "control": control,
        }
        config.write_private(self.path / "endpoints.json", json.dumps(endpoints, indent=2))
        # moto, SMTP and the stand-ins listen behind, the mailbox is not proxied.
        plan = {
            "folder": str(self.path),
            "seed": self.state.seed,
            "today": self.state.today,
            "people": [person.as_dict() for person in self.people],
            "secrets": secrets,
            "console": self.url,
            "front": front,
            "back": {**back, "mailbox": front["mailbox"]},
            "database": postgres.dsn("pilothouse"),
            "redis": valkey.url,
        }
        config.write_private(self.path / "plan.json", json.dumps(plan))
        faults = {
            "control": front["control"],
            "token": secrets["control_token"],
            "proxies": {
                name: {"port": front[name], "target": back[name], "protocol": PROTOCOLS.get(name, "http")}
                for name in PROXIED
            },
        }
        config.write_private(self.path / "plan.faults.json", json.dumps(faults))

    def _check_space(self) -> None:
        """Refuse early where the disk has no room for a database, rather than fail half-way."""
        found = os.statvfs(self.path)
        if found.f_bavail * found.f_frsize < 64 * 1024 * 1024:
            raise SandboxError(f"The disk is full: the sandbox needs 64 MB free in {self.path}.")

    def _seed_text(self) -> str:
        return "none" if self.state.seed is None else str(self.state.seed)


def _http_ok(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _print(text: str) -> None:
    """Print a line; a reader that went away is no reason to fail."""
    with contextlib.suppress(BrokenPipeError, OSError):
        print(text, flush=True)


def environment_port() -> int:
    """PORT of the environment, 8501 where unset. Raises SandboxError for what is no port."""
    given = os.environ.get("PORT") or "8501"
    if not given.isdigit() or not 1 <= int(given) <= 65535:
        raise SandboxError(f"PORT must be a number between 1 and 65535, not {given!r}.")
    return int(given)


def run(folder: Path) -> int:
    """``make run``: the exit code."""
    if os.environ.get("MAKELEVEL"):
        die_with_parent(signal.SIGTERM)  # a killed make takes us along
    try:
        Supervisor(folder, environment_port()).run()
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if disk_full(error):
            print(f"The disk is full: the sandbox could not write to {folder}.", file=sys.stderr)
        else:
            print(
                f"The sandbox could not start: {error.strerror or error} ({error.filename or folder}).", file=sys.stderr
            )
        return 1
    return 0
