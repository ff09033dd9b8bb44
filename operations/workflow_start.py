"""Starting an execution: what its type takes, checked before anything is asked of Temporal, and on record."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import uuid
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from dataclasses import fields as dataclass_fields
from datetime import timedelta
from functools import cache
from math import isfinite
from typing import Any, get_type_hints

from adapters.temporal_client import control
from operations import change, tenant_lifecycle, workflow_inputs, workflow_settings
from operations.access import Actor, require
from operations.change import FieldError, Invalid
from operations.platform import Platform
from operations.tenant_systems import TenantSpec
from operations.workflow_audit import recorded
from operations.workflow_catalogue import CATALOGUE, OFFBOARDING, PROVISIONING, TASK_QUEUE
from operations.workflow_control import arguments
from operations.workflow_detail import starts_with
from operations.workflow_executions import adapter_of

__all__ = ["Field", "Started", "fields", "made", "start"]

NAME_LETTERS = 255
TEXT_LETTERS = 1000
LIST_MOST = 1000
NAME_ALLOWED = f"1 to {NAME_LETTERS} letters, no line breaks"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KINDS: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "yes or no", list[str]: "texts"}


@dataclass(frozen=True, slots=True)
class Field:
    """One value that a type takes."""

    name: str
    kind: str
    """text, whole number, number, yes or no, or texts (a list of them)."""
    required: bool
    default: Any
    help: str = ""
    choices: tuple[str, ...] = ()
    """The values there are, where they are few."""


@dataclass(frozen=True, slots=True)
class Started:
    """An execution that was started."""

    id: str
    run_id: str


@cache
def fields(kind: str) -> tuple[Field, ...]:
    """What one of the platform's own types takes, in the order it is asked for. Raises KeyError for others."""
    given = CATALOGUE[kind].input
    hints, notes = get_type_hints(given), _notes(given)
    found = []
    for one in dataclass_fields(given):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        required = default is MISSING
        found.append(
            Field(
                one.name, _KINDS[hints[one.name]], required, None if required else default, notes.get(one.name, ""),
                workflow_inputs.CHOICES.get((kind, one.name), ()),
            )
        )  # fmt: skip
    return tuple(found)


def made(kind: str, given: Mapping[str, Any]) -> Any:
    """The input of one of the platform's own types from plain values. Raises Invalid naming each bad field."""
    wanted = {field.name: field for field in fields(kind)}
    errors = [FieldError(name, "is not known", ", ".join(wanted)) for name in given if name not in wanted]
    values: dict[str, Any] = {}
    for name, field in wanted.items():
        value = given.get(name)
        if value is None or (isinstance(value, str) and not value.strip() and field.required):
            if field.required:
                errors.append(FieldError(name, "is needed", field.kind))
            continue
        try:
            values[name] = _value(field, value)
        except ValueError as error:
            errors.append(FieldError(name, str(error), field.kind))
    if errors:
        raise Invalid(errors)
    whole = CATALOGUE[kind].input(**values)
    workflow_inputs.check(kind, whole)
    return whole


