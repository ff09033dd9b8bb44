"""The Keycloak stand-in is held to Keycloak's protocol, its error answers and its Admin REST API."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from sandbox.inprocess import Services
from sandbox.people import demo_people
from sandbox.standins import BrokenState, Host, keycloak

CALLBACK = "http://127.0.0.1:8501/auth/callback"
SIGNED_OUT = "http://127.0.0.1:8501/auth/signed-out"


class Browser:
    """A browser with its cookies, and what the console's client would send."""

    def __init__(self, standins: Services) -> None:
        self.standins = standins
        self.base = f"{standins.url('keycloak')}/realms/pilothouse"
        self.connect = f"{self.base}/protocol/openid-connect"
        self.http = httpx.Client(follow_redirects=False, timeout=10)
        self.verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(self.verifier.encode()).digest()
        self.challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        self.auth = ("pilothouse", standins.secrets["oidc_client_secret"])

    def authorize(self, **changes: str | None) -> httpx.Response:
        asked: dict[str, str | None] = {
            "response_type": "code",
            "client_id": "pilothouse",
            "redirect_uri": CALLBACK,
            "scope": "openid",
            "state": "s1",
            "nonce": "n1",
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
        }
        asked |= changes
        return self.http.get(f"{self.connect}/auth", params={n: v for n, v in asked.items() if v is not None})

    def log_in(self, page: httpx.Response, **form: str) -> httpx.Response:
        found = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        assert found, page.text[:400]
        return self.http.post(urljoin(self.connect, unescape(found.group(1))), data=form)

    def code(self, username: str = "ada") -> str:
        person = next(p for p in self.standins.people if p.username == username)
        return query(self.log_in(self.authorize(), username=username, password=person.password))["code"]

    def token(self, **form: str) -> httpx.Response:
        return self.http.post(f"{self.connect}/token", data=form, auth=self.auth)

    def redeem(self, code: str, **changes: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
        }
        return self.token(**(form | changes))

    def by_password(self, username: str, password: str) -> httpx.Response:
        return self.token(grant_type="password", username=username, password=password, scope="openid")


