"""What every test of publishing has: a test that hangs fails."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

LONGEST = 30
"""Seconds; a manual clock stands still, so a wait that nobody ends would be for ever."""


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Raise in the test that takes too long."""

    def fail(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"the test hangs: {LONGEST} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
