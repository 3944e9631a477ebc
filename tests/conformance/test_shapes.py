"""The shapes, held to the catalogue: what a log, a FIFO queue and a push broker do to the portable core."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from unimsg.testing import shapes
from unimsg.testing.conformance import Catalogue, EmbeddedWorld, World


class _Shape(Catalogue):
    scheme: str
    options: str = ""
    lease: float | None = None

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        with shapes.installed():
            url = f"{self.scheme}://{uuid4().hex}{self.options}"
            async with EmbeddedWorld(url, environment="in this process", lease=self.lease) as world:
                yield world


class TestLog(_Shape):
    """Partitions, cumulative commits, assignments that come and go."""

    scheme = "loglike"
    options = "?drain=1s"


class TestFifo(_Shape):
    """Message groups, a lease for each receipt, polls that strand what they catch."""

    scheme = "fifolike"
    options = "?wait=300ms"
    lease = 0.5


class TestPush(_Shape):
    """Pushed into a buffer, settled on the link that delivered."""

    scheme = "pushlike"
