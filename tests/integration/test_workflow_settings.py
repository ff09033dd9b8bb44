"""Workflow settings through the door, over the API, and on their way to Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from api import create_api
from operations import apitokens, outbox, workflow_settings, workflow_settings_history, workflow_wire
from operations.access import SYSTEM, Actor, Forbidden
from operations.change import Conflict, Invalid
from operations.platform import Platform
from operations.workflow_settings import Edit
from sandbox.inprocess import Services
from workflows.store import LAST_KNOWN, POSTGRESQL, REDIS, Store

pytestmark = pytest.mark.engines
ROOT = "/infrastructure/temporal"


def save(platform: Platform, *edits: Edit) -> workflow_settings.Saved:
    return workflow_settings.save(platform, SYSTEM, edits, reason="for the test")


def on_redis(platform: Platform, type_: str) -> dict[str, object] | None:
    raw = platform.redis.get(f"workflow:config:{type_}")
    return None if raw is None else json.loads(str(raw))


def test_a_type_inherits_what_it_leaves_out_and_says_from_where(platform: Platform) -> None:
    save(platform, Edit("default", {"retry_attempts": 4}), Edit("invoices", {"max_concurrent": 0}, 0))
    now = workflow_settings.effective(platform, "invoices")
    assert now.values() == {
        "timeout_seconds": 300, "retry_attempts": 4, "backoff_multiplier": 2.0, "max_concurrent": 0
    }  # fmt: skip
    assert now.sources == {
        "timeout_seconds": "default", "retry_attempts": "default", "backoff_multiplier": "default",
        "max_concurrent": "type",
    }  # fmt: skip
    assert workflow_settings.effective(platform, "never seen").max_concurrent == 100
    assert workflow_settings.effective(platform, "tenant-offboarding").timeout_seconds == 90 * 86_400
    assert workflow_settings.listing(platform, SYSTEM, ["from the server"])[0].type == "default"


@pytest.mark.parametrize(
    ("type_", "values", "field"),
    [
        ("invoices", {"timeout_seconds": 0}, "timeout_seconds"),
        ("invoices", {"timeout_seconds": 31_536_001}, "timeout_seconds"),
        ("invoices", {"retry_attempts": 2.5}, "retry_attempts"),
        ("invoices", {"backoff_multiplier": 0.9}, "backoff_multiplier"),
        ("invoices", {"backoff_multiplier": float("nan")}, "backoff_multiplier"),
        ("invoices", {"max_concurrent": True}, "max_concurrent"),
        ("invoices", {"max_concurrent": 10_001}, "max_concurrent"),
        ("invoices", {"speed": 1}, "speed"),
        ("default", {"retry_attempts": None}, "retry_attempts"),
        ("default", None, "type"),
        ("-invoices", {"retry_attempts": 1}, "type"),
        ("a" * 201, {"retry_attempts": 1}, "type"),
    ],
)
def test_what_is_out_of_range_is_named(platform: Platform, type_: str, values: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        save(platform, Edit(type_, values))
    assert caught.value.errors[0].field == field
    assert caught.value.errors[0].allowed


def test_a_change_needs_the_permission_a_reason_and_the_newest_version(platform: Platform) -> None:
    with pytest.raises(Forbidden):
        workflow_settings.save(
            platform, Actor("a", "A", frozenset({"analyst"})), [Edit("invoices", {"retry_attempts": 1})], reason="no"
        )
    with pytest.raises(Invalid, match="reason"):
        workflow_settings.save(platform, SYSTEM, [Edit("invoices", {"retry_attempts": 1})], reason=" ")
    first = save(platform, Edit("invoices", {"retry_attempts": 1}, 0)).outcome.version
    with pytest.raises(Conflict) as caught:
        save(platform, Edit("other", {"retry_attempts": 9}, 0), Edit("invoices", {"retry_attempts": 2}, 0))
    assert caught.value.current["retry_attempts"] == 1
    assert caught.value.yours["retry_attempts"] == 2
    assert workflow_settings.get(platform, SYSTEM, "other").version == 0  # all or nothing
    save(platform, Edit("invoices", None, first))
    again = save(platform, Edit("invoices", {"retry_attempts": 3}, 0)).outcome.version
    assert again > first  # a version seen before the removal never fits what came after it


def test_one_of_many_that_saw_the_same_version_wins(platform: Platform) -> None:
    def one(number: int) -> int:
        try:
            save(platform, Edit("invoices", {"retry_attempts": number}, 0))
        except Conflict:
            return 0
        return number

    with ThreadPoolExecutor(6) as pool:
        won = [number for number in pool.map(one, range(1, 7)) if number]
    assert len(won) == 1
    assert workflow_settings.effective(platform, "invoices").retry_attempts == won[0]
    assert on_redis(platform, "invoices") == {
        "type": "invoices", "timeout_seconds": None, "retry_attempts": won[0], "backoff_multiplier": None,
        "max_concurrent": None, "version": workflow_settings.get(platform, SYSTEM, "invoices").version,
    }  # fmt: skip


def test_history_and_taking_back(platform: Platform) -> None:
    save(platform, Edit("invoices", {"retry_attempts": 5, "max_concurrent": 7}))
    save(platform, Edit("invoices", {"retry_attempts": None, "max_concurrent": None}))
    assert on_redis(platform, "invoices") is None  # nothing of its own is left
    newest = workflow_settings_history.history(platform, SYSTEM, type_="invoices")
    assert [change.after is None for change in newest] == [True, False]
    workflow_settings_history.revert(platform, SYSTEM, newest[0].id)
    assert workflow_settings.effective(platform, "invoices").retry_attempts == 5
    with pytest.raises(Invalid, match="already"):
        workflow_settings_history.revert(platform, SYSTEM, newest[0].id)
    workflow_settings_history.revert(platform, SYSTEM, newest[1].id)
    assert workflow_settings.get(platform, SYSTEM, "invoices").version == 0


def test_whatever_differs_on_redis_is_repaired_and_nothing_else_touched(platform: Platform) -> None:
    workflow_wire.reconcile(platform)
    save(platform, Edit("invoices", {"retry_attempts": 5}))
    assert workflow_wire.reconcile(platform) == []
    platform.redis.set("workflow:config:invoices", "{nonsense")
    platform.redis.delete("workflow:config:default")
    platform.redis.set("workflow:config:gone", json.dumps({"type": "gone", "retry_attempts": 9}))
    platform.redis.sadd(workflow_wire.NAMES, "gone")
    assert [one.type for one in workflow_wire.reconcile(platform, repair=False)] == ["default", "gone", "invoices"]
    assert len(workflow_wire.reconcile(platform)) == 3
    assert on_redis(platform, "gone") is None
    assert on_redis(platform, "invoices")["retry_attempts"] == 5  # type: ignore[index]
    assert workflow_wire.reconcile(platform) == []


def test_a_worker_reads_redis_then_what_it_knew_then_postgresql(platform: Platform, standins: Services) -> None:
    workflow_wire.reconcile(platform)
    store = Store(platform)
    save(platform, Edit("invoices", {"retry_attempts": 5}))
    settings, source = store.effective("invoices")
    assert (settings.retry_attempts, source) == (5, REDIS)
    platform.redis.set("workflow:config:invoices", '{"retry_attempts": "many", "version": 1}')
    assert store.effective("invoices")[0].retry_attempts == 5  # what nobody can obey is read from PostgreSQL
    standins.fault("redis", "refuse")
    assert not save(platform, Edit("invoices", {"retry_attempts": 6})).outcome.delivered
    settings, source = store.effective("invoices")
    assert (settings.retry_attempts, source) == (5, LAST_KNOWN)
    settings, source = Store(platform).effective("invoices")
    assert (settings.retry_attempts, source) == (6, POSTGRESQL)
    standins.fault("redis", None)
    assert outbox.deliver(platform, workflow_wire.TOPIC, "invoices")
    settings, source = Store(platform).effective("invoices")
    assert (settings.retry_attempts, source) == (6, REDIS)


@pytest.fixture
def client(platform: Platform) -> Iterator[TestClient]:
    token = apitokens.create(platform, SYSTEM, "t", frozenset({"infra_admin"}))
    with TestClient(create_api(platform), headers={"Authorization": f"Bearer {token}"}) as made:
        yield made


def test_the_api(client: TestClient, platform: Platform) -> None:
    assert client.get(f"{ROOT}/settings").json()["items"][0]["type"] == "default"
    seen = client.get(f"{ROOT}/settings/default")
    assert client.put(f"{ROOT}/settings/default", json={"retry_attempts": 5}).status_code == 428
    tag = {"If-Match": seen.headers["etag"]}
    done = client.put(f"{ROOT}/settings/default", json={"retry_attempts": 5, "reason": "it fails"}, headers=tag)
    assert done.status_code == 200
    assert done.json()["delivered"] is True
    stale = client.put(f"{ROOT}/settings/default", json={"retry_attempts": 6}, headers=tag)
    assert stale.status_code == 412
    assert stale.json()["current"]["retry_attempts"] == 5
    bad = client.put(f"{ROOT}/settings/default", json={"retry_attempts": 0}, headers={"If-Match": "1"})
    assert bad.status_code == 422
    made = client.put(f"{ROOT}/settings/My Type/v2", json={"max_concurrent": 3})
    assert made.json()["effective"]["max_concurrent"] == {"value": 3, "source": "type"}
    assert made.json()["effective"]["retry_attempts"] == {"value": 5, "source": "default"}
    assert client.delete(f"{ROOT}/settings/My Type/v2").status_code == 428
    gone = client.delete(f"{ROOT}/settings/My Type/v2", headers={"If-Match": made.headers["etag"]})
    assert gone.json()["version"] == 0
    changes = client.get(f"{ROOT}/settings-changes", params={"type": "default"}).json()["items"]
    assert changes[0]["reason"] == "it fails"
    back = client.post(f"{ROOT}/settings-changes/{changes[0]['id']}/revert")
    assert back.json()["retry_attempts"] == 3
    assert client.get(f"{ROOT}/held-settings").json() == {"items": []}
    reader = apitokens.create(platform, SYSTEM, "r", frozenset({"analyst"}))
    refused = client.put(
        f"{ROOT}/settings/x", json={"retry_attempts": 5}, headers={"Authorization": f"Bearer {reader}"}
    )
    assert refused.status_code == 403


def test_if_match_over_the_api(client: TestClient) -> None:
    url, whatever = f"{ROOT}/settings/invoices", {"If-Match": "*"}
    made = client.put(url, json={"retry_attempts": 5}, headers=whatever)  # what it inherits is there
    assert made.status_code == 200
    tag = made.headers["etag"]
    assert client.put(url, json={"retry_attempts": 6}, headers={"If-Match": f"W/{tag}"}).status_code == 412
    stale = client.put(url, json={"retry_attempts": 6}, headers={"If-Match": '"98", "99"'})
    assert (stale.status_code, stale.json()["current"]["retry_attempts"]) == (412, 5)
    assert client.put(url, json={"retry_attempts": 6}, headers={"If-Match": f'"99", {tag}'}).status_code == 200
    change = client.get(f"{ROOT}/settings-changes", params={"type": "invoices"}).json()["items"][0]["id"]
    revert = f"{ROOT}/settings-changes/{change}/revert"
    assert client.post(revert, headers={"If-Match": tag}).status_code == 412
    assert client.post(revert, headers=whatever).json()["retry_attempts"] == 5
    assert client.delete(url, headers={"If-Match": f"W/{tag}"}).status_code == 412
    assert client.delete(url, headers=whatever).json()["version"] == 0
