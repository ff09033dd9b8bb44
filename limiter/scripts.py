"""The Lua scripts, read once from beside this file."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, the digest Redis knows it by, and how many keys it takes."""

    text: str
    sha: str
    keys: int


def _read(name: str, keys: int) -> Script:
    body = Path(__file__).with_name(name).read_text()
    return Script(body, sha1(body.encode(), usedforsecurity=False).hexdigest(), keys)


DECIDE = _read("decide.lua", 8)
LEASE = _read("lease.lua", 9)
APPLY = _read("apply.lua", 3)
FETCH = _read("fetch.lua", 3)
PRUNE = _read("prune.lua", 2)
