"""A tenant in each of its systems: made, made again, removed, removed again, half made, and with the service away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, cast

import pytest
from qdrant_client import models
from sqlalchemy import select, text

from adapters.core import AdapterError, Rejected, deadline
from adapters.keycloak import Keycloak
from adapters.lago import Lago
from adapters.s3 import S3
from adapters.s3_client.prefix import Prefixes
from adapters.somabrain import SomaBrain
from limiter import Scope
from models import Agent, AuditEntry, RateLimitPolicy, Tenant
from operations import ratelimit_wire, ratelimits
from operations.access import SYSTEM
from operations.database import StoreUnavailable
from operations.platform import Platform
from operations.tenant_systems import SYSTEMS, TenantSpec
from operations.tenant_systems import s3 as s3_system
from sandbox.inprocess import Services
from tests.support_tenants import configured, unconfigured

SPEC = TenantSpec("acme-labs", "Acme Labs", "team", "ops@acme.test")
ID = SPEC.tenant
REMOTE = tuple(name for name in SYSTEMS if name != "ratelimit")


@pytest.fixture(autouse=True)
def _tiers(platform: Platform) -> None:
    with platform.database.session() as session:
        for rank, code in enumerate(("free", "starter", "team", "gold"), start=1):
            session.execute(
                text("INSERT INTO tiers (code, name, rank) VALUES (:c, :c, :r) ON CONFLICT DO NOTHING"),
                {"c": code, "r": rank},
            )


def status(platform: Platform, wanted: str | None = None) -> str | None:
    """The tenant's status, after setting it where one is wanted."""
    with platform.database.session() as session:
        row = session.get(Tenant, ID)
        if row is not None and wanted is not None:
            row.status = wanted
        return None if row is None else row.status


def test_made_and_removed_as_often_as_one_likes(platform: Platform) -> None:
    for name, system in SYSTEMS.items():
        assert not system.present(platform, ID), name
        first = system.make(platform, SPEC)
        assert first.identifier and first.detail.endswith(".") and not first.skipped, name
        assert system.present(platform, ID), name
        again = system.make(platform, SPEC)
        assert (again.identifier, again.also, again.skipped) == (first.identifier, first.also, False), name
        assert system.present(platform, ID), name
        assert not system.present(platform, "acme"), name
        assert system.remove(platform, ID), name
        assert not system.present(platform, ID), name
        assert not system.remove(platform, ID), name
        assert system.make(platform, SPEC).identifier == first.identifier, name
        assert system.present(platform, ID), name
        assert system.remove(platform, ID), name


def test_made_by_many_at_once_is_made_once(platform: Platform) -> None:
    with ThreadPoolExecutor(4) as pool:
        for name, system in SYSTEMS.items():
            made = list(pool.map(lambda _, system=system: system.make(platform, SPEC), range(4)))
            assert len({(one.identifier, one.also) for one in made}) == 1, name
            assert system.present(platform, ID), name
            assert system.remove(platform, ID), name
            assert not system.present(platform, ID), name


@pytest.mark.parametrize("fault", ["refuse", "500", "garbage", "hang"])
def test_a_service_that_fails_is_an_adapter_error_and_leaves_nothing(
    platform: Platform, standins: Services, fault: str
) -> None:
    for name in REMOTE:
        system = SYSTEMS[name]
        standins.fault(name, fault)
        for ask in (system.present, system.remove, lambda p, _, system=system: system.make(p, SPEC)):
            # The outer, earlier deadline wins: a service that hangs does not keep the test waiting.
            with deadline(0.3) if fault == "hang" else nullcontext(), pytest.raises(AdapterError) as caught:
                ask(platform, ID)
            assert caught.value.sentence.endswith("."), name
        standins.fault(name, None)
        assert not system.present(platform, ID), name
        assert not system.remove(platform, ID), name
        assert system.make(platform, SPEC).identifier, name


def test_postgresql_away_is_an_adapter_error(platform: Platform, standins: Services) -> None:
    standins.fault("postgresql", "refuse")
    platform.database.engine.dispose()
    for name, system in SYSTEMS.items():
        try:
            system.make(platform, SPEC)
        except AdapterError as error:
            assert isinstance(error, StoreUnavailable), name
    standins.fault("postgresql", None)
    assert not SYSTEMS["ratelimit"].present(platform, ID)
    for name in REMOTE:
        SYSTEMS[name].make(platform, SPEC)
        assert SYSTEMS[name].present(platform, ID), name