def query(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 302, answer.text[:400]
    found = parse_qs(urlsplit(answer.headers["location"]).query, keep_blank_values=True)
    return {name: values[0] for name, values in found.items()}


@pytest.fixture
def browser(standins: Services) -> Any:
    made = Browser(standins)
    yield made
    made.http.close()


@pytest.fixture
def admin(standins: Services) -> Any:
    """The Admin REST API with the service account of the master realm."""
    base = standins.url("keycloak")
    form = {
        "grant_type": "client_credentials",
        "client_id": standins.secrets["keycloak_admin_client_id"],
        "client_secret": standins.secrets["keycloak_admin_client_secret"],
    }
    issued = httpx.post(f"{base}/realms/master/protocol/openid-connect/token", data=form).json()
    assert "refresh_token" not in issued, "service accounts get none"
    headers = {"authorization": f"Bearer {issued['access_token']}"}
    with httpx.Client(base_url=f"{base}/admin", headers=headers) as client:
        yield client


def person(standins: Services, username: str) -> Any:
    return next(p for p in standins.people if p.username == username)


# ---- OpenID Connect ----


def test_discovery_names_this_issuer_and_its_endpoints(browser: Browser) -> None:
    row = browser.http.get(f"{browser.base}/.well-known/openid-configuration").json()
    assert row["issuer"] == browser.base
    assert "S256" in row["code_challenge_methods_supported"]
    for name in ("authorization", "token", "userinfo", "end_session", "introspection"):
        assert row[f"{name}_endpoint"].startswith(browser.connect)
    absent = browser.http.get(browser.base.replace("pilothouse", "nowhere") + "/.well-known/openid-configuration")
    assert (absent.status_code, absent.json()) == (404, {"error": "Realm does not exist"})


def test_the_code_flow_gives_tokens_signed_by_the_published_key(browser: Browser, standins: Services) -> None:
    back = query(browser.log_in(browser.authorize(), username="ivo", password=person(standins, "ivo").password))
    assert (back["state"], back["iss"]) == ("s1", browser.base)
    answer = browser.redeem(back["code"])
    assert answer.headers["cache-control"] == "no-store"
    issued = answer.json()
    assert (issued["token_type"], issued["expires_in"], issued["session_state"]) == (
        "Bearer",
        300,
        back["session_state"],
    )
    keys = KeySet.import_key_set(browser.http.get(f"{browser.connect}/certs").json())
    access = jwt.decode(issued["access_token"], keys, algorithms=["RS256"]).claims
    identity = jwt.decode(issued["id_token"], keys, algorithms=["RS256"]).claims
    assert access["iss"] == identity["iss"] == browser.base
    assert (access["typ"], identity["typ"]) == ("Bearer", "ID")
    assert access["azp"] == identity["aud"] == "pilothouse"
    assert identity["nonce"] == "n1"
    for claims in (access, identity):
        assert "infra_admin" in claims["realm_access"]["roles"]
        assert claims["sub"] == person(standins, "ivo").id
    half = hashlib.sha256(issued["access_token"].encode()).digest()[:16]
    assert identity["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()
    info = browser.http.get(
        f"{browser.connect}/userinfo", headers={"authorization": f"Bearer {issued['access_token']}"}
    )
    assert info.json()["preferred_username"] == "ivo"
    form = {"token": issued["access_token"]}
    seen = browser.http.post(f"{browser.connect}/token/introspect", data=form, auth=browser.auth).json()
    assert (seen["active"], seen["username"]) == (True, "ivo")
    again = browser.redeem(back["code"])
    assert (again.status_code, again.json()["error_description"]) == (400, "Code not valid")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_a_wrong_authorization_request_goes_back_with_an_error(
    browser: Browser, changes: dict[str, str | None], error: str
) -> None:
    assert query(browser.authorize(**changes))["error"] == error


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": f"{CALLBACK}/more"},
        {"redirect_uri": f"{CALLBACK}?x=1"},
        {"redirect_uri": None},
        {"client_id": "nobody"},
        {"client_id": None},
    ],
)
def test_a_request_that_cannot_be_trusted_goes_nowhere(browser: Browser, changes: dict[str, str | None]) -> None:
    answer = browser.authorize(**changes)
    assert answer.status_code == 400
    assert "We are sorry" in answer.text


@pytest.mark.parametrize(
    ("changes", "description"),
    [
        ({"code_verifier": "x" * 60}, "PKCE verification failed: Code mismatch"),
        ({"code_verifier": ""}, "PKCE code verifier not specified"),
        ({"redirect_uri": "http://127.0.0.1:8501/other"}, "Incorrect redirect_uri"),
        ({"code": "x.y.z"}, "Code not valid"),
    ],
)
def test_a_code_is_redeemed_by_its_rightful_holder_only(
    browser: Browser, changes: dict[str, str], description: str
) -> None:
    answer = browser.redeem(**({"code": browser.code()} | changes))
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_grant", "error_description": description})


def test_client_and_grant_are_checked(browser: Browser) -> None:
    browser.auth = ("pilothouse", "wrong")
    wrong = browser.by_password("ada", "x")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "unauthorized_client")
    browser.auth = ("nobody", "x")
    assert browser.by_password("ada", "x").json()["error"] == "invalid_client"


def test_grants_as_keycloak_names_them(browser: Browser) -> None:
    assert browser.token(grant_type="made_up").json()["error"] == "unsupported_grant_type"
    assert browser.token(x="y").json()["error_description"] == "Missing form parameter: grant_type"
    wrong = browser.by_password("ada", "wrong")
    expected = {"error": "invalid_grant", "error_description": "Invalid user credentials"}
    assert (wrong.status_code, wrong.json()) == (401, expected)


