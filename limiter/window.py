"""The sliding window counter: two fixed windows instead of a log of requests.

The method is the one Cloudflare describes in "How we built rate limiting capable of scaling to millions of
domains" (2017). Windows of W ms are aligned to multiples of W since the epoch. With C units admitted in the present
window, P in the one before, and e ms of the present one gone, the use of the last W ms is estimated as

    used = floor(P * (W - e) / W) + C

which is exact when the previous window's use was spread evenly. Whatever its spread, with f = e / W the estimate
differs from the exact count of the last W ms by at most

    -P*f - 1  <  used - exact  <=  P * (1 - f)

because between none and all of P still lies inside the last W ms. P never exceeds a HARD limit, so no W ms whatever
see twice the limit, and any aligned window after an empty one admits exactly the limit.

These functions and ``decide.lua`` do the same arithmetic on the same doubles; a property test holds them together.
"""

from __future__ import annotations

import math


def used(current: int, previous: int, elapsed_ms: float, window_ms: int) -> int:
    """The estimated use of the last ``window_ms``."""
    return math.floor(float(previous) * (window_ms - elapsed_ms) / window_ms) + current


def roll(index: int, current: int, previous: int, now_ms: float, window_ms: int) -> tuple[int, int, int]:
    """Counters as of ``now_ms``: the present window's index, its units, the units of the one before.

    A clock that went back stays in the newer window, so that nothing counted is forgotten.
    """
    present = int(now_ms // window_ms)
    if present <= index:
        return index, current, previous
    return (present, 0, current) if present == index + 1 else (present, 0, 0)


def elapsed(index: int, now_ms: float, window_ms: int) -> float:
    """Milliseconds of window ``index`` gone at ``now_ms``, within the window."""
    return min(max(now_ms - index * window_ms, 0.0), float(window_ms))


def wait_ms(current: int, previous: int, elapsed_ms: float, window_ms: int, limit: int, cost: int) -> float | None:
    """Milliseconds until ``cost`` fits if nobody else uses anything; 0 when it fits now, None when it never does."""
    if cost > limit:
        return None
    if used(current, previous, elapsed_ms, window_ms) + cost <= limit:
        return 0.0
    room = limit - cost - current
    if room >= 0:  # the previous window's weight has to shrink below room + 1
        at = window_ms - (room + 1) * window_ms / previous
        return max(at - elapsed_ms, 0.0) + 1
    at = window_ms - (limit - cost + 1) * window_ms / current
    return (window_ms - elapsed_ms) + max(at, 0.0) + 1
