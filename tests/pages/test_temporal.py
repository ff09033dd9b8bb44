"""Status of Temporal: the connection and the workflow types, with all well and with everything that can go wrong."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from adapters import temporal
from api import create_api
from operations import apitokens, health, workflow_types
from operations.access import SYSTEM
from operations.platform import Platform
from sandbox.engines import Temporal
from sandbox.inprocess import Services
from tests.pages.driver import opened, signed_in, texts
from tests.support import poll, start_engine
from tests.support_temporal import made

pytestmark = pytest.mark.engines
KEPT = "Shown below is what was known"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings are refreshed several times a second, so that nothing here waits for their usual rhythm."""
    for name in ("LOOK_S", "EVERY_S"):
        monkeypatch.setattr(workflow_types, name, 0.2)
    monkeypatch.setattr(workflow_types, "SHARE", 0.0)
    monkeypatch.setattr(temporal, "MANY_SECONDS", 3.0)


@pytest.fixture
def kind(temporal_address: str, standins: Services) -> str:
    """A type of this test alone: one running, two completed, three failed."""
    name = f"Page{uuid.uuid4().hex[:8]}"
    made(temporal_address, name, ["running", "completed", "completed", "failed", "failed", "failed"])
    return name


def drawn(platform: Platform, sid: str, *words: str, seconds: float = 15) -> str:
    """The page's text once it says all the words."""

    def said() -> str:
        app = opened("temporal", sid)
        assert not app.exception, app.exception[0].value
        text = texts(app)
        return text if all(word in text for word in words) else ""

    return poll(said, seconds, every=0.1, what=f"the page says {words}")


def row(text: str, kind: str) -> str:
    """The table's row of a type."""
    start = text.index(f"<b>{kind}</b>")
    return text[start : text.index("</tr>", start)]


def test_the_connection_and_a_row_per_type(platform: Platform, kind: str) -> None:
    text = drawn(platform, signed_in(platform, "infra_admin"), f"<b>{kind}</b>", "p95", "card 4711 was refused")
    for words in ("Connected (", "Namespace", "Server version", "Latency", "reachable", "Retention", "usage-sync"):
        assert words in text
    cells = row(text, kind)
    for status, count in (("", 6), ("Running", 1), ("Pending", 1), ("Failed", 3), ("Completed", 2)):
        wanted = f"face_temporal=Executions&amp;type={kind}" + (f"&amp;status={status}" if status else "")
        assert f'{wanted}&amp;hours=24" target="_self">{count}</a>' in cells, status
    assert "60 %" in cells
    assert "Refused</b> in charge_card" in cells


def test_what_a_failure_repeats_of_the_input_is_for_who_may_read_payloads(platform: Platform, kind: str) -> None:
    text = drawn(platform, signed_in(platform, "analyst"), f"<b>{kind}</b>", "Refused</b> in charge_card")
    assert "4711" not in text
    assert "those who may read payloads" in text


def test_programs_read_the_same(platform: Platform, kind: str) -> None:
    with TestClient(create_api(platform)) as client:

        def asked(role: str) -> dict[str, object]:
            token = apitokens.create(platform, SYSTEM, role, frozenset({role}))
            headers = {"Authorization": f"Bearer {token}"}

            def found() -> dict[str, object] | None:
                answer = client.get("/infrastructure/temporal/workflows", params={"hours": 1}, headers=headers)
                assert answer.status_code == 200, answer.text
                one = next((item for item in answer.json()["items"] if item["type"] == kind), None)
                return one if one and one["last_failure"] else None

            return poll(found) or {}

        one = asked("infra_admin")
        assert (one["count"], one["running"], one["pending"], one["completed"], one["failed"]) == (6, 1, 1, 2, 3)
        assert one["failure_rate_percent"] == 60.0
        assert one["last_failure"]["message"] == "card 4711 was refused"  # type: ignore[index]
        assert asked("analyst")["last_failure"]["message"] is None  # type: ignore[index]
        headers = {"Authorization": f"Bearer {apitokens.create(platform, SYSTEM, 'x', frozenset({'analyst'}))}"}
        whole = client.get("/infrastructure/temporal/workflows", headers=headers).json()
        assert (whole["late"], whole["unknown"], whole["pending_complete"]) == ([], 0, True)
        assert client.get("/infrastructure/temporal/workflows?hours=5", headers=headers).status_code == 422


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("refuse", "No connection to Temporal"),
        ("hang", "Temporal did not answer in time"),
        ("drip", "Temporal did not answer in time"),
        ("401", "Temporal refused the console's credentials"),
    ],
)
def test_the_last_known_numbers_stay_and_come_alive_again(
    platform: Platform, kind: str, standins: Services, fault: str, sentence: str
) -> None:
    sid = signed_in(platform, "infra_admin")
    drawn(platform, sid, f"<b>{kind}</b>", "Connected (")
    standins.fault("temporal", fault)
    text = drawn(platform, sid, sentence, "Could not read the workflows", "Not connected (", KEPT)
    assert f"<b>{kind}</b>" in text
    standins.fault("temporal", None)
    poll(lambda: "Could not read" not in drawn(platform, sid, "Connected ("), 20, every=0.2)


def test_nobody_waits_for_a_server_that_hangs(platform: Platform, standins: Services) -> None:
    sid = signed_in(platform, "infra_admin")
    opened("temporal", sid)
    platform.readings.forget("temporal:")
    standins.fault("temporal", "hang")
    begun = time.monotonic()
    text = texts(opened("temporal", sid))
    assert time.monotonic() - begun < 6, "the server would be waited for longer than that"
    assert "Connecting…" in text
    assert "Reading the workflows…" in text


def test_a_missing_namespace_is_named(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_TEMPORAL_NAMESPACE", "nowhere")
    platform.reload("temporal")
    health.refresh(platform, SYSTEM)
    drawn(platform, signed_in(platform, "infra_admin"), "Temporal has no namespace nowhere", "Create the namespace")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Temporal]:
    """A server of this test alone, which keeps its executions through a restart."""
    engine = start_engine(lambda port: Temporal(tmp_path / f"temporal-{port}", port, durable=True))
    yield engine
    engine.kill()


def test_a_restarted_server_is_found_again(platform: Platform, own: Temporal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_TEMPORAL_ADDRESS", own.url)
    platform.reload("temporal")
    made(own.url, "Before", ["completed"])
    sid = signed_in(platform, "infra_admin")
    drawn(platform, sid, "<b>Before</b>", f"Connected ({own.url})")
    own.kill()
    drawn(platform, sid, "No connection to Temporal", KEPT, "<b>Before</b>")
    own.start()
    made(own.url, "After", ["completed"])
    text = drawn(platform, sid, "<b>Before</b>", "<b>After</b>", f"Connected ({own.url})", seconds=20)
    assert "Could not read" not in text
