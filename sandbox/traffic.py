"""Light, continuous demo traffic straight to the sandbox's services, so that their numbers move.

It does not pass the fault proxies: what those count is the console's own. ``python -m sandbox.traffic PLAN.json``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import signal
import smtplib
import sys
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis as sync_redis
import redis.asyncio as redis

from limiter import Limiter
from sandbox.demo.world import TIER, Tenant, usage_of_day, world

log = logging.getLogger("traffic")
PRODUCT_ROWS = 20_000
CALLERS = 12
"""Tenants whose calls pass the rate limits."""
HISTORY = 60
"""Finished workflows made at the first start."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text NOT NULL, agent text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(), closed_at timestamptz);
CREATE TABLE IF NOT EXISTS messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, conversation bigint NOT NULL, body text NOT NULL,
    at timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS messages_conversation ON messages (conversation);
CREATE INDEX IF NOT EXISTS messages_body ON messages (md5(body));
"""


class Traffic:
    """Everything the pretended product does, each at its own pace."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.secrets: dict[str, str] = plan["secrets"]
        self.back: dict[str, int] = plan["back"]
        self.seed: int = plan["seed"]
        self.rng = random.Random()
        self.world = world(self.seed, date.fromisoformat(plan["today"]))
        self.tenants = [tenant for tenant in self.world.tenants if tenant.status != "closed"]
        self.http = httpx.AsyncClient(timeout=5, trust_env=False, limits=httpx.Limits(max_keepalive_connections=8))
        self.redis: redis.Redis = redis.Redis.from_url(plan["redis"], db=1, socket_timeout=2)
        self.limiter: Limiter | None = None
        self.sql: psycopg.AsyncConnection[Any] | None = None
        self.temporal: Any = None

    def url(self, name: str, path: str) -> str:
        """An address of a service, behind the proxy."""
        return f"http://127.0.0.1:{self.back[name]}{path}"

    def tenant(self) -> Tenant:
        """Some tenant; larger ones more often."""
        return self.rng.choices(self.tenants, [TIER[one.tier].rank ** 2 for one in self.tenants])[0]

    # One round of each kind

    async def database(self) -> None:
        """Conversations and messages in a database of their own."""
        if self.sql is None or self.sql.closed:
            server = self.plan["database"].rsplit("/", 1)[0]
            async with await psycopg.AsyncConnection.connect(f"{server}/postgres", autocommit=True) as admin:
                with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                    await admin.execute("CREATE DATABASE product")
            self.sql = await psycopg.AsyncConnection.connect(
                f"{server}/product", autocommit=True, application_name="product"
            )
            await self.sql.execute(_SCHEMA)
        tenant, sql = self.tenant(), self.sql
        agent = self.rng.choice(tenant.agents).name
        found = await sql.execute(
            "INSERT INTO conversations (tenant, agent) VALUES (%s, %s) RETURNING id", (tenant.id, agent)
        )
        (ident,) = await found.fetchone() or (0,)
        for _ in range(self.rng.randrange(1, 6)):
            body = " ".join(
                self.rng.choices(("please", "book", "refund", "tomorrow", "invoice", "thanks", "call"), k=12)
            )
            await sql.execute("INSERT INTO messages (conversation, body) VALUES (%s, %s)", (ident, body))
        await sql.execute("SELECT count(*) FROM messages WHERE conversation > %s", (ident - 50,))
        await sql.execute(
            "UPDATE conversations SET closed_at = now() WHERE id = %s", (ident - self.rng.randrange(1, 9),)
        )
        if ident % 500 == 0:
            await sql.execute("DELETE FROM messages WHERE conversation < %s", (ident - PRODUCT_ROWS // 3,))
            await sql.execute("DELETE FROM conversations WHERE id < %s", (ident - PRODUCT_ROWS // 3,))

    async def cache(self) -> None:
        """Sessions, counters and a queue."""
        tenant = self.tenant().id
        pipe = self.redis.pipeline(transaction=False)
        pipe.set(f"product:session:{uuid.uuid4().hex[:12]}", tenant, ex=self.rng.randrange(60, 900))
        pipe.incr(f"product:calls:{tenant}")
        pipe.hincrby("product:tokens", tenant, self.rng.randrange(50, 4000))
        pipe.lpush("product:jobs", tenant)
        pipe.ltrim("product:jobs", 0, 200)
        pipe.get(f"product:profile:{self.rng.randrange(50)}")
        await pipe.execute()

    async def workflow(self) -> None:
        """Start one workflow."""
        if self.temporal is None:
            return
        await self._start_workflow()

    async def vectors(self) -> None:
        """A search for memories."""
        headers = {"api-key": self.secrets["qdrant_api_key"]}
        listed = (await self.http.get(self.url("qdrant", "/collections"), headers=headers)).json()
        names = [one["name"] for one in listed["result"]["collections"]]
        if not names:
            return
        name = self.rng.choice(names)
        described = (await self.http.get(self.url("qdrant", f"/collections/{name}"), headers=headers)).json()
        size = described["result"]["config"]["params"]["vectors"].get("size")
        if size:
            query = {"query": [self.rng.uniform(-1, 1) for _ in range(size)], "limit": 5}
            await self.http.post(self.url("qdrant", f"/collections/{name}/points/query"), json=query, headers=headers)

    async def storage(self) -> None:
        """An upload; the hundredth replaces the first."""
        key = f"/pilothouse-uploads/uploads/live/{self.rng.randrange(100):03d}.pdf"
        await self.http.put(self.url("s3", key), content=b"\0" * self.rng.randrange(2_000, 60_000))

    async def mail(self) -> None:
        """An invitation."""
        message = EmailMessage()
        tenant = self.tenant()
        message["From"], message["To"] = "console@pilothouse.test", tenant.email
        message["Subject"] = self.rng.choice(("Your invitation", "Your weekly report", "Your invoice is ready"))
        message.set_content(f"Hello {tenant.name},\n\nthis is a mail of the demo.\n")

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", self.back["smtp"], timeout=5) as server:
                server.send_message(message)

        await asyncio.to_thread(send)

    async def tools(self) -> None:
        """A tool call on each MCP server."""
        from mcp.client import Client

        for name, tool, arguments in (
            ("mcp-calendar", "list_events", {"day": datetime.now(UTC).date().isoformat()}),
            ("mcp-files", "search_text", {"words": self.rng.choice(("redis", "payment", "welcome"))}),
        ):
            async with Client(self.url(name, "/mcp")) as client:
                await client.call_tool(tool, arguments)

    async def limited(self) -> None:
        """Calls of a few tenants past the rate limits: some use much, some too much."""
        await asyncio.to_thread(self._limited)

    def _limited(self) -> None:
        if self.limiter is None:
            # Behind the proxy, with the library and the policies every service of the product has.
            self.limiter = Limiter(sync_redis.Redis.from_url(self.plan["redis"]), timeout=0.5)
        callers = self.tenants[:: max(1, len(self.tenants) // CALLERS)]
        hurried = next((tenant for tenant in callers if tenant.tier == "free"), callers[0])
        for tenant in callers:
            agent = self.rng.choice(tenant.agents).id if self.rng.random() < 0.5 else None
            # One on the free tier is in a hurry: it reaches its hundred calls within a minute or two.
            for _ in range(2 if tenant is hurried else self.rng.choice((0, 0, 0, 1))):
                self.limiter.check("api_calls", tenant.id, agent)
            if self.rng.random() < 0.3:
                self.limiter.check("llm_tokens", tenant.id, agent, cost=self.rng.randrange(50, 900))
            if self.rng.random() < 0.04:
                self.limiter.check(self.rng.choice(("file_uploads", "voice_minutes")), tenant.id, agent)
            if self.rng.random() < 0.2:
                self.limiter.check("memory_queries", tenant.id, agent)

    async def usage(self) -> None:
        """Days since the last start are filled in; today grows with the hours."""
        today = datetime.now(UTC).date()
        share = (datetime.now(UTC) - datetime.combine(today, datetime.min.time(), UTC)) / timedelta(days=1)
        async with await psycopg.AsyncConnection.connect(self.plan["database"], application_name="product") as sql:
            found = await sql.execute("SELECT coalesce(max(day), %s) FROM usage_daily WHERE day < %s", (today, today))
            (last,) = await found.fetchone() or (today,)
            first = max(last + timedelta(days=1), today - timedelta(days=60))
            days = [first + timedelta(days=number) for number in range((today - first).days + 1)]
            known = await sql.execute("SELECT id, tier_code FROM tenants WHERE status <> 'closed'")
            plans = dict(await known.fetchall())
            for tenant in self.tenants:
                plan = plans.get(tenant.id)
                for day in days if plan in TIER else ():
                    part = share if day == today else 1.0
                    for row in usage_of_day(self.seed, tenant, plan, day):
                        await sql.execute(
                            "INSERT INTO usage_daily (tenant_id, key, day, amount, over, blocked) "
                            "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, key, day) DO UPDATE SET "
                            "amount = greatest(usage_daily.amount, excluded.amount), "
                            "over = greatest(usage_daily.over, excluded.over), "
                            "blocked = greatest(usage_daily.blocked, excluded.blocked)",
                            (row.tenant_id, row.key, row.day, int(row.amount * part), int(row.over * part),
                             int(row.blocked * part)),
                        )  # fmt: skip

    # Running

    async def workflows(self) -> None:
        """The product's Temporal worker, and a past for it at the first start."""
        from temporalio.client import Client

        from sandbox import product_worker

        self.temporal = await Client.connect(f"127.0.0.1:{self.back['temporal']}", identity="product")
        async with product_worker.working(self.temporal, self.plan):
            counted = await self.temporal.count_workflows("TaskQueue = 'product'")
            for _ in range(max(0, HISTORY - counted.count)):
                await self._start_workflow()
                await asyncio.sleep(0.3)
            await asyncio.Event().wait()

    async def _start_workflow(self) -> None:
        from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

        from sandbox import product

        tenant = self.tenant()
        kind, second = product.pick(self.rng)
        await self.temporal.start_workflow(
            kind, args=[tenant.id, second], id=f"{kind}-{tenant.id}-{uuid.uuid4().hex[:8]}",
            task_queue=product.TASK_QUEUE, execution_timeout=timedelta(hours=1),
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(SearchAttributeKey.for_keyword("TenantId"), tenant.id)]
            ),
        )  # fmt: skip

    async def every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do a kind of work for ever; a service that is away is tried again at the next round."""
        while True:
            await asyncio.sleep(seconds * self.rng.uniform(0.6, 1.4))
            try:
                await work()
            except Exception as error:
                log.warning("%s: %s: %s", work.__name__, type(error).__name__, error)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        paces: tuple[tuple[float, Callable[[], Awaitable[None]]], ...] = (
            (1.0, self.cache), (1.0, self.limited), (2.0, self.database), (6.0, self.workflow),
            (8.0, self.vectors), (30.0, self.storage), (30.0, self.tools), (90.0, self.mail), (120.0, self.usage),
        )  # fmt: skip
        tasks = [asyncio.ensure_future(self.every(seconds, work)) for seconds, work in paces]
        tasks.append(asyncio.ensure_future(self.every(5.0, self.workflows)))
        await ended.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.5)


async def main(plan: dict[str, Any]) -> None:
    """Make traffic until a signal comes."""
    await Traffic(plan).run()


if __name__ == "__main__":
    import os

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
    os._exit(0)
