"""Errors as RFC 9457 problem details: a stable type, a sentence, and the fields that are wrong."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from adapters.core import AdapterError, Denied, Rejected, TimedOut, Unconfigured
from operations.access import Forbidden
from operations.change import Conflict, Invalid, NotFound, StoreUnavailable

log = logging.getLogger(__name__)

TYPE = "urn:pilothouse:problem:"
TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not permitted",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Changed by somebody else",
    422: "Invalid values",
    428: "Version required",
    429: "Too many requests",
    500: "Internal error",
    502: "A service failed",
    503: "Unavailable",
    504: "A service did not answer",
}


class Problem(Exception):
    """An error the API answers with."""

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: dict[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.headers, self.extra = status, kind, detail, headers, extra


def answer(status: int, kind: str, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> JSONResponse:
    """One problem document."""
    body = {"type": TYPE + kind, "title": TITLES.get(status, "Error"), "status": status, "detail": detail, **extra}
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def _forbidden(error: Forbidden) -> JSONResponse:
    return answer(403, "forbidden", str(error), permission=error.permission.value, roles=error.roles)


def _invalid(error: Invalid) -> JSONResponse:
    fields = [{"field": item.field, "message": item.message, "allowed": item.allowed} for item in error.errors]
    return answer(422, "invalid", str(error), errors=fields)


def _conflict(error: Conflict) -> JSONResponse:
    return answer(412, "stale-version", str(error), current=error.current, yours=error.yours)


_BOUNDS = {
    "ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}", "expected": "{}",
    "min_length": "at least {} {unit}", "max_length": "at most {} {unit}", "pattern": "what matches {}",
}  # fmt: skip
_KINDS = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "string": "a text", "list": "a list",
    "dict": "an object", "model": "an object", "datetime": "a moment such as 2030-01-31T12:00:00Z",
    "missing": "a value", "extra": "no such field",
}  # fmt: skip


def _allowed(item: dict[str, Any]) -> str:
    """What would be accepted, by an error of pydantic's: within which bounds, or what kind of value."""
    kind = item["type"].partition("_")[0]
    unit = "letters" if kind == "string" else "entries"
    given = item.get("ctx", {})
    bounds = [words.format(given[name], unit=unit) for name, words in _BOUNDS.items() if name in given]
    return ", ".join(bounds) or _KINDS.get(kind, "")


def _malformed(error: RequestValidationError) -> JSONResponse:
    fields = [
        {
            "field": ".".join(str(part) for part in item["loc"][1:]) or str(item["loc"][0]),
            "message": item["msg"],
            "allowed": _allowed(item),
        }
        for item in error.errors()
    ]
    detail = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    return answer(422, "invalid", detail, errors=fields)


def _service(error: AdapterError) -> JSONResponse:
    if isinstance(error, StoreUnavailable):
        return answer(503, "store-unavailable", error.sentence, headers={"Retry-After": "5"}, advice=error.advice)
    status, kind = 502, "service-failed"
    if isinstance(error, TimedOut):
        status, kind = 504, "service-timeout"
    elif isinstance(error, Unconfigured):
        status, kind = 409, "service-unconfigured"
    elif isinstance(error, Rejected | Denied):
        kind = "service-refused"
    return answer(status, kind, error.sentence, advice=error.advice)


def install(api: FastAPI) -> None:
    """Have every error of the API answered as a problem."""
    handlers: dict[type[Exception], Callable[[Any], JSONResponse]] = {
        Problem: lambda e: answer(e.status, e.kind, e.detail, headers=e.headers, **e.extra),
        Forbidden: _forbidden,
        Invalid: _invalid,
        Conflict: _conflict,
        NotFound: lambda e: answer(404, "not-found", str(e) or "It does not exist."),
        RequestValidationError: _malformed,
        AdapterError: _service,
        HTTPException: lambda e: answer(
            e.status_code, "http", str(e.detail), headers=dict(e.headers) if e.headers else None
        ),
    }

    def as_handler(make: Callable[[Any], JSONResponse]) -> Callable[[Request, Exception], JSONResponse]:
        return lambda request, error: make(error)

    for kind, make in handlers.items():
        api.add_exception_handler(kind, as_handler(make))

    @api.middleware("http")
    async def _last_resort(request: Request, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except Exception:
            incident = secrets.token_hex(4)
            log.exception("incident %s on %s %s", incident, request.method, request.url.path)
            return answer(500, "internal", f"This request failed. Its incident number is {incident}.")
