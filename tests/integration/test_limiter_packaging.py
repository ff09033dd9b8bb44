"""The limiter where others use it: under Django, and as a wheel of its own beside nothing but redis-py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import django
import pytest
import redis
from django.conf import settings
from django.http import HttpResponse
from django.test import RequestFactory

from limiter import Limiter, publish
from limiter.django import RateLimitMiddleware
from tests.support import ROOT

KEY = "api_calls"


@pytest.fixture(scope="module", autouse=True)
def configured() -> None:
    if not settings.configured:
        settings.configure(DEFAULT_CHARSET="utf-8", ALLOWED_HOSTS=["*"], RATELIMIT={})
        django.setup()


@pytest.fixture
def limiter(redis_url: str) -> Iterator[Limiter]:
    with redis.Redis.from_url(redis_url) as client, Limiter(client, timeout=2.0) as made:
        publish.apply(client, KEY, 1, base={"limit": 2, "window_seconds": 86400, "policy": "HARD"})
        assert made.wait_ready()
        yield made


def identify(request):
    return None if request.path == "/health" else (KEY, request.headers.get("X-Tenant"), None, 1)


@pytest.mark.engines
@pytest.mark.parametrize("by_setting", [False, True])
def test_django_middleware(limiter: Limiter, by_setting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    def view(request) -> HttpResponse:
        reached.append(request.path)
        return HttpResponse("hello")

    if by_setting:
        monkeypatch.setattr(settings, "RATELIMIT", {"limiter": limiter, "identify": identify})
        middleware = RateLimitMiddleware(view)
    else:
        middleware = RateLimitMiddleware(view, limiter, identify)
    requests = RequestFactory()
    answers = [middleware(requests.get("/", headers={"X-Tenant": "acme"})) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].content == b"hello"
    assert answers[0]["RateLimit-Policy"] == '"api_calls";q=2;w=86400'
    assert answers[0]["RateLimit"].startswith('"api_calls";r=1;t=')
    assert "Retry-After" not in answers[1]
    assert int(answers[2]["Retry-After"]) > 0
    assert answers[2]["Content-Type"] == "application/problem+json"
    assert json.loads(answers[2].content)["limit"] == 2
    free = middleware(requests.get("/health"))
    assert (free.status_code, "RateLimit" in free) == (200, False)
    assert middleware(requests.get("/", headers={"X-Tenant": "other"})).status_code == 200
    assert reached == ["/", "/", "/health", "/"]


_TRY = """
import sys
import redis, limiter, limiter.aio, limiter.asgi, limiter.django, limiter.publish
from limiter import LeasedLimiter, Limiter
assert limiter.__file__.startswith(sys.argv[2]), limiter.__file__
client = redis.Redis.from_url(sys.argv[1])
limiter.publish.apply(client, "wheel", 1, base={"limit": 3, "window_seconds": 86400, "policy": "HARD"})
with Limiter(client, timeout=5.0) as made:
    assert made.wait_ready(10)
    allowed = [made.check("wheel", "acme").allowed for _ in range(5)]
    leased = LeasedLimiter(made)
    assert not leased.check("wheel", "acme").allowed
    leased.close()
strangers = {"models", "operations", "adapters", "sqlalchemy", "pydantic", "starlette", "django"} & set(sys.modules)
assert not strangers, strangers
print(allowed)
"""


@pytest.mark.engines
@pytest.mark.timeout(120)
def test_the_wheel_works_beside_redis_py_alone(tmp_path: Path, redis_url: str) -> None:
    source, dist, room = tmp_path / "limiter", tmp_path / "dist", tmp_path / "room"
    shutil.copytree(ROOT / "limiter", source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    # Offline, with the build tool at hand: nothing is fetched, and nothing left beside the sources.
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*build, "-w", str(dist), str(source)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = dist.glob("*.whl")
    assert wheel.name.startswith("pilothouse_limiter-")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = [archive.read(name).decode() for name in names if name.endswith("/METADATA")]
        archive.extractall(room)
    ours = {path.name for path in (ROOT / "limiter").iterdir() if path.suffix in (".py", ".lua", ".typed")}
    assert {name.removeprefix("limiter/") for name in names if name.startswith("limiter/")} >= ours
    assert [line for line in about.splitlines() if line.startswith("Requires-Dist")] == ["Requires-Dist: redis>=5.0"]
    # A place with nothing in it but the wheel and redis-py: -I and -S keep everything else out.
    (room / "redis").symlink_to(Path(redis.__file__).parent)
    script = f"import sys; sys.path.insert(0, {str(room)!r})\n{_TRY}"
    command = [sys.executable, "-I", "-S", "-c", script, redis_url, str(room)]
    environment = {"PATH": os.environ.get("PATH", "")}
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[True, True, True, False, False]"
