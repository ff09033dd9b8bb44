"""OpenID Connect as Keycloak speaks it: discovery, authorization, tokens, userinfo, logout."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
import uuid
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sandbox.standins import keycloak_login as pages
from sandbox.standins.keycloak_state import KeycloakStandin, now_ms

JSON_HEADERS = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class Refusal(Exception):
    """An OAuth error answer."""

    def __init__(self, status: int, error: str, description: str | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.description = status, error, description

    def response(self) -> JSONResponse:
        body = {"error": self.error}
        if self.description:
            body["error_description"] = self.description
        return JSONResponse(body, self.status, JSON_HEADERS)


def standin(request: Request) -> KeycloakStandin:
    """The state behind a request."""
    found: KeycloakStandin = request.app.state.standin
    return found


def find_realm(request: Request) -> dict[str, Any]:
    """The enabled realm of the path; refuses as Keycloak does."""
    realm = standin(request).realms.get(request.path_params["realm"])
    if realm is None:
        raise Refusal(404, "Realm does not exist")
    if not realm["rep"]["enabled"]:
        raise Refusal(403, "access_denied", "Realm not enabled")
    return realm


def address(request: Request) -> str:
    """The caller's IP."""
    return request.client.host if request.client else "127.0.0.1"


def issuer(request: Request) -> str:
    """The issuer, from the address the caller used, as without a fixed hostname."""
    return f"{str(request.base_url).rstrip('/')}/realms/{request.path_params['realm']}"


async def realm_info(request: Request) -> Response:
    realm, keycloak, base = find_realm(request), standin(request), issuer(request)
    der = base64.b64encode(keycloak.key(realm).as_der(private=False)).decode()
    return JSONResponse(
        {
            "realm": realm["rep"]["realm"],
            "public_key": der,
            "token-service": f"{base}/protocol/openid-connect",
            "account-service": f"{base}/account",
            "tokens-not-before": realm["rep"]["notBefore"],
        }
    )


