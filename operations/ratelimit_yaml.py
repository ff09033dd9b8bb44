"""The whole set of rate limits as YAML: exported, compared and imported, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml
from sqlalchemy import select

from limiter import Scope
from operations import access
from operations.access import Actor, Permission
from operations.change import FieldError, Invalid
from operations.platform import Platform
from operations.ratelimit_rules import plain_values, validate, window_text
from operations.ratelimit_values import FIELDS, STORED, Edit, Policy, Saved, Target, to_policy
from operations.ratelimits import save

YAML_LIMIT = 8 * 1024 * 1024
DEPTH = 20
# libyaml where it is built in, which almost always it is: ten times as fast, and ten thousand overrides take a moment.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True)
class Step:
    """One difference between a document and what is in force; ``fields`` maps a name to (now, then)."""

    target: Target
    kind: str
    """"create", "change" or "delete"."""
    fields: dict[str, tuple[Any, Any]]


def export_yaml(platform: Platform, actor: Actor) -> str:
    """Every policy as one YAML document. Raises access.Forbidden, StoreUnavailable."""
    access.require(actor, Permission.RATELIMIT_VIEW)
    document: dict[str, Any] = {}
    for policy in _all(platform):
        entry = document.setdefault(policy.target.key, {})
        values = _plain(policy)
        if policy.target.scope is Scope.GLOBAL:
            document[policy.target.key] = {**values, **entry}
        else:
            entry.setdefault(f"{policy.target.scope.lower()}s", {})[policy.target.reference] = values
    return str(yaml.dump({"ratelimits": document}, Dumper=_SafeDumper, sort_keys=False, allow_unicode=True))


def preview_yaml(platform: Platform, actor: Actor, source: str) -> tuple[list[Step], list[Edit]]:
    """What applying a document would change, and the edits that do it; policies it does not name are deleted.

    Each edit carries the version compared with, so that applying is a conflict when something changed meanwhile.
    Raises access.Forbidden, change.Invalid (with every problem found), StoreUnavailable.
    """
    access.require(actor, Permission.RATELIMIT_VIEW)
    wanted = _parse(source)
    present = {policy.target: policy for policy in _all(platform)}
    steps: list[Step] = []
    edits: list[Edit] = []
    errors: list[FieldError] = []
    for target, values in wanted.items():
        now = present.get(target)
        edit = Edit(target, values, now.version if now else 0)
        try:
            typed = validate(edit)
        except Invalid as error:
            errors += [FieldError(f"{target.subject[10:]}.{e.field}", e.message, e.allowed) for e in error.errors]
            continue
        old = now.values() if now else {}
        fields = {name: (old.get(name), value) for name, value in typed.items() if now is None or old[name] != value}
        if fields:
            steps.append(Step(target, "change" if now else "create", fields))
            edits.append(edit)
    if errors:
        raise Invalid(errors[:100])
    gone = [policy for target, policy in present.items() if target not in wanted]
    whole = {policy.target.key for policy in gone if policy.target.scope is Scope.GLOBAL}
    for policy in gone:
        steps.append(Step(policy.target, "delete", {name: (value, None) for name, value in policy.values().items()}))
        if policy.target.scope is Scope.GLOBAL or policy.target.key not in whole:
            edits.append(Edit(policy.target, None, policy.version))
    return steps, edits


def import_yaml(
    platform: Platform, actor: Actor, edits: Sequence[Edit], *, reason: str, request_id: str | None = None
) -> Saved:
    """Apply what ``preview_yaml`` has shown, all or nothing. Raises as ratelimits.save."""
    return save(platform, actor, edits, reason=reason, action="ratelimit.import", request_id=request_id)


def _all(platform: Platform) -> list[Policy]:
    everything = select(STORED).order_by(STORED.c.key, STORED.c.id)
    with platform.database.session(seconds=30) as session:
        return [to_policy(row) for row in session.execute(everything)]


def _plain(policy: Policy) -> dict[str, Any]:
    values = {name: value for name, value in (plain_values(policy) or {}).items() if name in FIELDS}
    values["window_seconds"] = window_text(policy.window_seconds) or None
    values["limit"] = "unlimited" if policy.limit is None else policy.limit
    ordinary = {"active": True, "description": "", "owner": ""}
    named = {"window" if name == "window_seconds" else name: value for name, value in values.items()}
    return {name: value for name, value in named.items() if value is not None and ordinary.get(name) != value}


class _Loader(_SafeLoader):  # type: ignore[misc]
    """A SafeLoader that leaves a date that does not exist as text: its field is named then."""

    def moment(self, node: yaml.ScalarNode) -> Any:
        """A moment, or the text that is none."""
        try:
            return self.construct_yaml_timestamp(node)
        except (ValueError, AttributeError):
            return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.moment)


def _parse(source: str) -> dict[Target, dict[str, Any]]:
    def wrong(field: str, message: str) -> Invalid:
        return Invalid([FieldError(field, message, "a document as exported")])

    if len(source) > YAML_LIMIT:
        raise wrong("document", "is too long")
    try:
        if _depth(source) > DEPTH:
            raise wrong("document", "is nested too deeply")
        document = yaml.load(source, _Loader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        raise wrong("document", f"is not YAML: {error}") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:  # what PyYAML lets through of bad scalars
        raise wrong("document", f"has a value that cannot be read: {error}") from error
    keys = document.get("ratelimits") if isinstance(document, dict) else None
    if not isinstance(keys, dict) or not keys:
        raise wrong("ratelimits", "is missing or empty")
    found: dict[Target, dict[str, Any]] = {}
    for key, entry in keys.items():
        if not isinstance(entry, dict):
            raise wrong(f"{key}", "is not a policy")
        found[Target(str(key))] = _values(entry, f"{key}", skip=("tiers", "tenants", "agents"))
        for scope in (Scope.TIER, Scope.TENANT, Scope.AGENT):
            overrides = entry.get(f"{scope.lower()}s") or {}
            if not isinstance(overrides, dict):
                raise wrong(f"{key}.{scope.lower()}s", "is not a table")
            for reference, values in overrides.items():
                if not isinstance(values, dict):
                    raise wrong(f"{key}.{reference}", "is not a policy")
                found[Target(str(key), scope, str(reference))] = _values(values, f"{key}.{reference}")
    return found


def _depth(source: str) -> int:
    """How deeply a document is nested, looked at only until it is too deep: composing it would recurse."""
    depth = deepest = 0
    for event in yaml.parse(source, _SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        deepest = max(deepest, depth)
        if deepest > DEPTH:
            break
    return deepest


def _values(entry: dict[str, Any], where: str, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    if "limit" not in entry:
        raise Invalid([FieldError(f"{where}.limit", "is missing", "a number, 0, or unlimited")])
    complete: dict[str, Any] = {"active": True, "description": "", "owner": "", "expires_at": None}
    if not skip:
        complete |= {"window_seconds": None, "policy": None, "warn_percent": None, "on_redis_failure": None}
    for name, value in entry.items():
        if name in skip:
            continue
        known = "window_seconds" if name == "window" else str(name)
        if isinstance(value, dict | list | set):
            raise Invalid([FieldError(f"{where}.{name}", "is not a single value", "a value as exported")])
        if known == "limit" and isinstance(value, str) and value.lower() == "unlimited":
            value = None
        if known == "expires_at" and isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise Invalid(
                    [FieldError(f"{where}.expires_at", "is no moment", "such as 2030-01-31T12:00:00Z")]
                ) from None
        complete[known] = value
    return complete