def test_a_service_that_is_not_configured_is_skipped(platform: Platform) -> None:
    for name in REMOTE:
        assert SYSTEMS[name].configured(platform)
        with unconfigured(platform, name):
            assert not SYSTEMS[name].configured(platform)
            made = SYSTEMS[name].make(platform, SPEC)
            assert (made.identifier, made.skipped) == ("", True)
            assert made.detail == f"{SYSTEMS[name].title} is not configured."
            assert not SYSTEMS[name].present(platform, ID)
            assert not SYSTEMS[name].remove(platform, ID)
    with configured(platform, "s3", bucket=None):
        assert SYSTEMS["s3"].make(platform, SPEC).detail == "No bucket is set for S3 storage."
    with configured(platform, "keycloak", client_id=None):  # signing in needs no service account, writing groups does
        assert SYSTEMS["keycloak"].make(platform, SPEC).skipped


# ---- half made ----


def test_a_group_without_the_name_gets_it(platform: Platform, standins: Services) -> None:
    keycloak = cast(Keycloak, platform.adapters["keycloak"])
    keycloak.make_group("tenant-acme-labs", {"tenant": ID, "note": "kept"})
    SYSTEMS["keycloak"].make(platform, SPEC)
    found = keycloak.group("tenant-acme-labs")
    assert found is not None
    assert dict(found.attributes) == {"tenant": ID, "tenant_name": "Acme Labs", "note": "kept"}


def test_a_customer_without_its_subscription_is_completed(platform: Platform) -> None:
    system, lago = SYSTEMS["lago"], cast(Lago, platform.adapters["lago"])
    with pytest.raises(Rejected, match="no plan with the code 'gold'"):
        system.make(platform, TenantSpec(ID, SPEC.name, "gold", SPEC.email))
    assert lago.customers().get(ID) is not None
    assert not system.present(platform, ID)
    assert system.make(platform, SPEC).also == "tenant-acme-labs"
    (sub,) = lago.subscriptions(customer=ID).items
    assert (sub.external_id, sub.plan_code, sub.customer_id) == ("tenant-acme-labs", "team", ID)
    # Half made, it can be removed as well.
    lago.customers().end_subscription("tenant-acme-labs")
    assert not system.present(platform, ID)
    assert system.remove(platform, ID)
    assert lago.customers().get(ID) is None


def test_half_a_prefix_is_completed_or_removed(platform: Platform) -> None:
    system, storage = SYSTEMS["s3"], cast(S3, platform.adapters["s3"])

    def statement() -> None:
        storage.prefixes().put_statement(s3_system.statement(storage.config, ID) or {})

    def mark() -> None:
        storage.prefixes().put("tenants/acme-labs/.tenant", b"{}")

    for half in (statement, mark):
        half()
        assert not system.present(platform, ID)
        system.make(platform, SPEC)
        assert system.present(platform, ID)
        system.remove(platform, ID)
        half()
        assert system.remove(platform, ID)
        assert not storage.prefixes().used("tenants/acme-labs/")
        assert storage.prefixes().statement("TenantacmeDlabs") is None


# ---- what was there before ----


def test_what_is_somebody_elses_is_neither_taken_nor_removed(platform: Platform, standins: Services) -> None:
    SYSTEMS["ratelimit"].make(platform, SPEC)
    keycloak, lago = cast(Keycloak, platform.adapters["keycloak"]), cast(Lago, platform.adapters["lago"])
    storage, brain = cast(S3, platform.adapters["s3"]), cast(SomaBrain, platform.adapters["somabrain"])
    keycloak.make_group("tenant-acme-labs", {})
    lago.customers().put(ID, name="Acme of old", email="old@acme.test")
    storage.prefixes().put("tenants/acme-labs/report.pdf", b"x")
    brain.create_tenant(ID, name="Acme of old", tier="free", email="old@acme.test")
    SYSTEMS["qdrant"].make(platform, SPEC)
    standins.standin("qdrant").client.upsert("tenant_acme-labs", [models.PointStruct(id=1, vector=[0.1] * 1536)])
    for name in REMOTE:
        with pytest.raises(Rejected) as caught:
            SYSTEMS[name].make(platform, SPEC)
        assert caught.value.advice.startswith("Choose another id")
        assert not SYSTEMS[name].remove(platform, ID)
    assert keycloak.group("tenant-acme-labs") is not None
    assert lago.customers().get(ID) is not None
    assert storage.prefixes().has("tenants/acme-labs/report.pdf")
    assert brain.tenant(ID) is not None
    # Once the tenant is at work, everything under its names is its own: offboarding removes it.
    status(platform, "offboarding")
    assert SYSTEMS["s3"].remove(platform, ID)
    assert SYSTEMS["qdrant"].remove(platform, ID)
    assert SYSTEMS["somabrain"].remove(platform, ID)