async def discovery(request: Request) -> Response:
    find_realm(request)
    base = issuer(request)
    connect = f"{base}/protocol/openid-connect"
    methods = ["private_key_jwt", "client_secret_basic", "client_secret_post", "tls_client_auth", "client_secret_jwt"]
    return JSONResponse(
        {
            "issuer": base,
            "authorization_endpoint": f"{connect}/auth",
            "token_endpoint": f"{connect}/token",
            "introspection_endpoint": f"{connect}/token/introspect",
            "userinfo_endpoint": f"{connect}/userinfo",
            "end_session_endpoint": f"{connect}/logout",
            "revocation_endpoint": f"{connect}/revoke",
            "jwks_uri": f"{connect}/certs",
            "frontchannel_logout_supported": True,
            "grant_types_supported": ["authorization_code", "client_credentials", "password", "refresh_token"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": methods,
            "claims_supported": ["aud", "sub", "iss", "auth_time", "name", "preferred_username", "email", "acr"],
            "claim_types_supported": ["normal"],
            "claims_parameter_supported": True,
            "scopes_supported": ["openid", "profile", "email", "roles", "offline_access"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "authorization_response_iss_parameter_supported": True,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
        }
    )


async def certs(request: Request) -> Response:
    key = standin(request).key(find_realm(request))
    return JSONResponse({"keys": [{**key.as_dict(private=False), "alg": "RS256", "use": "sig"}]})


# ---- the browser's part ----


def _cookie_path(request: Request) -> str:
    return f"/realms/{request.path_params['realm']}/"


def _sso(request: Request, realm: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Session and user of the browser's identity cookie."""
    keycloak = standin(request)
    claims = keycloak.verify_refresh(realm, request.cookies.get("KEYCLOAK_IDENTITY", ""))
    if not claims or claims.get("typ") != "Serialized-ID":
        return None
    session = keycloak.sessions(realm).get(claims["sid"])
    user = realm["users"].get(session["userId"]) if session else None
    return (session, user) if session and user and user["enabled"] else None


def _allowed(uri: str, patterns: list[str]) -> bool:
    """Keycloak's rule: exact, or a pattern ending in ``*`` as a prefix."""
    return any(uri == p or (p.endswith("*") and uri.startswith(p[:-1]) and "?" not in p) for p in patterns)


def _back(redirect_uri: str, **params: str | None) -> RedirectResponse:
    query = urlencode({name: value for name, value in params.items() if value is not None})
    separator = "&" if "?" in redirect_uri else "?"
    return RedirectResponse(f"{redirect_uri}{separator}{query}", 302, {"Cache-Control": "no-store"})


def _page_error(message: str, status: int = 400) -> HTMLResponse:
    return HTMLResponse(pages.error(message), status, pages.HEADERS)


async def authorize(request: Request) -> Response:
    realm, keycloak = find_realm(request), standin(request)
    asked: dict[str, str] = dict(request.query_params)
    if request.method == "POST":
        asked = {name: str(value) for name, value in (await request.form()).items()}
    client = keycloak.client(realm["rep"]["realm"], asked.get("client_id"))
    if not asked.get("client_id"):
        return _page_error("Missing parameter: client_id")
    if client is None:
        return _page_error("Client not found.")
    if not client["enabled"]:
        return _page_error("Client disabled.")
    redirect = asked.get("redirect_uri", "")
    if not _allowed(redirect, client["redirectUris"]):
        keycloak.event(
            realm, "LOGIN_ERROR", address(request), clientId=client["clientId"], error="invalid_redirect_uri"
        )
        return _page_error("Invalid parameter: redirect_uri")
    state, iss = asked.get("state"), issuer(request)

    def refuse(error: str, description: str) -> Response:
        return _back(redirect, error=error, error_description=description, state=state, iss=iss)

    if not client["standardFlowEnabled"]:
        return refuse(
            "unauthorized_client", "Client is not allowed to initiate browser login with given response_type."
        )
    if "response_type" not in asked:
        return refuse("invalid_request", "Missing parameter: response_type")
    if asked["response_type"] != "code":
        return refuse("unsupported_response_type", "")
    method, challenge = asked.get("code_challenge_method"), asked.get("code_challenge")
    required = client["attributes"].get("pkce.code.challenge.method")
    if required and not method:
        return refuse("invalid_request", "Missing parameter: code_challenge_method")
    if required and method != required:
        return refuse("invalid_request", "Invalid parameter: code challenge method is not matching the configured one")
    if required and not challenge:
        return refuse("invalid_request", "Missing parameter: code_challenge")
    asked["_client"] = client["clientId"]
    prompt = asked.get("prompt", "").split()
    present = _sso(request, realm)
    if present and "login" not in prompt:
        return _grant_code(request, realm, asked, *present)
    if "none" in prompt:
        return refuse("login_required", "")
    tab, binding = secrets.token_urlsafe(9), secrets.token_urlsafe(18)
    now = time.time()
    limit = realm["rep"]["accessCodeLifespanLogin"]
    keycloak.logins = {t: x for t, x in list(keycloak.logins.items())[-2000:] if now - x["at"] < limit}
    keycloak.logins[tab] = {"asked": asked, "binding": binding, "at": now, "realm": realm["rep"]["realm"]}
    response = HTMLResponse(_login_page(request, realm, tab), 200, pages.HEADERS)
    response.set_cookie("AUTH_SESSION_ID", binding, path=_cookie_path(request), httponly=True, samesite="lax")
    return response


def _login_page(request: Request, realm: dict[str, Any], tab: str, username: str = "", error: str = "") -> str:
    action = f"{issuer(request)}/login-actions/authenticate?{urlencode({'tab_id': tab})}"
    people = standin(request).people if realm["rep"]["realm"] == "pilothouse" else []
    people = [p for p in people if p.id in realm["users"]]
    return pages.login(realm["rep"]["displayName"], action, people, username=username, error=error)


async def authenticate(request: Request) -> Response:
    realm, keycloak = find_realm(request), standin(request)
    tab = request.query_params.get("tab_id", "")
    login = keycloak.logins.get(tab)
    cookie = request.cookies.get("AUTH_SESSION_ID", "")
    if not login or login["realm"] != realm["rep"]["realm"] or not hmac.compare_digest(login["binding"], cookie):
        return _page_error("Cookie not found. Please make sure cookies are enabled in your browser.")
    if request.method == "GET":
        return HTMLResponse(_login_page(request, realm, tab), 200, pages.HEADERS)
    form = await request.form()
    ip, asked = address(request), login["asked"]
    demo = str(form.get("demo", ""))
    if demo and any(p.username == demo for p in keycloak.people):
        user = keycloak.user(realm, demo)
        found: Any = user if user and user["enabled"] and not keycloak.locked(realm, user) else "user_disabled"
        if isinstance(found, str):
            keycloak.event(realm, "LOGIN_ERROR", ip, clientId=asked["_client"], error=found, userId=user and user["id"])
    else:
        name, password = str(form.get("username", "")), str(form.get("password", ""))
        found = keycloak.check_password(realm, name, password, ip, asked["_client"])
    if isinstance(found, str):
        disabled = "Account is disabled, contact your administrator."
        message = disabled if found == "user_disabled" else "Invalid username or password."
        html = _login_page(request, realm, tab, username=str(form.get("username", "")), error=message)
        return HTMLResponse(html, 200, pages.HEADERS)
    keycloak.logins.pop(tab, None)
    session = keycloak.start_session(realm, found, ip)
    response = _grant_code(request, realm, asked, session, found)
    identity = {"typ": "Serialized-ID", "sid": session["id"], "sub": found["id"], "iat": int(time.time())}
    path = _cookie_path(request)
    signed = keycloak.sign_refresh(realm, identity)
    response.set_cookie("KEYCLOAK_IDENTITY", signed, path=path, httponly=True, samesite="lax")
    response.delete_cookie("AUTH_SESSION_ID", path=path)
    return response


def _grant_code(
    request: Request, realm: dict[str, Any], asked: dict[str, str], session: dict[str, Any], user: dict[str, Any]
) -> Response:
    keycloak = standin(request)
    code = f"{uuid.uuid4()}.{session['id']}.{uuid.uuid4()}"
    now = time.time()
    lifespan = realm["rep"]["accessCodeLifespan"]
    keycloak.codes = {c: x for c, x in list(keycloak.codes.items())[-2000:] if now - x["at"] < lifespan}
    keycloak.codes[code] = {"asked": asked, "sid": session["id"], "at": now, "realm": realm["rep"]["realm"]}
    session["last"] = now_ms()
    session["clients"].setdefault(asked["_client"], {"jti": None})
    keycloak.changed()
    keycloak.event(
        realm,
        "LOGIN",
        address(request),
        clientId=asked["_client"],
        userId=user["id"],
        sessionId=session["id"],
        details={"username": user["username"], "redirect_uri": asked["redirect_uri"], "auth_method": "openid-connect"},
    )
    return _back(
        asked["redirect_uri"], state=asked.get("state"), session_state=session["id"], iss=issuer(request), code=code
    )


async def logout(request: Request) -> Response:
    realm, keycloak = find_realm(request), standin(request)
    asked: dict[str, str] = dict(request.query_params)
    if request.method == "POST":
        asked |= {name: str(value) for name, value in (await request.form()).items()}
    ip = address(request)
    if request.method == "POST" and "refresh_token" in asked:
        client = authenticate_client(request, realm, asked)
        claims = keycloak.verify_refresh(realm, asked["refresh_token"])
        if not claims or claims.get("azp") != client["clientId"]:
            raise Refusal(400, "invalid_grant", "Invalid refresh token")
        _end(keycloak, realm, claims["sid"], ip)
        return Response(status_code=204)
    hint = keycloak.verify(realm, asked["id_token_hint"]) if "id_token_hint" in asked else None
    if "id_token_hint" in asked and (hint is None or hint.get("typ") != "ID"):
        return _page_error("Invalid parameter: id_token_hint")
    client_id = hint["azp"] if hint else asked.get("client_id")
    if hint and asked.get("client_id", client_id) != client_id:
        return _page_error("Invalid parameter: client_id")
    target = asked.get("post_logout_redirect_uri")
    if target:
        client_found = keycloak.client(realm["rep"]["realm"], client_id)
        if client_found is None:
            return _page_error("Either the parameter 'client_id' or the 'id_token_hint' is required.")
        patterns = client_found["attributes"].get("post.logout.redirect.uris", "+").split("##")
        if "+" in patterns:
            patterns = [*patterns, *client_found["redirectUris"]]
        if not _allowed(target, patterns):
            keycloak.event(realm, "LOGOUT_ERROR", ip, clientId=client_id, error="invalid_redirect_uri")
            return _page_error("Invalid redirect uri")
    present = _sso(request, realm)
    if hint is None and present and asked.get("confirm") != "yes":
        return HTMLResponse(pages.confirm_logout(str(request.url)), 200, pages.HEADERS)
    ending = {hint["sid"]} if hint else set()
    if present and (hint is None or present[0]["id"] == hint["sid"]):
        ending.add(present[0]["id"])
    for sid in ending:
        _end(keycloak, realm, sid, ip)
    response: Response
    if target:
        state = asked.get("state")
        response = _back(target, state=state) if state else RedirectResponse(target, 302)
    else:
        response = HTMLResponse(pages.signed_out(), 200, pages.HEADERS)
    response.delete_cookie("KEYCLOAK_IDENTITY", path=_cookie_path(request))
    return response


def _end(keycloak: KeycloakStandin, realm: dict[str, Any], sid: str, ip: str) -> None:
    session = realm["sessions"].pop(sid, None)
    if session:
        keycloak.changed()
        keycloak.event(realm, "LOGOUT", ip, userId=session["userId"], sessionId=sid)


# ---- tokens ----


def authenticate_client(request: Request, realm: dict[str, Any], form: dict[str, str]) -> dict[str, Any]:
    """The client by Basic authentication or form parameters."""
    client_id, secret = form.get("client_id"), form.get("client_secret")
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
        except ValueError:
            client_id = None
    client = standin(request).client(realm["rep"]["realm"], client_id)
    refused = Refusal(401, "invalid_client", "Invalid client or Invalid client credentials")
    if client is None or client["bearerOnly"]:
        raise refused
    if not client["enabled"]:
        raise Refusal(401, "invalid_client", "Invalid client or Invalid client credentials")
    if not client["publicClient"] and not hmac.compare_digest(client.get("secret", ""), secret or ""):
        standin(request).event(
            realm, "CLIENT_LOGIN_ERROR", address(request), clientId=client_id, error="invalid_client_credentials"
        )
        raise Refusal(401, "unauthorized_client", "Invalid client or Invalid client credentials")
    return client


async def token(request: Request) -> Response:
    realm = find_realm(request)
    form = {name: str(value) for name, value in (await request.form()).items()}
    grant = form.get("grant_type")
    if not grant:
        raise Refusal(400, "invalid_request", "Missing form parameter: grant_type")
    client = authenticate_client(request, realm, form)
    work = {
        "authorization_code": _by_code,
        "refresh_token": _by_refresh,
        "password": _by_password,
        "client_credentials": _by_credentials,
    }.get(grant)
    if work is None:
        raise Refusal(400, "unsupported_grant_type", "Unsupported grant_type")
    return JSONResponse(work(request, realm, client, form), 200, JSON_HEADERS)


def _by_code(request: Request, realm: dict[str, Any], client: dict[str, Any], form: dict[str, str]) -> Any:
    keycloak, ip = standin(request), address(request)

    def refuse(description: str, error: str = "invalid_code") -> Refusal:
        keycloak.event(realm, "CODE_TO_TOKEN_ERROR", ip, clientId=client["clientId"], error=error)
        return Refusal(400, "invalid_grant", description)

    if "code" not in form:
        raise Refusal(400, "invalid_request", "Missing parameter: code")
    kept = keycloak.codes.pop(form["code"], None)
    fresh = kept and kept["realm"] == realm["rep"]["realm"]
    if not fresh or time.time() - kept["at"] > realm["rep"]["accessCodeLifespan"]:
        raise refuse("Code not valid")
    asked = kept["asked"]
    if asked["_client"] != client["clientId"]:
        raise refuse("Auth error")
    if form.get("redirect_uri") != asked["redirect_uri"]:
        raise refuse("Incorrect redirect_uri")
    challenge = asked.get("code_challenge")
    if challenge:
        verifier = form.get("code_verifier")
        if not verifier:
            raise refuse("PKCE code verifier not specified", "code_verifier_missing")
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if not hmac.compare_digest(digest if asked.get("code_challenge_method") == "S256" else verifier, challenge):
            raise refuse("PKCE verification failed: Code mismatch", "pkce_verification_failed")
    session = keycloak.sessions(realm).get(kept["sid"])
    user = realm["users"].get(session["userId"]) if session else None
    if not session or not user:
        raise refuse("Session not active", "user_session_not_found")
    if not user["enabled"]:
        raise refuse("User disabled", "user_disabled")
    keycloak.event(realm, "CODE_TO_TOKEN", ip, clientId=client["clientId"], userId=user["id"], sessionId=session["id"])
    return tokens(request, realm, client, user, session, asked.get("scope", "openid"), nonce=asked.get("nonce"))


def _by_refresh(request: Request, realm: dict[str, Any], client: dict[str, Any], form: dict[str, str]) -> Any:
    keycloak, ip, now = standin(request), address(request), int(time.time())

    def refuse(description: str, **more: Any) -> Refusal:
        keycloak.event(realm, "REFRESH_TOKEN_ERROR", ip, clientId=client["clientId"], error="invalid_token", **more)
        return Refusal(400, "invalid_grant", description)

    if "refresh_token" not in form:
        raise Refusal(400, "invalid_request", "No refresh token")
    claims = keycloak.verify_refresh(realm, form["refresh_token"])
    if claims is None or claims.get("typ") != "Refresh":
        raise refuse("Invalid refresh token")
    if claims["azp"] != client["clientId"]:
        raise refuse("Invalid refresh token. Token client and authorized client don't match")
    if claims["exp"] <= now:
        raise refuse("Token is not active")
    session = keycloak.sessions(realm).get(claims["sid"])
    if session is None:
        raise refuse("Session not active")
    user = realm["users"].get(session["userId"])
    if user is None or not user["enabled"]:
        raise refuse("User disabled" if user else "User not found", userId=session["userId"])
    if claims["iat"] < user.get("notBefore", 0) or claims["iat"] < realm["rep"]["notBefore"]:
        raise refuse("Stale token")
    held = session["clients"].setdefault(client["clientId"], {"jti": None})
    if realm["rep"]["revokeRefreshToken"] and held["jti"] not in (None, claims["jti"]):
        raise refuse("Maximum allowed refresh token reuse exceeded", userId=user["id"])
    session["last"] = now_ms()
    keycloak.event(realm, "REFRESH_TOKEN", ip, clientId=client["clientId"], userId=user["id"], sessionId=session["id"])
    return tokens(request, realm, client, user, session, claims["scope"])


def _by_password(request: Request, realm: dict[str, Any], client: dict[str, Any], form: dict[str, str]) -> Any:
    keycloak, ip = standin(request), address(request)
    if not client["directAccessGrantsEnabled"]:
        raise Refusal(400, "unauthorized_client", "Client not allowed for direct access grants")
    if not form.get("username"):
        raise Refusal(401, "invalid_request", "Missing parameter: username")
    found = keycloak.check_password(realm, form["username"], form.get("password", ""), ip, client["clientId"])
    if found == "user_disabled":
        raise Refusal(400, "invalid_grant", "Account disabled")
    if isinstance(found, str):
        raise Refusal(401, "invalid_grant", "Invalid user credentials")
    session = keycloak.start_session(realm, found, ip)
    keycloak.event(
        realm, "LOGIN", ip, clientId=client["clientId"], userId=found["id"], sessionId=session["id"],
        details={"username": found["username"], "grant_type": "password"},
    )  # fmt: skip
    return tokens(request, realm, client, found, session, form.get("scope", ""))


def _by_credentials(request: Request, realm: dict[str, Any], client: dict[str, Any], form: dict[str, str]) -> Any:
    keycloak = standin(request)
    if client["publicClient"]:
        raise Refusal(401, "unauthorized_client", "Public client not allowed to retrieve service account")
    if not client["serviceAccountsEnabled"]:
        raise Refusal(401, "unauthorized_client", "Client not enabled to retrieve service account")
    user = next(u for u in realm["users"].values() if u.get("serviceAccountClientId") == client["id"])
    keycloak.event(realm, "CLIENT_LOGIN", address(request), clientId=client["clientId"], userId=user["id"])
    return tokens(request, realm, client, user, None, form.get("scope", ""))


def tokens(
    request: Request,
    realm: dict[str, Any],
    client: dict[str, Any],
    user: dict[str, Any],
    session: dict[str, Any] | None,
    scope: str,
    nonce: str | None = None,
) -> dict[str, Any]:
    """A token response; without a session (service accounts) there is no refresh token."""
    keycloak, now, rep = standin(request), int(time.time()), realm["rep"]
    iss, client_id = issuer(request), client["clientId"]
    scopes = {"profile", "email", *scope.split()} & {"openid", "profile", "email", "offline_access"}
    lifespan = int(rep["accessTokenLifespan"])
    name = " ".join(part for part in (user.get("firstName"), user.get("lastName")) if part)
    common: dict[str, Any] = {
        "exp": now + lifespan,
        "iat": now,
        "iss": iss,
        "sub": user["id"],
        "azp": client_id,
        "acr": "1",
        "email_verified": user["emailVerified"],
        "preferred_username": user["username"],
    }
    if session:
        common |= {"auth_time": session["start"] // 1000, "sid": session["id"]}
    for claim, value in (
        ("name", name),
        ("given_name", user.get("firstName")),
        ("family_name", user.get("lastName")),
        ("email", user.get("email")),
    ):
        if value:
            common[claim] = value
    management = realm["users"][user["id"]]["_client_roles"]
    resources = {"account": {"roles": ["manage-account", "view-profile"]}}
    resources |= {name: {"roles": list(roles)} for name, roles in management.items()}
    access = {
        **common,
        "jti": str(uuid.uuid4()),
        "typ": "Bearer",
        "aud": [*management, "account"] if management else "account",
        "allowed-origins": client["webOrigins"],
        "realm_access": {"roles": list(user["_roles"])},
        "resource_access": resources,
        "scope": " ".join(sorted(scopes)),
    }
    access_token = keycloak.sign(realm, access)
    answer: dict[str, Any] = {
        "access_token": access_token,
        "expires_in": lifespan,
        "refresh_expires_in": 0,
        "token_type": "Bearer",
        "not-before-policy": rep["notBefore"],
        "scope": access["scope"],
    }
    if session:
        idle = min(rep["ssoSessionIdleTimeout"], session["start"] // 1000 + rep["ssoSessionMaxLifespan"] - now)
        refresh = {
            "exp": now + idle, "iat": now, "jti": str(uuid.uuid4()), "iss": iss, "aud": iss, "sub": user["id"],
            "typ": "Refresh", "azp": client_id, "sid": session["id"], "scope": access["scope"],
        }  # fmt: skip
        session["clients"].setdefault(client_id, {})["jti"] = refresh["jti"]
        keycloak.changed()
        answer |= {
            "refresh_token": keycloak.sign_refresh(realm, refresh),
            "refresh_expires_in": idle,
            "session_state": session["id"],
        }
    if "openid" in scopes:
        half = hashlib.sha256(access_token.encode()).digest()[:16]
        claims = {
            **common,
            "jti": str(uuid.uuid4()),
            "typ": "ID",
            "aud": client_id,
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
        }
        if nonce:
            claims["nonce"] = nonce
        for mapper in client["protocolMappers"]:
            config = mapper["config"]
            if mapper["protocolMapper"] == "oidc-usermodel-realm-role-mapper" and config["id.token.claim"] == "true":
                claims["realm_access"] = {"roles": list(user["_roles"])}
        answer["id_token"] = keycloak.sign(realm, claims)
    return answer


def bearer_claims(request: Request, realm: dict[str, Any]) -> dict[str, Any] | None:
    """Claims of the request's valid, unexpired access token of a realm, its session and user alive."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return live_claims(standin(request), realm, value, issuer(request)) if scheme.lower() == "bearer" else None


def live_claims(keycloak: KeycloakStandin, realm: dict[str, Any], value: str, iss: str) -> dict[str, Any] | None:
    """Claims of an access token still good for use."""
    claims = keycloak.verify(realm, value)
    if not claims or claims.get("typ") != "Bearer" or claims["exp"] <= time.time() or claims["iss"] != iss:
        return None
    if "sid" in claims and claims["sid"] not in keycloak.sessions(realm):
        return None
    user = realm["users"].get(claims["sub"])
    return claims if user and user["enabled"] else None


async def userinfo(request: Request) -> Response:
    realm = find_realm(request)
    claims = bearer_claims(request, realm)
    if claims is None:
        return JSONResponse(
            {"error": "invalid_token", "error_description": "Token verification failed"},
            401,
            {"WWW-Authenticate": f'Bearer realm="{realm["rep"]["realm"]}", error="invalid_token"'},
        )
    if "openid" not in claims["scope"].split():
        return JSONResponse({"error": "insufficient_scope", "error_description": "Missing openid scope"}, 403)
    wanted = ("sub", "email_verified", "name", "preferred_username", "given_name", "family_name", "email")
    return JSONResponse({name: claims[name] for name in wanted if name in claims})


async def introspect(request: Request) -> Response:
    realm = find_realm(request)
    form = {name: str(value) for name, value in (await request.form()).items()}
    client = authenticate_client(request, realm, form)
    if client["publicClient"]:
        raise Refusal(403, "invalid_request", "Client not allowed.")
    claims = live_claims(standin(request), realm, form.get("token", ""), issuer(request))
    if claims is None:
        return JSONResponse({"active": False})
    extra = {"username": claims["preferred_username"], "client_id": claims["azp"], "token_type": "Bearer"}
    return JSONResponse({**claims, **extra, "active": True})


_CONNECT = "/realms/{realm}/protocol/openid-connect"
ROUTES = [
    Route("/realms/{realm}", realm_info),
    Route("/realms/{realm}/.well-known/openid-configuration", discovery),
    Route(f"{_CONNECT}/certs", certs),
    Route(f"{_CONNECT}/auth", authorize, methods=["GET", "POST"]),
    Route("/realms/{realm}/login-actions/authenticate", authenticate, methods=["GET", "POST"]),
    Route(f"{_CONNECT}/token", token, methods=["POST"]),
    Route(f"{_CONNECT}/token/introspect", introspect, methods=["POST"]),
    Route(f"{_CONNECT}/userinfo", userinfo, methods=["GET", "POST"]),
    Route(f"{_CONNECT}/logout", logout, methods=["GET", "POST"]),
]
