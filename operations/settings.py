"""The one settings module: what the console must know before it can read anything else.

Values come from the environment (``PILOTHOUSE_…``) and from a TOML file; the environment wins.
The settings of single services are resolved by ``operations.services``.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, MultiFernet
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from adapters.core import services


def config_path() -> Path:
    """The TOML file in use: ``PILOTHOUSE_CONFIG``, or ``pilothouse.toml`` in the working directory."""
    return Path(os.environ.get("PILOTHOUSE_CONFIG") or "pilothouse.toml")


_SCHEMES = {
    "database_url": ("postgresql://", "postgres://", "postgresql+psycopg://"),
    "redis_url": ("redis://", "rediss://", "unix://"),
}
_SCHEMES["backup_scratch_url"] = _SCHEMES["database_url"]


class SettingsError(Exception):
    """The console cannot start with the settings given. The text says which, on one line, without their values."""


class Settings(BaseSettings):
    """Bootstrap settings. Every field is documented in the README's table (a test compares)."""

    model_config = SettingsConfigDict(env_prefix="PILOTHOUSE_", extra="ignore", frozen=True, hide_input_in_errors=True)

    database_url: SecretStr = Field(
        description="PostgreSQL of the console itself, `postgresql://user:password@host/db`"
    )
    redis_url: SecretStr = Field(
        description="Redis or Valkey that carries limits and configuration, `redis://host:6379/0`"
    )
    temporal_address: str = Field("127.0.0.1:7233", description="Temporal frontend, `host:port` (gRPC)")
    temporal_namespace: str = Field("default", description="Temporal namespace of the platform's own workflows")
    encryption_keys: SecretStr = Field(
        description="Fernet keys, comma separated; the first encrypts, all decrypt (rotation)"
    )
    oidc_issuer: str = Field(description="Issuer of the sign-in, `https://keycloak/realms/name`")
    oidc_client_id: str = Field("pilothouse", description="OIDC client id of the console")
    oidc_client_secret: SecretStr | None = Field(None, description="OIDC client secret; none for a public client")
    oidc_admin_client_ids: str = Field(
        "", description="Further client ids whose access tokens the API accepts, comma separated"
    )
    public_url: str = Field(
        "http://127.0.0.1:8501", description="Address people open the console at; sign-in returns here"
    )
    session_hours: float = Field(12.0, gt=0, le=720, description="Longest a sign-in lasts, in hours")
    sample_seconds: float = Field(
        10.0, ge=1, le=300, description="Interval between samples of every service, in seconds"
    )
    probe_deadline_seconds: float = Field(
        3.0, ge=0.5, le=30, description="Total deadline of one round of probes, in seconds"
    )
    backup_bucket: str = Field("pilothouse-backups", description="Bucket for backups, made if it is not there")
    backup_keep_daily: int = Field(7, ge=1, le=366, description="Days of which the last backup is kept")
    backup_keep_weekly: int = Field(5, ge=0, le=520, description="Weeks of which the last backup is kept")
    backup_keep_monthly: int = Field(12, ge=0, le=120, description="Months of which the last backup is kept")
    backup_scratch_url: SecretStr | None = Field(
        None,
        description="PostgreSQL on which backups are proved, by restoring them into a database of their own; "
        "the console's own server if not set",
    )
    postgresql_tools: str | None = Field(
        None, description="Folder of `pg_dump` and `pg_restore`; those on the PATH if not set"
    )
    sandbox_control_url: str | None = Field(
        None, description="Fault control of a sandbox; its presence marks a sandbox"
    )
    sandbox_control_token: SecretStr | None = Field(None, description="Bearer token of the sandbox's fault control")
    sandbox_mailbox_url: str | None = Field(None, description="Where a sandbox shows the mails it received")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_path())

    @field_validator("encryption_keys")
    @classmethod
    def _keys_are_fernet(cls, value: SecretStr) -> SecretStr:
        keys = [key.strip() for key in value.get_secret_value().split(",") if key.strip()]
        if not keys:
            raise ValueError("needs at least one Fernet key; make one with `Fernet.generate_key()`")
        for key in keys:
            Fernet(key)
        return value

    @field_validator("database_url", "redis_url", "backup_scratch_url")
    @classmethod
    def _engines_are_addressed(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # Said here, where the value stays hidden: the libraries would print it with its password.
        schemes = _SCHEMES[info.field_name or ""]
        if value is not None and not value.get_secret_value().startswith(schemes):
            raise ValueError(f"must begin with {' or '.join(schemes)}")
        return value

    @field_validator("public_url", "oidc_issuer")
    @classmethod
    def _web_addresses(cls, value: str, info: ValidationInfo) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/") if info.field_name == "public_url" else value

    @cached_property
    def fernet(self) -> MultiFernet:
        """Encrypts with the first key, decrypts with all."""
        keys = self.encryption_keys.get_secret_value().split(",")
        return MultiFernet([Fernet(key.strip()) for key in keys if key.strip()])

    @property
    def is_sandbox(self) -> bool:
        """True when this console runs on a sandbox."""
        return self.sandbox_control_url is not None


def file_services() -> dict[str, dict[str, Any]]:
    """The ``[services.<slug>]`` tables of the TOML file, empty when there is no file."""
    path = config_path()
    if not path.is_file():
        return {}
    tables = tomllib.loads(path.read_text(encoding="utf-8")).get("services", {})
    return {slug: dict(values) for slug, values in tables.items() if isinstance(values, dict)}


def load() -> Settings:
    """The settings of this process. Raises SettingsError for whatever keeps it from starting."""
    path = config_path()
    if os.environ.get("PILOTHOUSE_CONFIG") and not path.is_file():
        raise SettingsError(f"Pilothouse cannot start. PILOTHOUSE_CONFIG names {path}, and there is no such file.")
    try:
        _refuse_unknown(path)
        return Settings()
    except ValidationError as error:
        raise SettingsError(explain(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"Pilothouse cannot start. {path} is not TOML: {error}.") from None
    except OSError as error:
        raise SettingsError(f"Pilothouse cannot start. {path} cannot be read: {error.strerror}.") from None


def _refuse_unknown(path: Path) -> None:
    """A misspelt name in the file would silently leave its setting at the default."""
    if not path.is_file():
        return
    known = {*Settings.model_fields, "services"}
    unknown = sorted(set(tomllib.loads(path.read_text(encoding="utf-8"))) - known)
    lines = []
    for name in unknown:
        close = difflib.get_close_matches(name, known, 1)
        lines.append(f"{name} in {path} is no setting" + (f"; {close[0]} is." if close else "."))
    strange = sorted(set(file_services()) - set(services()))
    lines += [f"[services.{slug}] in {path} is no service; there are: {', '.join(services())}." for slug in strange]
    if lines:
        raise SettingsError("Pilothouse cannot start. " + " ".join(lines))


def explain(error: ValidationError) -> str:
    """One sentence per wrong or missing setting, naming its variable and what it should be."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        name = str(problem["loc"][0]) if problem["loc"] else "?"
        field = Settings.model_fields.get(name)
        meaning = f" It is: {field.description}." if field and field.description else ""
        wrong = (
            "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ").rstrip(".")
        )
        lines.append(f"PILOTHOUSE_{name.upper()}: {wrong}.{meaning}")
    return "Pilothouse cannot start. " + " ".join(lines)