def start(
    platform: Platform, actor: Actor, kind: str, *, given: Mapping[str, Any] | str, workflow_id: str = "",
    task_queue: str = "", reason: str, request_id: str | None = None,
) -> Started:  # fmt: skip
    """Start an execution. ``given`` is the values of an own type by name, or JSON for any other.

    Without an id: tenants' workflows have one per tenant, other own types one for those started by hand, so that two
    cannot run at once; any other type gets a new one. Raises Forbidden, Invalid, AlreadyThere, AdapterError.
    """
    kind = change.clean(kind).strip()
    require(actor, starts_with(kind))
    own = kind in CATALOGUE
    errors = [] if nameable(kind) else [FieldError("type", "is no name of a type", NAME_ALLOWED)]
    task_queue = TASK_QUEUE if own else change.clean(task_queue).strip()
    if not nameable(task_queue):
        errors.append(FieldError("task_queue", "is needed: where its worker takes work from", NAME_ALLOWED))
    workflow_id = change.clean(workflow_id).strip()
    if workflow_id and not nameable(workflow_id):
        errors.append(FieldError("id", "is no id", NAME_ALLOWED))
    if errors:
        raise Invalid(errors)
    if own:
        values = made(kind, by_name(given))
        if kind in (PROVISIONING, OFFBOARDING):
            return _tenant(platform, actor, kind, values, workflow_id, reason, request_id)
        payloads, timeout = control.payloads([values]), None
        workflow_id = workflow_id or f"{kind}/by-hand"
    else:
        payloads = control.payloads(arguments(given) if isinstance(given, str) else [dict(given)])
        timeout = timedelta(seconds=workflow_settings.effective(platform, kind).timeout_seconds)
        workflow_id = workflow_id or f"{kind}-{uuid.uuid4().hex[:12]}"
    adapter = adapter_of(platform)
    asked = {"type": kind, "task_queue": task_queue}
    with recorded(
        platform, actor, action="temporal.execution.start", subject=f"temporal:execution:{workflow_id}", reason=reason,
        asked=asked, request_id=request_id, permission=starts_with(kind),
    ) as record:  # fmt: skip
        run = adapter.call(
            lambda client: control.start(
                client, adapter.config.namespace, kind=kind, workflow_id=workflow_id, task_queue=task_queue,
                given=payloads, timeout=timeout,
            )
        )  # fmt: skip
        record.after = {"run": run}
    platform.readings.forget("temporal:executions:")
    return Started(workflow_id, run)


def _tenant(
    platform: Platform, actor: Actor, kind: str, given: Any, workflow_id: str, reason: str, request_id: str | None
) -> Started:
    """Tenants come and go through their own door, which knows what else must hold."""
    if workflow_id:
        raise Invalid([FieldError("id", "is made from the tenant, so that only one runs at a time", "nothing")])
    if kind == PROVISIONING:
        spec = TenantSpec(given.tenant, given.name, given.tier, given.email)
        begun = tenant_lifecycle.provision(platform, actor, spec, reason, request_id)
    else:
        begun = tenant_lifecycle.offboard(platform, actor, given.tenant, given.wait_hours, reason, request_id)
    platform.readings.forget("temporal:executions:")
    return Started(begun.workflow_id, begun.run_id)


def per_tenant(kind: str) -> bool:
    """Whether one of the platform's own types is begun for one tenant."""
    return any(field.name == "tenant" and field.required for field in fields(kind))


def nameable(text: str) -> bool:
    """Whether the server takes it as an id, a type or a task queue."""
    return 0 < len(text) <= NAME_LETTERS and not _CONTROL.search(text)


def by_name(given: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """Values by name, from JSON where it is text. Raises Invalid."""
    if isinstance(given, Mapping):
        return given
    found = arguments(given)
    if not found:
        return {}
    if len(found) != 1 or not isinstance(found[0], dict):
        raise Invalid([FieldError("input", "is not one JSON object", '{"name": value}')])
    return dict(found[0])


def _value(field: Field, value: Any) -> Any:
    """The value in the field's type. Raises ValueError saying what is wrong."""
    match field.kind:
        case "text":
            if not isinstance(value, str):
                raise ValueError("is not a text")
            if len(value) > TEXT_LETTERS:
                raise ValueError(f"is longer than {TEXT_LETTERS} letters")
            return change.clean(value).strip()
        case "yes or no":
            if not isinstance(value, bool):
                raise ValueError("is neither true nor false")
            return value
        case "texts":
            if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
                raise ValueError("is not a list of texts")
            if len(value) > LIST_MOST or any(len(one) > TEXT_LETTERS for one in value):
                raise ValueError(f"is more than {LIST_MOST:,} texts, or one is longer than {TEXT_LETTERS} letters")
            return [change.clean(one).strip() for one in value if one.strip()]
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"is not a {field.kind}")
    if field.kind == "number":
        return float(value)
    if int(value) != value:
        raise ValueError("is not a whole number")
    return int(value)


def _notes(given: type) -> dict[str, str]:
    """What stands below each field of a dataclass in its source: the help people get."""
    body = ast.parse(textwrap.dedent(inspect.getsource(given))).body[0]
    notes: dict[str, str] = {}
    last = ""
    for node in getattr(body, "body", []):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
        elif last and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            notes[last] = " ".join(str(node.value.value).split())
            last = ""
    return notes
