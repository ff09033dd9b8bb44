"""The configuration a console needs to run on a sandbox."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REALM = "pilothouse"


def configuration(
    *,
    ports: Mapping[str, int],
    secrets: Mapping[str, str],
    database: str,
    redis: str,
    console_url: str,
    control_url: str | None = None,
    mailbox_url: str | None = None,
    postgresql_tools: str | None = None,
) -> dict[str, Any]:
    """The contents of pilothouse.toml. ``ports`` are those clients connect to, by name."""

    def http(name: str) -> str:
        return f"http://127.0.0.1:{ports[name]}"

    top: dict[str, Any] = {
        "database_url": database,
        "redis_url": redis,
        "temporal_address": f"127.0.0.1:{ports['temporal']}",
        "encryption_keys": secrets["encryption_key"],
        "oidc_issuer": f"{http('keycloak')}/realms/{REALM}",
        "oidc_client_id": secrets["oidc_client_id"],
        "oidc_client_secret": secrets["oidc_client_secret"],
        "public_url": console_url,
    }
    if control_url is not None:
        top |= {"sandbox_control_url": control_url, "sandbox_control_token": secrets["control_token"]}
    if mailbox_url is not None:
        top["sandbox_mailbox_url"] = mailbox_url
    if postgresql_tools is not None:
        top["postgresql_tools"] = postgresql_tools
    top["services"] = {
        "postgresql": {"url": database},
        "redis": {"url": redis},
        "temporal": {"address": top["temporal_address"], "namespace": "default"},
        "qdrant": {"url": http("qdrant"), "api_key": secrets["qdrant_api_key"]},
        "keycloak": {
            "url": http("keycloak"),
            "realm": REALM,
            "admin_realm": "master",
            "client_id": secrets["keycloak_admin_client_id"],
            "client_secret": secrets["keycloak_admin_client_secret"],
        },
        "lago": {"url": http("lago"), "api_key": secrets["lago_api_key"]},
        "somabrain": {"url": http("somabrain"), "api_key": secrets["somabrain_api_key"]},
        "whisper": {"url": http("whisper"), "dialect": "speaches"},
        "kokoro": {"url": http("kokoro"), "dialect": "kokoro-fastapi"},
        "mcp": {
            "servers": [
                {"name": name.removeprefix("mcp-"), "url": f"{http(name)}/mcp"}
                for name in sorted(ports)
                if name.startswith("mcp-")
            ]
        },
        "s3": {
            "endpoint_url": http("s3"),
            "access_key": secrets["s3_access_key"],
            "secret_key": secrets["s3_secret_key"],
            "region": "us-east-1",
            "bucket": "pilothouse-uploads",
            "tenant_principal": "arn:aws:iam::123456789012:role/tenant-{tenant}",
        },
        "smtp": {
            "host": "127.0.0.1",
            "port": ports["smtp"],
            "username": secrets["smtp_username"],
            "password": secrets["smtp_password"],
            "starttls": False,
            "from_address": "console@pilothouse.test",
        },
    }
    return top


def toml(values: Mapping[str, Any], table: str = "") -> str:
    """TOML of strings, numbers, booleans, lists and nested tables."""
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {_value(value)}" for key, value in plain.items()]
    text = (f"[{table}]\n" if table and plain else "") + "\n".join(lines) + ("\n" if lines else "")
    for key, value in values.items():
        if isinstance(value, Mapping):
            text += "\n" + toml(value, f"{table}.{key}" if table else key)
    return text


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=True)


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner may read it."""
    temporary = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
