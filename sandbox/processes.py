"""Child processes that end with us, ports that are free, and plain sentences for what goes wrong."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class SandboxError(RuntimeError):
    """Something keeps the sandbox from running. The text is one sentence for the person who started it."""


def die_with_parent(how: int = signal.SIGTERM) -> None:
    """Have the kernel send ``how`` to this process when its parent dies (Linux; elsewhere nothing)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, how, 0, 0, 0)


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    uid: int | None = None,
    gid: int | None = None,
    on_parent_death: int = signal.SIGTERM,
    append: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, its output in ``log``.

    With ``uid`` and ``gid`` it runs as that user, inside ``cwd`` even where that user could not walk there.
    Call it from a thread that lives as long as the child is wanted: the kernel counts the death of the
    starting *thread* as the parent's.
    """
    parent = os.getpid()

    def prepare() -> None:
        if cwd is not None:
            os.chdir(cwd)
        if uid is not None and gid is not None:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        die_with_parent(on_parent_death)  # after setuid, which clears it
        if os.getppid() != parent:
            os._exit(1)

    with log.open("ab" if append else "wb") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ if env is None else env),
            start_new_session=True,
            preexec_fn=prepare,
        )


def stop(process: subprocess.Popen[bytes] | None, how: int = signal.SIGTERM, patience: float = 2.0) -> None:
    """End a child and everything in its session's process group; SIGKILL after ``patience`` seconds."""
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            kill(process)
    else:
        kill(process)


def kill(process: subprocess.Popen[bytes] | None) -> None:
    """SIGKILL a child's whole process group and wait for the child."""
    if process is None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait(5)


def port_is_free(port: int) -> bool:
    """Whether 127.0.0.1:port can be listened on right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(taken: set[int] | None = None) -> int:
    """A port nobody listens on, below the range the kernel takes outgoing connections' ports from."""
    pick = random.SystemRandom()
    for _ in range(500):
        port = pick.randrange(20000, 32000)
        if (taken is None or port not in taken) and port_is_free(port):
            if taken is not None:
                taken.add(port)
            return port
    raise SandboxError("No free port was found between 20000 and 32000 on 127.0.0.1.")


def wait_until(
    ready: Callable[[], bool], *, seconds: float, what: str, process: subprocess.Popen[bytes] | None
) -> None:
    """Poll ``ready`` every few milliseconds; raise SandboxError when the time or the process is over."""
    end = time.monotonic() + seconds
    pause = 0.005
    while not ready():
        if process is not None and process.poll() is not None:
            raise SandboxError(f"{what} ended with code {process.returncode} while starting.")
        if time.monotonic() > end:
            raise SandboxError(f"{what} was not ready within {seconds:.0f} s.")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)


def answers(port: int) -> bool:
    """Whether something accepts connections on 127.0.0.1:port."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5):
            return True
    except OSError:
        return False


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log in one line, or "" where there is none."""
    try:
        return " | ".join(
            line.strip() for line in log.read_text(errors="replace").splitlines()[-lines:] if line.strip()
        )
    except OSError:
        return ""


def disk_full(error: BaseException) -> bool:
    """Whether an error, or one it came from, says that the disk is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
