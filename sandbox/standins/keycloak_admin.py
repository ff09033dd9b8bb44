"""The part of Keycloak's Admin REST API that consoles use."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.standins.keycloak_oidc import address, live_claims, standin
from sandbox.standins.keycloak_state import (
    VERSION,
    add_role,
    add_user,
    client_representation,
    hash_password,
    new_realm,
    now_ms,
    public,
)

STARTED = time.time()
Realm = dict[str, Any]


class Failure(Exception):
    """An Admin REST error answer."""

    def __init__(self, status: int, message: str, name: str = "error") -> None:
        super().__init__(message)
        self.status, self.body = status, {name: message}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status)


def rights(request: Request, target: str | None) -> set[str]:
    """Management roles the bearer has over a realm; refuses tokens that are not good."""
    keycloak = standin(request)
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    base = str(request.base_url).rstrip("/")
    for name in ("master", target):
        realm = keycloak.realms.get(name or "")
        claims = live_claims(keycloak, realm, value, f"{base}/realms/{name}") if realm else None
        if scheme.lower() != "bearer" or claims is None:
            continue
        granted = set(claims.get("resource_access", {}).get("realm-management", {}).get("roles", ()))
        if name == "master" and "admin" in claims["realm_access"]["roles"]:
            granted.add("admin")
        return granted
    raise Failure(401, "HTTP 401 Unauthorized")


def admin(*needed: str) -> Callable[[Callable[[Request, Realm], Awaitable[Response]]], Any]:
    """An endpoint on one realm, for bearers of any of the roles (or realm-admin, or admin)."""

    def decorate(work: Callable[[Request, Realm], Awaitable[Response]]) -> Any:
        async def endpoint(request: Request) -> Response:
            name = request.path_params["realm"]
            granted = rights(request, name)
            realm = standin(request).realms.get(name)
            if realm is None:
                raise Failure(404, "Realm not found.")
            if not granted & {"admin", "realm-admin", *needed}:
                raise Failure(403, "HTTP 403 Forbidden")
            return await work(request, realm)

        return endpoint

    return decorate


async def body(request: Request, kind: type = dict) -> Any:
    """The JSON body; refuses anything else."""
    try:
        value = await request.json()
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise Failure(400, "Cannot parse the JSON", "error")
    return value


def page(request: Request, rows: list[Any], default: int = 100) -> list[Any]:
    """``first`` and ``max`` of a query, as Keycloak pages."""
    try:
        first = int(request.query_params.get("first", 0))
        limit = int(request.query_params.get("max", default))
    except ValueError:
        raise Failure(404, "HTTP 404 Not Found") from None
    rows = rows[max(0, first) :]
    return rows if limit < 0 else rows[:limit]


def created(request: Request, ident: str) -> Response:
    """201 with the new object's address."""
    return Response(status_code=201, headers={"Location": f"{str(request.url).split('?')[0]}/{ident}"})


NOTHING = 204


async def server_info(request: Request) -> Response:
    if "admin" not in rights(request, None):
        raise Failure(403, "HTTP 403 Forbidden")
    up = int(time.time() - STARTED)
    return JSONResponse(
        {
            "systemInfo": {
                "version": VERSION,
                "serverTime": datetime.now(UTC).strftime("%a %b %d %H:%M:%S UTC %Y"),
                "uptime": f"{up // 86400} days, {up // 3600 % 24} hours, {up // 60 % 60} minutes, {up % 60} seconds",
                "uptimeMillis": up * 1000,
                "javaVersion": "21.0.8",
                "osName": "Linux",
            },
            "memoryInfo": {"total": 536870912, "used": 211812352, "free": 325058560, "freePercentage": 60},
            "profileInfo": {"name": "default", "disabledFeatures": [], "previewFeatures": []},
        }
    )


