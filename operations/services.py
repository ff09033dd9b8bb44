"""How each service is configured: which value is in force, where it comes from, and changing it.

Environment over TOML file over console over default. What the console stores is versioned; its
secrets are one encrypted document per service.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from cryptography.fernet import InvalidToken
from pydantic import SecretStr, ValidationError
from redis.exceptions import RedisError
from sqlalchemy import select

from adapters.core import Adapter, AdapterError, ServiceConfig, adapter_classes, utcnow
from models import AuditEntry, ServiceConfigRow
from operations import access, outbox
from operations import change as changes
from operations.access import Actor, Permission
from operations.change import Conflict, FieldError, Invalid, NotFound, Outcome
from operations.database import take_turns
from operations.loop import Loop
from operations.platform import Platform
from operations.settings import file_services

log = logging.getLogger(__name__)

MASK = "••••"
CHANNEL = "config:invalidate"
POLL_SECONDS = 5.0
HISTORY = 50


@dataclass(frozen=True, slots=True)
class FieldView:
    """One field as people see it. ``value`` of a secret is a mask, or None where it is not set."""

    name: str
    title: str
    value: Any
    secret: bool
    source: str
    """environment, file, console or default."""
    editable: bool
    type: str
    """string, integer, number, boolean, array or object."""
    description: str
    default: Any
    constraints: dict[str, Any]
    """enum, minimum, maximum, minLength, maxLength, pattern: those the field has."""
    required: bool = False
    problem: str = ""
    """Why the value given is not used, where it is not valid."""


@dataclass(frozen=True, slots=True)
class ServiceConfigView:
    """A service's configuration in force; ``version`` is 0 before the console first stored one."""

    slug: str
    version: int
    fields: tuple[FieldView, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the console keeps for one service, decrypted."""

    version: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def all(self) -> dict[str, Any]:
        """Values and secrets together."""
        return {**self.values, **self.secrets}

    def masked(self) -> dict[str, Any]:
        """Values with secrets as masks, as the record of changes keeps them."""
        return {"version": self.version, **self.values, **dict.fromkeys(self.secrets, MASK)}


@dataclass
class _Resolved:
    config: ServiceConfig
    given: dict[str, Any]
    sources: dict[str, str]
    problems: dict[str, str]


_stores: WeakKeyDictionary[Platform, dict[str, Stored]] = WeakKeyDictionary()
_stores_lock = threading.Lock()


def build_adapter(platform: Platform, slug: str) -> Adapter[Any]:
    """An adapter with the configuration in force. Values that are not valid are logged and left out."""
    resolved = _resolve(platform, slug, _stored(platform).get(slug, Stored()))
    for name, problem in resolved.problems.items():
        log.error("%s.%s from the %s is not used: %s", slug, name, resolved.sources.get(name, "?"), problem)
    return adapter_classes()[slug](resolved.config)


def _stored(platform: Platform) -> dict[str, Stored]:
    """What the console stores, as last read; read now when never read. Empty while PostgreSQL is away."""
    with _stores_lock:
        known = _stores.get(platform)
    if known is not None:
        return known
    try:
        return _keep(platform, _read_store(platform))
    except AdapterError as error:
        # Once is enough: twelve adapters must not each wait for a database that is away. The watcher
        # compares with this emptiness when PostgreSQL returns, and rebuilds what is configured there.
        log.warning("service configuration cannot be read yet: %s", error)
        return _keep(platform, {})


def _read_store(platform: Platform) -> dict[str, Stored]:
    with platform.database.session() as session:
        return {row.slug: _decrypted(platform, row) for row in session.scalars(select(ServiceConfigRow))}


def _keep(platform: Platform, found: dict[str, Stored]) -> dict[str, Stored]:
    """Remember what the adapters are built from; whoever calls this rebuilds those that differ."""
    with _stores_lock:
        _stores[platform] = found
    return found


def _decrypted(platform: Platform, row: ServiceConfigRow) -> Stored:
    secrets: dict[str, str] = {}
    if row.secrets_enc:
        try:
            secrets = json.loads(platform.settings.fernet.decrypt(row.secrets_enc.encode()))
        except InvalidToken:
            log.error("the secrets of %s were encrypted with a key that is not in encryption_keys", row.slug)
    return Stored(row.version, dict(row.values), secrets)


def _class(slug: str) -> type[ServiceConfig]:
    if slug not in adapter_classes():
        raise NotFound(f"There is no service {slug}.")
    return adapter_classes()[slug].config_class()


def _platform_defaults(platform: Platform, slug: str) -> dict[str, Any]:
    """The three services the console itself stands on are, unless told otherwise, the ones it uses."""
    settings = platform.settings
    return {
        "postgresql": {"url": platform.database.dsn.get_secret_value()},
        "redis": {"url": settings.redis_url.get_secret_value()},
        "temporal": {"address": settings.temporal_address, "namespace": settings.temporal_namespace},
    }.get(slug, {})


def _environment(slug: str, config: type[ServiceConfig]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in config.model_fields:
        raw = os.environ.get(f"PILOTHOUSE_{slug.upper()}_{name.upper()}")
        if raw is not None:
            found[name] = _parsed(raw)
    return found


def _parsed(raw: str) -> Any:
    if raw[:1] in ("[", "{"):
        try:
            return json.loads(raw)
        except ValueError:
            return raw
    return raw


def _resolve(platform: Platform, slug: str, stored: Stored) -> _Resolved:
    config = _class(slug)
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, values in (
        ("default", _platform_defaults(platform, slug)),
        ("console", stored.all),
        ("file", file_services().get(slug, {})),
        ("environment", _environment(slug, config)),
    ):
        for name, value in values.items():
            if name in config.model_fields:
                given[name], sources[name] = value, source
    problems: dict[str, str] = {}
    usable = dict(given)
    while True:
        try:
            return _Resolved(config.model_validate(usable), given, sources, problems)
        except ValidationError as error:
            broken = {str(item["loc"][0]): item["msg"] for item in error.errors() if item["loc"]} or {
                name: str(error.errors()[0]["msg"]) for name in usable
            }
            problems |= {name: message for name, message in broken.items() if name in usable}
            if not broken.keys() & usable.keys():
                raise
            usable = {name: value for name, value in usable.items() if name not in broken}


def _properties(config: type[ServiceConfig]) -> dict[str, dict[str, Any]]:
    schema = config.model_json_schema()
    definitions = schema.get("$defs", {})
    flat: dict[str, dict[str, Any]] = {}
    for name, shape in schema.get("properties", {}).items():
        merged = dict(shape)
        choices = [part for part in shape.get("anyOf", []) if part.get("type") != "null"]
        if len(choices) == 1:
            merged |= choices[0]
        if "$ref" in merged:
            merged |= definitions.get(merged["$ref"].rsplit("/", 1)[-1], {})
        flat[name] = {**merged, "title": shape.get("title", name)}
    return flat


_CONSTRAINTS = (
    "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern",
)  # fmt: skip


def _is_secret(shape: dict[str, Any]) -> bool:
    return bool(shape.get("writeOnly") or shape.get("format") == "password")


def describe(platform: Platform, actor: Actor, slug: str) -> ServiceConfigView:
    """The configuration in force with the source of every field; secrets are masked.

    Raises access.Forbidden without infra:view, and NotFound. While PostgreSQL is away the last
    known values are shown.
    """
    access.require(actor, Permission.INFRA_VIEW)
    config = _class(slug)
    try:
        stored = _read_store(platform).get(slug, Stored())
    except AdapterError:
        stored = _stored(platform).get(slug, Stored())
    resolved = _resolve(platform, slug, stored)
    may = actor.may(Permission.INFRA_CONFIGURE)
    plain = resolved.config.model_dump(mode="json")
    fields = []
    for name, shape in _properties(config).items():
        secret = _is_secret(shape)
        source = resolved.sources.get(name, "default")
        value = plain.get(name)
        if secret:
            held = getattr(resolved.config, name)
            value = MASK if held is not None and (not isinstance(held, SecretStr) or held.get_secret_value()) else None
        extra = config.model_fields[name].json_schema_extra
        fields.append(
            FieldView(
                name=name,
                title=str(shape.get("title", name)),
                value=value,
                secret=secret,
                source=source,
                editable=may and source in ("console", "default"),
                type=str(shape.get("type", "string")),
                description=str(config.model_fields[name].description or ""),
                default=None if secret else shape.get("default"),
                constraints={key: shape[key] for key in _CONSTRAINTS if key in shape},
                required=isinstance(extra, dict) and bool(extra.get("required")),
                problem=resolved.problems.get(name, ""),
            )
        )
    return ServiceConfigView(slug, stored.version, tuple(fields))


def change(
    platform: Platform,
    actor: Actor,
    slug: str,
    seen_version: int,
    values: dict[str, Any],
    reason: str = "",
    *,
    request_id: str | None = None,
) -> Outcome:
    """Store new values for some fields; the others stay. A masked secret stays as it is.

    None (or "") takes the console's value away, so that the default holds again. Raises
    access.Forbidden, Invalid, Conflict, NotFound and StoreUnavailable; then nothing was changed.
    """
    return _store(platform, actor, slug, seen_version, values, reason, request_id, "service.configure")


def reset(
    platform: Platform, actor: Actor, slug: str, seen_version: int, names: Sequence[str] | None = None, reason: str = ""
) -> Outcome:
    """Take the console's values of ``names`` (all when None) away, so that the defaults hold again."""
    wanted = list(_class(slug).model_fields) if names is None else list(names)
    stored = _read_store(platform).get(slug, Stored())
    return _store(
        platform, actor, slug, seen_version, {name: None for name in wanted if name in stored.all}, reason, None,
        "service.reset",
    )  # fmt: skip


def versions(platform: Platform, actor: Actor, slug: str) -> list[dict[str, Any]]:
    """The console's earlier values for a service, newest first, at most 50; secrets masked."""
    access.require(actor, Permission.INFRA_VIEW)
    with platform.database.session() as session:
        rows = session.scalars(
            select(AuditEntry)
            .where(AuditEntry.subject == slug, AuditEntry.action.startswith("service."))
            .order_by(AuditEntry.id.desc())
            .limit(HISTORY)
        )
        return [
            {"at": row.at, "by": row.actor_name, "reason": row.reason, "values": dict(row.after or {})}
            for row in rows
            if row.after
        ]


def revert(
    platform: Platform, actor: Actor, slug: str, seen_version: int, to_version: int, reason: str = ""
) -> Outcome:
    """Store again what version ``to_version`` held. Secrets are not kept in the record: they stay as they are."""
    found = next(
        (v["values"] for v in versions(platform, actor, slug) if v["values"].get("version") == to_version), None
    )
    if found is None:
        raise NotFound(f"There is no version {to_version} on record.")
    config = _class(slug)
    then = {name: value for name, value in found.items() if name in config.model_fields and value != MASK}
    now = _read_store(platform).get(slug, Stored()).values
    wanted = {name: None for name in now if name not in found} | then
    secret = {name for name, shape in _properties(config).items() if _is_secret(shape)}
    wanted = {name: value for name, value in wanted.items() if name not in secret}
    return _store(platform, actor, slug, seen_version, wanted, reason, None, "service.revert")


def _store(
    platform: Platform,
    actor: Actor,
    slug: str,
    seen_version: int,
    values: dict[str, Any],
    reason: str,
    request_id: str | None,
    action: str,
) -> Outcome:
    access.require(actor, Permission.INFRA_CONFIGURE)
    config = _class(slug)
    shapes = _properties(config)
    with changes.door(
        platform, actor, Permission.INFRA_CONFIGURE, action=action, subject=slug, reason=reason, request_id=request_id
    ) as door:
        # The row is made first, so that two people who both saw version 0 meet at its lock.
        take_turns(door.session, f"service_configs:{slug}")
        row = door.session.get(ServiceConfigRow, slug, with_for_update=True)
        old = _decrypted(platform, row) if row is not None else Stored()
        if old.version != seen_version:
            yours = {n: MASK if _is_secret(shapes.get(n, {})) and v else v for n, v in values.items()}
            raise Conflict({**old.masked()}, {"version": seen_version, **yours})
        new = _merged(platform, slug, config, shapes, old, values)
        if (new.values, new.secrets) == (old.values, old.secrets):
            return Outcome(old.version)
        if row is None:
            row = ServiceConfigRow(slug=slug)
            door.session.add(row)
        elif old.secrets != new.secrets and row.secrets_enc and not old.secrets:
            raise Invalid([FieldError("encryption_keys", "The stored secrets cannot be read with the present keys.")])
        row.values, row.version, row.updated_by = new.values, new.version, actor.id
        row.updated_at = utcnow()
        row.secrets_enc = (
            platform.settings.fernet.encrypt(json.dumps(new.secrets).encode()).decode() if new.secrets else None
        )
        after = new.masked()
        for name, secret in new.secrets.items():
            if old.secrets.get(name) != secret:
                after[name] = "changed" if name in old.secrets else "set"
        door.audit(old.masked(), after)
        door.publish("config", slug, {"slug": slug, "version": new.version})
        door.session.flush()
        door.version = new.version
    _keep(platform, {**_stored(platform), slug: new})
    platform.reload(slug)
    return door.outcome


def _merged(
    platform: Platform,
    slug: str,
    config: type[ServiceConfig],
    shapes: dict[str, dict[str, Any]],
    old: Stored,
    values: dict[str, Any],
) -> Stored:
    """The stored values after the change. Raises Invalid, naming each field that is wrong."""
    present = _resolve(platform, slug, old)
    errors: list[FieldError] = []
    plain, secrets = dict(old.values), dict(old.secrets)
    for name, value in values.items():
        if name not in shapes:
            errors.append(FieldError(name, "is not a setting of this service", ", ".join(shapes)))
            continue
        secret = _is_secret(shapes[name])
        if secret and value == MASK:
            continue
        if present.sources.get(name) in ("environment", "file"):
            if not secret and value == present.config.model_dump(mode="json").get(name):
                continue
            where = "the environment" if present.sources[name] == "environment" else "pilothouse.toml"
            errors.append(FieldError(name, f"is set by {where}, which wins: change it there"))
            continue
        kept: dict[str, Any] = secrets if secret else plain
        if value is None or value == "":
            kept.pop(name, None)
        elif secret and not isinstance(value, str):
            errors.append(FieldError(name, "must be text"))
        else:
            kept[name] = changes.clean(value) if isinstance(value, str) else value
    candidate = Stored(old.version + 1, plain, secrets)
    found = _resolve(platform, slug, candidate)
    for name, problem in found.problems.items():
        if name in values and not any(error.field == name for error in errors):
            errors.append(FieldError(name, problem, _allowed(shapes[name])))
    if errors:
        raise Invalid(errors)
    # Keep what the config made of each value ("8080" is 8080), not what was typed.
    made = found.config.model_dump(mode="json")
    plain = {name: made[name] if name in values and name in made else value for name, value in plain.items()}
    return Stored(candidate.version, changes.plain(plain), secrets)


def _allowed(shape: dict[str, Any]) -> str:
    if "enum" in shape:
        return ", ".join(str(item) for item in shape["enum"])
    low, high = shape.get("minimum", shape.get("exclusiveMinimum")), shape.get("maximum", shape.get("exclusiveMaximum"))
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"at least {low}" if "minimum" in shape else f"more than {low}"
    if high is not None:
        return f"at most {high}"
    return {"integer": "a whole number", "number": "a number", "boolean": "true or false"}.get(
        shape.get("type", ""), ""
    )


@outbox.handler("config", system="Redis")
def _announce(platform: Platform, messages: Sequence[outbox.Message]) -> None:
    """Tell the other processes which configuration is no longer what they know."""
    platform.redis.publish(CHANNEL, messages[-1].key)


class Watcher(Loop):
    """Keeps a process's adapters at the stored configuration: told by Redis, and looking every 5 s anyway."""

    def __init__(self, platform: Platform, every: float = POLL_SECONDS) -> None:
        super().__init__("config-watcher", self._once, log, "service configuration cannot be read", every=0.1)
        self._platform, self._patience = platform, every
        self._listening: Any = None
        self._looked = False

    def _once(self) -> None:
        if self._looked:
            self._listening = self._listen(self._listening)
        self._looked = True
        pick_up(self._platform)

    def _listen(self, listening: Any) -> Any:
        """Wait for word from Redis, at most ``every`` seconds in short steps."""
        waited = 0.0
        try:
            if listening is None:
                listening = self._platform.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                listening.subscribe(CHANNEL)
            while waited < self._patience and not self.stopping.is_set():
                if listening.get_message(timeout=0.5):
                    return listening
                waited += 0.5
        except (RedisError, OSError):
            self.stopping.wait(self._patience)
            return None
        return listening


def pick_up(platform: Platform) -> list[str]:
    """Read the stored configuration and rebuild the adapters it changed for; their slugs."""
    with _stores_lock:
        before = _stores.get(platform) or {}
    now = _keep(platform, _read_store(platform))
    changed = [slug for slug in adapter_classes() if before.get(slug, Stored()) != now.get(slug, Stored())]
    for slug in changed:
        platform.reload(slug)
    return changed
