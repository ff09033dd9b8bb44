"""A whole sandbox as a person starts it: up, down without a trace, up again; and what it says when it cannot."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from sandbox.processes import answers, free_port
from tests.support import ROOT, poll

pytestmark = [pytest.mark.engines, pytest.mark.timeout(180)]


class Run:
    """One ``python -m sandbox run`` as a subprocess."""

    def __init__(self, folder: Path, port: int, **environment: str) -> None:
        self.folder, self.port = folder, port
        self.output = folder.parent / f"output-{port}-{time.monotonic_ns()}"
        self.begun = time.monotonic()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox", "run"], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "SANDBOX_DIR": str(folder), "PORT": str(port), "SEED": "7", **environment},
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.output.read_text()

    def ready(self) -> float:
        """Wait for the ready line; seconds it took."""
        line = f"Pilothouse is ready: http://127.0.0.1:{self.port}\n"

        def there() -> bool:
            assert self.process.poll() is None, self.text
            return line in self.text

        poll(there, 120, what="the ready line")
        return time.monotonic() - self.begun

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def endpoints(self) -> dict[str, Any]:
        return json.loads((self.folder / "endpoints.json").read_text())

    def ports(self) -> set[int]:
        """Every port any of its processes listens on."""
        found: set[int] = set()
        for process in [psutil.Process(self.process.pid), *self.descendants()]:
            with contextlib.suppress(psutil.Error):
                listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
                assert all(c.laddr.ip == "127.0.0.1" for c in listening), (process.cmdline(), listening)
                found |= {c.laddr.port for c in listening}
        return found

    def stop(self, number: int = signal.SIGINT) -> float:
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(15)
        return time.monotonic() - begun


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[list[Run]]:
    """Runs started by a test, ended whatever happens."""
    started: list[Run] = []
    yield started
    for run in started:
        if run.process.poll() is None:
            run.process.terminate()
            run.process.wait(15)


def test_up_down_and_up_again(tmp_path: Path, runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    folder, port = tmp_path / "box", free_port()
    first = Run(folder, port)
    runs.append(first)
    first_seconds = first.ready()
    assert first.text.count("Pilothouse is ready") == 1

    for name in ("pilothouse.toml", "endpoints.json", "people.json", "state.json", "plan.json", "plan.faults.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    people = json.loads((folder / "people.json").read_text())
    assert [one["username"] for one in people] == ["ada", "ivo", "bea", "ana", "pim", "sam"]
    assert all(one["password"] and one["api_token"] and one["roles"] for one in people)

    endpoints = first.endpoints()
    assert set(endpoints) == {
        "console", "postgresql", "redis", "temporal", "qdrant", "keycloak", "lago", "somabrain", "whisper", "kokoro",
        "mcp", "s3", "smtp", "mailbox", "control",
    }  # fmt: skip
    with psycopg.connect(endpoints["postgresql"]) as connection:
        assert connection.execute("SELECT count(*) FROM tenants").fetchone() == (40,)
        connection.execute("UPDATE tenants SET name = 'Renamed' WHERE id = 'kestrel-air'")

    # A second copy on the same folder is refused, one beside it is not asked to share anything.
    second = Run(folder, free_port())
    assert second.process.wait(20) == 1
    assert "already runs in" in second.text
    assert second.text.count("\n") == 1

    _faults_work(folder, endpoints)

    # Whatever ends by itself is started again.
    valkey = next(one for one in first.descendants() if "valkey-server" in one.name())
    valkey.kill()
    poll(lambda: "Valkey ended" in first.text and answers(_port(endpoints["redis"])), 20)

    ports, children = first.ports(), first.descendants()
    assert port in ports
    seconds = first.stop(signal.SIGINT)
    assert first.process.returncode == 0
    assert seconds < 3
    assert "Traceback" not in first.text
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not [one for one in ports if answers(one)]

    again = Run(folder, port)
    runs.append(again)
    again_seconds = again.ready()
    assert again.endpoints() == endpoints
    with psycopg.connect(endpoints["postgresql"]) as connection:
        assert connection.execute("SELECT name FROM tenants WHERE id = 'kestrel-air'").fetchone() == ("Renamed",)
    children = again.descendants()

    # Even a kill that allows no farewell leaves nothing behind.
    again.process.kill()
    again.process.wait(5)
    poll(lambda: not [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], 10)
    with capsys.disabled():
        print(f"\nsandbox: first start {first_seconds:.1f} s, second {again_seconds:.1f} s, stop {seconds:.1f} s")


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1].split("/")[0])


def _faults_work(folder: Path, endpoints: dict[str, Any]) -> None:
    token = json.loads((folder / "state.json").read_text())["secrets"]["control_token"]

    def control(method: str, path: str, body: object = None, bearer: str = token) -> Any:
        request = urllib.request.Request(
            f"{endpoints['control']}{path}", method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    services = control("GET", "/faults")
    assert len(services) == 12
    assert not any(services.values())
    with pytest.raises(urllib.error.HTTPError, match="401"):
        control("GET", "/faults", bearer="wrong")
    for path, body in (("/faults/nothing", {"fault": None}), ("/faults/lago", {"fault": "boil"})):
        with pytest.raises(urllib.error.HTTPError, match=r"404|422"):
            control("PUT", path, body)
    assert control("PUT", "/faults/lago", {"fault": "refuse"})["lago"] == "refuse"
    assert not answers(_port(endpoints["lago"]))
    assert control("PUT", "/faults/lago", {"fault": None})["lago"] is None
    assert answers(_port(endpoints["lago"]))
    assert control("GET", "/traffic")["postgresql"]["connections"] > 0


def test_make_passes_signals_on_and_an_empty_sandbox_is_empty(tmp_path: Path) -> None:
    folder, port = tmp_path / "box", free_port()
    output = tmp_path / "output"
    environment = {**os.environ, "SANDBOX_DIR": str(folder), "PORT": str(port), "SEED": "none"}
    with output.open("wb") as file:
        make = subprocess.Popen(["make", "run"], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        poll(lambda: "Pilothouse is ready" in output.read_text() or make.poll() is not None, 120)
        assert make.poll() is None, output.read_text()
        children = psutil.Process(make.pid).children(recursive=True)
        with psycopg.connect(json.loads((folder / "endpoints.json").read_text())["postgresql"]) as connection:
            assert connection.execute("SELECT count(*) FROM tenants").fetchone() == (0,)
    finally:
        make.terminate()
        make.wait(15)
    assert "Traceback" not in output.read_text()
    assert not [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    done = subprocess.run(["make", "reset"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not folder.exists()


def refused(folder: Path, port: int | str = "", **environment: str) -> str:
    """The sentence a start that must fail ends with."""
    run = Run(folder, int(port or free_port()), **environment)
    try:
        assert run.process.wait(60) == 1, run.text
    finally:
        if run.process.poll() is None:
            run.process.kill()
    assert "Traceback" not in run.text
    lines = [line for line in run.text.splitlines() if not line[:6].strip().replace(".", "").isdigit()]
    assert len(lines) == 1, run.text
    return lines[0]


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Port {port} is taken" in refused(tmp_path / "box", port)


def test_nonsense_in_the_environment_is_said(tmp_path: Path) -> None:
    assert "SEED must be" in refused(tmp_path / "box", SEED="many")
    assert "PORT must be" in refused(tmp_path / "box", PORT="http")


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"format": 1}', b"\xff\xfe"])
def test_a_damaged_state_file_is_said(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "box"
    folder.mkdir()
    (folder / "state.json").write_bytes(content)
    assert "damaged: state.json" in refused(folder)


def test_a_damaged_people_file_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "box"
    folder.mkdir()
    (folder / "people.json").write_text('[{"username": "ada"}]')
    assert "damaged: people.json" in refused(folder)


def test_a_broken_database_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "box"
    (folder / "postgresql").mkdir(parents=True)
    assert "state.json is missing" in refused(folder)
    (folder / "postgresql").rmdir()
    from sandbox.state import Folder

    box = Folder(folder)
    state, new = box.load(7)
    assert new
    box.save(state)
    (folder / "postgresql").mkdir()
    (folder / "postgresql" / "PG_VERSION").write_text("14\n")
    assert "made by PostgreSQL 14" in refused(folder)


def test_a_file_in_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "box").write_text("")
    assert "is a file" in refused(tmp_path / "box")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs root to make a small disk")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        assert "disk is full" in refused(disk / "box")
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_reset_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "reset"], cwd=ROOT, env={**os.environ, "SANDBOX_DIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "does not look like a sandbox folder" in done.stderr
    assert (tmp_path / "precious").exists()


def test_an_old_python_is_said(tmp_path: Path) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['environment.py', 'run']\nsys.version_info = (3, 9, 2, 'final', 0)\n"
        f"runpy.run_path({str(ROOT / 'sandbox' / 'environment.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "Pilothouse needs Python 3.11 or newer, and this is 3.9: name another with make PYTHON=/path/to/python3."
    )
