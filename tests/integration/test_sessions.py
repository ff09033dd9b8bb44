"""What a session does when Keycloak refuses, many ask at once, or somebody is shut out."""

from __future__ import annotations

import base64
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import text

from operations import oidc, sessions, tokens
from operations.platform import Platform
from sandbox.inprocess import Services
from tests.integration.test_sign_in import admin, browse, later, sign_in

pytestmark = pytest.mark.engines


def realm_of(standins: Services) -> dict[str, Any]:
    """The console's realm as the stand-in keeps it."""
    realm: dict[str, Any] = standins.standin("keycloak").realms["pilothouse"]
    return realm


def grant(platform: Platform, standins: Services, username: str, **more: str) -> dict[str, Any]:
    """A token answer by the password grant."""
    person = next(person for person in standins.people if person.username == username)
    secret = platform.settings.oidc_client_secret
    assert secret is not None
    form = {
        "grant_type": "password",
        "username": username,
        "password": person.password,
        "client_id": platform.settings.oidc_client_id,
        "client_secret": secret.get_secret_value(),
        "scope": "openid",
        **more,
    }
    answer = httpx.post(f"{platform.settings.oidc_issuer}/protocol/openid-connect/token", data=form)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("fault", ["401", "drip", "reset", "huge"])
def test_a_refusal_that_is_not_about_the_session_keeps_people_signed_in(
    platform: Platform, standins: Services, fault: str
) -> None:
    sid, _ = sign_in(platform, standins)
    later(platform, token_expires_at="-1 second")
    standins.fault("keycloak", fault)
    assert sessions.resolve(platform, sid) is not None
    with platform.database.session() as session:
        assert session.execute(text("SELECT revoked_at FROM sessions")).scalar_one() is None


def test_a_wrong_client_secret_does_not_sign_everybody_out(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins)
    client = next(c for c in realm_of(standins)["clients"].values() if c["clientId"] == "pilothouse")
    client["secret"] = "rotated"
    later(platform, token_expires_at="-1 second")
    assert sessions.resolve(platform, sid) is not None


def test_a_disabled_person_is_out_at_the_next_refresh(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins, "pim")
    actor = sessions.resolve(platform, sid)
    assert actor is not None
    with admin(platform, standins) as keycloak:
        keycloak.put(f"/users/{actor.id}", json={"enabled": False}).raise_for_status()
    assert sessions.resolve(platform, sid) is not None, "until the tokens run out nothing is asked"
    later(platform, token_expires_at="-1 second")
    assert sessions.resolve(platform, sid) is None
    with platform.database.session() as session:
        row = session.execute(text("SELECT revoked_at, refresh_token_enc FROM sessions")).one()
    assert row.revoked_at is not None
    assert row.refresh_token_enc is None


def test_a_role_taken_away_is_gone_after_the_refresh(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins, "ada")
    before = sessions.resolve(platform, sid)
    assert before is not None
    assert before.permissions
    with admin(platform, standins) as keycloak:
        role = keycloak.get("/roles/platform_admin").json()
        path = f"/users/{before.id}/role-mappings/realm"
        keycloak.request("DELETE", path, json=[role]).raise_for_status()
    later(platform, token_expires_at="-1 second")
    after = sessions.resolve(platform, sid)
    assert after is not None
    assert not after.permissions


def test_many_at_once_refresh_a_session_once(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins)
    events = realm_of(standins)["events"]
    before = sum(event["type"] == "REFRESH_TOKEN" for event in events)
    later(platform, token_expires_at="-1 second")
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda _: sessions.resolve(platform, sid), range(36)))
    assert all(found)
    assert sum(event["type"] == "REFRESH_TOKEN" for event in events) == before + 1
    assert not [event for event in events if event["type"] == "REFRESH_TOKEN_ERROR"]


def test_replicas_do_not_use_one_refresh_token_twice(platform: Platform, standins: Services) -> None:
    """Each replica has a memory of its own; Keycloak here takes every refresh token once."""
    sid, _ = sign_in(platform, standins)
    others = [Platform(platform.settings) for _ in range(3)]
    try:
        later(platform, token_expires_at="-1 second")
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda one: sessions.resolve(one, sid), [platform, *others]))
        assert all(found)
        assert all(sessions.resolve(one, sid) for one in [platform, *others])
        assert not [e for e in realm_of(standins)["events"] if e["type"] == "REFRESH_TOKEN_ERROR"]
    finally:
        for one in others:
            one.close()


