"""The sandbox's fault switches. They exist only where the settings name a sandbox's control address."""

from __future__ import annotations

from adapters.core import deadline
from adapters.core.http import client, request
from operations import access, change
from operations.access import Actor, Permission
from operations.platform import Platform

FAULTS = ("refuse", "hang", "drip", "500", "401", "garbage", "huge", "reset")
SECONDS = 3.0


def faults(platform: Platform, actor: Actor) -> dict[str, str | None]:
    """The fault of every service the sandbox can break, None where it works.

    Raises access.Forbidden, change.NotFound outside a sandbox, and AdapterError.
    """
    access.require(actor, Permission.INFRA_OPERATE)
    return _ask(platform, "GET", "/faults")


def set_fault(platform: Platform, actor: Actor, service: str, fault: str | None, reason: str = "") -> None:
    """Break a service, or mend it with None. On record before it happens.

    Raises access.Forbidden, change.Invalid, change.NotFound, AdapterError and StoreUnavailable,
    the last not when mending: PostgreSQL itself may be what is broken.
    """
    access.require(actor, Permission.INFRA_OPERATE)
    if fault is not None and fault not in FAULTS:
        raise change.Invalid([change.FieldError("fault", "is not a fault of the sandbox", ", ".join(FAULTS))])
    known = _ask(platform, "GET", "/faults")
    if service not in known:
        raise change.NotFound(f"The sandbox has no switch for {service}.")
    try:
        with change.door(
            platform, actor, Permission.INFRA_OPERATE, action="sandbox.fault", subject=service, reason=reason
        ) as door:
            door.audit({"fault": known[service]}, {"fault": fault})
    except change.StoreUnavailable:
        if fault is not None:
            raise
    _ask(platform, "PUT", f"/faults/{service}", {"fault": fault})


def _ask(
    platform: Platform, method: str, path: str, body: dict[str, str | None] | None = None
) -> dict[str, str | None]:
    settings = platform.settings
    if settings.sandbox_control_url is None:
        raise change.NotFound("This console does not run on a sandbox.")
    token = settings.sandbox_control_token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    more = {} if body is None else {"json": body}
    with deadline(SECONDS), client(settings.sandbox_control_url, headers=headers) as http:
        answer: dict[str, str | None] = request(http, method, path, expect=dict, service="Sandbox", **more)
    return answer
