"""The rate limits page with 10,000 tenants and 5,000 overrides: server CPU per rerun of each face."""

from __future__ import annotations

import time
import tomllib
from urllib.parse import quote_plus

import httpx
import psycopg

from benchmarks.console import Console, settle
from benchmarks.table import Row, quantile
from benchmarks.visitor import Visitor

TENANTS, OVERRIDES, BATCHES, RERUNS = 10_000, 5_000, 7, 12
PAGE = "redis-ratelimits"
FACES = ("Policies", "Tiers", "Overrides", "Live", "Explain", "What if", "History", "Import and export")


def fill(console: Console) -> None:
    """Put the crowd into the sandbox's database."""
    settings = tomllib.loads((console.folder / "pilothouse.toml").read_text(encoding="utf-8"))
    with psycopg.connect(settings["database_url"]) as connection:
        connection.execute(
            "INSERT INTO tenants (id, name, tier_code) SELECT 'crowd-' || n, 'Crowd ' || n, "
            "(ARRAY['free', 'starter', 'team', 'enterprise'])[1 + n %% 4] FROM generate_series(1, %s) n",
            (TENANTS,),
        )
        connection.execute(
            "INSERT INTO rate_limit_policies (key, scope, tenant_id, limit_value, reason, owner, version) "
            "SELECT 'api_calls', 'TENANT', 'crowd-' || n, n, 'crowd', 'bench', 1 FROM generate_series(1, %s) n",
            (OVERRIDES,),
        )
        connection.execute("UPDATE rate_limit_keys SET version = version + 1 WHERE key = 'api_calls'")


async def cost(console: Console, cookie: str) -> list[Row]:
    """CPU (median of some batches) and median time per rerun of each face, background work subtracted."""
    fill(console)
    reconcile = f"{console.url}/api/v2/infrastructure/ratelimits/reconcile"
    httpx.post(reconcile, headers={"authorization": f"Bearer {console.token()}"}, timeout=60).raise_for_status()
    start_cpu, start = console.cpu_seconds(), time.monotonic()
    settle(6)
    idle = (console.cpu_seconds() - start_cpu) / (time.monotonic() - start)
    rows = []
    for face in FACES:
        query = f"face={quote_plus(face)}"
        async with Visitor(console.url, cookie) as person:
            for _ in range(3):
                await person.run(PAGE, query)
            waits: list[float] = []
            costs = []
            for _ in range(BATCHES):  # the sampler's bursts hit some of them
                cpu, begun = console.cpu_seconds(), time.monotonic()
                waits += [(await person.run(PAGE, query)).seconds for _ in range(RERUNS)]
                spent = console.cpu_seconds() - cpu - idle * (time.monotonic() - begun)
                costs.append(max(0.0, spent) / RERUNS)
        each = quantile(costs, 0.5)
        figure = f"{each * 1000:5.1f} ms CPU   {quantile(waits, 0.5) * 1000:6.1f} ms"
        rows.append(Row(f"{TENANTS:,} tenants, {OVERRIDES:,} overrides: {face}", figure, "CPU < 25 ms", each < 0.025))
    return rows
