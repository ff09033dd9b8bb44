"""The sliding window counter against an exact log of requests, and its bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limiter import window

WIDTH = 1000
moments = st.lists(st.tuples(st.integers(0, 10 * WIDTH), st.integers(1, 5)), max_size=60)


@given(moments, st.integers(1, 40))
def test_estimate_stays_within_its_documented_bounds_of_the_exact_count(calls, limit) -> None:
    index, current, previous = 0, 0, 0
    log: list[tuple[int, int]] = []
    for at, cost in sorted(calls):
        index, current, previous = window.roll(index, current, previous, at, WIDTH)
        gone = window.elapsed(index, at, WIDTH)
        used = window.used(current, previous, gone, WIDTH)
        # The exact count of the last WIDTH ms, at the boundary an aligned window uses.
        exact = sum(n for when, n in log if when >= at - WIDTH and when // WIDTH >= index - 1)
        newer = sum(n for when, n in log if when > at - WIDTH)
        fraction = gone / WIDTH
        assert used - newer <= previous * (1 - fraction) + 1e-9
        assert used - exact > -previous * fraction - 1 - 1e-9
        if used + cost <= limit:
            current += cost
            log.append((at, cost))
    for start in range(0, 10 * WIDTH, WIDTH):
        assert sum(n for when, n in log if start <= when < start + WIDTH) <= limit


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, WIDTH - 1), st.integers(1, 50), st.integers(1, 20))
def test_retry_after_is_when_it_fits_and_no_sooner(current, previous, gone, limit, cost) -> None:
    wait = window.wait_ms(current, previous, gone, WIDTH, limit, cost)
    if wait is None:
        assert cost > limit
        return

    def fits(at: float) -> bool:
        index, c, p = window.roll(5, current, previous, 5 * WIDTH + at, WIDTH)
        return window.used(c, p, window.elapsed(index, 5 * WIDTH + at, WIDTH), WIDTH) + cost <= limit

    assert fits(gone + wait)
    if wait > 2:
        assert not fits(gone + wait - 2)


def test_a_clock_that_goes_back_forgets_nothing() -> None:
    assert window.roll(7, 3, 2, 6 * WIDTH, WIDTH) == (7, 3, 2)
    assert window.roll(7, 3, 2, 8 * WIDTH, WIDTH) == (8, 0, 3)
    assert window.roll(7, 3, 2, 9 * WIDTH, WIDTH) == (9, 0, 0)
