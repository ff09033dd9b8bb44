"""``python -m sandbox run`` starts a sandbox, ``python -m sandbox reset`` forgets it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from sandbox.processes import SandboxError

OURS = ("state.json", "postgresql", "people.json", "endpoints.json", "pilothouse.toml", ".lock")


def reset(folder: Path) -> int:
    """Remove a sandbox folder; anything that is not one is left alone."""
    from sandbox.state import Folder

    if not folder.exists():
        print(f"There is no sandbox in {folder}.")
        return 0
    if not folder.is_dir() or not (any((folder / name).exists() for name in OURS) or not any(folder.iterdir())):
        print(f"{folder} does not look like a sandbox folder; nothing was removed.", file=sys.stderr)
        return 1
    held = Folder(folder)
    try:
        held.acquire()
        shutil.rmtree(folder)
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The sandbox folder {folder} could not be removed: {error.strerror}.", file=sys.stderr)
        return 1
    finally:
        held.release()
    print(f"The sandbox in {folder} is forgotten.")
    return 0


def main(arguments: list[str]) -> int:
    """The exit code."""
    folder = Path(os.environ.get("SANDBOX_DIR") or ".sandbox")
    if arguments == ["run"]:
        from sandbox.supervisor import run

        return run(folder)
    if arguments == ["reset"]:
        return reset(folder)
    print("Usage: python -m sandbox run | reset", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
