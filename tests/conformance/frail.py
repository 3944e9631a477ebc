"""Frail worlds: those of the tests that kill the broker or cut it off, on one of their own, by way of a proxy.

Law: knows no broker; how one dies and rises is handed in by the world of a backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Self

import pytest

from tests.chaos.proxy import Proxy
from unimsg.testing.conformance import World

HURT = (
    "test_a_group_that_is_away_outlives_the_broker",
    "test_a_restart_keeps_each_key_in_order",
    "test_nothing_is_lost_where_a_tenth_fails_and_the_broker_restarts",
    "test_what_is_confirmed_outlives_a_cut_network",
    "test_what_is_confirmed_outlives_the_death_of_the_broker",
    "test_what_nobody_has_received_outlives_the_broker",
)
"""Tests that kill the broker or cut it off."""


def marked(group: str, *more: pytest.MarkDecorator) -> Mapping[str, Sequence[pytest.MarkDecorator]]:
    """Return what a catalogue marks those with: they share one broker, and take their time."""
    return dict.fromkeys(HURT, (pytest.mark.xdist_group(group), pytest.mark.timeout(300), *more))


def hurts(request: pytest.FixtureRequest) -> bool:
    """Whether the test that asks for a world hurts its broker."""
    return request.function.__name__ in HURT


class Frail(World):
    """A world whose broker may be hurt; mixed into that of a backend, which goes by the proxy."""

    proxy: Proxy

    def kill(self) -> None:
        """Kill the broker as a power cut does."""
        raise NotImplementedError

    def rise(self) -> None:
        """Start it on what it kept; returns when it answers."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.proxy.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *raised: object) -> None:
        await super().__aexit__(*raised)
        await self.proxy.__aexit__(*raised)

    async def restart(self) -> None:
        """Kill it and start it again."""
        await asyncio.to_thread(self.kill)
        await asyncio.to_thread(self.rise)

    @asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """What is sent meanwhile arrives late."""
        self.proxy.cut()
        try:
            yield
        finally:
            self.proxy.mend()
