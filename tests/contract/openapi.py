"""Checking recorded answers against a published OpenAPI description (3.0 and 3.1).

The descriptions are not part of this repository; where they are absent the checks are skipped.
``PILOTHOUSE_SPECS`` names their folder; without it they are looked for beside the repository.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import uvicorn
import yaml

FOLDER = Path(os.environ.get("PILOTHOUSE_SPECS") or Path(__file__).parents[3] / "shared" / "specs")

formats = jsonschema.FormatChecker(formats=())


@formats.checks("date-time", raises=ValueError)
def _date_time(value: object) -> bool:
    return not isinstance(value, str) or ("T" in value and datetime.fromisoformat(value).tzinfo is not None)


@formats.checks("date", raises=ValueError)
def _date(value: object) -> bool:
    return not isinstance(value, str) or bool(date.fromisoformat(value))


@formats.checks("uuid", raises=ValueError)
def _uuid(value: object) -> bool:
    return not isinstance(value, str) or bool(uuid.UUID(value))


def from_30(schema: Any) -> Any:
    """An OpenAPI 3.0 schema as JSON Schema 2020-12: ``nullable`` becomes the type null.

    A bare ``{"nullable": true}`` beside a reference means "or null" in what Rust's schemars writes;
    taken by the letter it would accept anything.
    """
    if isinstance(schema, list):
        return [from_30(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: from_30(value) for key, value in schema.items() if key not in ("nullable", "example")}
    if schema.get("nullable") is not True:
        return rest
    if not set(rest) - {"description", "default", "title"}:
        return {"type": "null"}
    return {"anyOf": [rest, {"type": "null"}]}


def loosened(schema: Any) -> Any:
    """The schema with "a number or an integer" as ``anyOf``: as ``oneOf`` it would refuse every integer."""
    if isinstance(schema, list):
        return [loosened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: loosened(value) for key, value in schema.items()}
    kinds = {part.get("type") for part in made.get("oneOf") or () if isinstance(part.get("type"), str)}
    if {"integer", "number"} <= kinds:
        made["anyOf"] = made.pop("oneOf")
    return made


@dataclass
class Spec:
    """One description; :meth:`check` holds one answer to it."""

    document: dict[str, Any]
    base: str = ""
    paths: list[tuple[re.Pattern[str], str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.document["openapi"].startswith("3.0"):
            self.document = {**self.document, "components": from_30(self.document["components"])}
        self.document = {**self.document, "components": loosened(self.document["components"])}
        # Fixed words win over parameters: /collections/aliases before /collections/{name}.
        for template in sorted(self.document["paths"], key=lambda t: (t.count("{"), t)):
            pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
            self.paths.append((re.compile(f"{re.escape(self.base)}{pattern}/?"), template))

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """The description of an operation, None when there is none."""
        for pattern, template in self.paths:
            if pattern.fullmatch(path):
                found = self.document["paths"][template].get(method.lower())
                if found is not None:
                    return found
        return None

    def _resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target: Any = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def problems(self, schema: Any, value: Any) -> list[str]:
        """What is wrong with a value, each as "path: message"; empty when nothing is."""
        if self.document["openapi"].startswith("3.0"):
            schema = from_30(schema)
        whole = {**schema, "components": self.document["components"]}
        validator = jsonschema.Draft202012Validator(whole, format_checker=formats)
        return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]

    def check(self, answer: Answer, undocumented: dict[int, str] | None = None) -> None:
        """Raise AssertionError unless the answer is one the description allows.

        ``undocumented`` names, by status, the schema for errors that the description omits for an
        operation although its servers give them everywhere.
        """
        where = f"{answer.method} {answer.path} -> {answer.status}"
        operation = self.operation(answer.method, answer.path)
        assert operation is not None, f"{where}: not in the description"
        responses = operation["responses"]
        found = responses.get(str(answer.status)) or responses.get(f"{answer.status // 100}XX")
        if found is None and answer.status >= 400:
            found = responses.get("default")
        if found is None:
            name = (undocumented or {}).get(answer.status)
            assert name, f"{where}: status not in the description"
            problems = self.problems({"$ref": f"#/components/schemas/{name}"}, json.loads(answer.body))
            assert not problems, f"{where}: {problems[:5]}"
            return
        content = self._resolve(found).get("content")
        if not content:
            return
        kind = answer.content_type.partition(";")[0]
        assert kind in content, f"{where}: {kind} instead of {list(content)}"
        if kind == "application/json":
            problems = self.problems(content[kind].get("schema") or {}, json.loads(answer.body))
            assert not problems, f"{where}: {problems[:5]}\n{answer.body[:1500]!r}"


@cache
def load(name: str, base: str = "") -> Spec:
    """The description of that file name; skips the test when the file is absent."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no description {name} in {FOLDER}")
    text = path.read_text()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return Spec(json.loads(text) if path.suffix == ".json" else yaml.load(text, loader), base)


@dataclass
class Answer:
    """One recorded answer."""

    method: str
    path: str
    status: int
    content_type: str
    body: bytes


class Recorder:
    """ASGI middleware that keeps every answer the application gives."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.answers: list[Answer] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = Answer(scope["method"], scope["path"], 0, "", b"")

        async def record(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.content_type = dict(message["headers"]).get(b"content-type", b"").decode()
            else:
                answer.body += message.get("body", b"")
                if not message.get("more_body"):
                    self.answers.append(answer)
            await send(message)

        await self.app(scope, receive, record)


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Run an ASGI application on a free port of 127.0.0.1; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, name="standin", daemon=True)
    thread.start()
    end = time.monotonic() + 10
    waiting = threading.Event()
    while not server.started:
        assert thread.is_alive() and time.monotonic() < end, "the stand-in did not start"
        waiting.wait(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