def test_the_login_page_lists_the_demo_people_and_signs_them_in(browser: Browser, standins: Services) -> None:
    page = browser.authorize()
    assert "Sign in as Ada · platform_admin" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for one in standins.people:
        assert one.password not in page.text
    back = query(browser.log_in(page, demo="sam"))
    assert browser.redeem(back["code"]).status_code == 200


def test_a_login_form_belongs_to_the_browser_that_asked_for_it(browser: Browser, standins: Services) -> None:
    page = browser.authorize()
    browser.http.cookies.clear()
    assert "Cookie not found" in browser.log_in(page, demo="ada").text


def test_wrong_passwords_are_said_and_escaped(browser: Browser) -> None:
    answer = browser.log_in(browser.authorize(), username='"><script>', password="x")
    assert answer.status_code == 200
    assert "Invalid username or password." in answer.text
    assert "<script>" not in answer.text


def test_single_sign_on_asks_no_second_time(browser: Browser) -> None:
    browser.redeem(browser.code())
    assert "code" in query(browser.authorize())
    assert "code" in query(browser.authorize(prompt="none"))
    assert browser.authorize(prompt="login").status_code == 200


def test_refresh_tokens_rotate_and_work_once(browser: Browser) -> None:
    first = browser.redeem(browser.code()).json()
    second = browser.token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert second.status_code == 200
    assert "nonce" not in second.json()
    again = browser.token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert again.json()["error_description"] == "Maximum allowed refresh token reuse exceeded"
    third = browser.token(grant_type="refresh_token", refresh_token=second.json()["refresh_token"])
    assert third.status_code == 200
    nonsense = browser.token(grant_type="refresh_token", refresh_token="x.y.z")
    assert nonsense.json() == {"error": "invalid_grant", "error_description": "Invalid refresh token"}


def test_sign_out_ends_the_session_and_returns_to_a_known_place_only(browser: Browser) -> None:
    issued = browser.redeem(browser.code()).json()
    hint = {"id_token_hint": issued["id_token"]}
    evil = browser.http.get(
        f"{browser.connect}/logout", params=hint | {"post_logout_redirect_uri": "https://evil.example"}
    )
    assert (evil.status_code, "Invalid redirect uri" in evil.text) == (400, True)
    asked = browser.http.get(f"{browser.connect}/logout")
    assert "Do you want to sign out?" in asked.text, "without a hint it asks first"
    done = browser.http.get(
        f"{browser.connect}/logout", params=hint | {"post_logout_redirect_uri": SIGNED_OUT, "state": "x"}
    )
    assert done.headers["location"] == f"{SIGNED_OUT}?state=x"
    dead = browser.token(grant_type="refresh_token", refresh_token=issued["refresh_token"])
    assert dead.json() == {"error": "invalid_grant", "error_description": "Session not active"}
    bearer = {"authorization": f"Bearer {issued['access_token']}"}
    assert browser.http.get(f"{browser.connect}/userinfo", headers=bearer).status_code == 401
    assert browser.authorize().status_code == 200, "single sign-on is over too"


# ---- Admin REST ----


def test_the_admin_api_needs_rights(browser: Browser, standins: Services) -> None:
    base = f"{standins.url('keycloak')}/admin"
    bare = browser.http.get(f"{base}/realms")
    assert (bare.status_code, bare.json()) == (401, {"error": "HTTP 401 Unauthorized"})
    issued = browser.by_password("ada", person(standins, "ada").password).json()
    mere = browser.http.get(f"{base}/realms/pilothouse", headers={"authorization": f"Bearer {issued['access_token']}"})
    assert (mere.status_code, mere.json()) == (403, {"error": "HTTP 403 Forbidden"})


