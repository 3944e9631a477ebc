"""Memory, held to the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from unimsg.testing.conformance import Catalogue, EmbeddedWorld, World


class TestMemory(Catalogue):
    """Brokers in this process, one for each test."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        async with EmbeddedWorld(
            f"memory://{uuid4().hex}", environment="in this process", lease=0.3
        ) as world:
            yield world
