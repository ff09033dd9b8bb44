"""Every adapter against everything a network and a service can do: a Health in time, never an exception, no leak."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.core import Adapter, State, adapter_classes
from adapters.core.probe import probe
from tests.support_faulty import BODIES, FAULTS, FaultyServer, no_leaks

CANARY = "canary-Zq81xW"
DEADLINE_SECONDS = 3.0

ADDRESSES: dict[str, Callable[[int], dict[str, Any]]] = {
    "postgresql": lambda port: {"url": f"postgresql://user:{CANARY}@127.0.0.1:{port}/db"},
    "redis": lambda port: {"url": f"redis://:{CANARY}@127.0.0.1:{port}/0"},
    "temporal": lambda port: {"address": f"127.0.0.1:{port}", "api_key": CANARY},
    "mcp": lambda port: {"servers": f"one=http://127.0.0.1:{port}/mcp", "tokens": f"one={CANARY}"},
    "s3": lambda port: {"endpoint_url": f"http://127.0.0.1:{port}", "access_key": CANARY, "secret_key": CANARY},
    "smtp": lambda port: {"host": "127.0.0.1", "port": port, "username": "user", "password": CANARY},
}
"""How an adapter is pointed at a port, where it takes something else than ``url``."""


def made(slug: str, port: int) -> Adapter[Any]:
    """The adapter, configured for 127.0.0.1:port with every secret set to the canary."""
    cls = adapter_classes()[slug]
    config = cls.config_class()
    if slug in ADDRESSES:
        return cls(config.model_validate(ADDRESSES[slug](port)))
    values: dict[str, Any] = {}
    for name, info in config.model_fields.items():
        if name == "url":
            values[name] = f"http://127.0.0.1:{port}"
        elif SecretStr in getattr(info.annotation, "__args__", (info.annotation,)):
            values[name] = CANARY
        elif isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("required"):
            values[name] = "any"
    return cls(config.model_validate(values))


@pytest.fixture(scope="module", autouse=True)
def what_a_process_has_once() -> None:
    """The shared event loop and the libraries' own runtimes open their sockets on first use, and keep them."""
    for slug in adapter_classes():
        adapter = made(slug, 1)
        probe(adapter)
        adapter.close()


@pytest.mark.parametrize("behaviour", [*FAULTS, *BODIES])
@pytest.mark.parametrize("slug", adapter_classes())
def test_a_broken_service_is_a_health_in_time(slug: str, behaviour: str) -> None:
    with no_leaks(ignore_threads=("adapter-loop", "asyncio_", "probe")), FaultyServer(behaviour) as server:
        adapter = made(slug, server.port)
        start = time.monotonic()
        health = probe(adapter, DEADLINE_SECONDS).health
        took = time.monotonic() - start
        adapter.close()
    assert took < DEADLINE_SECONDS + 0.4
    if behaviour in FAULTS:
        assert health.state in (State.DOWN, State.NO_ANSWER), health
    if behaviour in ("hang", "drip") and slug not in ("postgresql", "temporal"):
        assert health.state is State.NO_ANSWER, health
    assert health.message
    assert health.service == slug
    assert health.kind != "AttributeError"
    assert CANARY not in repr(dataclasses.asdict(health))


@pytest.mark.parametrize("slug", adapter_classes())
def test_an_adapter_without_configuration_says_what_to_set(slug: str) -> None:
    cls = adapter_classes()[slug]
    adapter = cls(cls.config_class()())
    if not adapter.config.missing():
        pytest.skip("everything this service needs has a default")
    with no_leaks(ignore_threads=("adapter-loop", "asyncio_", "probe")):
        health = probe(adapter).health
        adapter.close()
    assert health.state is State.UNCONFIGURED
    assert f"PILOTHOUSE_{slug.upper()}_" in health.message


@pytest.mark.parametrize("slug", adapter_classes())
def test_making_and_closing_an_adapter_touches_nothing(slug: str) -> None:
    with no_leaks():
        adapter = made(slug, 1)
        adapter.close()
        adapter.close()


@pytest.mark.parametrize("slug", adapter_classes())
def test_no_secret_stands_in_the_configuration_as_printed(slug: str) -> None:
    assert CANARY not in repr(made(slug, 1).config)
