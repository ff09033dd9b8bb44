"""Limiters of one process read what is announced once, and share nothing that changes."""

from __future__ import annotations

import json

from limiter import Rule
from limiter.table import Fetched, Table


def test_tables_that_follow_the_same_change_share_nothing_that_changes() -> None:
    config = json.dumps({"limit": 2, "window_seconds": 60, "policy": "HARD", "tiers": {"team": {"limit": 3}}})
    message = json.dumps(["calls", "1", "2", "1", config, ["tenant:acme", json.dumps({"limit": 5})]])
    tables = [Table(), Table()]
    for table in tables:
        table.apply("calls", Fetched(json.dumps({"limit": 1}), 1, 1, False, []), [])
        assert table.follow(message) == "calls"
    one, two = (table.keys["calls"] for table in tables)
    assert one == two
    assert one.tiers == {"team": Rule(3)}
    one.tiers.clear()
    one.put("tenant:acme", None)
    assert two.tiers == {"team": Rule(3)} and two.tenants == {"acme": Rule(5)}
    assert tables[1].follow(message) is None, "it is there already"
