"""What a run tells of its steps, by who asks: its words quote what it was given and why it failed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from operations import workflow_detail
from operations.access import Actor
from operations.readings import Readings
from tests.support import poll

TOLD = {
    "sentence": "Making Acme in every system.",
    "steps": [
        {"name": "welcome", "title": "Welcome mail", "state": "done", "detail": "On its way to owner@acme.test."}
    ],
}


def test_without_the_permission_the_steps_stay_and_the_words_go() -> None:
    readings = Readings(1)
    temporal = SimpleNamespace(config=SimpleNamespace(namespace="default"), call=lambda work: TOLD)
    platform: Any = SimpleNamespace(adapters={"temporal": temporal}, readings=readings)
    of: Any = SimpleNamespace(execution=SimpleNamespace(id="tenant-provisioning/acme", run_id="1", status="Completed"))
    ivo, vera = Actor("ivo", "Ivo", frozenset({"infra_admin"})), Actor("vera", "Vera", frozenset({"ai_viewer"}))
    try:
        shown = poll(lambda: workflow_detail.asked(platform, ivo, of).value)
        masked = poll(lambda: workflow_detail.asked(platform, vera, of).value)
    finally:
        readings.close()
    assert shown.sentence and "owner@acme.test" in shown.steps[0].detail
    assert (masked.sentence, masked.steps[0].detail) == ("", "")
    assert (masked.steps[0].title, masked.steps[0].state) == ("Welcome mail", "done")
    asked = workflow_detail.progress(platform, vera, "tenant-provisioning/acme", "1")
    assert (asked.sentence, asked.steps[0].detail) == ("", "")
