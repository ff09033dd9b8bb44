"""Signing in against Keycloak's protocol, and what a session does with time, roles and outages."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from sqlalchemy import text

from adapters.core import utcnow
from operations import apitokens, oidc, sessions, tokens
from operations.access import SYSTEM, Actor
from operations.change import Invalid
from operations.platform import Platform
from sandbox.inprocess import Services

pytestmark = pytest.mark.engines


def browse(url: str, username: str, password: str) -> dict[str, str]:
    """What a browser does at Keycloak: the query it comes back to us with."""
    with httpx.Client(follow_redirects=False, timeout=10) as browser:
        page = browser.get(url)
        form = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        assert form, page.text[:500]
        answer = browser.post(urljoin(url, unescape(form.group(1))), data={"username": username, "password": password})
        assert answer.is_redirect, answer.text[:500]
        back = answer.headers["location"]
    return {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}


def sign_in(platform: Platform, standins: Services, username: str = "ada", wanted: str = "/") -> tuple[str, str]:
    person = next(person for person in standins.people if person.username == username)
    url, cookie = oidc.begin(platform.settings, wanted)
    return oidc.complete(platform, browse(url, username, person.password), cookie)


def admin(platform: Platform, standins: Services) -> httpx.Client:
    """A client of Keycloak's admin interface for the console's realm."""
    secrets = standins.secrets
    base = standins.url("keycloak")
    issued = httpx.post(
        f"{base}/realms/{platform.settings.oidc_issuer.rsplit('/', 1)[1]}/protocol/openid-connect/token",
        data={
            "grant_type": "client_credentials",
            "client_id": secrets["keycloak_admin_client_id"],
            "client_secret": secrets["keycloak_admin_client_secret"],
        },
    )
    token = issued.json()["access_token"]
    realm = platform.settings.oidc_issuer.rsplit("/", 1)[1]
    return httpx.Client(base_url=f"{base}/admin/realms/{realm}", headers={"authorization": f"Bearer {token}"})


def later(platform: Platform, **columns: str) -> None:
    """Move moments of every session by SQL, and forget what this process remembers."""
    with platform.database.session() as session:
        for name, interval in columns.items():
            session.execute(text(f"UPDATE sessions SET {name} = now() + interval '{interval}'"))
    sessions._cache(platform).known.clear()


def test_code_flow_with_pkce_ends_where_the_person_wanted(platform: Platform, standins: Services) -> None:
    sid, wanted = sign_in(platform, standins, "ivo", "/database?hours=24")
    assert wanted == "/database?hours=24"
    actor = sessions.resolve(platform, sid)
    assert actor is not None
    assert actor.roles >= {"infra_admin"}
    assert actor.name
    assert actor.kind == "person"


def test_nothing_of_a_session_can_be_read_from_the_database(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins)
    with platform.database.session() as session:
        row = str(session.execute(text("SELECT * FROM sessions")).one())
    assert sid not in row
    assert "eyJ" not in row, "tokens are encrypted"


def test_a_pending_sign_in_cannot_be_forged_replayed_or_redirected(platform: Platform, standins: Services) -> None:
    person = standins.people[0]
    url, cookie = oidc.begin(platform.settings, "/")
    back = browse(url, person.username, person.password)
    with pytest.raises(oidc.SignInError, match="not begun here"):
        oidc.complete(platform, {**back, "state": "other"}, cookie)
    for forged in (None, "", "gAAAAAB", "é"):
        with pytest.raises(oidc.SignInError):
            oidc.complete(platform, back, forged)
    _, elsewhere = oidc.begin(platform.settings, "/")
    with pytest.raises(oidc.SignInError):
        oidc.complete(platform, back, elsewhere)
    oidc.complete(platform, back, cookie)
    with pytest.raises(oidc.SignInError, match="used already"):
        oidc.complete(platform, back, cookie)
    for path in ("https://evil.example", "//evil.example", "/\\evil.example", ""):
        with pytest.raises(oidc.SignInError):
            oidc.begin(platform.settings, path)


def test_an_id_token_of_another_sign_in_is_refused(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins)
    token = sessions.id_token(platform, sid)
    with pytest.raises(oidc.SignInError, match="another sign-in"):
        oidc.identity(platform.settings, {"id_token": token}, "another nonce")
    assert token
    head, body, signature = token.split(".")
    for bad in (f"{head}.{body}.{signature[:-4]}AAAA", f"{head}.{body}.", "nonsense"):
        with pytest.raises(oidc.SignInError, match="not valid"):
            oidc.identity(platform.settings, {"id_token": bad}, None)


def test_signing_out_ends_the_session_here_and_leads_to_keycloak(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins)
    url = oidc.logout_url(platform, sid)
    assert sessions.resolve(platform, sid) is None
    query = parse_qs(urlsplit(url).query)
    assert query["post_logout_redirect_uri"] == [platform.settings.public_url + oidc.SIGNED_OUT]
    answer = httpx.get(url)
    assert answer.is_redirect
    assert answer.headers["location"].startswith(platform.settings.public_url + oidc.SIGNED_OUT)


def test_an_expired_session_is_over(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins)
    later(platform, expires_at="-1 second")
    assert sessions.resolve(platform, sid) is None


def test_unknown_ids_are_nobody(platform: Platform) -> None:
    for sid in ("", "x", "x" * 500, "\x00", "é" * 20):
        assert sessions.resolve(platform, sid) is None


def test_roles_follow_keycloak_when_the_tokens_are_refreshed(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins, "ana")
    before = sessions.resolve(platform, sid)
    assert before is not None
    assert "infra_admin" not in before.roles
    with admin(platform, standins) as keycloak:
        role = keycloak.get("/roles/infra_admin").json()
        keycloak.post(f"/users/{before.id}/role-mappings/realm", json=[role]).raise_for_status()
    later(platform, token_expires_at="-1 second")
    after = sessions.resolve(platform, sid)
    assert after is not None
    assert "infra_admin" in after.roles


def test_a_session_ended_at_keycloak_ends_here(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins, "sam")
    actor = sessions.resolve(platform, sid)
    assert actor is not None
    with admin(platform, standins) as keycloak:
        keycloak.post(f"/users/{actor.id}/logout").raise_for_status()
    later(platform, token_expires_at="-1 second")
    assert sessions.resolve(platform, sid) is None
    assert sessions.resolve(platform, sid) is None


@pytest.mark.parametrize("fault", ["refuse", "hang", "500", "garbage"])
def test_keycloak_away_keeps_people_signed_in(platform: Platform, standins: Services, fault: str) -> None:
    sid, _ = sign_in(platform, standins)
    later(platform, token_expires_at="-1 second")
    standins.fault("keycloak", fault)
    assert sessions.resolve(platform, sid) is not None


def test_postgresql_away_keeps_known_people_signed_in(platform: Platform, standins: Services) -> None:
    sid, _ = sign_in(platform, standins)
    assert sessions.resolve(platform, sid) is not None
    cache = sessions._cache(platform)
    for key, known in list(cache.known.items()):
        cache.known[key] = sessions._Session(
            known.actor, known.expires_at, known.token_expires_at, known.refresh_token_enc, known.revoked, -1e9
        )
    standins.fault("postgresql", "refuse")
    assert sessions.resolve(platform, sid) is not None


def test_ending_all_sessions_of_a_person(platform: Platform, standins: Services) -> None:
    first, _ = sign_in(platform, standins, "bea")
    second, _ = sign_in(platform, standins, "bea")
    actor = sessions.resolve(platform, first)
    assert actor is not None
    assert sessions.revoke_subject(platform, actor.id) == 2
    assert sessions.resolve(platform, second) is None


def test_access_tokens_of_the_realm_are_bearers(platform: Platform, standins: Services) -> None:
    person = standins.people[1]
    secret = platform.settings.oidc_client_secret
    assert secret is not None
    issued: dict[str, Any] = httpx.post(
        f"{platform.settings.oidc_issuer}/protocol/openid-connect/token",
        data={
            "grant_type": "password",
            "username": person.username,
            "password": person.password,
            "client_id": platform.settings.oidc_client_id,
            "client_secret": secret.get_secret_value(),
            "scope": "openid",
        },
    ).json()
    actor = tokens.bearer(platform, issued["access_token"])
    assert actor is not None
    assert set(person.roles) <= actor.roles
    assert tokens.bearer(platform, issued["id_token"]) is None, "an ID token is no bearer token"
    assert tokens.bearer(platform, issued["refresh_token"]) is None
    for bad in ("", "a.b.c", "x" * 20_000, issued["access_token"][:-6] + "AAAAAA"):
        assert tokens.bearer(platform, bad) is None


def test_api_tokens_live_and_die(platform: Platform) -> None:
    token = apitokens.create(platform, SYSTEM, "ci", frozenset({"analyst"}), reason="a test")
    actor = apitokens.verify(platform, token)
    assert actor is not None
    assert (actor.name, actor.roles, actor.kind) == ("ci", {"analyst"}, "program")
    listed = apitokens.listed(platform, SYSTEM)
    assert [item.name for item in listed] == ["ci"]
    with platform.database.session() as session:
        assert token not in str(session.execute(text("SELECT * FROM api_tokens")).all())
    apitokens.revoke(platform, SYSTEM, listed[0].id, "over")
    assert apitokens.verify(platform, token) is None
    for bad in ("", "ph_", "ph_" + "x" * 43, "x" * 400):
        assert apitokens.verify(platform, bad) is None


def test_an_api_token_cannot_outgrow_its_maker(platform: Platform) -> None:
    maker = Actor("u1", "Ivo", frozenset({"infra_admin"}))
    with pytest.raises(Invalid, match="more than you may"):
        apitokens.create(platform, maker, "x", frozenset({"platform_admin"}))
    with pytest.raises(Invalid, match="unknown"):
        apitokens.create(platform, maker, "x", frozenset({"boss"}))
    with pytest.raises(Invalid, match="past"):
        apitokens.create(platform, maker, "x", frozenset({"ai_viewer"}), expires_at=utcnow() - timedelta(1))
