"""A stream of bytes as encrypted parts in a bucket, and back.

Every part is one Fernet token under the console's encryption keys, so that rotating them works for backups as for
everything else. Order and completeness are held by the manifest, itself a token: it lists every part with its SHA-256,
and nothing is read that it does not list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from cryptography.fernet import InvalidToken, MultiFernet

from adapters.s3_client.objects import DELETE_AT_ONCE, Objects
from operations import stopping
from operations.backup_tools import BackupFailed

PART_BYTES = 4 << 20
"""A part's size before encryption: tokens stay below what one answer may hold."""
MANIFEST = "manifest.fernet"


class Sealer:
    """One backup's objects under ``prefix`` (which ends in "/")."""

    def __init__(self, objects: Objects, prefix: str, keys: MultiFernet) -> None:
        self._objects = objects
        self._prefix = prefix
        self._keys = keys

    def write(self, name: str, chunks: Iterable[bytes]) -> dict[str, Any]:
        """Store a stream as parts; what the manifest says of it: parts, size in bytes, sha256."""
        whole, parts, size = hashlib.sha256(), [], 0
        for number, piece in enumerate(_pieces(chunks), start=1):
            stopping.check()
            key = f"{name}.{number:05d}.fernet"
            self._objects.put(self._prefix + key, self._keys.encrypt(piece))
            parts.append({"key": key, "size": len(piece), "sha256": hashlib.sha256(piece).hexdigest()})
            whole.update(piece)
            size += len(piece)
        return {"parts": parts, "size": size, "sha256": whole.hexdigest()}

    def read(self, listed: dict[str, Any]) -> Iterator[bytes]:
        """The stream back, part by part. Raises BackupFailed for a part that is gone, altered or undecipherable."""
        for part in listed["parts"]:
            stopping.check()
            piece = self._open(self._prefix + part["key"])
            if hashlib.sha256(piece).hexdigest() != part["sha256"]:
                raise BackupFailed(f"The part {part['key']} of the backup is not what was stored.")
            yield piece

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Store the manifest, last of all: without it there is no backup."""
        self._objects.put(self._prefix + MANIFEST, self._keys.encrypt(json.dumps(manifest).encode()))

    def read_manifest(self) -> dict[str, Any]:
        """The manifest. Raises BackupFailed."""
        found: dict[str, Any] = json.loads(self._open(self._prefix + MANIFEST))
        return found

    def remove(self) -> int:
        """Remove every object of the backup, however many, the manifest first; how many were asked for."""
        gone, before = self._objects.delete([self._prefix + MANIFEST]), list[str]()
        while keys := self._objects.keys(self._prefix, DELETE_AT_ONCE):
            stopping.check()
            if keys == before:
                raise BackupFailed("The storage still lists objects it has removed.", detail=keys[0])
            gone, before = gone + self._objects.delete(keys), keys
        return gone

    def _open(self, key: str) -> bytes:
        try:
            return self._keys.decrypt(self._objects.get(key))
        except InvalidToken as error:
            raise BackupFailed(
                f"{key} cannot be deciphered.",
                detail="wrong key, or the object was altered",
                advice="Add the key it was encrypted with to PILOTHOUSE_ENCRYPTION_KEYS.",
            ) from error


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of PART_BYTES, the last shorter."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= PART_BYTES:
            yield bytes(held[:PART_BYTES])
            del held[:PART_BYTES]
    if held:
        yield bytes(held)