def test_realms_are_listed_read_and_changed(admin: httpx.Client, browser: Browser, standins: Services) -> None:
    assert {row["realm"] for row in admin.get("/realms").json()} == {"master", "pilothouse", "customers"}
    assert admin.get("/realms/nowhere").json() == {"error": "Realm not found."}
    assert admin.get("/serverinfo").json()["systemInfo"]["version"]
    assert admin.put("/realms/pilothouse", json={"accessTokenLifespan": 61}).status_code == 204
    assert browser.by_password("ada", person(standins, "ada").password).json()["expires_in"] == 61
    for wrong in ({"accessTokenLifespan": "long"}, {"enabled": "yes"}, []):
        assert admin.put("/realms/pilothouse", json=wrong).status_code == 400
    assert admin.get("/realms/pilothouse").json()["accessTokenLifespan"] == 61


def test_people_are_made_found_changed_and_removed(admin: httpx.Client, browser: Browser) -> None:
    users = "/realms/pilothouse/users"
    made = admin.post(
        users,
        json={
            "username": "Zoe",
            "email": "zoe@pilothouse.test",
            "enabled": True,
            "credentials": [{"type": "password", "value": "first"}],
        },
    )
    assert made.status_code == 201
    path = urlsplit(made.headers["location"]).path.removeprefix("/admin")
    twice = admin.post(users, json={"username": "zoe"})
    assert (twice.status_code, twice.json()) == (409, {"errorMessage": "User exists with same username"})
    assert [row["username"] for row in admin.get(users, params={"search": "zoe"}).json()] == ["zoe"]
    assert admin.get(f"{users}/count", params={"search": "zoe"}).json() == 1
    assert admin.get(f"{users}/count").json() == 7, "service accounts are not counted"
    assert not [name for name in admin.get(path).json() if name.startswith("_")]
    assert browser.by_password("zoe", "first").status_code == 200
    assert admin.put(f"{path}/reset-password", json={"type": "password", "value": "second"}).status_code == 204
    assert browser.by_password("zoe", "first").status_code == 401
    role = admin.get("/realms/pilothouse/roles/analyst").json()
    assert admin.post(f"{path}/role-mappings/realm", json=[role]).status_code == 204
    assert "analyst" in {row["name"] for row in admin.get(f"{path}/role-mappings/realm").json()}
    assert admin.put(path, json={"enabled": False}).status_code == 204
    disabled = browser.by_password("zoe", "second")
    assert (disabled.status_code, disabled.json()["error_description"]) == (400, "Account disabled")
    assert admin.delete(path).status_code == 204
    assert admin.get(path).json() == {"error": "User not found"}


def test_lists_are_paged(admin: httpx.Client) -> None:
    users = "/realms/customers/users"
    assert admin.get(f"{users}/count").json() == 120
    assert len(admin.get(users).json()) == 100
    second = admin.get(users, params={"first": 100, "max": 50}).json()
    assert len(second) == 20
    assert {row["name"] for row in admin.get("/realms/customers/groups").json()} == {
        "free", "starter", "team", "enterprise",
    }  # fmt: skip


def test_sessions_are_counted_listed_and_ended(admin: httpx.Client, browser: Browser, standins: Services) -> None:
    issued = browser.redeem(browser.code("bea")).json()
    ident = person(standins, "bea").id
    [row] = admin.get("/realms/pilothouse/client-session-stats").json()
    assert (row["clientId"], row["active"], row["offline"]) == ("pilothouse", "1", "0")
    [session] = admin.get(f"/realms/pilothouse/users/{ident}/sessions").json()
    assert (session["username"], session["userId"]) == ("bea", ident)
    assert list(session["clients"].values()) == ["pilothouse"]
    assert admin.get(f"/realms/pilothouse/clients/{row['id']}/user-sessions").json() == [session]
    assert admin.get(f"/realms/pilothouse/clients/{row['id']}/session-count").json() == {"count": 1}
    assert admin.delete(f"/realms/pilothouse/sessions/{session['id']}").status_code == 204
    assert admin.delete(f"/realms/pilothouse/sessions/{session['id']}").status_code == 404
    dead = browser.token(grant_type="refresh_token", refresh_token=issued["refresh_token"])
    assert dead.json()["error_description"] == "Session not active"