async def realms(request: Request) -> Response:
    granted, keycloak = rights(request, "pilothouse"), standin(request)
    if request.method == "POST":
        if "admin" not in granted:
            raise Failure(403, "HTTP 403 Forbidden")
        rep = await body(request)
        name = rep.get("realm")
        if not isinstance(name, str) or not name:
            raise Failure(400, "Realm name cannot be empty", "errorMessage")
        if name in keycloak.realms:
            raise Failure(409, f"Realm {name} already exists", "errorMessage")
        known = {
            key: value for key, value in rep.items() if key not in ("realm", "users", "clients", "roles", "groups")
        }
        keycloak.realms[name] = new_realm(name, **known)
        keycloak.changed()
        return created(request, name)
    visible = list(keycloak.realms) if "admin" in granted else ["pilothouse"]
    return JSONResponse([public(keycloak.realms[name]["rep"]) for name in visible])


@admin("view-realm", "manage-realm")
async def get_realm(request: Request, realm: Realm) -> Response:
    return JSONResponse(public(realm["rep"]))


@admin("manage-realm")
async def put_realm(request: Request, realm: Realm) -> Response:
    changes = await body(request)
    rep, keycloak = realm["rep"], standin(request)
    for name, value in changes.items():
        if isinstance(rep.get(name), bool) != isinstance(value, bool) and name in rep:
            raise Failure(400, f"Cannot parse the JSON: {name}", "error")
        if isinstance(rep.get(name), int) and not isinstance(value, int):
            raise Failure(400, f"Cannot parse the JSON: {name}", "error")
    renamed = changes.pop("realm", rep["realm"])
    if renamed != rep["realm"]:
        if renamed in keycloak.realms:
            raise Failure(409, "Realm with same name exists", "errorMessage")
        keycloak.realms[renamed] = keycloak.realms.pop(rep["realm"])
        rep["realm"] = renamed
    changes.pop("id", None)
    rep.update(changes)
    keycloak.changed()
    return Response(status_code=NOTHING)


@admin("manage-realm")
async def delete_realm(request: Request, realm: Realm) -> Response:
    if realm["rep"]["realm"] == "master":
        raise Failure(400, "Can't delete master realm", "errorMessage")
    del standin(request).realms[realm["rep"]["realm"]]
    standin(request).changed()
    return Response(status_code=NOTHING)


# ---- users ----


def _people(request: Request, realm: Realm) -> list[dict[str, Any]]:
    asked = request.query_params
    found = [u for u in realm["users"].values() if "serviceAccountClientId" not in u]
    needle, exact = asked.get("search", "").strip("*").lower(), asked.get("exact", "") == "true"
    fields = ("username", "email", "firstName", "lastName")
    if needle:
        found = [u for u in found if any(needle in str(u.get(field, "")).lower() for field in fields)]
    for field in fields:
        value = asked.get(field, "").lower()
        if value:
            found = [
                u
                for u in found
                if (value == str(u.get(field, "")).lower() if exact else value in str(u.get(field, "")).lower())
            ]
    if "enabled" in asked:
        found = [u for u in found if u["enabled"] == (asked["enabled"] == "true")]
    return sorted(found, key=lambda u: u["username"])


def _user(request: Request, realm: Realm) -> dict[str, Any]:
    user: dict[str, Any] | None = realm["users"].get(request.path_params["user"])
    if user is None:
        raise Failure(404, "User not found")
    return user


@admin("view-users", "manage-users", "query-users")
async def users(request: Request, realm: Realm) -> Response:
    return JSONResponse([public(user) for user in page(request, _people(request, realm))])


@admin("view-users", "manage-users", "query-users")
async def count_users(request: Request, realm: Realm) -> Response:
    return JSONResponse(len(_people(request, realm)))


def _check_user(realm: Realm, rep: dict[str, Any], own: str | None = None) -> None:
    for other in realm["users"].values():
        if other["id"] == own:
            continue
        if rep.get("username", "").lower() == other["username"]:
            raise Failure(409, "User exists with same username", "errorMessage")
        if rep.get("email") and rep["email"].lower() == other.get("email", "").lower():
            raise Failure(409, "User exists with same email", "errorMessage")


