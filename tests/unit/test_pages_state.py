"""How numbers, moments and states are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from adapters.core import Metric, State, Unit, utcnow
from pages.widgets import charts, state


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (1_240_000, Unit.CENTS, "$12.4K"),
        (0, Unit.CENTS, "$0"),
        (2_950, Unit.CENTS, "$29.50"),
        (-2_900, Unit.CENTS, "-$29"),
        (1_200_000, Unit.COUNT, "1.2M"),
        (999, Unit.COUNT, "999"),
        (0, Unit.COUNT, "0"),
        (0.213, Unit.COUNT, "0.213"),
        (0, Unit.BYTES, "0 B"),
        (3 << 30, Unit.BYTES, "3 GiB"),
        (2.34, Unit.MILLISECONDS, "2.3 ms"),
        (45.4, Unit.MILLISECONDS, "45 ms"),
        (2500, Unit.MILLISECONDS, "2.50 s"),
        (999.6, Unit.MILLISECONDS, "1.00 s"),
        (0.853, Unit.RATIO, "85.3 %"),
        (85, Unit.PERCENT, "85 %"),
        (7200, Unit.SECONDS, "2 h"),
        (1500, Unit.PER_MINUTE, "1.5K/min"),
    ],
)
def test_numbers_are_short_and_in_their_unit(value: float, unit: Unit, written: str) -> None:
    assert state.number(value, unit) == written


def test_the_tooltip_has_the_whole_number_and_the_card_its_qualification() -> None:
    mrr = Metric("mrr", "MRR", 1_234_567, Unit.CENTS, currency="EUR", note="estimated")
    assert state.metric(mrr) == "€12.3K (estimated)"
    assert state.exact(mrr.value, mrr.unit, mrr.currency) == "12,345.67 EUR"
    assert state.exact(0.25, Unit.COUNT) == "0.25 count"


@pytest.mark.parametrize(
    ("seconds", "written"), [(-3, "0 s"), (89, "89 s"), (720, "12 min"), (7_200, "2 h"), (864_000, "10 d")]
)
def test_spans(seconds: float, written: str) -> None:
    assert state.span(seconds) == written


def test_since_knows_what_nobody_knows() -> None:
    assert state.since(None) == "–"
    assert state.since(utcnow() - timedelta(minutes=12)) == "12 min"
    assert state.moment(None) == "–"


def test_a_moment_is_written_in_the_viewers_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 7, 1, 22, 30, 5, tzinfo=UTC)
    assert state.moment(at) == "2026-07-01 22:30:05 UTC"
    for name, written in (
        ("Europe/Berlin", "2026-07-02 00:30:05 CEST"),
        ("Mars/Olympus", "2026-07-01 22:30:05 UTC"),
        ("../etc/passwd", "2026-07-01 22:30:05 UTC"),
    ):
        monkeypatch.setattr(state.st, "context", SimpleNamespace(timezone=name))
        assert state.moment(at) == written


@pytest.mark.parametrize("present", State)
def test_a_state_is_icon_word_and_colour(present: State) -> None:
    badge = state.badge(present)
    assert state.ICON[present] in badge
    assert state.LABEL[present] in badge
    assert f":{state.COLOR[present]}-badge" in badge
    assert state.LABEL[present] in state.pill(present)


def test_what_a_service_wrote_is_shown_as_written() -> None:
    assert "<script" not in state.text("<script>alert(1)</script>")
    assert state.plain("[x](javascript:alert) **b** $a$ :red[c]") == (
        "\\[x\\](javascript\\:alert) \\*\\*b\\*\\* \\$a\\$ \\:red\\[c\\]"
    )


class _Point:
    def __init__(self, minutes: int, value: float) -> None:
        self.at = utcnow() - timedelta(minutes=minutes)
        self.avg, self.min, self.max = value, value - 1, value + 2


def test_a_gap_in_the_history_is_a_gap_in_the_line() -> None:
    spec = charts.series([_Point(30, 5), _Point(29, 6), _Point(10, 7)], Unit.MILLISECONDS, hours=1, step_seconds=60)
    line = spec["series"][2]["data"]
    assert [value for _, value in line] == [5, 6, None, 7]
    assert spec["series"][1]["data"][0][1] == 3


def test_money_is_drawn_in_whole_units() -> None:
    spec = charts.series([_Point(1, 500)], Unit.CENTS, hours=1, step_seconds=60)
    assert spec["series"][2]["data"][0][1] == 5


class _Change:
    def __init__(self, minutes: int, before: State, after: State) -> None:
        self.at, self.before, self.state = utcnow() - timedelta(minutes=minutes), before, after


def test_the_strip_covers_the_span_and_says_it_in_words() -> None:
    changes = [_Change(30, State.HEALTHY, State.DOWN), _Change(90, State.UNKNOWN, State.HEALTHY)]
    html = charts.strip(changes, State.DOWN, hours=1)
    assert "Healthy 30 min" in html
    assert "Down 30 min" in html
    assert "ph-unknown" not in html


def test_a_sparkline_needs_two_values() -> None:
    assert "polyline" not in charts.spark((), State.UNKNOWN)
    assert "polyline" not in charts.spark((1.0,), State.HEALTHY)
    assert "10 to 20 ms" in charts.spark((10.0, 20.0), State.HEALTHY)


def test_names_of_the_code_are_written_as_people_write_them() -> None:
    assert [state.words(name) for name in ("api_calls", "past_due", "storage_gb", "")] == [
        "API calls",
        "Past due",
        "Storage GB",
        "",
    ]
