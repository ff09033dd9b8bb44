"""botocore over the console's own HTTP client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from botocore.awsrequest import AWSPreparedRequest, AWSResponse


class BoundedSession:
    """botocore's HTTP session, over the console's client: total deadline, size cap, no proxies from outside."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def send(self, prepared: AWSPreparedRequest) -> AWSResponse:
        headers = {key: _text(value) for key, value in prepared.headers.items()}
        answer = self._http.request(prepared.method, prepared.url, headers=headers, content=prepared.body)
        return AWSResponse(prepared.url, answer.status_code, answer.headers, _Body(answer.content))

    def close(self) -> None:
        self._http.close()


@dataclass(frozen=True, slots=True)
class _Body:
    content: bytes

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.content

    def read(self, *_: Any, **__: Any) -> bytes:
        return self.content


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