@admin("manage-users")
async def create_user(request: Request, realm: Realm) -> Response:
    rep = await body(request)
    if not isinstance(rep.get("username"), str) or not rep["username"].strip():
        raise Failure(400, "error-user-attribute-required", "errorMessage")
    _check_user(realm, rep)
    known = ("email", "firstName", "lastName", "enabled", "emailVerified", "attributes", "requiredActions")
    password = next((c.get("value") for c in rep.get("credentials", ()) if c.get("type") == "password"), None)
    given = {name: rep[name] for name in known if name in rep}
    user = add_user(realm, rep["username"].strip(), password=password, **{"enabled": False, **given})
    standin(request).changed()
    return created(request, user["id"])


@admin("view-users", "manage-users")
async def get_user(request: Request, realm: Realm) -> Response:
    return JSONResponse(public(_user(request, realm)))


@admin("manage-users")
async def put_user(request: Request, realm: Realm) -> Response:
    user, rep = _user(request, realm), await body(request)
    _check_user(realm, rep, user["id"])
    known = (
        "email", "firstName", "lastName", "enabled", "emailVerified", "attributes", "requiredActions", "notBefore",
    )  # fmt: skip
    user.update({name: rep[name] for name in known if name in rep})
    standin(request).changed()
    return Response(status_code=NOTHING)


@admin("manage-users")
async def delete_user(request: Request, realm: Realm) -> Response:
    user = _user(request, realm)
    del realm["users"][user["id"]]
    _end_sessions(realm, user["id"])
    standin(request).changed()
    return Response(status_code=NOTHING)


@admin("manage-users")
async def reset_password(request: Request, realm: Realm) -> Response:
    user, rep = _user(request, realm), await body(request)
    if not isinstance(rep.get("value"), str) or not rep["value"]:
        raise Failure(400, "No password provided", "error")
    user["_password"] = hash_password(rep["value"])
    if rep.get("temporary"):
        user["requiredActions"] = sorted({*user["requiredActions"], "UPDATE_PASSWORD"})
    standin(request).changed()
    return Response(status_code=NOTHING)


@admin("view-users", "manage-users")
async def user_roles(request: Request, realm: Realm) -> Response:
    user = _user(request, realm)
    return JSONResponse([realm["roles"][name] for name in user["_roles"] if name in realm["roles"]])


@admin("view-users", "manage-users")
async def available_roles(request: Request, realm: Realm) -> Response:
    user = _user(request, realm)
    return JSONResponse([role for name, role in realm["roles"].items() if name not in user["_roles"]])


@admin("manage-users")
async def change_user_roles(request: Request, realm: Realm) -> Response:
    user = _user(request, realm)
    for rep in await body(request, list):
        name = rep.get("name") if isinstance(rep, dict) else None
        role = realm["roles"].get(name)
        if role is None or rep.get("id", role["id"]) != role["id"]:
            raise Failure(404, "Role not found")
        if request.method == "POST" and name not in user["_roles"]:
            user["_roles"].append(name)
        if request.method == "DELETE" and name in user["_roles"]:
            user["_roles"].remove(name)
    standin(request).changed()
    return Response(status_code=NOTHING)


def _session(realm: Realm, session: dict[str, Any]) -> dict[str, Any]:
    user = realm["users"].get(session["userId"], {})
    ids = {c["clientId"]: c["id"] for c in realm["clients"].values()}
    return {
        "id": session["id"],
        "username": user.get("username"),
        "userId": session["userId"],
        "ipAddress": session["ip"],
        "start": session["start"],
        "lastAccess": session["last"],
        "rememberMe": False,
        "clients": {ids[name]: name for name in session["clients"] if name in ids},
        "transientUser": False,
    }


def _end_sessions(realm: Realm, user_id: str) -> None:
    realm["sessions"] = {sid: s for sid, s in realm["sessions"].items() if s["userId"] != user_id}


