"""Durations and sizes: what is accepted, what is refused, and that what is shown parses to the same value."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg.errors import ConfigError
from unimsg.units import SIZES, parse_duration, parse_size, seconds, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250ms", 0.25),
        ("20s", 20.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        ("0", 0.0),
        ("0.0", 0.0),
        ("0s", 0.0),
    ],
)
def test_durations(text: str, value: float) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("20", "give a unit of ms, s, m, h, d, as in 20s"),
        ("20 s", "give a duration with its unit"),
        ("20S", "give a unit of"),
        ("-1s", "give a duration with its unit"),
        ("+1s", "give a duration with its unit"),
        ("1e3s", "is not accepted"),
        (".5s", "is not accepted"),
        ("5.s", "is not accepted"),
        ("infs", "is not accepted"),
        ("", "is not accepted"),
        ("s", "is not accepted"),
        ("1weeks", "give a unit of"),
        ("٣s", "is not accepted"),
        ("9" * 400 + "s", "400 digits is longer than any"),
    ],
)
def test_what_is_no_duration(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1000", 1000),
        ("0", 0),
        ("64KiB", 65536),
        ("1MB", 1_000_000),
        ("1.5MiB", 1_572_864),
        ("2GiB", 2 * 1024**3),
        ("7B", 7),
        ("12345678901234567890", 12345678901234567890),
    ],
)
def test_sizes(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1.5", "not a whole number of bytes"),
        ("1.1KiB", "not a whole number of bytes"),
        ("64kb", "give a unit of B, KB, MB, GB, KiB, MiB, GiB"),
        ("64 KiB", "is not accepted"),
        ("-1", "is not accepted"),
        ("", "is not accepted"),
        ("KiB", "is not accepted"),
        ("9" * 400, "400 digits is more than there is"),
        ("9" * 5000, "5000 digits is more than there is"),
    ],
)
def test_what_is_no_size(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_size(text)


@pytest.mark.parametrize(
    ("value", "result"), [(5, 5.0), (0.25, 0.25), (0, 0.0), (timedelta(minutes=1), 60.0), (timedelta(0), 0.0)]
)
def test_a_duration_is_seconds_or_a_timedelta(value: Any, result: float) -> None:
    assert seconds(value) == result
    assert isinstance(seconds(value), float)


@pytest.mark.parametrize(
    "value", [-1, -0.1, float("nan"), float("inf"), True, "5", None, timedelta(seconds=-1), [5]]
)
def test_what_else_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="is not a duration"):
        seconds(value)


@given(st.floats(min_value=0, max_value=1e12, allow_nan=False))
def test_a_shown_duration_parses_to_itself(value: float) -> None:
    assert parse_duration(show_duration(value)) == value


@given(st.integers(min_value=0, max_value=10**19))
def test_a_shown_size_parses_to_itself(value: int) -> None:
    assert parse_size(show_size(value)) == value


@pytest.mark.parametrize("unit", SIZES)
def test_a_size_is_shown_in_a_unit_that_fits(unit: str) -> None:
    assert parse_size(show_size(SIZES[unit])) == SIZES[unit]
    assert len(show_size(SIZES[unit])) <= len("1000") or unit == "B"
