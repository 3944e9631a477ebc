"""Acks by table and by search: a frame never covers what is still out, and every ack is said once.

Law: a server made of a set; it refuses what a real one refuses.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg.backends.rabbitmq.acks import Acks


class Server:
    """What is unacked on a channel."""

    def __init__(self, count: int) -> None:
        self.unacked = set(range(1, count + 1))

    def take(self, frames: Iterable[tuple[int, bool]]) -> set[int]:
        """Apply frames; returns what they acked."""
        before = set(self.unacked)
        for tag, multiple in frames:
            assert tag in self.unacked, "PRECONDITION_FAILED - unknown delivery tag"
            self.unacked -= {each for each in self.unacked if each <= tag} if multiple else {tag}
        return before - self.unacked


def delivered(count: int) -> Acks[str]:
    acks: Acks[str] = Acks()
    for tag in range(1, count + 1):
        acks.delivered(tag, f"m{tag}")
    return acks


@pytest.mark.parametrize(
    ("done", "frames"),
    [
        ([1], [(1, False)]),
        ([1, 2, 3], [(3, True)]),
        ([3, 1, 2], [(3, True)]),
        ([2, 3], [(2, False), (3, False)]),
        ([1, 2, 4], [(2, True), (4, False)]),
        ([1, 2, 3, 4, 5], [(5, True)]),
        ([], []),
    ],
)
def test_multiple_covers_a_prefix_without_a_gap(done: list[int], frames: list[tuple[int, bool]]) -> None:
    """Promise 5: what is not done is not acked."""
    assert delivered(5).done(done) == frames


def test_a_gap_that_closes_is_covered_without_what_was_acked_alone() -> None:
    """The tag of a multiple ack must be out, else the server closes the channel."""
    acks = delivered(5)

    assert acks.done([3]) == [(3, False)]
    assert acks.done([1, 2]) == [(2, True)]
    assert acks.done([4, 5]) == [(5, True)]


@given(st.permutations(range(1, 31)), st.lists(st.integers(1, 7)))
def test_whatever_the_order_each_ack_is_said_once(order: list[int], sizes: list[int]) -> None:
    """Promise 5, by search: after each batch the server has forgotten exactly what is done."""
    acks, server = delivered(30), Server(30)
    for size in [*sizes, 30]:
        batch, order = order[:size], order[size:]
        assert server.take(acks.done(batch)) == set(batch)
        assert len(acks) == len(server.unacked)
