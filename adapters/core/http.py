"""The one way adapters speak HTTP: timeouts, a total deadline, a size cap, translated errors.

Library clients that take an ``httpx`` transport get :func:`transport`, so that the same
bounds hold for them.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, overload

import httpcore
import httpx

from adapters.core.deadline import DEFAULT_SECONDS, deadline, remaining
from adapters.core.errors import AdapterError, Denied, Rejected, TimedOut, Unexpected, Unreachable

CONNECT_SECONDS = 1.0
MAX_BODY_BYTES = 8 * 1024 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

T = TypeVar("T")


class NotSupported(Rejected):
    """The service answered 404: this version has no such thing."""

    advice = "This version of the service does not offer it."


class TooLarge(Unexpected):
    """The answer exceeded the size cap and was cut off."""


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose every read and write also obeys the present total deadline."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def _left(self, timeout: float | None, error: type[httpcore.TimeoutException]) -> float:
        try:
            left = remaining()
        except TimedOut as passed:
            raise error("total deadline exceeded") from passed
        return left if timeout is None else min(timeout, left)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            left = remaining()
        except TimedOut as passed:
            raise httpcore.ConnectTimeout("total deadline exceeded") from passed
        bound = left if timeout is None else min(timeout, left)
        return _DeadlineStream(self._inner.connect_tcp(host, port, bound, local_address, socket_options))


class _CappedStream(httpx.SyncByteStream):
    """A response body that fails once it is larger than the cap."""

    def __init__(self, inner: httpx.SyncByteStream, cap_bytes: int) -> None:
        self._inner = inner
        self._cap_bytes = cap_bytes

    def __iter__(self) -> Iterator[bytes]:
        seen = 0
        for chunk in self._inner:
            seen += len(chunk)
            if seen > self._cap_bytes:
                raise TooLarge(
                    f"The answer is larger than {self._cap_bytes // 1024 // 1024} MiB and was cut off.",
                    detail=f"more than {seen} bytes",
                )
            yield chunk

    def close(self) -> None:
        self._inner.close()


@cache
def tls_context(verify: bool) -> ssl.SSLContext:
    """One TLS context for all clients: reading the certificates anew takes 20 ms of CPU each time."""
    return httpx.create_ssl_context(verify=verify, trust_env=True)


class _Transport(httpx.HTTPTransport):
    def __init__(self, *, verify: bool | ssl.SSLContext = True, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        context = verify if isinstance(verify, ssl.SSLContext) else tls_context(verify)
        super().__init__(verify=context, trust_env=False)
        self._pool.close()
        self._max_body_bytes = max_body_bytes
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=8,
            max_keepalive_connections=4,
            keepalive_expiry=30.0,
            network_backend=_DeadlineBackend(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _CappedStream(response.stream, self._max_body_bytes)
        return response


def transport(*, verify: bool | ssl.SSLContext = True, max_body_bytes: int = MAX_BODY_BYTES) -> httpx.BaseTransport:
    """A transport that obeys the present deadline and the size cap, for libraries that take one."""
    return _Transport(verify=verify, max_body_bytes=max_body_bytes)


def client(
    base_url: str,
    *,
    headers: Mapping[str, str] | None = None,
    auth: httpx.Auth | tuple[str, str] | None = None,
    verify: bool | ssl.SSLContext = True,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> httpx.Client:
    """An HTTP client for one service; connects to nothing until used.

    Compression is not asked for, so that the size cap is also a cap on memory.
    """
    return httpx.Client(
        base_url=base_url,
        headers={"accept": "application/json", "accept-encoding": "identity", **(headers or {})},
        auth=auth,
        transport=_Transport(verify=verify, max_body_bytes=max_body_bytes),
        timeout=httpx.Timeout(DEFAULT_SECONDS, connect=CONNECT_SECONDS),
        follow_redirects=False,
    )


@overload
def request(http: httpx.Client, method: str, path: str, *, expect: type[T], service: str = ..., **kw: Any) -> T: ...
@overload
def request(
    http: httpx.Client, method: str, path: str, *, expect: None = None, service: str = ..., **kw: Any
) -> Any: ...
def request(
    http: httpx.Client,
    method: str,
    path: str,
    *,
    expect: type[T] | None = None,
    service: str = "The service",
    seconds: float = DEFAULT_SECONDS,
    **kw: Any,
) -> Any:
    """Send one request and return its checked answer.

    ``expect`` is the type the answer must have: ``dict`` or ``list`` for JSON, ``str`` or ``bytes``
    for the raw body, None for any JSON or nothing. ``seconds`` is for work that by its nature takes longer
    than a question; a present deadline that is earlier wins. Raises only AdapterError. A safe method is tried
    once more when a kept-alive connection turns out dead.
    """
    with deadline(seconds):
        if seconds > DEFAULT_SECONDS:
            kw.setdefault("timeout", httpx.Timeout(seconds, connect=CONNECT_SECONDS))
        try:
            response = _send(http, method, path, kw)
        except AdapterError:
            raise
        except httpx.TimeoutException as error:
            raise TimedOut(f"{service} did not answer in time.", detail=_detail(error)) from error
        except (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.CloseError) as error:
            raise Unreachable(f"{service} cannot be reached.", detail=_detail(error)) from error
        except httpx.RemoteProtocolError as error:
            raise Unexpected(f"{service} broke off or did not answer in HTTP.", detail=_detail(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, ValueError, OSError) as error:
            raise Unexpected(f"{service} could not be asked.", detail=_detail(error)) from error
    return _answer(response, expect, service)


def _send(http: httpx.Client, method: str, path: str, kw: dict[str, Any]) -> httpx.Response:
    try:
        return http.request(method, path, **kw)
    except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
        if method.upper() not in SAFE_METHODS:
            raise
        return http.request(method, path, **kw)


def _detail(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _refusal(response: httpx.Response, service: str) -> AdapterError:
    status = response.status_code
    detail = f"HTTP {status} {response.request.method} {response.url.path}: {response.text[:400]}"
    error: AdapterError
    if status in (401, 403):
        error = Denied(f"{service} refused the credentials (HTTP {status}).", detail=detail)
    elif status == 404:
        error = NotSupported(f"{service} has no such resource (HTTP 404).", detail=detail)
    elif 400 <= status < 500:
        error = Rejected(f"{service} refused the request (HTTP {status}).", detail=detail)
    else:
        error = Unexpected(f"{service} answered HTTP {status}.", detail=detail)
    error.status, error.body = status, response.text
    return error


def _answer(response: httpx.Response, expect: type[Any] | None, service: str) -> Any:
    if response.status_code >= 300:
        raise _refusal(response, service)
    if expect is bytes:
        return response.content
    if expect is str:
        return response.text
    if expect is None and not response.content:
        return None
    try:
        value = json.loads(response.content)
    except (ValueError, RecursionError) as error:
        raise Unexpected(f"{service} answered something that is not JSON.", detail=response.text[:400]) from error
    if expect is not None and not isinstance(value, expect):
        raise Unexpected(
            f"{service} answered JSON of an unexpected shape.",
            detail=f"expected {expect.__name__}, got {type(value).__name__}: {response.text[:300]}",
        )
    return value