@admin("view-users", "manage-users")
async def user_sessions(request: Request, realm: Realm) -> Response:
    user, live = _user(request, realm), standin(request).sessions(realm)
    return JSONResponse([_session(realm, s) for s in live.values() if s["userId"] == user["id"]])


@admin("manage-users")
async def logout_user(request: Request, realm: Realm) -> Response:
    user = _user(request, realm)
    _end_sessions(realm, user["id"])
    user["notBefore"] = int(time.time())
    keycloak = standin(request)
    keycloak.changed()
    keycloak.event(realm, "LOGOUT", address(request), userId=user["id"])
    return Response(status_code=NOTHING)


@admin("manage-users", "manage-realm")
async def logout_all(request: Request, realm: Realm) -> Response:
    realm["sessions"] = {}
    realm["rep"]["notBefore"] = int(time.time())
    standin(request).changed()
    return JSONResponse({"successRequests": [], "failedRequests": []})


@admin("manage-users")
async def delete_session(request: Request, realm: Realm) -> Response:
    if realm["sessions"].pop(request.path_params["session"], None) is None:
        raise Failure(404, "Sesssion not found")
    standin(request).changed()
    return Response(status_code=NOTHING)


# ---- roles, groups, clients ----


@admin("view-realm", "manage-realm")
async def roles(request: Request, realm: Realm) -> Response:
    needle = request.query_params.get("search", "").lower()
    found = sorted((r for n, r in realm["roles"].items() if needle in n.lower()), key=lambda r: r["name"])
    return JSONResponse(page(request, found))


@admin("manage-realm")
async def create_role(request: Request, realm: Realm) -> Response:
    rep = await body(request)
    name = rep.get("name")
    if not isinstance(name, str) or not name:
        raise Failure(400, "role has no name", "error")
    if name in realm["roles"]:
        raise Failure(409, f"Role with name {name} already exists", "errorMessage")
    add_role(realm, name, str(rep.get("description", "")))
    standin(request).changed()
    return created(request, name)


def _role(request: Request, realm: Realm) -> dict[str, Any]:
    role: dict[str, Any] | None = realm["roles"].get(request.path_params["role"])
    if role is None:
        raise Failure(404, "Could not find role")
    return role


@admin("view-realm", "manage-realm")
async def get_role(request: Request, realm: Realm) -> Response:
    return JSONResponse(_role(request, realm))


@admin("view-users", "manage-users")
async def role_users(request: Request, realm: Realm) -> Response:
    name = _role(request, realm)["name"]
    return JSONResponse(page(request, [public(u) for u in realm["users"].values() if name in u["_roles"]]))


@admin("manage-realm")
async def delete_role(request: Request, realm: Realm) -> Response:
    name = _role(request, realm)["name"]
    del realm["roles"][name]
    for user in realm["users"].values():
        if name in user["_roles"]:
            user["_roles"].remove(name)
    standin(request).changed()
    return Response(status_code=NOTHING)


@admin("view-users", "manage-users", "query-groups")
async def groups(request: Request, realm: Realm) -> Response:
    needle = request.query_params.get("search", "").lower()
    found = [g for g in realm["groups"].values() if needle in g["name"].lower()]
    return JSONResponse(page(request, sorted(found, key=lambda g: g["name"])))


@admin("view-users", "manage-users", "query-groups")
async def count_groups(request: Request, realm: Realm) -> Response:
    return JSONResponse({"count": len(realm["groups"])})


@admin("manage-users")
async def create_group(request: Request, realm: Realm) -> Response:
    given = await body(request)
    name = given.get("name")
    if not isinstance(name, str) or not name:
        raise Failure(400, "Group name is missing", "errorMessage")
    if any(g["name"] == name for g in realm["groups"].values()):
        raise Failure(409, f"Top level group named '{name}' already exists.", "errorMessage")
    ident = str(uuid.uuid4())
    realm["groups"][ident] = {
        "id": ident,
        "name": name,
        "path": f"/{name}",
        "attributes": _attributes(given),
        "subGroups": [],
    }
    standin(request).changed()
    return created(request, ident)


