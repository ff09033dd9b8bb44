"""What adapters write for tenants, against a server that does everything wrong, and against the stand-ins' details."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.core import deadline
from adapters.core.errors import AdapterError, Denied, Rejected, Unexpected
from adapters.core.http import NotSupported
from adapters.keycloak import Keycloak, KeycloakConfig
from adapters.lago import Lago, LagoConfig
from adapters.qdrant import Qdrant, QdrantConfig
from adapters.s3 import S3, S3Config
from adapters.somabrain import SomaBrain, SomaBrainConfig
from sandbox.standins import Host
from sandbox.standins import keycloak as keycloak_standin
from sandbox.standins import lago as lago_standin
from tests.contract.openapi import serve
from tests.support_faulty import BODIES, FAULTS, Answer, FaultyServer, no_leaks

SECRET = "secret-for-tests"
TOKEN: Answer = (200, {"access_token": "token", "expires_in": 300})
Make = Callable[[str], Any]


def keycloak(url: str) -> Keycloak:
    return Keycloak(KeycloakConfig(url=url, client_id="admin", client_secret=SecretStr(SECRET)))


def lago(url: str) -> Lago:
    return Lago(LagoConfig(url=url, api_key=SecretStr(SECRET)))


def qdrant(url: str) -> Qdrant:
    return Qdrant(QdrantConfig(url=url, api_key=SecretStr(SECRET)))


def s3(url: str) -> S3:
    secret = SecretStr(SECRET)
    return S3(S3Config(endpoint_url=url, access_key=secret, secret_key=secret, bucket="b"))


def somabrain(url: str) -> SomaBrain:
    return SomaBrain(SomaBrainConfig(url=url, api_key=SecretStr(SECRET)))


MAKERS: tuple[Make, ...] = (keycloak, lago, qdrant, s3, somabrain)


@contextmanager
def adapters(url: str) -> Iterator[dict[Make, Any]]:
    """One adapter of each kind for a server."""
    made = {make: make(url) for make in MAKERS}
    yield made
    for adapter in made.values():
        adapter.close()


CALLS: dict[str, tuple[Make, Callable[[Any], Any]]] = {
    "keycloak.group": (keycloak, lambda a: a.group("g")),
    "keycloak.make_group": (keycloak, lambda a: a.make_group("g", {"tenant": "t"})),
    "keycloak.delete_group": (keycloak, lambda a: a.delete_group("g")),
    "lago.customer": (lago, lambda a: a.customers().get("t")),
    "lago.put_customer": (lago, lambda a: a.customers().put("t", name="T", email="", metadata={"k": "v"})),
    "lago.delete_customer": (lago, lambda a: a.customers().delete("t")),
    "lago.subscribe": (lago, lambda a: a.customers().subscribe("s", customer="t", plan="team")),
    "lago.end_subscription": (lago, lambda a: a.customers().end_subscription("s")),
    "qdrant.has_collection": (qdrant, lambda a: a.has_collection("c")),
    "qdrant.points": (qdrant, lambda a: a.points("c")),
    "qdrant.create_collection": (qdrant, lambda a: a.create_collection("c")),
    "qdrant.delete_collection": (qdrant, lambda a: a.delete_collection("c")),
    "s3.put_object": (s3, lambda a: a.prefixes().put("k", b"x")),
    "s3.has_object": (s3, lambda a: a.prefixes().has("k")),
    "s3.has_objects": (s3, lambda a: a.prefixes().used("k/")),
    "s3.delete_some": (s3, lambda a: a.prefixes().delete_some("k/")),
    "s3.policy_statement": (s3, lambda a: a.prefixes().statement("Sid")),
    "s3.put_policy_statement": (s3, lambda a: a.prefixes().put_statement({"Sid": "Sid"})),
    "s3.remove_policy_statement": (s3, lambda a: a.prefixes().remove_statement("Sid")),
    "somabrain.tenant": (somabrain, lambda a: a.tenant("t")),
    "somabrain.create_tenant": (somabrain, lambda a: a.create_tenant("t", name="T", tier="team", email="e")),
    "somabrain.delete_tenant": (somabrain, lambda a: a.delete_tenant("t")),
}
ABSENT = {"keycloak.group": None, "lago.customer": None, "qdrant.points": 0}
"""What 404 means to calls that ask, or end, what may not be there; every other call in ``GONE`` says False."""
GONE = {
    *ABSENT,
    "keycloak.delete_group",
    "lago.delete_customer",
    "lago.end_subscription",
    "qdrant.has_collection",
    "qdrant.delete_collection",
    "somabrain.delete_tenant",
}


def answer(method: str, path: str) -> Answer:
    """The token; everything else is the fault's."""
    return TOKEN


