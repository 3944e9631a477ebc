"""The backend of the how-to, held to the catalogue as a third party would hold its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import EntryPoint

import pytest

from unimsg import registry
from unimsg.testing.conformance import Catalogue, EmbeddedWorld, World

DEVIATIONS = {
    "test_a_missing_destination_is_not_found_within_a_bound": "a queue comes into being at first use; none is missing",
}


class TestQueueBackend(Catalogue):
    """Queues in this process."""

    @pytest.fixture
    async def world(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
        found = {"queue": EntryPoint("queue", "examples.queue_backend", registry.GROUP)}
        monkeypatch.setattr(registry, "_third_parties", lambda: found)
        async with EmbeddedWorld("queue://", environment="in this process", deviations=DEVIATIONS) as world:
            yield world
