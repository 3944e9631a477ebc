"""What the tests change in MiniStack: no answer may differ for it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tools.brokers.ministack_in_short import forget


@pytest.mark.parametrize(
    ("ends", "left"),
    [([], []), ([-60, -1], []), ([60, 61], [60, 61]), ([-60, -1, 60, 61], [60, 61])],
    ids=["none", "all are over", "none is over", "some are over"],
)
def test_forgets_the_ids_whose_time_is_over_and_no_others(ends: list[int], left: list[int]) -> None:
    """What MiniStack finds by a look at all of them, found at the oldest."""
    queue: dict[str, Any] = {"dedup_cache": {end: {"expire": time.time() + end} for end in ends}}

    forget(queue)

    assert list(queue["dedup_cache"]) == left