def _attributes(given: dict[str, Any]) -> dict[str, list[str]]:
    """Attributes of a group: each a list of texts."""
    found = given.get("attributes") or {}
    if not isinstance(found, dict) or not all(isinstance(value, list) for value in found.values()):
        raise Failure(400, "unknown_error")
    return {str(key): [str(one) for one in value] for key, value in found.items()}


@admin("view-users", "manage-users", "query-groups")
async def group_by_path(request: Request, realm: Realm) -> Response:
    path = "/" + request.path_params["path"].strip("/")
    found = next((g for g in realm["groups"].values() if g["path"] == path), None)
    if found is None:
        raise Failure(404, "Group path does not exist")
    return JSONResponse(found)


@admin("view-users", "manage-users")
async def one_group(request: Request, realm: Realm) -> Response:
    group = realm["groups"].get(request.path_params["group"])
    if group is None:
        raise Failure(404, "Could not find group by id")
    return JSONResponse(group)


@admin("manage-users")
async def change_group(request: Request, realm: Realm) -> Response:
    ident = request.path_params["group"]
    if ident not in realm["groups"]:
        raise Failure(404, "Could not find group by id")
    if request.method == "DELETE":
        del realm["groups"][ident]
        for user in realm["users"].values():
            if ident in user["_groups"]:
                user["_groups"].remove(ident)
    else:
        given = await body(request)
        name = given.get("name")
        if not isinstance(name, str) or not name:
            raise Failure(400, "Group name is missing", "errorMessage")
        realm["groups"][ident].update(name=name, path=f"/{name}")
        if "attributes" in given:
            realm["groups"][ident]["attributes"] = _attributes(given)
    standin(request).changed()
    return Response(status_code=NOTHING)


@admin("view-users", "manage-users")
async def group_members(request: Request, realm: Realm) -> Response:
    ident = request.path_params["group"]
    if ident not in realm["groups"]:
        raise Failure(404, "Could not find group by id")
    return JSONResponse(page(request, [public(u) for u in realm["users"].values() if ident in u["_groups"]]))


@admin("manage-users")
async def user_group(request: Request, realm: Realm) -> Response:
    user, ident = _user(request, realm), request.path_params["group"]
    if ident not in realm["groups"]:
        raise Failure(404, "Group not found")
    if request.method == "PUT" and ident not in user["_groups"]:
        user["_groups"].append(ident)
    if request.method == "DELETE" and ident in user["_groups"]:
        user["_groups"].remove(ident)
    standin(request).changed()
    return Response(status_code=NOTHING)


@admin("view-users", "manage-users")
async def user_groups(request: Request, realm: Realm) -> Response:
    return JSONResponse([realm["groups"][g] for g in _user(request, realm)["_groups"] if g in realm["groups"]])


@admin("view-clients", "manage-clients", "query-clients")
async def clients(request: Request, realm: Realm) -> Response:
    found = list(realm["clients"].values())
    wanted = request.query_params.get("clientId")
    if wanted:
        partial = request.query_params.get("search") == "true"
        found = [c for c in found if (wanted in c["clientId"] if partial else c["clientId"] == wanted)]
    return JSONResponse(page(request, sorted(found, key=lambda c: c["clientId"])))


@admin("manage-clients")
async def create_client(request: Request, realm: Realm) -> Response:
    rep = await body(request)
    if not isinstance(rep.get("clientId"), str) or not rep["clientId"]:
        raise Failure(400, "Client id missing", "errorMessage")
    if any(c["clientId"] == rep["clientId"] for c in realm["clients"].values()):
        raise Failure(409, f"Client {rep['clientId']} already exists", "errorMessage")
    client = client_representation(rep["clientId"], **{k: v for k, v in rep.items() if k not in ("id", "clientId")})
    client.setdefault("secret", uuid.uuid4().hex)
    realm["clients"][client["id"]] = client
    standin(request).changed()
    return created(request, client["id"])


