"""What the tests change in MiniStack: no answer may differ for it."""

from __future__ import annotations

from typing import Any

import pytest

from tools.brokers import ministack_in_short
from tools.brokers.ministack_in_short import forget


def test_forgets_the_ids_whose_time_is_over_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What MiniStack finds by a look at all of them, found at the oldest."""
    monkeypatch.setattr(ministack_in_short.time, "time", lambda: 300.0)
    queue: dict[str, Any] = {
        "dedup_cache": {name: {"expire": end} for name, end in (("a", 299.0), ("b", 300.0), ("c", 300.1))}
    }

    forget(queue)
    assert list(queue["dedup_cache"]) == ["c"]

    monkeypatch.setattr(ministack_in_short.time, "time", lambda: 301.0)
    forget(queue)
    forget(queue)
    assert queue["dedup_cache"] == {}