def not_the_token(path: str) -> bool:
    return "/protocol/openid-connect/token" not in path


@pytest.mark.parametrize("body", BODIES)
def test_an_answer_that_is_not_what_was_asked_for(body: str) -> None:
    with FaultyServer(body, answer=answer, only=not_the_token) as server, adapters(server.url) as made:
        for name, (make, call) in CALLS.items():
            try:
                found = call(made[make])
            except AdapterError as error:
                assert SECRET not in f"{error.sentence} {error.detail}", name
                assert error.sentence.endswith("."), name
                assert body != "404" or name not in GONE, f"{name}: {error.detail}"
            else:
                assert body == "404" and name in GONE, f"{name} took {body} for {found!r}"
                assert found == ABSENT.get(name, False), name


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_an_adapter_error_in_time(fault: str) -> None:
    only = None if fault == "refuse" else not_the_token
    with no_leaks(), FaultyServer(fault, answer=answer, only=only) as server, adapters(server.url) as made:
        for name, (make, call) in CALLS.items():
            # The outer, earlier deadline wins over what a write may take.
            with deadline(0.1 if fault in ("hang", "drip") else 2.0), pytest.raises(AdapterError) as caught:
                call(made[make])
            assert SECRET not in f"{caught.value.sentence} {caught.value.detail}", name
            assert fault != "401" or isinstance(caught.value, Denied), name


# ---- Keycloak ----


@pytest.fixture
def realm(tmp_path: Path) -> Iterator[tuple[Keycloak, dict[str, Any]]]:
    names = {"keycloak_admin_client_id": "admin", "keycloak_admin_client_secret": SECRET}
    app = keycloak_standin.create(tmp_path, 7, [], host=Host(url="", secrets=names))
    with serve(app) as url:
        adapter = keycloak(url)
        yield adapter, app.state.standin.realms["pilothouse"]
        adapter.close()


def test_a_group_is_made_found_and_deleted(realm: tuple[Keycloak, dict[str, Any]]) -> None:
    adapter, state = realm
    assert adapter.make_group("tenant-a", {"tenant": "a"})
    assert not adapter.make_group("tenant-a", {"tenant": "a"})
    adapter.make_group("tenant-a-b", {"tenant": "a-b"})
    found = adapter.group("tenant-a")
    assert found is not None
    assert (found.name, found.attributes) == ("tenant-a", {"tenant": "a"})
    assert adapter.delete_group("tenant-a")
    assert not adapter.delete_group("tenant-a")
    assert [one["name"] for one in state["groups"].values() if one["name"].startswith("tenant-")] == ["tenant-a-b"]


def test_a_realm_that_is_missing_is_no_missing_group(realm: tuple[Keycloak, dict[str, Any]]) -> None:
    adapter, _ = realm
    adapter.config = adapter.config.model_copy(update={"realm": "nowhere"})
    for ask in (lambda: adapter.group("g"), lambda: adapter.make_group("g", {}), lambda: adapter.delete_group("g")):
        with pytest.raises(Rejected, match="no realm 'nowhere'"):
            ask()


