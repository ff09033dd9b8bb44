"""The SMTP adapter on a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.core import State
from adapters.core.probe import probe
from adapters.smtp import SMTP, SMTPConfig
from sandbox.faults import Fault
from sandbox.inprocess import Services


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    made = Services(Path(tmp_path_factory.mktemp("smtp")))
    yield made
    made.close()


def adapter(services: Services, **more: Any) -> SMTP:
    return SMTP(SMTPConfig(host="127.0.0.1", port=services.port("smtp"), **more))


def test_a_well_server_takes_mail_and_says_what_it_can(services: Services) -> None:
    made = adapter(services)
    sample = probe(made)
    assert sample.health.state is State.HEALTHY, sample.health
    assert sample.headline is not None
    assert sample.headline.name == "latency"
    assert next(m for m in sample.metrics if m.name == "size_limit").value == 10 * 1024 * 1024
    assert {s.name for s in made.settings()} >= {"greeting", "tls", "authentication", "size"}


def test_signing_in_works_and_a_wrong_password_is_denied(services: Services) -> None:
    name, password = services.secrets["smtp_username"], services.secrets["smtp_password"]
    assert probe(adapter(services, username=name, password=SecretStr(password))).health.state is State.HEALTHY
    health = probe(adapter(services, username=name, password=SecretStr("canary-pw"))).health
    assert (health.state, health.kind) == (State.DOWN, "Denied")
    assert "canary-pw" not in health.detail


def test_starttls_that_is_not_offered_is_rejected(services: Services) -> None:
    health = probe(adapter(services, starttls=True)).health
    assert (health.state, health.kind) == (State.DOWN, "Rejected")
    assert "STARTTLS" in health.message


@pytest.mark.parametrize("fault", list(Fault))
def test_faults_are_a_health_in_time(services: Services, fault: Fault) -> None:
    made = adapter(services)
    services.fault("smtp", fault)
    try:
        start = time.monotonic()
        health = probe(made).health
        assert time.monotonic() - start < 3.4
        assert health.state in (State.DOWN, State.NO_ANSWER), health
    finally:
        services.fault("smtp", None)
