"""Top-level groups of a realm, found by their path: one call however many groups there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from adapters.core.errors import Rejected
from adapters.core.http import NotSupported
from adapters.keycloak_admin import Admin, records
from adapters.keycloak_admin.records import Group


def find(admin: Admin, realm: str, name: str) -> Group | None:
    """The group; None where there is none. Raises AdapterError, Rejected where the realm is missing."""
    row = _row(admin, realm, name)
    return None if row is None else records.group(row)


def make(admin: Admin, realm: str, name: str, attributes: Mapping[str, str]) -> bool:
    """Have the group with at least these attributes; whether it was created now. Raises AdapterError."""
    wanted = {key: [value] for key, value in attributes.items()}
    row = _row(admin, realm, name)
    if row is None:
        try:
            admin.write("POST", f"{_realm(realm)}/groups", {"name": name, "attributes": wanted})
            return True
        except NotSupported:
            raise
        except Rejected as error:
            if "HTTP 409" not in error.detail:
                raise
        row = _row(admin, realm, name)  # made by another at the same moment
        if row is None:
            raise Rejected(f"Keycloak neither has nor takes the group {name}.", detail="HTTP 409, then not found")
    kept = row.get("attributes") or {}
    if any(kept.get(key) != value for key, value in wanted.items()):
        # Keycloak replaces all attributes with what is sent.
        path = f"{_realm(realm)}/groups/{quote(records.group(row).id, safe='')}"
        admin.write("PUT", path, {**row, "attributes": {**kept, **wanted}})
    return False


def delete(admin: Admin, realm: str, name: str) -> bool:
    """Delete the group; False where there is none. Raises AdapterError."""
    found = find(admin, realm, name)
    if found is None:
        return False
    try:
        admin.write("DELETE", f"{_realm(realm)}/groups/{quote(found.id, safe='')}")
    except NotSupported:
        return False
    return True


def _row(admin: Admin, realm: str, name: str) -> dict[str, Any] | None:
    try:
        row = admin.get(f"{_realm(realm)}/group-by-path/{quote(name, safe='')}", dict)
    except NotSupported as error:
        if "realm not found" in error.detail.lower():
            raise Rejected(f"Keycloak has no realm {realm!r}.", detail=error.detail) from error
        return None
    records.group(row)
    return row


def _realm(realm: str) -> str:
    return f"/{quote(realm, safe='')}"