def test_a_token_that_went_stale_is_renewed_for_a_change_too() -> None:
    tokens = 0

    def stale(method: str, path: str) -> Answer:
        nonlocal tokens
        if not not_the_token(path):
            tokens += 1
            return TOKEN
        if tokens == 1 and method == "DELETE":
            return 401, {"error": "HTTP 401 Unauthorized"}
        return 200, {"id": "1", "name": "g"}

    with FaultyServer(answer=stale) as server:
        adapter = keycloak(server.url)
        assert adapter.delete_group("g")
        assert tokens == 2
        adapter.close()


# ---- Lago ----


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[tuple[Lago, dict[str, Any]]]:
    app = lago_standin.create(tmp_path, None, [], host=Host(url="", secrets={"lago_api_key": SECRET}))
    state = app.state.standin.state
    with serve(app) as url:
        adapter = lago(url)
        yield adapter, state
        adapter.close()


def test_a_customer_is_put_changed_and_deleted(billing: tuple[Lago, dict[str, Any]]) -> None:
    adapter, _ = billing
    assert adapter.customers().get("acme") is None
    adapter.customers().put("acme", name="Acme", email="a@acme.test", metadata={"managed_by": "pilothouse"})
    changed = adapter.customers().put("acme", name="Acme Labs", email="")
    assert (changed.name, changed.email, changed.metadata) == ("Acme Labs", "a@acme.test", {"managed_by": "pilothouse"})
    assert adapter.customers().get("acme") == changed
    assert adapter.customers().delete("acme")
    assert not adapter.customers().delete("acme")


def test_a_plan_that_is_missing_is_named(billing: tuple[Lago, dict[str, Any]]) -> None:
    adapter, _ = billing
    adapter.customers().put("acme", name="Acme", email="")
    with pytest.raises(Rejected, match="no plan with the code 'team'") as caught:
        adapter.customers().subscribe("s", customer="acme", plan="team")
    assert not isinstance(caught.value, NotSupported)
    assert "code is the tier's" in caught.value.advice


def test_an_end_without_a_bill_says_so() -> None:
    with FaultyServer(answer=lambda method, path: (200, {"subscription": {"external_id": "s"}})) as server:
        adapter = lago(server.url)
        adapter.customers().end_subscription("a/b", status="pending")
        adapter.customers().end_subscription("s", bill=False)
        adapter.close()
    assert server.requests == [
        "DELETE /api/v1/subscriptions/a%2Fb?status=pending",
        "DELETE /api/v1/subscriptions/s?status=active&on_termination_invoice=skip&on_termination_credit_note=skip",
    ]


# ---- Qdrant, versions before the question whether a collection exists ----


@pytest.mark.parametrize("there", [True, False])
def test_a_server_that_knows_no_exists(there: bool) -> None:
    def older(method: str, path: str) -> Answer:
        if path.endswith("/exists") or not there:
            return 404, {"status": {"error": "Not found"}}
        return 200, {"result": {"status": "green", "points_count": 3}, "status": "ok"}

    with FaultyServer(answer=older) as server:
        adapter = qdrant(server.url)
        assert adapter.has_collection("c") is there
        assert adapter.points("c") == (3 if there else 0)
        adapter.close()


def test_a_collection_made_by_another_meanwhile_is_no_error() -> None:
    asked: list[str] = []

    def race(method: str, path: str) -> Answer:
        asked.append(method)
        if method == "PUT":
            return 409, {"status": {"error": "Wrong input: Collection `c` already exists!"}}
        return 200, {"result": {"exists": "PUT" in asked}, "status": "ok"}

    with FaultyServer(answer=race) as server:
        adapter = qdrant(server.url)
        assert not adapter.create_collection("c")
        adapter.close()


# ---- S3 ----


