"""What the Keycloak stand-in remembers: realms with their users, clients, sessions and events."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import secrets
import time
import uuid
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from sandbox.people import Person
from sandbox.standins import Host, Standin

VERSION = "26.4.2"
MAX_EVENTS = 5000
CONSOLE_ROLES = (
    "platform_admin",
    "infra_admin",
    "billing_admin",
    "analyst",
    "product_manager",
    "security_auditor",
    "ai_admin",
    "ai_developer",
    "ai_viewer",
    "finance_manager",
)
MANAGEMENT_ROLES = (
    "realm-admin",
    "view-realm",
    "manage-realm",
    "view-users",
    "manage-users",
    "query-users",
    "query-groups",
    "query-clients",
    "query-realms",
    "view-clients",
    "manage-clients",
    "view-events",
    "manage-events",
)


def now_ms() -> int:
    """Milliseconds since the epoch, as Keycloak writes times."""
    return int(time.time() * 1000)


def hash_password(password: str) -> str:
    """Salted PBKDF2; few rounds, since only throw-away sandbox passwords are kept."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 5000)
    return f"{base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def password_matches(stored: str | None, password: str) -> bool:
    """Whether a password is the stored one; never for a user without one."""
    if not stored:
        return False
    salt, digest = (base64.b64decode(part) for part in stored.split("$"))
    return hmac.compare_digest(digest, hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 5000))


def realm_representation(name: str, **changes: Any) -> dict[str, Any]:
    """A RealmRepresentation with Keycloak's defaults."""
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"realm:{name}")),
        "realm": name,
        "displayName": name.title(),
        "notBefore": 0,
        "defaultSignatureAlgorithm": "RS256",
        "revokeRefreshToken": False,
        "refreshTokenMaxReuse": 0,
        "accessTokenLifespan": 300,
        "accessTokenLifespanForImplicitFlow": 900,
        "ssoSessionIdleTimeout": 1800,
        "ssoSessionMaxLifespan": 36000,
        "ssoSessionIdleTimeoutRememberMe": 0,
        "ssoSessionMaxLifespanRememberMe": 0,
        "offlineSessionIdleTimeout": 2592000,
        "accessCodeLifespan": 60,
        "accessCodeLifespanUserAction": 300,
        "accessCodeLifespanLogin": 1800,
        "enabled": True,
        "sslRequired": "external",
        "registrationAllowed": False,
        "rememberMe": False,
        "verifyEmail": False,
        "loginWithEmailAllowed": True,
        "resetPasswordAllowed": False,
        "bruteForceProtected": False,
        "permanentLockout": False,
        "maxTemporaryLockouts": 0,
        "maxFailureWaitSeconds": 900,
        "minimumQuickLoginWaitSeconds": 60,
        "waitIncrementSeconds": 60,
        "quickLoginCheckMilliSeconds": 1000,
        "maxDeltaTimeSeconds": 43200,
        "failureFactor": 30,
        "passwordPolicy": "",
        "eventsEnabled": False,
        "eventsExpiration": 0,
        "eventsListeners": ["jboss-logging"],
        "enabledEventTypes": [],
        "adminEventsEnabled": False,
        "adminEventsDetailsEnabled": False,
        "otpPolicyType": "totp",
        "otpPolicyDigits": 6,
        "browserFlow": "browser",
        "directGrantFlow": "direct grant",
        "attributes": {},
        **changes,
    }


def client_representation(client_id: str, **changes: Any) -> dict[str, Any]:
    """A ClientRepresentation with Keycloak's defaults for a confidential OIDC client."""
    return {
        "id": str(uuid.uuid4()),
        "clientId": client_id,
        "name": client_id,
        "enabled": True,
        "clientAuthenticatorType": "client-secret",
        "protocol": "openid-connect",
        "publicClient": False,
        "bearerOnly": False,
        "standardFlowEnabled": False,
        "implicitFlowEnabled": False,
        "directAccessGrantsEnabled": False,
        "serviceAccountsEnabled": False,
        "redirectUris": [],
        "webOrigins": [],
        "attributes": {},
        "protocolMappers": [],
        "defaultClientScopes": ["web-origins", "acr", "profile", "roles", "basic", "email"],
        "optionalClientScopes": ["offline_access"],
        **changes,
    }


def new_realm(name: str, **changes: Any) -> dict[str, Any]:
    """An empty realm with Keycloak's own clients; its signing key is made when first needed."""
    realm: dict[str, Any] = {
        "rep": realm_representation(name, **changes),
        "key": None,
        "hmac": secrets.token_urlsafe(48),
        "users": {},
        "roles": {},
        "clients": {},
        "groups": {},
        "sessions": {},
        "events": [],
        "failures": {},
    }
    for role in ("offline_access", "uma_authorization", f"default-roles-{name}"):
        add_role(realm, role)
    for client in (
        client_representation("account", publicClient=True, standardFlowEnabled=True),
        client_representation("admin-cli", publicClient=True, directAccessGrantsEnabled=True),
        client_representation("realm-management", bearerOnly=True),
    ):
        realm["clients"][client["id"]] = client
    return realm


