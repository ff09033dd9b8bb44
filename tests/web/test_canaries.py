"""No secret leaves the process: every page and every read of the API, with all well and with everything broken,
and then all that went over the wire or into a log is searched for all that is secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from sqlalchemy import select, text
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from adapters.core import AdapterError, services
from models import SessionRow
from operations import apitokens, oidc
from operations.access import SYSTEM
from operations.platform import Platform
from operations.settings import Settings
from pages.widgets.page import all_pages
from pages.widgets.shell import HOME
from sandbox.inprocess import Services
from tests.support import poll
from tests.support_server import Process, Server, get

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

FACES = ("Status", "Configure", "Monitor", "Limits")
BROKEN = {
    "qdrant": "500", "lago": "401", "somabrain": "garbage", "whisper": "reset", "kokoro": "500", "s3": "401",
    "smtp": "garbage", "mcp-calendar": "refuse", "mcp-files": "500", "temporal": "reset", "redis": "401",
}  # fmt: skip
NO_SECRET = ("oidc_client_id", "keycloak_admin_client_id", "smtp_username")
DONE = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)


class Wire:
    """Everything a browser and a program were told."""

    def __init__(self, server: Server, sid: str, token: str) -> None:
        self.server = server
        self.cookie = f"pilothouse_session={sid}"
        self.api = httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}, timeout=30)
        self.told: list[bytes] = []

    def ask(self, path: str, *, method: str = "GET") -> int:
        """One request of a program, kept with its headers; its status."""
        answer = self.api.request(method, path)
        self.told += [answer.content, repr(answer.headers.raw).encode()]
        return answer.status_code

    def pages(self, faces: tuple[str, ...]) -> None:
        """Every page and face over one WebSocket, as a browser opens them."""
        stream = self.server.url.replace("http", "ws", 1) + "/_stcore/stream"
        with connect(
            stream, subprotocols=["streamlit"], additional_headers={"Cookie": self.cookie}, origin=self.server.url,
            max_size=None, compression=None,
        ) as socket:  # fmt: skip
            for slug, page in all_pages().items():
                for face in faces if slug in services() else ("",):
                    self._run(socket, "" if slug == HOME else page.url, f"face_{slug}={face}" if face else "")

    def _run(self, socket: ClientConnection, page: str, query: str) -> None:
        message = BackMsg()
        message.rerun_script.page_name = page
        message.rerun_script.query_string = query
        message.rerun_script.context_info.timezone = "UTC"
        message.rerun_script.context_info.url = f"{self.server.url}/{page}"
        socket.send(message.SerializeToString())
        while True:
            raw = socket.recv(30)
            assert isinstance(raw, bytes)
            self.told.append(raw)
            answer = ForwardMsg.FromString(raw)
            if answer.WhichOneof("type") == "script_finished" and answer.script_finished in DONE:
                return

    def reads(self) -> None:
        """Every GET of the API, for every service where it takes one, and /metrics."""
        assert self.ask("/metrics") == 200
        paths = self.api.get("/api/v2/openapi.json").json()["paths"]
        for path, methods in paths.items():
            if "get" not in methods:
                continue
            for slug in services() if "{service}" in path else ("",):
                filled = re.sub(r"\{(\w+)\}", lambda found, slug=slug: slug or "none", path)
                self.ask(f"/api/v2{filled}")


def _sign_in(platform: Platform, standins: Services) -> str:
    """The session id of a person who really came through Keycloak, so that there are real tokens to lose."""
    ada = next(person for person in standins.people if person.username == "ada")
    url, pending = oidc.begin(platform.settings, "/")
    with httpx.Client(timeout=10) as browser:
        page = browser.get(url)
        form = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        assert form, page.text[:300]
        answer = browser.post(urljoin(url, unescape(form.group(1))), data={"username": "ada", "password": ada.password})
    back = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
    return oidc.complete(platform, back, pending)[0]


def _secrets(platform: Platform, standins: Services, sid: str, token: str, canaries: dict[str, str]) -> dict[str, str]:
    """Everything that must stay inside, by what it is."""
    found = {name: value for name, value in standins.secrets.items() if name not in NO_SECRET}
    found |= {"session id": sid, "API token": token, **canaries}
    for person in standins.people:
        found |= {f"{person.username}'s password": person.password, f"{person.username}'s token": person.api_token}
    with platform.database.session() as session:
        for row in session.scalars(select(SessionRow)):
            for name in ("id_token_enc", "refresh_token_enc"):
                sealed = getattr(row, name)
                if sealed:
                    found[name] = sealed
                    found[name.removesuffix("_enc")] = platform.settings.fernet.decrypt(sealed).decode()
    return found


def _environment(settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """Canaries in every secret setting that these engines and stand-ins do not check, as environment and by name."""
    canaries = {name: f"canary-{name}-7Qx1" for name in ("dsn", "redis", "whisper", "kokoro", "mcp")}
    database = settings.database_url.get_secret_value().replace("postgres@", f"postgres:{canaries['dsn']}@")
    redis = settings.redis_url.get_secret_value().replace("redis://", f"redis://default:{canaries['redis']}@")
    assert canaries["dsn"] in database
    environment = {
        "PILOTHOUSE_DATABASE_URL": database,
        "PILOTHOUSE_POSTGRESQL_URL": database,
        "PILOTHOUSE_REDIS_URL": redis,
        "PILOTHOUSE_WHISPER_API_KEY": canaries["whisper"],
        "PILOTHOUSE_KOKORO_API_KEY": canaries["kokoro"],
        "PILOTHOUSE_MCP_TOKENS": f"calendar={canaries['mcp']}",
    }
    return environment, canaries


@pytest.fixture
def running(platform: Platform, tmp_path: Path) -> Iterator[tuple[Server, Process, dict[str, str]]]:
    """A console and a worker whose settings are full of canaries."""
    environment, canaries = _environment(platform.settings)
    server = Server(tmp_path, **environment)
    worker = Process(tmp_path / "worker.log", "workflows", **environment)
    yield server, worker, canaries
    worker.stop()
    server.stop()


def _reachable(platform: Platform) -> bool:
    """Whether the platform's own PostgreSQL answers again; connections that broke are replaced on the way."""
    try:
        with platform.database.session() as session:
            session.execute(text("SELECT 1"))
    except AdapterError:
        return False
    return True


