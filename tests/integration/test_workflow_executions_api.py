"""Executions over HTTP, against a real Temporal server."""

from __future__ import annotations

import os

import pytest
from starlette.testclient import TestClient

from api import create_api
from operations import apitokens, workflow_detail
from operations.access import SYSTEM
from operations.platform import Platform

pytestmark = pytest.mark.engines
ROOT = "/infrastructure/temporal/executions"


def test_one_is_started_under_any_id_found_where_it_says_and_masked(platform: Platform) -> None:
    token = {
        role: f"Bearer {apitokens.create(platform, SYSTEM, role, frozenset({role}))}"
        for role in ("infra_admin", "ai_viewer")
    }
    ident = f"größe/日本 {os.getpid()}"
    wanted = {"type": "Nobody", "task_queue": f"api-{os.getpid()}", "id": ident, "input": ["a private word"]}
    with TestClient(create_api(platform)) as client:
        client.headers["Authorization"] = token["infra_admin"]
        begun = client.post(ROOT, json=wanted)
        assert begun.status_code == 201, begun.text
        address = begun.headers["Location"].removeprefix("/api/v2")
        assert "a private word" in client.get(address).text
        client.headers["Authorization"] = token["ai_viewer"]
        seen = client.get(address)
        assert seen.status_code == 200 and seen.json()["id"] == ident
        assert "a private word" not in seen.text and workflow_detail.MASK in seen.text
        client.headers["Authorization"] = token["infra_admin"]
        for verb, body in (("cancel", {}), ("terminate", {"confirm": f"{ident}."}), ("reset", {"event": 4})):
            refused = client.post(address.replace("?", f"/{verb}?"), json=body)
            assert refused.status_code == 422, verb
            (wrong,) = refused.json()["errors"]
            assert (wrong["field"], wrong["allowed"]) == ("confirm", ident), verb
        assert client.get(address).json()["status"] == "Running"
        for verb, status in (("cancel", 202), ("terminate", 200)):
            ended = client.post(address.replace("?", f"/{verb}?"), json={"reason": "over", "confirm": ident})
            assert ended.status_code == status, ended.text
