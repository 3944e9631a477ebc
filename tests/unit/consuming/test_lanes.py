"""Lanes: order within a lane, turns between lanes, and nothing lost by any sequence of moves (promises 6, 16)."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.consuming.fakes import delivery
from unimsg.consuming.delivery import Delivery
from unimsg.consuming.lanes import Lanes


def test_two_of_one_lane_are_never_out_at_once() -> None:
    lanes = Lanes()
    first, second = delivery(1), delivery(2)
    lanes.put(first, "a")
    lanes.put(second, "a")
    assert lanes.take() is first
    assert lanes.take() is None
    lanes.done(first)
    assert lanes.take() is second


def test_lanes_take_turns() -> None:
    lanes = Lanes()
    for seq, key in enumerate(["hot", "hot", "hot", "cold"]):
        lanes.put(delivery(seq), key)
    taken = []
    while (head := lanes.take()) is not None:
        taken.append(head._seq)
        lanes.done(head)
    assert taken == [0, 3, 1, 2], "the cold lane must not wait for the hot one"


def test_without_a_lane_everything_may_run_at_once() -> None:
    lanes = Lanes()
    for seq in range(3):
        lanes.put(delivery(seq), None)
    assert [lanes.take()._seq for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]  # three were put


def test_a_held_head_holds_its_lane_and_no_other() -> None:
    lanes = Lanes()
    head, after, other = delivery(1), delivery(2), delivery(3)
    lanes.put(head, "a")
    lanes.put(after, "a")
    lanes.put(other, "b")
    assert lanes.take() is head
    lanes.hold(head)
    assert lanes.take() is other
    assert lanes.take() is None
    lanes.put_back(head)
    assert lanes.take() is head
    lanes.done(head)
    assert lanes.take() is after


def test_removing_a_held_head_frees_its_lane() -> None:
    lanes = Lanes()
    head, after = delivery(1), delivery(2)
    lanes.put(head, "a")
    lanes.put(after, "a")
    assert lanes.take() is head
    lanes.hold(head)
    lanes.forget_held(head)
    assert lanes.take() is after


def test_empty_lanes_are_forgotten() -> None:
    lanes = Lanes()
    for seq in range(1000):
        one = delivery(seq)
        lanes.put(one, f"key-{seq}")
        assert lanes.take() is one
        lanes.done(one)
    assert not lanes._lanes, "a lane for each key ever seen would be a leak"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(0, 120))
def test_no_sequence_of_moves_loses_doubles_or_reorders(  # noqa: C901, PLR0912 - one branch for each move
    seed: int, keys: int, moves: int
) -> None:
    rng = random.Random(seed)
    lanes = Lanes()
    out: list[Delivery[Any]] = []
    held: list[Delivery[Any]] = []
    finished: dict[Any, list[int]] = {}
    removed: set[int] = set()
    put = 0

    def finish(one: Delivery[Any]) -> None:
        finished.setdefault(one._received.lane, []).append(one._seq)
        lanes.done(one)

    for _ in range(moves):
        move = rng.choice(["put", "put", "take", "take", "done", "hold", "due", "untake", "remove"])
        if move == "put":
            key = rng.choice([None, *range(keys)])
            one = delivery(put, key=key)
            lanes.put(one, key)
            put += 1
        elif move == "take" and (one_or_none := lanes.take()) is not None:
            out.append(one_or_none)
        elif move == "done" and out:
            finish(out.pop(rng.randrange(len(out))))
        elif move == "hold" and out:
            held.append(out.pop(rng.randrange(len(out))))
            lanes.hold(held[-1])
        elif move == "due" and held:
            lanes.put_back(held.pop(rng.randrange(len(held))))
        elif move == "untake" and out:
            lanes.untake(out.pop(rng.randrange(len(out))))
        elif move == "remove" and rng.random() < 0.2:
            removed |= {one._seq for one in lanes.remove(lambda one: one._seq % 3 == 0)}
        running = [one._received.lane for one in out if one._received.lane is not None]
        assert len(running) == len(set(running)), "two of one lane are out"
    for one in held:
        lanes.put_back(one)
    for one in out:
        finish(one)
    while (head := lanes.take()) is not None:
        finish(head)
    seen = [seq for lane in finished.values() for seq in lane]
    assert sorted([*seen, *removed]) == list(range(put))
    assert lanes.waiting == 0
    for key, order in finished.items():
        if key is not None:
            assert order == sorted(order), f"lane {key} was reordered"
