"""Memory, held to the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from unimsg.testing.conformance import Catalogue, EmbeddedWorld, World, builtin
from unimsg.testing.conformance.c_failures import PublishFailures
from unimsg.testing.conformance.gate import Section


class TestMemory(Catalogue):
    """Brokers in this process, one for each test."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        async with builtin.memory() as world:
            yield world


class TestChaos(Section):
    """What memory cannot show unless it is told to fail."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        url = f"memory://{uuid4().hex}?chaos=7&fail=0.1"
        async with EmbeddedWorld(url, environment="in this process, failing by chance") as world:
            yield world

    test_order = PublishFailures.test_the_order_of_a_key_survives_batches_that_are_refused
    test_unknown = PublishFailures.test_an_unknown_end_holds_back_the_rest_of_its_key
