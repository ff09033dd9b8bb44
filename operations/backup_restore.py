"""``python -m operations.backup_restore [BACKUP DSN]``: restore a backup into an empty database; alone, list them.

With the console's database lost, name the backup all the same: its objects say everything that is needed.
"""

from __future__ import annotations

import sys

from adapters.core import AdapterError
from operations import backups
from operations.change import NotFound
from operations.platform import Platform
from operations.settings import SettingsError, load

USAGE = "Usage: python -m operations.backup_restore [BACKUP postgresql://…/empty_database]"


def main(arguments: list[str]) -> int:
    """The exit code: 0 done, 1 failed with a sentence, 2 called wrongly."""
    if len(arguments) not in (0, 2):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        platform = Platform(load())
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        if not arguments:
            _list(platform)
        else:
            found = backups.restore(platform, arguments[0], arguments[1])
            print(f"Restored {len(found)} tables with {sum(found.values()):,} rows, as the manifest says.")
    except (AdapterError, NotFound) as error:
        detail = f" {error.detail} {error.advice}" if isinstance(error, AdapterError) else ""
        print(f"{error}{detail}", file=sys.stderr)
        return 1
    finally:
        platform.close()
    return 0


def _list(platform: Platform) -> None:
    print(USAGE)
    for ident, status in backups.stored(platform):
        print(f"{ident}  {status}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