@pytest.mark.parametrize("status", [405, 501])
def test_a_storage_without_policies_has_none_and_takes_none(status: int) -> None:
    with FaultyServer(answer=lambda method, path: (status, "")) as server:
        adapter = s3(server.url)
        assert adapter.prefixes().statement("Sid") is None
        assert not adapter.prefixes().remove_statement("Sid")
        with pytest.raises(AdapterError):
            adapter.prefixes().put_statement({"Sid": "Sid"})
        adapter.close()


def test_a_statement_alone_without_a_list_is_kept() -> None:
    alone = {"Version": "2012-10-17", "Statement": {"Sid": "Alone", "Effect": "Allow"}}
    with FaultyServer(answer=lambda method, path: (200, json.dumps(alone))) as server:
        adapter = s3(server.url)
        assert adapter.prefixes().statement("Alone") == alone["Statement"]
        assert not adapter.prefixes().put_statement({"Sid": "Alone", "Effect": "Allow"})
        assert server.requests == ["GET /b?policy"] * 2
        adapter.close()


def test_an_object_that_is_kept_is_said() -> None:
    listing = "<ListBucketResult><Contents><Key>k/1</Key></Contents></ListBucketResult>"
    kept = (
        "<DeleteResult><Error><Key>k/1</Key><Code>AccessDenied</Code><Message>locked</Message></Error></DeleteResult>"
    )

    def locked(method: str, path: str) -> Answer:
        if method == "POST":
            return 200, kept
        return 200, listing if "list-type" in path else "<VersioningConfiguration/>"

    with FaultyServer(answer=locked) as server:
        adapter = s3(server.url)
        with pytest.raises(Rejected, match="keeps 1 of 1 objects below k/") as caught:
            adapter.prefixes().delete_some("k/")
        assert "locked" in caught.value.detail
        adapter.close()


def test_every_version_is_deleted() -> None:
    listing = (
        "<ListVersionsResult><Version><Key>k/1</Key><VersionId>v2</VersionId></Version>"
        "<Version><Key>k/1</Key><VersionId>v1</VersionId></Version>"
        "<DeleteMarker><Key>k/2</Key><VersionId>v3</VersionId></DeleteMarker></ListVersionsResult>"
    )

    def versions(method: str, path: str) -> Answer:
        if method == "POST":
            return 200, "<DeleteResult/>"
        status = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
        return 200, listing if "versions" in path else status

    with FaultyServer(answer=versions) as server:
        adapter = s3(server.url)
        assert adapter.prefixes().delete_some("k/") == 3
        adapter.close()


# ---- SomaBrain ----


def test_a_tenant_is_found_on_a_later_page() -> None:
    def pages(method: str, path: str) -> Answer:
        first = "page=1&" in path
        rows = [{"id": f"{n}", "slug": f"t{n}", "status": "active"} for n in range(200 if first else 1)]
        return 200, {"tenants": rows if first else [{"id": "x", "slug": "acme"}], "total": 201}

    with FaultyServer(answer=pages) as server:
        adapter = somabrain(server.url)
        found = adapter.tenant("acme")
        assert found is not None and found.id == "x"
        assert adapter.tenant("nobody") is None
        adapter.close()


def test_a_register_without_an_end_is_left_at_some_point() -> None:
    endless = {"tenants": [{"id": "1", "slug": "t"}] * 200, "total": 10**9}
    with FaultyServer(answer=lambda method, path: (200, endless)) as server:
        adapter = somabrain(server.url)
        with pytest.raises(Rejected, match="more than 10,000 tenants"):
            adapter.tenant("acme")
        assert len(server.requests) == 50
        adapter.close()


def test_a_tenant_disabled_and_not_deleted_is_an_error() -> None:
    with FaultyServer(answer=lambda method, path: (200, {"status": "disabled", "tenant_id": "1"})) as server:
        adapter = somabrain(server.url)
        with pytest.raises(Unexpected):
            adapter.delete_tenant("1")
        adapter.close()
