"""Units: durations and sizes as people write them, and back.

Law: pure; a duration is seconds as a float inside, a size is bytes as an int. What is shown parses to the same value.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from decimal import Decimal
from typing import TypeAlias

from unimsg.errors import ConfigError

Duration: TypeAlias = float | int | timedelta
"""Seconds, or a timedelta."""

DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZES = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
DIGITS = 20
"""Digits of a size, beyond which it is a mistake or an attack."""
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]*)", re.ASCII)


def seconds(value: Duration) -> float:
    """Return a duration in seconds.

    Raises:
        ConfigError: it is no duration, negative, or not finite.
    """
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        result = float(value)
    else:
        raise ConfigError(f"{value!r} is not a duration: give seconds or a timedelta")
    if not math.isfinite(result) or result < 0:
        raise ConfigError(f"{value!r} is not a duration: it must be finite and not negative")
    return result


def parse_duration(text: str) -> float:
    """Return the seconds of `"250ms"`, `"20s"`, `"5m"`, `"2h"` or `"7d"`.

    Raises:
        ConfigError: no number, no unit, or an unknown one.
    """
    number, unit = _split(text, "a duration with its unit, such as 20s, 250ms, 5m, 2h, 7d")
    if unit not in DURATIONS and not (unit == "" and float(number) == 0):
        raise ConfigError(f"{text!r} is not a duration: give a unit of {', '.join(DURATIONS)}, as in 20s")
    result = float(number) / 1000 if unit == "ms" else float(number) * DURATIONS.get(unit, 1.0)
    if math.isinf(result):
        raise ConfigError(
            f"a duration of {len(number)} digits is longer than any: give a shorter one, as in 7d"
        )
    return result


def show_duration(value: float) -> str:
    """Return a short text that parses to this value."""
    for unit in ("d", "h", "m", "s", "ms"):
        count = round(value * 1000) if unit == "ms" else round(value / DURATIONS[unit])
        if count and parse_duration(f"{count}{unit}") == value:
            return f"{count}{unit}"
    return format(Decimal(repr(value)), "f") + "s" if value else "0s"


def parse_size(text: str) -> int:
    """Return the bytes of `"1000"`, `"64KiB"`, `"1MB"` or `"1.5MiB"`.

    Raises:
        ConfigError: no number, an unknown unit, or not a whole number of bytes.
    """
    number, unit = _split(text, "a size, such as 1000, 64KiB, 1MB")
    if unit not in SIZES and unit != "":
        raise ConfigError(f"{text!r} is not a size: give a unit of {', '.join(SIZES)}, as in 64KiB")
    if len(number) > DIGITS:
        raise ConfigError(f"a size of {len(number)} digits is more than there is: give less, as in 64KiB")
    result = Decimal(number) * SIZES.get(unit, 1)
    if result != int(result):
        raise ConfigError(f"{text!r} is not a whole number of bytes")
    return int(result)


def show_size(value: int) -> str:
    """Return the shortest text that parses to this value."""
    for unit in ("GiB", "GB", "MiB", "MB", "KiB", "KB"):
        if value and value % SIZES[unit] == 0:
            return f"{value // SIZES[unit]}{unit}"
    return str(value)


def _split(text: str, accepted: str) -> tuple[str, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not accepted: give {accepted}")
    return match[1], match[2]
