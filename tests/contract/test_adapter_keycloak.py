"""The Keycloak adapter on the stand-in, and on a server that does everything wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from adapters.core.errors import AdapterError, Denied, Rejected, Unconfigured, Unexpected
from adapters.core.model import State, Unit
from adapters.core.probe import probe
from adapters.keycloak import MAX_REALMS, Keycloak, KeycloakConfig
from adapters.keycloak_admin import records
from sandbox.standins import Host
from sandbox.standins import keycloak as standin
from tests.contract.openapi import serve
from tests.support_adapters import fail_in_time, health_is_a_value
from tests.support_faulty import BODIES, FAULTS, FaultyServer, no_leaks

SECRET = "keycloak-secret-for-tests"
NAMES = {"keycloak_admin_client_id": "admin-client", "keycloak_admin_client_secret": SECRET}


@pytest.fixture
def app(tmp_path: Path) -> Any:
    return standin.create(tmp_path, 7, [], host=Host(url="", secrets=NAMES))


@pytest.fixture
def url(app: Any) -> Iterator[str]:
    with serve(app) as address:
        yield address


def made(url: str, **changes: Any) -> Keycloak:
    values = {"url": url, "client_id": "admin-client", "client_secret": SECRET, **changes}
    return Keycloak(KeycloakConfig.model_validate(values))


@pytest.fixture
def keycloak(url: str) -> Iterator[Keycloak]:
    adapter = made(url)
    yield adapter
    adapter.close()


def realm(app: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = app.state.standin.realms[name]
    return found


def test_health(keycloak: Keycloak, url: str) -> None:
    health = keycloak.health()
    assert health.state is State.HEALTHY
    assert health.message == f"Realm pilothouse signs people in as {url}/realms/pilothouse."


def test_health_needs_no_service_account(url: str) -> None:
    adapter = Keycloak(KeycloakConfig(url=url))
    sample = probe(adapter)
    assert sample.health.state is State.HEALTHY and sample.metrics == ()
    assert "PILOTHOUSE_KEYCLOAK_CLIENT_ID" in sample.metrics_error
    with pytest.raises(Unconfigured):
        adapter.settings()
    adapter.close()


def test_a_missing_realm_is_named(url: str) -> None:
    adapter = made(url, realm="nowhere")
    with pytest.raises(Rejected, match="no realm 'nowhere'"):
        adapter.health()
    adapter.close()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"issuer": 5},
        {"issuer": "https://sso.test/realms/other", "token_endpoint": "x", "jwks_uri": "x"},
        {"issuer": "https://sso.test/realms/pilothouse", "token_endpoint": "x"},
    ],
)
def test_a_document_of_something_else_is_unexpected(body: Any) -> None:
    with FaultyServer(answer=lambda method, path: (200, body)) as server:
        adapter = made(server.url)
        with pytest.raises(Unexpected):
            adapter.health()
        adapter.close()


def test_an_issuer_with_the_public_name_is_fine() -> None:
    body = {"issuer": "https://sso.test/auth/realms/pilothouse", "token_endpoint": "x", "jwks_uri": "x"}
    with FaultyServer(answer=lambda method, path: (200, body)) as server:
        adapter = made(server.url)
        assert adapter.health().state is State.HEALTHY
        adapter.close()


def test_a_wrong_secret_is_denied_and_sign_in_still_healthy(url: str) -> None:
    adapter = made(url, client_secret="wrong-secret")
    with pytest.raises(Denied) as caught:
        adapter.metrics()
    assert "wrong-secret" not in f"{caught.value.sentence} {caught.value.detail}"
    sample = probe(adapter)
    assert (sample.health.state is State.HEALTHY and "service account" in sample.metrics_error) or sample.metrics_error
    adapter.close()


def test_unconfigured() -> None:
    sample = probe(Keycloak(KeycloakConfig()))
    assert sample.health.state is State.UNCONFIGURED
    assert "PILOTHOUSE_KEYCLOAK_URL" in sample.health.message


def test_metrics(keycloak: Keycloak, app: Any) -> None:
    metrics = {metric.name: metric for metric in keycloak.metrics()}
    assert [m.name for m in metrics.values() if m.headline] == ["realms"]
    assert metrics["realms"].value == 3
    assert metrics["users"].value == 120
    assert metrics["sessions"].value == len(realm(app, "customers")["sessions"]) == 17
    hour_ago = (time.time() - 3600) * 1000
    failed = sum(
        event["type"] == "LOGIN_ERROR" and event["time"] >= hour_ago
        for name in ("pilothouse", "customers")
        for event in realm(app, name)["events"]
    )
    assert metrics["failed_logins"].value == failed
    assert metrics["failed_logins"].note == "2 of 3 realms"


def test_failed_logins_are_found(keycloak: Keycloak, url: str) -> None:
    before = len(keycloak.login_failures())
    form = {"grant_type": "password", "client_id": "pilothouse", "client_secret": "console-secret"}
    answer = httpx.post(
        f"{url}/realms/pilothouse/protocol/openid-connect/token",
        data={**form, "username": "nobody", "password": "wrong"},
    )
    assert answer.status_code == 401
    failures = keycloak.login_failures()
    assert len(failures) == before + 1
    assert (failures[0].username, failures[0].client) == ("nobody", "pilothouse")
    assert failures[0].at.tzinfo is not None and failures[0].error
    assert len(keycloak.login_failures("customers", hours=24 * 8, limit=5)) == 5


def test_realms_and_sessions(keycloak: Keycloak) -> None:
    by_name = {one.name: one for one in keycloak.realms()}
    assert set(by_name) == {"master", "pilothouse", "customers"}
    assert by_name["pilothouse"].brute_force is True and by_name["pilothouse"].events is True
    assert by_name["master"].failed_logins is None
    sessions = keycloak.sessions("customers")
    assert len(sessions) == 17 and sessions[0].clients == ("app",) and sessions[0].username.startswith("user")
    assert [one.last_access_at for one in sessions] == sorted((one.last_access_at for one in sessions), reverse=True)
    assert len(keycloak.sessions("customers", limit=3)) == 3
    assert keycloak.sessions() == ()


def test_settings(keycloak: Keycloak, app: Any) -> None:
    realm(app, "pilothouse")["rep"]["smtpServer"] = {"password": "mail-password"}
    settings = {(s.group, s.name): s for s in keycloak.settings()}
    lifespan = settings["Tokens", "Access token lifespan"]
    assert (lifespan.value, lifespan.unit) == ("300", Unit.SECONDS)
    assert settings["Brute force", "Failures before a lockout"].value == "5"
    assert settings["Sign-in", "Self-registration"].value == "off"
    assert "mail-password" not in repr(settings) and SECRET not in repr(settings)


TOKEN = "/realms/master/protocol/openid-connect/token"
REALM = {"realm": "pilothouse", "displayName": "", "enabled": True, "eventsEnabled": True}
ALL: dict[str, tuple[int, Any]] = {
    TOKEN: (200, {"access_token": "token-for-tests", "expires_in": 60}),
    "/admin/realms/pilothouse/users/count": (200, 4),
    "/admin/realms/pilothouse/client-session-stats": (200, [{"id": "c", "active": "2"}]),
    "/admin/realms/pilothouse/events": (200, []),
    "/admin/realms/pilothouse": (200, REALM),
    "/admin/realms": (200, [REALM]),
}
DENIED = (403, {"error": "HTTP 403 Forbidden"})


def answers(changes: dict[str, tuple[int, Any]]) -> Callable[[str, str], tuple[int, Any]]:
    table = {**ALL, **changes}
    return lambda method, path: table.get(path.partition("?")[0], (404, {"error": "not here"}))


def names(adapter: Keycloak) -> list[str]:
    return [metric.name for metric in adapter.metrics()]


def test_the_token_is_kept() -> None:
    with FaultyServer(answer=answers({})) as server:
        adapter = made(server.url)
        for _ in range(3):
            assert names(adapter) == ["realms", "users", "sessions", "failed_logins"]
        assert server.requests.count(f"POST {TOKEN}") == 1
        adapter.close()


def test_a_token_near_its_end_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer(answer=answers({TOKEN: (200, {"access_token": "t", "expires_in": 300})})) as server:
        adapter = made(server.url)
        adapter.settings()
        now = time.monotonic()
        monkeypatch.setattr("adapters.keycloak_admin.time.monotonic", lambda: now + 269)
        adapter.settings()
        assert server.requests.count(f"POST {TOKEN}") == 1
        monkeypatch.setattr("adapters.keycloak_admin.time.monotonic", lambda: now + 271)
        adapter.settings()
        assert server.requests.count(f"POST {TOKEN}") == 2
        monkeypatch.undo()
        adapter.close()


def test_a_revoked_token_is_fetched_again_once(keycloak: Keycloak, app: Any) -> None:
    keycloak.settings()
    kept = keycloak._admin._token
    assert kept is not None
    keycloak._admin._token = ("revoked", kept[1])
    assert keycloak.settings()
    with FaultyServer(
        answer=answers({"/admin/realms/pilothouse": (401, {"error": "HTTP 401 Unauthorized"})})
    ) as server:
        adapter = made(server.url)
        adapter._admin._token = ("stale", time.monotonic() + 100)
        with pytest.raises(Denied):
            adapter.settings()
        assert server.requests.count("GET /admin/realms/pilothouse") == 2
        assert server.requests.count(f"POST {TOKEN}") == 1
        adapter.close()


@pytest.mark.parametrize(
    ("denied", "left"),
    [
        (("users/count",), ["realms", "sessions", "failed_logins"]),
        (("events",), ["realms", "users", "sessions"]),
        (("users/count", "client-session-stats", "events"), ["realms"]),
    ],
)
def test_what_is_denied_is_left_out(denied: tuple[str, ...], left: list[str]) -> None:
    with FaultyServer(answer=answers({f"/admin/realms/pilothouse/{one}": DENIED for one in denied})) as server:
        adapter = made(server.url)
        assert names(adapter) == left
        adapter.close()


def test_an_account_of_one_realm_counts_that_realm() -> None:
    with FaultyServer(answer=answers({"/admin/realms": DENIED})) as server:
        adapter = made(server.url)
        assert [(one.name, one.users, one.sessions) for one in adapter.realms()] == [("pilothouse", 4, 2)]
        adapter.close()


def test_everything_denied_is_an_error() -> None:
    with FaultyServer(answer=answers({path: DENIED for path in ALL if path != TOKEN})) as server:
        adapter = made(server.url)
        for call in (adapter.metrics, adapter.settings, adapter.sessions):
            with pytest.raises(Denied):
                call()
        adapter.close()


def test_many_realms_are_bounded() -> None:
    many = [{"realm": f"r{n:03}", "enabled": True, "eventsEnabled": False} for n in range(300)]

    def answer(method: str, path: str) -> tuple[int, Any]:
        if path.endswith("/users/count"):
            return 200, 1
        return (200, []) if "client-session-stats" in path else answers({"/admin/realms": (200, many)})(method, path)

    with FaultyServer(answer=answer) as server:
        adapter = made(server.url)
        metrics = {metric.name: metric for metric in adapter.metrics()}
        assert metrics["realms"].value == 300 and metrics["users"].value == MAX_REALMS
        assert metrics["users"].note == f"first {MAX_REALMS} of 300 realms"
        assert len(server.requests) == 2 + 2 * MAX_REALMS
        adapter.close()


@pytest.mark.parametrize("row", [{}, {"access_token": 5}, {"access_token": "é"}, {"access_token": ""}])
def test_a_token_that_is_none_is_unexpected(row: Any) -> None:
    with FaultyServer(answer=answers({TOKEN: (200, row)})) as server:
        adapter = made(server.url)
        with pytest.raises(Unexpected):
            adapter.settings()
        adapter.close()


@pytest.mark.parametrize("row", [{}, None, [], {"id": "x", "active": "many"}, {"realm": 5}, {"time": "now"}])
def test_unexpected_rows_are_named(row: Any) -> None:
    for read in (records.realm, records.failure, lambda one: records.active([one])):
        with pytest.raises(Unexpected):
            read(row)


@pytest.mark.parametrize("fault", FAULTS + BODIES)
def test_health_is_a_value_whatever_happens(fault: str) -> None:
    health_is_a_value(fault, lambda url: made(url, client_secret=SecretStr(SECRET)), SECRET)


@pytest.mark.parametrize("fault", ["hang", "500", "401", "garbage", "huge", "reset", "unexpected", "invalid", "404"])
def test_everything_else_is_bounded_too(fault: str) -> None:
    with no_leaks(), FaultyServer(fault) as server:
        adapter = made(server.url)
        fail_in_time(fault, adapter.metrics, adapter.settings, adapter.realms, adapter.sessions)
        adapter.close()


@pytest.mark.parametrize("fault", ["500", "unexpected", "list", "invalid", "garbage"])
def test_a_broken_admin_api_is_an_error_of_the_metrics(fault: str) -> None:
    def admin(path: str) -> bool:
        return path.startswith("/admin/")

    with no_leaks(), FaultyServer(fault, answer=answers({}), only=admin) as server:
        adapter = made(server.url)
        for call in (adapter.metrics, adapter.settings):
            with pytest.raises(AdapterError):
                call()
        adapter.close()
