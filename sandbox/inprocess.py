"""The sandbox's services inside the present process, each started when first asked for: for tests and benchmarks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sandbox import hosting, storage
from sandbox.demo.world import world
from sandbox.faults import Fault, Proxy, control
from sandbox.mail import Mailbox, mailbox_app, serve_smtp
from sandbox.people import Person, demo_people
from sandbox.processes import free_port
from sandbox.secrets import new_secrets
from sandbox.services import MCP_SERVERS, PROTOCOLS, STANDINS, Setting, build

T = TypeVar("T")


class Services:
    """Stand-ins, MCP servers, mail and S3, behind fault proxies, on a loop in a thread of its own.

    Names are service slugs; the MCP servers are ``mcp-calendar`` and ``mcp-files``.
    """

    def __init__(
        self, folder: Path, *, seed: int | None = 7, console_url: str = "http://127.0.0.1:8501",
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        self.people: list[Person] = demo_people()
        self.secrets: dict[str, str] = new_secrets()
        self.seed = seed
        today = datetime.now(UTC).date()
        self.setting = Setting(
            folder / "standins", seed, self.people, self.secrets, console_url,
            None if seed is None else world(seed, today), options or {},
        )  # fmt: skip
        self.mailbox = Mailbox(folder / "mails")
        self._ports: dict[str, int] = {}
        self._apps: dict[str, Any] = {}
        self._proxies: dict[str, Proxy] = {}
        self._switches: dict[str, list[Proxy]] = {}
        self._servers: list[tuple[hosting.Server, Any]] = []
        self._s3: Any = None
        self._handled: set[str] = set()
        self._seen: dict[str, tuple[int, int]] = {}
        self._lock = threading.RLock()
        self._loop = hosting.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox-services", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the services' loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def app(self, name: str) -> Any:
        """The ASGI application of a service; its state is ``app.state.standin.state``."""
        self.port(name)
        self._handled.add(name)
        return self._apps[name]

    def standin(self, name: str) -> Any:
        """The state keeper of a service."""
        return self.app(name).state.standin

    def url(self, name: str) -> str:
        """Where the service is reached, through its fault proxy."""
        return f"http://127.0.0.1:{self.port(name)}"

    def port(self, name: str) -> int:
        """The proxied port of a service, started now if it was not."""
        with self._lock:
            if name not in self._ports:
                front, back = free_port(), free_port()
                self._start(name, front, back)
                self.proxy(name, back, PROTOCOLS.get(name, "http"), port=front)
                self._ports[name] = front
            return self._ports[name]

    def proxy(self, name: str, target_port: int, protocol: str = "http", port: int | None = None) -> Proxy:
        """A fault proxy in front of any port, such as an engine's."""
        made = Proxy(name, port or free_port(), target_port, protocol)
        self.run(made.start())
        self._proxies[name] = made
        self._switches.setdefault("mcp" if name.startswith("mcp-") else name, []).append(made)
        return made

    def front(self, name: str, target_port: int, protocol: str) -> int:
        """The port of the fault proxy in front of an engine, made on first use; it follows the engine's port."""
        with self._lock:
            if name not in self._proxies:
                self.proxy(name, target_port, protocol)
            self._proxies[name].target_port = target_port
            return self._proxies[name].port

    def fault(self, name: str, fault: Fault | str | None) -> None:
        """Break a service, or mend it with None."""
        self.port(name) if name not in self._proxies else None
        self.run(self._proxies[name].set(fault))

    def control_url(self) -> str:
        """Where the fault switches are controlled over HTTP, as in a whole sandbox."""
        with self._lock:
            if "control" not in self._ports:
                port = free_port()
                self.run(self._serve(control(self._switches, self.secrets["control_token"]), port))
                self._ports["control"] = port
            return f"http://127.0.0.1:{self._ports['control']}"

    def traffic(self, name: str) -> Any:
        """What went through a service's proxy."""
        return self._proxies[name].traffic

    def reset(self) -> None:
        """Mend everything and put every service that was used since the last time back into its first state."""
        for proxy in self._proxies.values():
            if proxy.fault is not None:
                self.run(proxy.set(None))
        used, written = set(self._handled), set(self._handled)
        for name, proxy in self._proxies.items():
            now, before = (proxy.traffic.bytes_in, proxy.writes), self._seen.get(name, (0, 0))
            self._seen[name] = now
            used |= {name} if now[0] != before[0] else set()
            written |= {name} if now[1] != before[1] else set()
        self._handled.clear()

        async def fresh() -> None:
            for name, app in self._apps.items():
                if name in used:
                    app.state.standin.reset()

        self.run(fresh())
        self.mailbox.clear()
        if self._s3 is not None and "s3" in written:
            storage.fill(self.seed)

    def close(self) -> None:
        """Stop everything."""

        async def end() -> None:
            for proxy in self._proxies.values():
                await proxy.stop()
            for server, task in self._servers:
                server.should_exit = True
                await task
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for one in rest:
                one.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        self.run(end())
        if self._s3 is not None:
            self._s3.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _start(self, name: str, front: int, back: int) -> None:
        if name == "s3":
            self._s3 = storage.start(back)
            storage.fill(self.seed)
        elif name == "smtp":
            secrets = self.secrets
            self.run(
                serve_smtp(self.mailbox, back, username=secrets["smtp_username"], password=secrets["smtp_password"])
            )
        else:
            if name == "mailbox":
                app: Any = mailbox_app(self.mailbox)
            elif name in STANDINS or name.removeprefix("mcp-") in MCP_SERVERS:
                app = self._apps[name] = build(name, f"http://127.0.0.1:{front}", self.setting)
            else:
                raise KeyError(name)
            self.run(self._serve(app, back))

    async def _serve(self, app: Any, port: int) -> None:
        server = hosting.server(app, port)
        task = asyncio.ensure_future(server.serve())
        self._servers.append((server, task))
        while not server.started:
            if task.done():
                task.result()
                raise RuntimeError(f"the server on port {port} ended")
            await asyncio.sleep(0.005)
