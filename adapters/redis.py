"""Redis, or Valkey: the wire of policies, counters and sessions. Never asks KEYS, never scans."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import redis
from pydantic import Field, SecretStr

from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import deadline, remaining
from adapters.core.errors import AdapterError, Denied, Rejected, TimedOut, Unexpected, Unreachable
from adapters.core.model import Category, Health, Metric, Service, Setting, State, Unit
from adapters.core.redact import redact
from adapters.redis_client.connection import bounded_pool

SETTINGS_SHOWN = 500
NEARLY_FULL_PERCENT = 95.0


class RedisConfig(ServiceConfig):
    """How to reach a Redis or Valkey server."""

    url: SecretStr | None = Field(
        None,
        title="Address",
        description="redis://user:password@host:port/database, rediss:// for TLS; the console's own where not set.",
        json_schema_extra={"required": True},
    )


@dataclass(frozen=True, slots=True)
class SlowCommand:
    """One entry of the slow log; ``took_us`` in microseconds, ``at`` in Unix seconds."""

    id: int
    at: int
    took_us: int
    command: str
    client: str


@dataclass(frozen=True, slots=True)
class CommandStats:
    """What the server spent on one command; times in microseconds."""

    name: str
    calls: int
    total_us: int
    per_call_us: float
    failed: int


class Redis(Adapter[RedisConfig]):
    """One Redis or Valkey server."""

    service = Service(
        slug="redis",
        title="Redis",
        category=Category.DATA,
        path="/platform/infrastructure/redis",
        purpose="Carries rate-limit policies and counters to everything that enforces them.",
        affects="rate limits, live usage and the speed of saving changes",
        order=20,
    )

    def __init__(self, config: RedisConfig) -> None:
        super().__init__(config)
        self._opening = threading.Lock()

    @cached_property
    def _client(self) -> redis.Redis:
        self.require_config()
        assert self.config.url is not None
        try:
            return redis.Redis(connection_pool=bounded_pool(self.config.url.get_secret_value()))
        except ValueError as error:
            raise Rejected("The address of Redis is not a redis:// address.", detail=self._redact(error)) from error

    def health(self) -> Health:
        """PING and INFO; degraded where saving, memory or the link to a primary are in trouble."""
        with self._asking() as client:
            client.ping()
            info = self._info(client)
        name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
        version = f"{name} {info.get('valkey_version') or info.get('redis_version', '')}".strip()
        if wrong := _trouble(info):
            return Health(State.DEGRADED, wrong, version)
        return Health(State.HEALTHY, "Answers, and has memory to spare.", version)

    def metrics(self) -> Sequence[Metric]:
        """Latency of a PING (headline), memory, clients, commands, hit rate, evictions, keys, replicas."""
        with self._asking() as client:
            client.ping()  # a connection that has to be opened first is not the server's latency
            start = time.perf_counter()
            client.ping()
            latency_ms = (time.perf_counter() - start) * 1000
            info = self._info(client)
        hits, misses = _number(info, "keyspace_hits"), _number(info, "keyspace_misses")
        keys = sum(int(v.get("keys", 0)) for k, v in info.items() if k.startswith("db") and isinstance(v, dict))
        expiring = sum(int(v.get("expires", 0)) for k, v in info.items() if k.startswith("db") and isinstance(v, dict))
        used, most = _number(info, "used_memory"), _number(info, "maxmemory")
        found = [
            Metric("latency", "Latency", round(latency_ms, 3), Unit.MILLISECONDS, headline=True),
            Metric("memory", "Memory used", used, Unit.BYTES, note="" if most else "no limit set"),
            Metric("clients", "Clients", _number(info, "connected_clients")),
            Metric("blocked_clients", "Blocked clients", _number(info, "blocked_clients")),
            Metric("commands", "Commands", _number(info, "instantaneous_ops_per_sec"), Unit.PER_SECOND),
            Metric("evictions", "Evicted keys", _number(info, "evicted_keys"), note="since the server started"),
            Metric("keys", "Keys", keys, note=f"{expiring} with an expiry"),
            Metric("replicas", "Replicas", _number(info, "connected_slaves"), note=str(info.get("role", ""))),
            Metric("rejected", "Refused connections", _number(info, "rejected_connections")),
        ]
        if most:
            found.append(Metric("memory_percent", "Memory of maximum", round(100 * used / most, 1), Unit.PERCENT))
        if hits + misses:
            found.append(Metric("hit_rate", "Hit rate", round(100 * hits / (hits + misses), 2), Unit.PERCENT))
        return found

    def settings(self) -> Sequence[Setting]:
        """CONFIG GET, at most 500 settings; passwords masked. Raises Denied where the server forbids CONFIG."""
        with self._asking() as client:
            found: Any = client.config_get("*")
        if not isinstance(found, dict):
            raise Unexpected("Redis answered CONFIG GET with something else than settings.")
        return [
            Setting(name, SecretStr(str(value)) if value and _secret(name) else redact(value), group=_group(name))
            for name, value in sorted(found.items())[:SETTINGS_SHOWN]
        ]

    def info(self) -> dict[str, Any]:
        """Everything of INFO, parsed by redis-py."""
        with self._asking() as client:
            return self._info(client)

    def slowlog(self, limit: int = 50) -> list[SlowCommand]:
        """The slowest commands lately, newest first, at most 128."""
        with self._asking() as client:
            rows: Any = client.slowlog_get(min(limit, 128))
        return [
            SlowCommand(
                int(row.get("id", 0)),
                int(row.get("start_time", 0)),
                int(row.get("duration", 0)),
                redact(_text(row.get("command", "")))[:300],
                _text(row.get("client_address", "")),
            )
            for row in rows
        ]

    def command_stats(self) -> list[CommandStats]:
        """What each command cost since the server started, dearest first, at most 100."""
        with self._asking() as client:
            info: Any = client.info("commandstats")
        rows = [
            CommandStats(
                name.removeprefix("cmdstat_"),
                int(row.get("calls", 0)),
                int(row.get("usec", 0)),
                float(row.get("usec_per_call", 0)),
                int(row.get("failed_calls", 0)),
            )
            for name, row in info.items()
            if name.startswith("cmdstat_") and isinstance(row, dict)
        ]
        return sorted(rows, key=lambda row: -row.total_us)[:100]

    def close(self) -> None:
        """Close the console's connections to the server."""
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.connection_pool.disconnect()

    def _info(self, client: redis.Redis) -> dict[str, Any]:
        info = client.info()
        if not isinstance(info, dict) or "used_memory" not in info:
            raise Unexpected("What answers at this address does not speak like Redis.", detail=redact(str(info)[:300]))
        return info

    def _redact(self, error: object) -> str:
        return redact(error, self.config.url)

    @contextmanager
    def _asking(self) -> Iterator[redis.Redis]:
        """The client, for a block within one deadline; its errors leave as AdapterError."""
        with deadline():
            with self._opening:
                client = self._client
            try:
                yield client
            except AdapterError:
                raise
            except redis.AuthenticationError as error:
                raise Denied("Redis refused the console's password.", detail=self._redact(error)) from error
            except (redis.exceptions.AuthorizationError, redis.exceptions.NoPermissionError) as error:
                raise Denied("The console's user may not ask Redis this.", detail=self._redact(error)) from error
            except redis.exceptions.BusyLoadingError as error:
                raise Unreachable("Redis is loading its data and does not answer yet.", detail=str(error)) from error
            except (redis.TimeoutError, TimeoutError) as error:
                raise TimedOut("Redis did not answer in time.", detail=self._redact(error)) from error
            except (redis.ConnectionError, OSError) as error:
                raise self._lost(error) from error
            except redis.ResponseError as error:
                kind = Denied if "unknown command" in str(error).lower() else Rejected
                raise kind("Redis refused the command.", detail=self._redact(error)) from error
            except (redis.RedisError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                sentence = "What answers at this address does not speak like Redis."
                raise Unexpected(sentence, detail=self._redact(f"{type(error).__name__}: {error}")) from error

    def _lost(self, error: Exception) -> AdapterError:
        try:
            remaining()
        except TimedOut as late:  # cut off for its slowness: not lost
            return TimedOut("Redis did not answer in time.", detail=late.detail)
        if isinstance(error, redis.exceptions.InvalidResponse) or "Protocol Error" in str(error):
            return Unexpected("What answers at this address does not speak like Redis.", detail=self._redact(error))
        return Unreachable("No connection to Redis.", detail=self._redact(error))


def _number(info: dict[str, Any], name: str) -> float:
    value = info.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _trouble(info: dict[str, Any]) -> str:
    used, most = _number(info, "used_memory"), _number(info, "maxmemory")
    if info.get("role") == "slave":
        up = info.get("master_link_status") == "up"
        return f"A replica answers here: writing fails{'' if up else ', and it has lost its primary'}."
    if info.get("rdb_last_bgsave_status", "ok") != "ok" or info.get("aof_last_write_status", "ok") != "ok":
        return "The last attempt to save to disk failed: a restart would lose data."
    if most and 100 * used / most >= NEARLY_FULL_PERCENT and info.get("maxmemory_policy") == "noeviction":
        return "Nearly out of memory, and set to refuse writes rather than evict."
    return ""


def _secret(name: str) -> bool:
    return name.endswith(("pass", "auth", "password")) or name in ("masteruser", "primaryuser")


def _group(name: str) -> str:
    for prefixes, group in (
        (("maxmemory", "lazyfree", "active-defrag", "activedefrag", "lfu"), "Memory"),
        (("save", "rdb", "append", "aof", "dbfilename", "dir", "stop-writes"), "Persistence"),
        (("repl", "slave", "master", "min-", "primary"), "Replication"),
        (("tls", "requirepass", "acl", "protected", "aclfile"), "Security"),
        (("bind", "port", "tcp", "timeout", "unixsocket", "maxclients", "client", "io-"), "Network"),
        (("cluster",), "Cluster"),
        (("slowlog", "latency", "log", "syslog", "commandlog"), "Logging"),
    ):
        if name.startswith(prefixes):
            return group
    return "General"