def _client(request: Request, realm: Realm) -> dict[str, Any]:
    client: dict[str, Any] | None = realm["clients"].get(request.path_params["client"])
    if client is None:
        raise Failure(404, "Could not find client")
    return client


@admin("view-clients", "manage-clients")
async def get_client(request: Request, realm: Realm) -> Response:
    return JSONResponse(_client(request, realm))


@admin("manage-clients")
async def change_client(request: Request, realm: Realm) -> Response:
    client = _client(request, realm)
    if request.method == "DELETE":
        del realm["clients"][client["id"]]
    else:
        client.update({k: v for k, v in (await body(request)).items() if k not in ("id", "clientId")})
    standin(request).changed()
    return Response(status_code=NOTHING)


def _of_client(request: Request, realm: Realm) -> list[dict[str, Any]]:
    name = _client(request, realm)["clientId"]
    return [s for s in standin(request).sessions(realm).values() if name in s["clients"]]


@admin("view-clients", "manage-clients")
async def client_sessions(request: Request, realm: Realm) -> Response:
    return JSONResponse([_session(realm, s) for s in page(request, _of_client(request, realm))])


@admin("view-clients", "manage-clients")
async def client_session_count(request: Request, realm: Realm) -> Response:
    return JSONResponse({"count": len(_of_client(request, realm))})


@admin("view-realm", "manage-realm")
async def session_stats(request: Request, realm: Realm) -> Response:
    live = standin(request).sessions(realm).values()
    rows = []
    for client in realm["clients"].values():
        active = sum(client["clientId"] in s["clients"] for s in live)
        if active:
            rows.append({"id": client["id"], "clientId": client["clientId"], "active": str(active), "offline": "0"})
    return JSONResponse(rows)


# ---- events and brute force ----


def _moment(value: str | None, end: bool = False) -> int | None:
    if not value:
        return None
    if value.isdigit():
        return int(value)
    try:
        day = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise Failure(400, "Invalid value for date, expected format is yyyy-MM-dd") from None
    return int(day.timestamp() * 1000) + (86_399_999 if end else 0)


@admin("view-events", "manage-events")
async def events(request: Request, realm: Realm) -> Response:
    asked = request.query_params
    if request.method == "DELETE":
        realm["events"].clear()
        standin(request).changed()
        return Response(status_code=NOTHING)
    kinds, since, until = asked.getlist("type"), _moment(asked.get("dateFrom")), _moment(asked.get("dateTo"), end=True)
    expiry = realm["rep"]["eventsExpiration"]
    oldest = now_ms() - expiry * 1000 if expiry else 0
    found = [
        e
        for e in reversed(realm["events"])
        if (not kinds or e["type"] in kinds)
        and e["time"] >= max(since or 0, oldest)
        and (until is None or e["time"] <= until)
        and all(not asked.get(q) or e.get(f) == asked[q] for q, f in (("client", "clientId"), ("user", "userId")))
        and (not asked.get("ipAddress") or e.get("ipAddress") == asked["ipAddress"])
    ]
    return JSONResponse(page(request, found))


_EVENT_FIELDS = ("eventsEnabled", "eventsExpiration", "eventsListeners", "enabledEventTypes")
_ADMIN_FIELDS = ("adminEventsEnabled", "adminEventsDetailsEnabled")


@admin("view-events", "manage-events")
async def get_events_config(request: Request, realm: Realm) -> Response:
    return JSONResponse({name: realm["rep"][name] for name in (*_EVENT_FIELDS, *_ADMIN_FIELDS)})


@admin("manage-events")
async def put_events_config(request: Request, realm: Realm) -> Response:
    changes = await body(request)
    realm["rep"].update({n: v for n, v in changes.items() if n in (*_EVENT_FIELDS, *_ADMIN_FIELDS)})
    standin(request).changed()
    return Response(status_code=NOTHING)