def test_brute_force_detection_shuts_out_and_lets_in_again(
    admin: httpx.Client, browser: Browser, standins: Services
) -> None:
    ident, right = person(standins, "ana").id, person(standins, "ana").password
    path = f"/realms/pilothouse/attack-detection/brute-force/users/{ident}"
    assert admin.get(path).json()["numFailures"] == 0
    for _ in range(5):
        browser.by_password("ana", "wrong")
    status = admin.get(path).json()
    assert (status["numFailures"], status["disabled"]) == (5, True)
    assert browser.by_password("ana", right).json()["error_description"] == "Invalid user credentials"
    found = admin.get("/realms/pilothouse/events", params={"type": "LOGIN_ERROR", "user": ident, "max": 2}).json()
    assert [event["error"] for event in found] == ["user_temporarily_disabled", "invalid_user_credentials"]
    assert admin.delete(path).status_code == 204
    assert browser.by_password("ana", right).status_code == 200


def test_events_are_kept_where_the_realm_keeps_them(admin: httpx.Client, browser: Browser, standins: Services) -> None:
    assert admin.delete("/realms/pilothouse/events").status_code == 204
    browser.redeem(browser.code())
    kinds = [event["type"] for event in admin.get("/realms/pilothouse/events").json()]
    assert kinds == ["CODE_TO_TOKEN", "LOGIN"], "newest first"
    assert admin.get("/realms/pilothouse/events", params={"dateFrom": "yesterday"}).status_code == 400
    assert not admin.get("/realms/pilothouse/events", params={"dateTo": "2020-01-01"}).json()
    config = admin.get("/realms/pilothouse/events/config").json()
    assert admin.put("/realms/pilothouse/events/config", json=config | {"eventsEnabled": False}).status_code == 204
    browser.by_password("ada", "wrong")
    assert len(admin.get("/realms/pilothouse/events").json()) == 2


# ---- state ----


def made(folder: Path, people: Any, port: int = 8501) -> Any:
    app = keycloak.create(folder, 7, people, host=Host("http://127.0.0.1:1", f"http://127.0.0.1:{port}"))
    return app.state.standin


def test_state_and_keys_survive_a_restart_on_another_port(tmp_path: Path) -> None:
    people = demo_people()
    first = made(tmp_path, people)
    realm = first.realms["pilothouse"]
    token = first.sign(realm, {"sub": "x"})
    realm["rep"]["accessTokenLifespan"] = 77
    first.changed()
    first.save()
    second = made(tmp_path, people, port=9000)
    kept = second.realms["pilothouse"]
    assert kept["rep"]["accessTokenLifespan"] == 77
    assert second.verify(kept, token) == {"sub": "x"}
    client = second.client("pilothouse", "pilothouse")
    assert client["redirectUris"] == ["http://127.0.0.1:9000/auth/callback"], "the client follows the console"
    assert (tmp_path / "keycloak.json").stat().st_mode & 0o777 == 0o600
    for one in people:
        assert one.password not in (tmp_path / "keycloak.json").read_text()


def test_an_unreadable_state_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "keycloak.json").write_text("{")
    with pytest.raises(BrokenState, match="cannot be read"):
        made(tmp_path, demo_people())


def test_the_demo_is_the_same_for_a_seed_and_absent_without(tmp_path: Path) -> None:
    people = demo_people()
    one, two = made(tmp_path / "a", people), made(tmp_path / "b", people)
    assert list(one.realms["customers"]["users"]) == list(two.realms["customers"]["users"])
    empty = keycloak.create(tmp_path / "c", None, people, host=Host("http://127.0.0.1:1")).state.standin
    assert not empty.realms["customers"]["users"]
    assert {u["username"] for u in empty.realms["pilothouse"]["users"].values()} >= {p.username for p in people}