def test_no_secret_leaves_the_process(
    running: tuple[Server, Process, dict[str, str]], platform: Platform, standins: Services
) -> None:
    server, worker, canaries = running
    token = apitokens.create(platform, SYSTEM, "canary", frozenset({"platform_admin"}))
    sid = _sign_in(platform, standins)
    wire = Wire(server, sid, token)
    wire.ask("/api/v2/infrastructure/refresh", method="POST")
    wire.pages(FACES)
    wire.reads()
    assert b"Qdrant" in b"".join(wire.told)

    for name, fault in BROKEN.items():
        standins.fault(name, fault)
    wire.ask("/api/v2/infrastructure/refresh", method="POST")
    wire.pages(("Status", "Monitor"))
    wire.reads()
    standins.fault("postgresql", "reset")
    poll(lambda: get(f"{server.url}/api/v2/health/ready", timeout=10).status_code == 503, 10)
    wire.pages(("Status",))
    for path in ("/sign-in", "/auth/login", "/auth/callback?state=x&code=y", "/nothing", "/metrics"):
        wire.ask(path)
    standins.fault("postgresql", None)
    poll(lambda: "working on task queue" in worker.text or "is away" in worker.text, 20, what="the worker")

    poll(lambda: _reachable(platform), 15, what="PostgreSQL through its proxy")

    left = b"\n".join(wire.told) + server.text.encode() + worker.text.encode()
    hidden = _secrets(platform, standins, sid, token, canaries)
    assert len(hidden) > 25
    assert [name for name, value in hidden.items() if value.encode() in left] == []