def test_short_lived_tokens_are_obeyed(platform: Platform, standins: Services) -> None:
    """The realm's accessTokenLifespan decides when the next refresh is due."""
    with admin(platform, standins) as keycloak:
        keycloak.put(str(keycloak.base_url).rstrip("/"), json={"accessTokenLifespan": 1}).raise_for_status()
    sid, _ = sign_in(platform, standins)
    with platform.database.session() as session:
        query = "SELECT token_expires_at < now() + interval '2 seconds' FROM sessions"
        assert session.execute(text(query)).scalar_one()
    assert sessions.resolve(platform, sid) is not None


def test_a_revoked_session_is_nobody_in_every_replica(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins)
    other = Platform(platform.settings)
    try:
        assert sessions.resolve(other, sid) is not None
        sessions.revoke(platform, sid)
        assert sessions.resolve(platform, sid) is None
        sessions._cache(other).known.clear()
        assert sessions.resolve(other, sid) is None, "PostgreSQL tells it"
    finally:
        other.close()


def test_a_session_whose_tokens_cannot_be_decrypted_is_over(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins)
    later(platform, token_expires_at="-1 second")
    with platform.database.session() as session:
        session.execute(text("UPDATE sessions SET refresh_token_enc = 'gAAAAAother'"))
    sessions._cache(platform).known.clear()
    assert sessions.resolve(platform, sid) is None


def test_keycloaks_own_session_ends_with_the_sign_out(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins, "sam")
    assert len(realm_of(standins)["sessions"]) == 1
    answer = httpx.get(oidc.logout_url(platform, sid))
    assert answer.is_redirect
    assert not realm_of(standins)["sessions"]


def test_an_error_that_comes_back_makes_no_session(platform: Platform, standins: Services) -> None:
    url, cookie = oidc.begin(platform.settings, "/")
    state = parse_qs(urlsplit(url).query)["state"][0]
    for params in (
        {"state": state, "error": "access_denied"},
        {"state": state},
        {"state": state, "code": ""},
        {"state": state, "code": "made-up"},
        {"code": "made-up"},
        {},
    ):
        with pytest.raises(oidc.SignInError):
            oidc.complete(platform, params, cookie)
    with platform.database.session() as session:
        assert session.execute(text("SELECT count(*) FROM sessions")).scalar_one() == 0


def test_a_code_is_worthless_without_its_verifier(platform: Platform, standins: Services) -> None:
    """The cookie of one browser and the code of another: PKCE refuses even with the state made to fit."""
    person = standins.people[0]
    url, cookie = oidc.begin(platform.settings, "/")
    back = browse(url, person.username, person.password)
    pending = json.loads(platform.settings.fernet.decrypt(cookie.encode()))
    pending["verifier"] = "x" * 64
    forged = platform.settings.fernet.encrypt(json.dumps(pending).encode()).decode()
    with pytest.raises(oidc.SignInError):
        oidc.complete(platform, back, forged)


@pytest.mark.parametrize("path", ["/\t/evil.example", "/a\nb", "/" + "x" * 3000, "javascript:alert(1)", "evil"])
def test_only_local_pages_are_returned_to(platform: Platform, standins: Services, path: str) -> None:
    with pytest.raises(oidc.SignInError):
        oidc.begin(platform.settings, path)


def test_expired_and_foreign_tokens_are_no_bearers(platform: Platform, standins: Services) -> None:
    realm = realm_of(standins)
    realm["rep"]["accessTokenLifespan"] = -60
    assert tokens.bearer(platform, grant(platform, standins, "ada")["access_token"]) is None, "expired"
    realm["rep"]["accessTokenLifespan"] = 300
    foreign = grant(platform, standins, "ada", client_id="admin-cli")
    assert tokens.bearer(platform, foreign["access_token"]) is None, "made for another application"
    good = grant(platform, standins, "ada")["access_token"]
    assert tokens.bearer(platform, good) is not None
    head, body, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    assert tokens.bearer(platform, f"{none}.{body}.") is None, "unsigned"
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["realm_access"]["roles"] = ["platform_admin"]
    widened = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    assert tokens.bearer(platform, f"{head}.{widened}.{signature}") is None, "changed"


def test_tokens_never_reach_the_log(platform: Platform, standins: Services, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sid, _ = sign_in(platform, standins)
    later(platform, token_expires_at="-1 second")
    assert sessions.resolve(platform, sid) is not None
    token = sessions.id_token(platform, sid)
    access = grant(platform, standins, "ivo")["access_token"]
    tokens.bearer(platform, access)
    tokens.bearer(platform, access[:-8] + "AAAAAAAA")
    oidc.logout_url(platform, sid)
    assert token
    # The HTTP library of this test logs the addresses it visits itself; the console's own words count.
    said = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore", "asyncio")))
    for secret in (sid, token, access, access.rsplit(".", 1)[1]):
        assert secret not in said
    assert "eyJ" not in said
