"""What the tests of the embedded backends share: one of each, under a clock that stands still.

Law: the same test runs on memory and on sqlite; what only one of them has stands in its own file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.backends.harness import World
from unimsg.testing.clock import ManualClock


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Give an embedded backend under a clock that stands still."""
    async with ManualClock() as clock:
        world = World(request.param, tmp_path, clock)
        yield world
        await world.aclose()
