"""The environment is made from pinned packages: fetched several at once, by pip alone where that does not do."""

from __future__ import annotations

import base64
import hashlib
import re
import runpy
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

NAMES = ("keel-one", "keel_two", "keel.three", "keel-four", "keel-five")


def _wheel(folder: Path, name: str) -> str:
    """A package of one module, which knows its version; its hash."""
    module = name.replace("-", "_").replace(".", "_")
    files = {
        f"{module}.py": "VERSION = '1.0'\n",
        f"{module}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{module}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    listed = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(body.encode()).digest()).rstrip(b'=').decode()},"
        for path, body in files.items()
    ]
    record = f"{module}-1.0.dist-info/RECORD"
    files[record] = "\n".join([*listed, f"{record},,", ""])
    path = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, body in files.items():
            archive.writestr(inside, body)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run the script in a folder of its own, its packages coming from a folder too; its names afterwards."""
    script = tmp_path / "checkout" / "sandbox" / "environment.py"
    packages, requirements = tmp_path / "packages", tmp_path / "checkout" / "requirements"
    for folder in (script.parent, packages, requirements):
        folder.mkdir(parents=True)
    script.write_text((ROOT / "sandbox" / "environment.py").read_text())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    hashes = {name: _wheel(packages, name) for name in NAMES}
    lines = [f"{name}==1.0 \\\n    --hash=sha256:{digest}\n    # via something" for name, digest in hashes.items()]
    absent = 'absent==9.9 ; sys_platform == "none" \\\n    --hash=sha256:' + "0" * 64
    (requirements / "run.txt").write_text("# pinned\n" + "\n".join([*lines, absent, ""]))

    def run(**changed: Any) -> dict[str, Any]:
        names = runpy.run_path(str(script))
        names["main"].__globals__.update(changed)
        names["main"]("run")
        return names

    return run


def _version(names: dict[str, Any], module: str) -> str:
    code = f"import {module}; print({module}.VERSION)"
    return subprocess.run([names["PYTHON"], "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_packages_are_fetched_together_installed_and_compiled(made: Callable[..., dict[str, Any]]) -> None:
    def never(*_given: object) -> str:
        raise AssertionError("pip alone was not needed")

    names = made(explain=never)
    assert {_version(names, module) for module in ("keel_one", "keel_two", "keel_three", "keel_five")} == {"1.0"}
    venv = Path(names["VENV"])
    assert list(venv.glob("lib/*/site-packages/__pycache__/keel_one.*.pyc"))
    assert not (venv / "fetched").exists()
    assert names["installed"]("run")
    assert names["missing"](names["pinned"](str(Path(names["ROOT"], "requirements", "run.txt"))))[0].startswith(
        "absent"
    )


def test_pip_alone_does_it_where_fetching_together_does_not(made: Callable[..., dict[str, Any]]) -> None:
    names = made(fetch=lambda *_given: False)
    assert _version(names, "keel_one") == "1.0"
    assert names["installed"]("run")


def test_a_package_that_is_not_the_one_pinned_is_not_installed(
    made: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = tmp_path / "checkout" / "requirements" / "run.txt"
    pinned.write_text(re.sub(r"(keel_two==1\.0 \\\n    --hash=sha256:)\w+", r"\g<1>" + "0" * 64, pinned.read_text()))
    with pytest.raises(SystemExit):
        made()
    assert "differs from the one pinned" in capsys.readouterr().err
    python = tmp_path / "checkout" / ".venv" / "bin" / "python"
    assert subprocess.run([str(python), "-c", "import keel_one"], capture_output=True, check=False).returncode == 1