def add_role(realm: dict[str, Any], name: str, description: str = "") -> dict[str, Any]:
    """Add a realm role."""
    role = {
        "id": str(uuid.uuid4()),
        "name": name,
        "description": description,
        "composite": False,
        "clientRole": False,
        "containerId": realm["rep"]["id"],
    }
    realm["roles"][name] = role
    return role


def add_user(realm: dict[str, Any], username: str, *, password: str | None = None, **rep: Any) -> dict[str, Any]:
    """Add a user with the realm's default roles."""
    user = {
        "id": str(uuid.uuid4()),
        "username": username.lower(),
        "enabled": True,
        "emailVerified": True,
        "createdTimestamp": now_ms(),
        "totp": False,
        "requiredActions": [],
        "notBefore": 0,
        **rep,
        "_password": hash_password(password) if password else None,
        "_roles": [f"default-roles-{realm['rep']['realm']}", *rep.pop("roles", ())],
        "_client_roles": {},
        "_groups": [],
    }
    user.pop("roles", None)
    realm["users"][user["id"]] = user
    return user


class KeycloakStandin(Standin):
    """Realms, and the rules of sessions, tokens and brute-force detection."""

    def __init__(self, state_dir: Path, seed: int | None, people: list[Person], host: Host) -> None:
        self.seed, self.people, self.host = seed, people, host
        self.codes: dict[str, dict[str, Any]] = {}
        self.logins: dict[str, dict[str, Any]] = {}
        super().__init__("keycloak", state_dir, self._first)
        self._keys: dict[str, RSAKey] = {}
        self._move_clients()

    def reset(self) -> None:
        """Return to the first state; the signing keys stay, so that making them is paid once."""
        keys = {name: (realm["key"], realm["hmac"]) for name, realm in self.state["realms"].items()}
        super().reset()
        for name, (key, mac) in keys.items():
            if name in self.state["realms"]:
                self.state["realms"][name].update(key=key, hmac=mac)
        self.codes.clear()
        self.logins.clear()
        self._keys.clear()

    @property
    def realms(self) -> dict[str, dict[str, Any]]:
        """Realm by name."""
        realms: dict[str, dict[str, Any]] = self.state["realms"]
        return realms

    def _redirects(self) -> dict[str, Any]:
        console = self.host.console_url.rstrip("/")
        return {
            "rootUrl": console,
            "redirectUris": [f"{console}/auth/callback"],
            "webOrigins": [console],
            "attributes": {
                "pkce.code.challenge.method": "S256",
                "post.logout.redirect.uris": f"{console}/auth/signed-out",
            },
        }

    def _move_clients(self) -> None:
        """A restart on another port: the console's client follows the console."""
        client = self.client("pilothouse", self.host.secrets.get("oidc_client_id", "pilothouse"))
        if client is not None and client.get("rootUrl") != self.host.console_url.rstrip("/"):
            client.update(self._redirects())
            self.changed()

    def _first(self) -> dict[str, Any]:
        names = self.host.secrets
        demo = self.seed is not None
        master = new_realm("master", displayName="Keycloak")
        add_role(master, "admin", "${role_admin}")
        add_role(master, "create-realm", "${role_create-realm}")
        console = new_realm(
            "pilothouse",
            displayName="Pilothouse",
            bruteForceProtected=True,
            failureFactor=5,
            eventsEnabled=True,
            eventsExpiration=604800,
            revokeRefreshToken=True,
        )
        for role in CONSOLE_ROLES:
            add_role(console, role)
        admin_id = names.get("keycloak_admin_client_id", "pilothouse-admin")
        secret = names.get("keycloak_admin_client_secret", "admin-secret")
        for realm in (master, console):
            client = client_representation(admin_id, secret=secret, serviceAccountsEnabled=True)
            realm["clients"][client["id"]] = client
            account = add_user(realm, f"service-account-{admin_id}", serviceAccountClientId=client["id"])
            if realm is master:
                account["_roles"].append("admin")
            else:
                account["_client_roles"]["realm-management"] = ["realm-admin"]
        client = client_representation(
            names.get("oidc_client_id", "pilothouse"),
            name="Pilothouse console",
            secret=names.get("oidc_client_secret", "console-secret"),
            standardFlowEnabled=True,
            directAccessGrantsEnabled=True,
            protocolMappers=[
                {
                    "id": str(uuid.uuid4()),
                    "name": "realm roles",
                    "protocol": "openid-connect",
                    "protocolMapper": "oidc-usermodel-realm-role-mapper",
                    "config": {
                        "claim.name": "realm_access.roles",
                        "id.token.claim": "true",
                        "access.token.claim": "true",
                        "multivalued": "true",
                    },
                }
            ],
            **self._redirects(),
        )
        console["clients"][client["id"]] = client
        for person in self.people:
            add_user(
                console,
                person.username,
                password=person.password,
                id=person.id,
                email=person.email,
                firstName=person.first_name,
                lastName=person.last_name,
                roles=person.roles,
            )
        customers = new_realm("customers", displayName="Customers", eventsEnabled=demo)
        if demo:
            self._demo(console, customers)
        return {"realms": {"master": master, "pilothouse": console, "customers": customers}}

    def _demo(self, console: dict[str, Any], customers: dict[str, Any]) -> None:
        """Customers, groups, sessions and a week of events."""
        pick = random.Random(self.seed)
        for name in ("free", "starter", "team", "enterprise"):
            group = {"id": str(uuid.UUID(int=pick.getrandbits(128), version=4)), "name": name, "path": f"/{name}"}
            customers["groups"][group["id"]] = {**group, "attributes": {}, "subGroups": []}
        groups = list(customers["groups"])
        app = client_representation("app", name="Product", publicClient=True, standardFlowEnabled=True)
        customers["clients"][app["id"]] = app
        now = now_ms()
        for number in range(1, 121):
            user = add_user(
                customers,
                f"user{number:03d}",
                id=str(uuid.UUID(int=pick.getrandbits(128), version=4)),
                email=f"user{number:03d}@customers.test",
                firstName="User",
                lastName=f"{number:03d}",
                enabled=number % 29 != 0,
                createdTimestamp=now - pick.randrange(365 * 86_400_000),
            )
            user["_groups"].append(pick.choice(groups))
            if number % 7 == 0:
                start = now - pick.randrange(1_500_000)
                session = {
                    "id": str(uuid.uuid4()),
                    "userId": user["id"],
                    "ip": f"192.0.2.{pick.randrange(1, 255)}",
                    "start": start,
                    "last": start,
                    "clients": {"app": {"jti": None}},
                }
                customers["sessions"][session["id"]] = session
        for realm, count in ((customers, 700), (console, 90)):
            people = [u for u in realm["users"].values() if "serviceAccountClientId" not in u]
            moments = sorted(now - int(pick.random() ** 1.6 * 7 * 86_400_000) for _ in range(count))
            client = "app" if realm is customers else "pilothouse"
            for moment in moments:
                user = pick.choice(people) if people else {"id": None, "username": "nobody"}
                kind = pick.choices(("LOGIN", "LOGIN_ERROR", "LOGOUT"), (60, 8, 30))[0]
                event = {
                    "id": str(uuid.UUID(int=pick.getrandbits(128), version=4)),
                    "time": moment,
                    "type": kind,
                    "realmId": realm["rep"]["id"],
                    "clientId": client,
                    "userId": user["id"],
                    "ipAddress": f"192.0.2.{pick.randrange(1, 255)}",
                    "details": {"username": user["username"]},
                }
                if kind == "LOGIN_ERROR":
                    event["error"] = pick.choice(("invalid_user_credentials", "user_not_found"))
                realm["events"].append(event)

    def client(self, realm: str, client_id: str | None) -> dict[str, Any] | None:
        """A realm's client by clientId."""
        if realm not in self.realms:
            return None
        clients: dict[str, dict[str, Any]] = self.realms[realm]["clients"]
        return next((c for c in clients.values() if c["clientId"] == client_id), None)

    def user(self, realm: dict[str, Any], name: str) -> dict[str, Any] | None:
        """A user by username, or by e-mail where the realm allows that."""
        wanted = name.strip().lower()
        by_email = realm["rep"]["loginWithEmailAllowed"]
        for user in realm["users"].values():
            if user["username"] == wanted or (by_email and wanted and user.get("email", "").lower() == wanted):
                return user  # type: ignore[no-any-return]
        return None

    def key(self, realm: dict[str, Any]) -> RSAKey:
        """The realm's signing key, made when first needed."""
        name = realm["rep"]["realm"]
        if realm["key"] is None:
            realm["key"] = RSAKey.generate_key(2048, private=True, auto_kid=True).as_dict(private=True)
            self._keys.pop(name, None)
            self.changed()
        if name not in self._keys:
            self._keys[name] = RSAKey.import_key(realm["key"])
        return self._keys[name]

    def sign(self, realm: dict[str, Any], claims: dict[str, Any]) -> str:
        """An RS256 JWT by the realm's key."""
        key = self.key(realm)
        return jwt.encode({"alg": "RS256", "typ": "JWT", "kid": key.kid}, claims, key, algorithms=["RS256"])

    def verify(self, realm: dict[str, Any], token: str) -> dict[str, Any] | None:
        """Claims of a token this realm signed, expired or not; None for anything else."""
        try:
            return dict(jwt.decode(token, self.key(realm), algorithms=["RS256"]).claims)
        except Exception:
            return None

    def sign_refresh(self, realm: dict[str, Any], claims: dict[str, Any]) -> str:
        """A refresh token: HS512, for Keycloak itself only."""
        return jwt.encode(
            {"alg": "HS512", "typ": "JWT"}, claims, OctKey.import_key(realm["hmac"]), algorithms=["HS512"]
        )

    def verify_refresh(self, realm: dict[str, Any], token: str) -> dict[str, Any] | None:
        """Claims of a refresh token of this realm."""
        try:
            return dict(jwt.decode(token, OctKey.import_key(realm["hmac"]), algorithms=["HS512"]).claims)
        except Exception:
            return None

    def sessions(self, realm: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """The live sessions of a realm, idle and overage ones removed first."""
        now, rep = now_ms(), realm["rep"]
        live = {
            sid: s
            for sid, s in realm["sessions"].items()
            if now - s["last"] < rep["ssoSessionIdleTimeout"] * 1000
            and now - s["start"] < rep["ssoSessionMaxLifespan"] * 1000
        }
        if len(live) != len(realm["sessions"]):
            realm["sessions"] = live
            self.changed()
        sessions: dict[str, dict[str, Any]] = realm["sessions"]
        return sessions

    def start_session(self, realm: dict[str, Any], user: dict[str, Any], ip: str) -> dict[str, Any]:
        """A new SSO session of a user."""
        now = now_ms()
        session = {
            "id": str(uuid.uuid4()),
            "userId": user["id"],
            "ip": ip,
            "start": now,
            "last": now,
            "clients": {},
        }
        realm["sessions"][session["id"]] = session
        self.changed()
        return session

    def event(self, realm: dict[str, Any], kind: str, ip: str, **fields: Any) -> None:
        """Record an event, where the realm records events of that type."""
        rep = realm["rep"]
        if not rep["eventsEnabled"] or (rep["enabledEventTypes"] and kind not in rep["enabledEventTypes"]):
            return
        realm["events"].append(
            {
                "id": str(uuid.uuid4()),
                "time": now_ms(),
                "type": kind,
                "realmId": rep["id"],
                "ipAddress": ip,
                **{name: value for name, value in fields.items() if value is not None},
            }
        )
        del realm["events"][:-MAX_EVENTS]
        self.changed()

    def locked(self, realm: dict[str, Any], user: dict[str, Any]) -> bool:
        """Whether brute-force detection keeps a user out now."""
        failure = realm["failures"].get(user["id"])
        return bool(realm["rep"]["bruteForceProtected"] and failure and failure["until"] > now_ms())

    def failed(self, realm: dict[str, Any], user: dict[str, Any], ip: str) -> None:
        """Count a failed password, and lock the user out where the realm says so."""
        rep, now = realm["rep"], now_ms()
        if not rep["bruteForceProtected"]:
            return
        failure = realm["failures"].setdefault(user["id"], {"count": 0, "last": 0, "ip": "n/a", "until": 0, "locks": 0})
        if now - failure["last"] > rep["maxDeltaTimeSeconds"] * 1000:
            failure["count"] = 0
        failure.update(count=failure["count"] + 1, last=now, ip=ip)
        wait = rep["waitIncrementSeconds"] * (failure["count"] // max(1, rep["failureFactor"]))
        if wait:
            failure["until"] = now + min(wait, rep["maxFailureWaitSeconds"]) * 1000
            failure["locks"] += 1
            if rep["permanentLockout"]:
                user["enabled"] = False
        self.changed()

    def check_password(self, realm: dict[str, Any], name: str, password: str, ip: str, client: str) -> Any:
        """The user, or the error Keycloak records: user_not_found, invalid_user_credentials, …"""
        user = self.user(realm, name)
        error = None
        if user is None or "serviceAccountClientId" in user:
            error, user = "user_not_found", None
        elif self.locked(realm, user):
            error = "user_temporarily_disabled"
        elif not password_matches(user["_password"], password):
            error = "invalid_user_credentials"
            self.failed(realm, user, ip)
        elif not user["enabled"]:
            error = "user_disabled"
        if error:
            self.event(
                realm,
                "LOGIN_ERROR",
                ip,
                clientId=client,
                userId=user["id"] if user else None,
                error=error,
                details={"username": name[:100]},
            )
            return error
        if user and realm["failures"].pop(user["id"], None):
            self.changed()
        return user


def public(rep: dict[str, Any]) -> dict[str, Any]:
    """A representation without what only the stand-in knows."""
    return {name: value for name, value in json.loads(json.dumps(rep)).items() if not name.startswith("_")}
