"""Names of everything in Redis, and which hash tag keeps them in one Cluster slot.

The counter of a subject and the statistics its decisions write share one of ``SHARDS`` hash tags,
so one script touches one slot, load spreads over a cluster, and the console reads a fixed number of keys.
"""

from __future__ import annotations

from binascii import crc32

SHARDS = 64
CHANNEL = "ratelimit:invalidate"
CHANGES = CHANNEL + ":changes"
"""Beside the channel: the change itself, so that following it costs no round trip."""
VERSIONS = "ratelimit:versions"
TENANTS = "@tenants"
"""The name under which tenants' tiers travel, beside the keys of policies (which start with a letter)."""
REMOVED = "@removed"
"""The tier of a tenant that is being removed: nothing is admitted, whatever the policies say."""
LONGEST = 256
"""Characters of a key's name that is asked for because somebody announced it."""
RANKS = 4096
"""A subject's place in ``top`` and ``near`` is what it is ranked by, times this, plus the index of its window modulo
this: so a reader, and the script where a set is full, tell those whose window is long over."""
HOUR_TTL = 4 * 86400
MINUTE_TTL = 2 * 3600


def subject(tenant: str | None, agent: str | None = None) -> str:
    """How a tenant, or an agent of a tenant, is called in counters; ``/`` separates, so it is escaped in tenants."""
    name = tenant or "-"
    if "/" in name or "%" in name:
        name = name.replace("%", "%25").replace("/", "%2F")
    return name if agent is None else f"{name}/{agent}"


def split_subject(name: str) -> tuple[str, str | None]:
    """The tenant and agent of a subject."""
    tenant, slash, agent = name.partition("/")
    return tenant.replace("%2F", "/").replace("%25", "%"), agent if slash else None


def shard(key: str, who: str) -> int:
    """The shard of a key's subject: stable across processes and versions."""
    return crc32(f"{key}|{who}".encode()) % SHARDS


def counter(number: int, key: str, who: str, window_seconds: int) -> str:
    """The counter of a subject. Windows of different lengths count apart."""
    return f"rl:{{{number}}}:c:{key}:{window_seconds}:{who}"


def settled(number: int, chain: str) -> str:
    """What was last settled of a chain of leases, and what that granted: see lease.lua."""
    return f"rl:{{{number}}}:l:{chain}"


def minutes(number: int, minute: int) -> str:
    """Hash of outcomes of one minute: ``key|a`` allowed, ``s`` soft over, ``w`` warned, ``b`` blocked."""
    return f"rl:{{{number}}}:m:{minute}"


def hours(number: int, hour: int) -> str:
    """Hash of usage of one hour: ``a|key|subject`` admitted, ``o|…`` over, ``b|…`` blocked."""
    return f"rl:{{{number}}}:u:{hour}"


def actives(number: int, hour: int) -> str:
    """Hash of how many subjects used each key in one hour."""
    return f"rl:{{{number}}}:a:{hour}"


def top(number: int, key: str) -> str:
    """Sorted set of the subjects with most use, bounded; see RANKS."""
    return f"rl:{{{number}}}:top:{key}"


def near(number: int, key: str) -> str:
    """Sorted set of the subjects with the largest share of their limit in percent, bounded; see RANKS."""
    return f"rl:{{{number}}}:near:{key}"


def blocked(number: int) -> str:
    """List of blocked decisions, newest first, bounded."""
    return f"rl:{{{number}}}:b"


def signals(number: int) -> str:
    """Stream of crossings of a warning level or a limit, bounded."""
    return f"rl:{{{number}}}:s"


def forget(number: int, key: str, who: str, window_seconds: int) -> tuple[tuple[str, ...], ...]:
    """The commands that forget what a subject used; the first answers whether there was anything."""
    member = f"{window_seconds * 1000}|{who}"
    return (
        ("DEL", counter(number, key, who, window_seconds)),
        ("ZREM", top(number, key), member),
        ("ZREM", near(number, key), member),
    )


def config(key: str) -> str:
    """The document with a key's GLOBAL and TIER rules."""
    return f"ratelimit:config:{key}"


def overrides(key: str) -> str:
    """Hash of TENANT and AGENT rules. The tag is the config's whole name: same slot."""
    return f"ratelimit:overrides:{{ratelimit:config:{key}}}"


def changes(key: str) -> str:
    """Sorted set of override names by the revision that last changed them, deletions included."""
    return f"ratelimit:changes:{{ratelimit:config:{key}}}"


def fallback(minute: int) -> str:
    """Hash of decisions taken without Redis, reported afterwards: ``key|allow`` and ``key|deny``."""
    return f"ratelimit:fallback:{minute}"