@admin("view-users", "manage-users")
async def brute_force(request: Request, realm: Realm) -> Response:
    user = _user(request, realm)
    failure = realm["failures"].get(user["id"])
    return JSONResponse(
        {
            "numFailures": failure["count"] if failure else 0,
            "disabled": standin(request).locked(realm, user),
            "lastIPFailure": failure["ip"] if failure else "n/a",
            "lastFailure": failure["last"] if failure else 0,
            "numTemporaryLockouts": failure["locks"] if failure else 0,
        }
    )


@admin("manage-users")
async def clear_brute_force(request: Request, realm: Realm) -> Response:
    if "user" in request.path_params:
        realm["failures"].pop(request.path_params["user"], None)
    else:
        realm["failures"].clear()
    standin(request).changed()
    return Response(status_code=NOTHING)


_R = "/admin/realms/{realm}"
_U = f"{_R}/users/{{user}}"
ROUTES = [
    Route("/admin/serverinfo", server_info),
    Route("/admin/realms", realms, methods=["GET", "POST"]),
    Route(_R, get_realm),
    Route(_R, put_realm, methods=["PUT"]),
    Route(_R, delete_realm, methods=["DELETE"]),
    Route(f"{_R}/users", users),
    Route(f"{_R}/users", create_user, methods=["POST"]),
    Route(f"{_R}/users/count", count_users),
    Route(_U, get_user),
    Route(_U, put_user, methods=["PUT"]),
    Route(_U, delete_user, methods=["DELETE"]),
    Route(f"{_U}/reset-password", reset_password, methods=["PUT"]),
    Route(f"{_U}/role-mappings/realm", user_roles),
    Route(f"{_U}/role-mappings/realm/available", available_roles),
    Route(f"{_U}/role-mappings/realm", change_user_roles, methods=["POST", "DELETE"]),
    Route(f"{_U}/sessions", user_sessions),
    Route(f"{_U}/logout", logout_user, methods=["POST"]),
    Route(f"{_U}/groups", user_groups),
    Route(f"{_U}/groups/{{group}}", user_group, methods=["PUT", "DELETE"]),
    Route(f"{_R}/logout-all", logout_all, methods=["POST"]),
    Route(f"{_R}/sessions/{{session}}", delete_session, methods=["DELETE"]),
    Route(f"{_R}/client-session-stats", session_stats),
    Route(f"{_R}/roles", roles),
    Route(f"{_R}/roles", create_role, methods=["POST"]),
    Route(f"{_R}/roles/{{role}}", get_role),
    Route(f"{_R}/roles/{{role}}", delete_role, methods=["DELETE"]),
    Route(f"{_R}/roles/{{role}}/users", role_users),
    Route(f"{_R}/groups", groups),
    Route(f"{_R}/groups", create_group, methods=["POST"]),
    Route(f"{_R}/groups/count", count_groups),
    Route(f"{_R}/group-by-path/{{path:path}}", group_by_path),
    Route(f"{_R}/groups/{{group}}", one_group),
    Route(f"{_R}/groups/{{group}}", change_group, methods=["PUT", "DELETE"]),
    Route(f"{_R}/groups/{{group}}/members", group_members),
    Route(f"{_R}/clients", clients),
    Route(f"{_R}/clients", create_client, methods=["POST"]),
    Route(f"{_R}/clients/{{client}}", get_client),
    Route(f"{_R}/clients/{{client}}", change_client, methods=["PUT", "DELETE"]),
    Route(f"{_R}/clients/{{client}}/user-sessions", client_sessions),
    Route(f"{_R}/clients/{{client}}/session-count", client_session_count),
    Route(f"{_R}/events", events, methods=["GET", "DELETE"]),
    Route(f"{_R}/events/config", get_events_config),
    Route(f"{_R}/events/config", put_events_config, methods=["PUT"]),
    Route(f"{_R}/attack-detection/brute-force/users", clear_brute_force, methods=["DELETE"]),
    Route(f"{_R}/attack-detection/brute-force/users/{{user}}", brute_force),
    Route(f"{_R}/attack-detection/brute-force/users/{{user}}", clear_brute_force, methods=["DELETE"]),
]
