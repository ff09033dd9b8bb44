"""Schedules, task queues and workers over HTTP, against a real Temporal server."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from datetime import timedelta

import pytest
from starlette.testclient import TestClient
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    ScheduleState,
)

from api import create_api
from operations import apitokens
from operations.access import SYSTEM
from operations.platform import Platform
from tests.support import poll

pytestmark = pytest.mark.engines
ROOT = "/infrastructure/temporal"
_numbers = itertools.count(1)


@pytest.fixture
def client(platform: Platform) -> Iterator[TestClient]:
    token = apitokens.create(platform, SYSTEM, "t", frozenset({"infra_admin"}))
    with TestClient(create_api(platform), headers={"Authorization": f"Bearer {token}"}) as made:
        yield made


@pytest.fixture
def schedule(temporal_address: str) -> Iterator[str]:
    """A paused hourly schedule with a slash in its name."""
    name = f"api/{os.getpid()}-{next(_numbers)}"

    async def create() -> None:
        client = await Client.connect(temporal_address)
        action = ScheduleActionStartWorkflow("Nobody", "acme", id=f"{name}-run", task_queue=name)
        spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))])
        await client.create_schedule(name, Schedule(action=action, spec=spec, state=ScheduleState(paused=True)))

    async def clear() -> None:
        client = await Client.connect(temporal_address)
        async for run in client.list_workflows(f"TaskQueue='{name}' AND ExecutionStatus='Running'"):
            await client.get_workflow_handle(run.id).terminate()

    asyncio.run(create())
    yield name
    asyncio.run(clear())


def test_a_schedule_from_reading_to_removal(client: TestClient, platform: Platform, schedule: str) -> None:
    url = f"{ROOT}/schedules/{schedule}"
    listed = poll(lambda: client.get(f"{ROOT}/schedules", params={"q": schedule}).json()["items"])
    assert [one["id"] for one in listed] == [schedule]
    seen = client.get(url)
    assert (seen.json()["times"], seen.json()["paused"]) == ("every hour", True)
    tag = {"If-Match": seen.headers["etag"]}
    assert client.put(url, json={"note": "x"}).status_code == 428
    done = client.put(url, json={"crons": ["0 4 * * *"], "note": "later", "input": ["bolt"]}, headers=tag)
    assert (done.status_code, done.json()["times"]) == (200, "at 04:00 every day")
    stale = client.post(f"{url}/resume", json={"note": "go on"}, headers=tag)
    assert stale.status_code == 412
    assert stale.json()["current"]["note"] == "later"
    wrong = client.put(url, json={"crons": ["99 * * * *"]}, headers={"If-Match": done.headers["etag"]})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "times")
    assert client.post(f"{url}/resume", json={"note": "go on"}).json()["paused"] is False
    assert client.post(f"{url}/pause", json={"note": "wait"}).json()["note"] == "wait"
    ran = client.post(f"{url}/trigger", json={"reason": "try"}).json()
    assert ran["workflow_id"].startswith(f"{schedule}-run")
    span = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-03T00:00:00+00:00"}
    preview = client.post(f"{url}/backfill", json={**span, "preview": True}).json()
    assert (preview["runs"], preview["started"]) == (2, False)
    assert client.post(f"{url}/backfill", json={**span, "to": "2030-01-01T00:00:00Z"}).status_code == 422
    assert client.post(f"{url}/backfill", json=span).json()["started"] is True
    last = {"If-Match": client.get(url).headers["etag"]}
    unsaid = client.delete(url, headers=last)
    assert (unsaid.status_code, unsaid.json()["errors"][0]["field"]) == (422, "confirm")
    assert client.delete(url, headers=last, params={"confirm": schedule}).status_code == 204
    assert client.get(url).status_code == 404


@pytest.mark.parametrize("overlap", ["CancelOther", "TerminateOther"])
def test_a_policy_that_ends_runs_is_confirmed(client: TestClient, schedule: str, overlap: str) -> None:
    url, whatever = f"{ROOT}/schedules/{schedule}", {"If-Match": "*"}
    span = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T01:00:00Z"}

    def confirmed(verb: str, path: str, body: dict[str, object]) -> None:
        unsaid = client.request(verb, path, json=body, headers=whatever)
        assert unsaid.status_code == 422, path
        (wrong,) = unsaid.json()["errors"]
        assert (wrong["field"], wrong["allowed"]) == ("confirm", schedule), path
        said = client.request(verb, path, json={**body, "confirm": schedule}, headers=whatever)
        assert said.status_code == 200, said.text

    confirmed("POST", f"{url}/trigger", {"overlap": overlap})
    assert client.post(f"{url}/backfill", json={**span, "overlap": overlap, "preview": True}).status_code == 200
    confirmed("POST", f"{url}/backfill", {**span, "overlap": overlap})
    confirmed("PUT", url, {"overlap": overlap})
    kept = client.put(url, json={"overlap": overlap, "note": "the same policy"}, headers=whatever)
    assert kept.status_code == 200, "it has that policy already"
    confirmed("POST", f"{url}/trigger", {})
    assert client.post(f"{url}/trigger", json={"overlap": "Skip"}).status_code == 200


def test_if_match_of_a_schedule_and_a_queue(client: TestClient, schedule: str) -> None:
    url = f"{ROOT}/schedules/{schedule}"
    seen = client.get(url).headers["etag"]
    whatever = {"If-Match": "*"}
    for stale in (f"W/{seen}", '"98"', f'W/{seen}, "98", "99"'):
        assert client.put(url, json={"note": "no"}, headers={"If-Match": stale}).status_code == 412, stale
    listed = client.put(url, json={"note": "one of two"}, headers={"If-Match": f'"98", {seen}'})
    assert (listed.status_code, listed.json()["note"]) == (200, "one of two")
    assert client.put(url, json={"note": "any"}, headers=whatever).json()["note"] == "any"
    assert client.post(f"{url}/resume", json={"note": "go"}, headers=whatever).json()["paused"] is False
    assert client.post(f"{url}/pause", json={"note": "wait"}, headers={"If-Match": f"W/{seen}"}).status_code == 412
    assert client.post(f"{url}/pause", json={"note": "wait"}, headers=whatever).json()["note"] == "wait"
    assert client.delete(url, headers=whatever, params={"confirm": schedule}).status_code == 204
    for verb, path in (("PUT", url), ("POST", f"{url}/pause"), ("DELETE", url)):
        body = None if verb == "DELETE" else {"note": "x"}
        assert client.request(verb, path, json=body, headers=whatever).status_code == 404, verb
    limit = f"{ROOT}/queues/pilothouse/rate-limit"
    body = {"requests_per_second": 9_000}
    assert client.put(limit, json=body, headers={"If-Match": 'W/"0"'}).status_code == 412
    done = client.put(limit, json=body, headers=whatever)
    assert done.json()["activity"]["limit"]["rate"] == 9_000
    assert client.delete(limit, headers={"If-Match": f'"77777", {done.headers["etag"]}'}).status_code == 200


def test_inputs_need_a_permission(client: TestClient, platform: Platform, schedule: str) -> None:
    assert "acme" in client.get(f"{ROOT}/schedules/{schedule}").text
    token = apitokens.create(platform, SYSTEM, "v", frozenset({"ai_viewer"}))
    seen = client.get(f"{ROOT}/schedules/{schedule}", headers={"Authorization": f"Bearer {token}"})
    assert seen.json()["input"]["masked"] is True
    assert "acme" not in seen.text


def test_a_queue_is_limited_and_set_free(client: TestClient, platform: Platform) -> None:
    assert "pilothouse" in [one["name"] for one in client.get(f"{ROOT}/queues").json()["items"]]
    url = f"{ROOT}/queues/pilothouse"
    tag = {"If-Match": client.get(url).headers["etag"]}
    body = {"requests_per_second": 0, "reason": "hold"}
    unsaid = client.put(f"{url}/rate-limit", json=body, headers=tag)
    assert (unsaid.status_code, unsaid.json()["errors"][0]["allowed"]) == (422, "pilothouse")
    body["confirm"] = "pilothouse"
    assert client.put(f"{url}/rate-limit", json=body).status_code == 428
    done = client.put(f"{url}/rate-limit", json=body, headers=tag)
    assert (done.status_code, done.json()["activity"]["limit"]["rate"]) == (200, 0)
    assert client.put(f"{url}/rate-limit", json=body, headers=tag).status_code == 412
    now = {"If-Match": done.headers["etag"]}
    for wrong in ({"requests_per_second": -1}, {"requests_per_second": 5, "kind": "workflow"}):
        refused = client.put(f"{url}/rate-limit", json=wrong, headers=now)
        assert refused.status_code == 422, refused.text
    free = client.delete(f"{url}/rate-limit", headers=now)
    assert free.json()["activity"]["limit"]["rate"] is None
    assert client.get(f"{ROOT}/workers").status_code == 200
