"""The shapes, held to the catalogue: what a log, a FIFO queue and a push broker do to the portable core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from unimsg.testing import shapes
from unimsg.testing.conformance import Catalogue, EmbeddedWorld, World


class _Shape(Catalogue):
    scheme: str

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        with shapes.installed():
            async with EmbeddedWorld(f"{self.scheme}://{uuid4().hex}", environment="in this process") as world:
                yield world


class TestLog(_Shape):
    """Partitions, cumulative commits, assignments that come and go."""

    scheme = "loglike"


class TestFifo(_Shape):
    """Message groups, a lease for each receipt, polls that strand what they catch."""

    scheme = "fifolike"


class TestPush(_Shape):
    """Pushed into a buffer, settled on the link that delivered."""

    scheme = "pushlike"
