"""Watermark: only a contiguous done prefix is committed, and what was dropped is not done (promise 7)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.consuming.fakes import delivery
from unimsg.consuming.delivery import DONE, DROPPED, RUNNING
from unimsg.consuming.watermark import Watermark


def test_it_moves_over_the_done_prefix_only() -> None:
    watermark, parts = Watermark(), [delivery(seq) for seq in range(4)]
    for part in parts:
        watermark.add(part)
    parts[1]._state = parts[3]._state = DONE
    watermark.advance()
    assert watermark.take() is None
    parts[0]._state = DONE
    watermark.advance()
    assert watermark.take() == 1
    assert watermark.take() is None, "a token is committed once for each move"
    assert watermark.span == 2


def test_what_was_dropped_is_not_done() -> None:
    """The mutant of the suite: one flag for both lets the commit skip messages."""
    watermark, parts = Watermark(), [delivery(seq) for seq in range(3)]
    for part in parts:
        watermark.add(part)
        part._state = DONE
    parts[1]._state = DROPPED
    watermark.advance()
    assert watermark.take() == 0
    watermark.advance()
    assert watermark.take() is None


@pytest.mark.parametrize("state", [DONE, RUNNING])
def test_what_is_below_the_highest_begun_is_worth_finishing(state: int) -> None:
    """What runs when a drain begins will be done, and could not be committed above a message that was dropped."""
    watermark, parts = Watermark(), [delivery(seq) for seq in range(5)]
    for part in parts:
        watermark.add(part)
    parts[1]._state, parts[3]._state = RUNNING, state
    assert watermark.below_highest_begun() == {parts[0], parts[2]}


@given(st.integers(1, 60), st.integers(0, 2**32))
def test_the_token_is_always_the_end_of_the_done_prefix(count: int, seed: int) -> None:
    rng = random.Random(seed)
    watermark, parts = Watermark(), [delivery(seq) for seq in range(count)]
    for part in parts:
        watermark.add(part)
        part._state = RUNNING
    for part in rng.sample(parts, count):
        part._state = DONE
        watermark.advance()
        prefix = next((seq for seq in range(count) if parts[seq]._state != DONE), count)
        assert watermark.token == (prefix - 1 if prefix else None)
        assert watermark.span == count - prefix
