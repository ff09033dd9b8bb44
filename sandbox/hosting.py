"""Several ASGI applications in one event loop, each on a port of its own, until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import uvicorn


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to whoever runs several of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def server(app: Any, port: int) -> Server:
    """A server for ``app`` on 127.0.0.1:port, quiet, without lifespan waiting for connections at the end."""
    return Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=60,
            server_header=False,
            ws="none",
        )
    )


async def serve_until_signalled(apps: Sequence[tuple[Any, int]], stop: asyncio.Event | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or until ``stop`` is set."""
    ended = stop or asyncio.Event()
    if stop is None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
    servers = [server(app, port) for app, port in apps]
    running = [asyncio.ensure_future(one.serve()) for one in servers]
    waiting = asyncio.ensure_future(ended.wait())
    done, _ = await asyncio.wait([waiting, *running], return_when=asyncio.FIRST_COMPLETED)
    for one in servers:
        one.should_exit = True
    waiting.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for task in done - {waiting}:
        task.result()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` on the fastest loop there is; a sandbox error is one sentence and exit code 1."""
    from sandbox.processes import SandboxError, disk_full

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(work)
    except KeyboardInterrupt:
        sys.exit(0)
    except SandboxError as error:
        sys.exit(str(error))
    except OSError as error:
        if disk_full(error):
            sys.exit("The disk is full.")
        raise
