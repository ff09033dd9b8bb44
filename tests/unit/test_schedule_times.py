"""The next times of a schedule that is not there yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from adapters.temporal_client.schedule_spec import Interval, cron, sentence
from adapters.temporal_client.schedule_times import NotCron, calendar, following

NOON = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)
"""A Friday, two days before Europe's clocks go forward."""


def at(*crons: str, zone: str = "", count: int = 3) -> list[str]:
    return [f"{one:%a %d.%m. %H:%M}" for one in following((), crons, zone, NOON, count)]


def test_intervals_are_counted_from_1970() -> None:
    found = following((Interval(6 * 3600, 1800),), (), "", NOON, 2)
    assert found == [NOON + timedelta(minutes=30), NOON + timedelta(hours=6, minutes=30)]
    assert following((Interval(3600),), (), "", NOON, 1) == [NOON + timedelta(hours=1)], "not the moment itself"


def test_crons_in_their_zone() -> None:
    assert at("0 3 * * mon-fri") == ["Mon 30.03. 03:00", "Tue 31.03. 03:00", "Wed 01.04. 03:00"]
    assert at("0 12 * * *", zone="Europe/Berlin") == ["Sat 28.03. 11:00", "Sun 29.03. 10:00", "Mon 30.03. 10:00"]
    assert at("30 2 * * *", zone="Europe/Berlin") == ["Sat 28.03. 01:30", "Mon 30.03. 00:30", "Tue 31.03. 00:30"]
    assert at("*/20 12 * * *") == ["Fri 27.03. 12:20", "Fri 27.03. 12:40", "Sat 28.03. 12:00"]
    assert at("0 0 13 * 5", count=1) == ["Fri 13.11. 00:00"], "both days have to match"
    assert at("0 0 29 feb *", count=1) == ["Tue 29.02. 00:00"]
    assert at("0 0 31 2 *") == []


def test_several_are_merged_without_doubles() -> None:
    found = following((Interval(3600),), ("0 13 * * *", "30 12 * * *"), "", NOON, 3)
    assert [f"{one:%H:%M}" for one in found] == ["12:30", "13:00", "14:00"]


@pytest.mark.parametrize("line", ["* * * *", "61 * * * *", "* * * * 7", "a * * * *", "5-3 * * * *", "*/0 * * * *",
                                  "* * 0 * *", "1,,2 * * * *", "@daily", "* * * * * *", "１ * * * *"])  # fmt: skip
def test_what_is_no_cron_says_why(line: str) -> None:
    with pytest.raises(NotCron):
        calendar(line)


def test_a_calendar_is_the_line_it_was_made_from() -> None:
    for line in ("0 3 * * 1-5", "*/15 0-6/2 1,15 * *", "0 0 1 1 * # new year"):
        assert cron(calendar(line)) == line
    assert sentence(calendar("0 3 * * 1-5")) == "at 03:00 on Monday to Friday"