def test_a_customer_the_row_names_is_removed(platform: Platform) -> None:
    SYSTEMS["ratelimit"].make(platform, SPEC)
    lago = cast(Lago, platform.adapters["lago"])
    lago.customers().put(ID, name="Acme", email="")
    lago.customers().subscribe("sub-1", customer=ID, plan="free")
    with platform.database.session() as session:
        session.get_one(Tenant, ID).lago_customer_id = ID
    assert SYSTEMS["lago"].present(platform, ID)
    assert SYSTEMS["lago"].remove(platform, ID)
    assert not lago.subscriptions(customer=ID).items


# ---- the policy of the bucket ----


class NoTurn:
    """No turns within the process, as among processes: PostgreSQL alone keeps order."""

    def acquire(self, timeout: float) -> bool:
        """Always at once."""
        return True

    def release(self) -> None:
        """Nothing to give back."""


@pytest.mark.parametrize(("many", "alone"), [(20, True), (6, False)])
def test_many_prefixes_at_once_keep_every_statement(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, many: int, alone: bool
) -> None:
    storage, system = cast(S3, platform.adapters["s3"]), SYSTEMS["s3"]
    foreign = {"Sid": "Auditors", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:x"}
    storage.prefixes().put_statement(foreign)
    if not alone:
        monkeypatch.setattr(s3_system, "_turn", NoTurn())
    specs = [TenantSpec(f"t-{number}", "T", "team", "") for number in range(many)]
    with ThreadPoolExecutor(many) as pool:
        list(pool.map(lambda spec: system.make(platform, spec), specs))
        assert all(pool.map(lambda spec: system.present(platform, spec.tenant), specs))
        assert storage.prefixes().statement("TenanttD3") == {
            "Sid": "TenanttD3",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::123456789012:role/tenant-t-3"},
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            "Resource": "arn:aws:s3:::pilothouse-uploads/tenants/t-3/*",
        }
        assert all(pool.map(lambda spec: system.remove(platform, spec.tenant), specs[1:]))
    assert system.present(platform, "t-0")
    assert storage.prefixes().statement("TenanttD3") is None
    assert storage.prefixes().statement("Auditors") == foreign


def test_a_principal_for_all_gets_one_statement(platform: Platform) -> None:
    storage, system = cast(S3, platform.adapters["s3"]), SYSTEMS["s3"]
    with configured(platform, "s3", tenant_principal="arn:aws:iam::123456789012:root"):
        system.make(platform, SPEC)
        found = storage.prefixes().statement("Tenants")
        assert found is not None
        assert found["Resource"].endswith("/tenants/${aws:PrincipalTag/tenant}/*")
        assert system.remove(platform, ID)
        assert storage.prefixes().statement("Tenants") is not None
        assert not system.present(platform, ID)


def test_names_of_statements_differ_for_tenants_that_differ() -> None:
    ids = ("a-b", "a_b", "ab", "adb", "aub", "a--b", "a")
    assert len({s3_system.sid(one) for one in ids}) == len(ids)
    assert all(s3_system.sid(one).isalnum() for one in ids)


def test_removal_goes_in_batches_and_tells_how_far_it_is(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.s3_client.prefix.BATCH", 4)
    storage = cast(S3, platform.adapters["s3"])
    SYSTEMS["s3"].make(platform, SPEC)
    for number in range(9):
        storage.prefixes().put(f"tenants/acme-labs/{number}.txt", b"x")
    storage.prefixes().put("tenants/acme-labs-2/other.txt", b"x")
    told: list[int] = []
    assert SYSTEMS["s3"].remove(platform, ID, told.append)
    assert told == [4, 8, 10]
    assert storage.prefixes().has("tenants/acme-labs-2/other.txt")


def test_the_statement_goes_first_so_that_nobody_writes_meanwhile(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, order = cast(S3, platform.adapters["s3"]), list[str]()
    SYSTEMS["s3"].make(platform, SPEC)
    for name in ("remove_statement", "delete_some"):
        real = getattr(Prefixes, name)

        def noted(self: Prefixes, given: str, real: Any = real, name: str = name) -> Any:
            if name == "delete_some":
                assert storage.prefixes().statement(s3_system.sid(ID)) is None
            order.append(name)
            return real(self, given)

        monkeypatch.setattr(Prefixes, name, noted)
    assert SYSTEMS["s3"].remove(platform, ID)
    assert order == ["remove_statement", "delete_some", "delete_some"]


# ---- the row and the tier ----


def test_the_tier_is_on_the_wire_and_gone_with_the_row(platform: Platform) -> None:
    system = SYSTEMS["ratelimit"]
    ratelimit_wire.reconcile(platform)
    for step in (lambda: system.make(platform, SPEC), lambda: system.remove(platform, ID)):
        step()
        assert ratelimit_wire.reconcile(platform, repair=False).total == 0
    with platform.database.session() as session:
        rows = session.execute(
            select(AuditEntry.action, AuditEntry.after)
            .where(AuditEntry.subject == f"tenant/{ID}")
            .order_by(AuditEntry.id)
        ).all()
    told = {"name": "Acme Labs", "tier": "team", "status": "provisioning", "email": "o…@acme.test"}
    assert [tuple(row) for row in rows] == [("tenant.make", told), ("tenant.remove", None)]


def test_redis_away_is_said_and_not_waited_for(platform: Platform, standins: Services) -> None:
    standins.fault("redis", "refuse")
    platform.redis.connection_pool.disconnect()
    assert SYSTEMS["ratelimit"].make(platform, SPEC).detail.endswith("waiting for Redis.")
    assert SYSTEMS["ratelimit"].present(platform, ID)


def test_an_offboarded_tenant_stays_closed_and_its_id_is_not_used_again(platform: Platform) -> None:
    system = SYSTEMS["ratelimit"]
    system.make(platform, SPEC)
    status(platform, "offboarding")
    assert system.present(platform, ID)
    assert system.remove(platform, ID)
    assert (status(platform), system.present(platform, ID), system.remove(platform, ID)) == ("closed", False, False)
    with pytest.raises(Rejected, match="not used again"):
        system.make(platform, SPEC)


def test_a_tenant_at_work_is_left_as_it_is(platform: Platform) -> None:
    system = SYSTEMS["ratelimit"]
    system.make(platform, SPEC)
    status(platform, "active")
    made = system.make(platform, TenantSpec(ID, "Other", "free", ""))
    assert made.detail == "Tenant acme-labs is there already, on team."
    with pytest.raises(Rejected, match="is active"):
        system.remove(platform, ID)
    assert system.present(platform, ID)


def test_an_id_or_tier_that_cannot_be_is_rejected(platform: Platform) -> None:
    for tenant, tier in (("Acme", "team"), ("", "team"), ("a" * 64, "team"), ("ok", "platinum")):
        with pytest.raises(Rejected):
            SYSTEMS["ratelimit"].make(platform, TenantSpec(tenant, "Acme", tier, ""))


# ---- SomaBrain's register ----


def test_a_somabrain_without_a_register_is_skipped_in_words(platform: Platform) -> None:
    with configured(platform, "somabrain", prefix="/older"):
        made = SYSTEMS["somabrain"].make(platform, SPEC)
        assert made.skipped
        assert "no register" in made.detail
        assert not SYSTEMS["somabrain"].present(platform, ID)
        assert not SYSTEMS["somabrain"].remove(platform, ID)


def test_somabrain_says_that_it_lacks_the_tier(platform: Platform) -> None:
    spec = TenantSpec(ID, SPEC.name, "gold", SPEC.email)
    with pytest.raises(Rejected, match="no tier 'gold'"):
        SYSTEMS["somabrain"].make(platform, spec)
    with configured(platform, "somabrain", tenant_tier="free"):
        assert SYSTEMS["somabrain"].make(platform, spec).identifier == ID


@pytest.mark.parametrize("end", ["provisioning", "offboarding"])
def test_its_limits_of_its_own_go_with_it_on_record_and_from_redis(platform: Platform, end: str) -> None:
    system = SYSTEMS["ratelimit"]
    system.make(platform, SPEC)
    with platform.database.session() as session:
        session.add(Agent(id="agent-1", tenant_id=ID, name="Agent"))
        session.add(Tenant(id="other", name="Other", tier_code="team", status="active"))
    targets = [
        ratelimits.Target("calls_of_test", Scope.TENANT, ID),
        ratelimits.Target("calls_of_test", Scope.AGENT, "agent-1"),
    ]
    kept = ratelimits.Target("calls_of_test", Scope.TENANT, "other")
    base = {"limit": 10, "window_seconds": 60, "policy": "HARD"}
    ratelimits.save(
        platform, SYSTEM,
        [ratelimits.Edit(target, base) for target in (ratelimits.Target("calls_of_test"), *targets, kept)],
        reason="a test",
    )  # fmt: skip
    status(platform, end)
    assert system.remove(platform, ID)
    with platform.database.session() as session:
        left = set(session.scalars(select(RateLimitPolicy.tenant_id).where(RateLimitPolicy.key == "calls_of_test")))
        record = session.scalars(
            select(AuditEntry.subject).where(AuditEntry.action == "tenant.remove", AuditEntry.after.is_(None))
        )
        subjects = set(record)
    assert left == {None, "other"}
    assert {target.subject for target in targets} <= subjects
    differences = ratelimit_wire.reconcile(platform, repair=False).differences
    assert [one for one in differences if one.key == "calls_of_test"] == []
