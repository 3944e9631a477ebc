"""Acked after its line was written, and not before (promise 5)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import unimsg
from unimsg import Delivery
from unimsg.cli import consume as consuming
from unimsg.cli.consume import Output
from unimsg.errors import CapabilityError


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """Where four messages lie."""
    where = f"sqlite:///{tmp_path}/messages.db"
    async with unimsg.connect(where) as client:
        for n in range(4):
            await client.publish("orders", n)
    return where


async def left(url: str) -> list[tuple[int, int]]:
    """What the group has still before it, and at which attempt."""
    found: list[tuple[int, int]] = []

    async def take(delivery: Delivery[int]) -> None:
        found.append((delivery.body, delivery.attempt))

    async with unimsg.connect(url) as client:
        await client.subscriber("orders", group="g").run_until_idle(take)
    return sorted(found)


@pytest.mark.parametrize("error", [BrokenPipeError, OSError, asyncio.CancelledError])
async def test_what_could_not_be_written_goes_back(
    url: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, uncounted, whatever was in the way: a closed pipe, a full disk, the end of the program."""
    written: list[bytes] = []

    async def write(self: Output, data: bytes) -> None:
        if len(written) == 2:
            raise error
        written.append(data)

    monkeypatch.setattr(Output, "write", write)
    with pytest.raises(error):
        await consuming.consume(url, "orders", group="g", form=consuming.raw, most=None, until_idle=False)

    assert written == [b"0\n", b"1\n"]
    assert await left(url) == [(2, 1), (3, 1)]


async def test_tail_is_refused_where_looking_would_take_away(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue has one group, its consumer's: tail never takes from it."""
    connect = unimsg.connect

    def without_groups(target: str) -> unimsg.Client:
        client = connect(target)
        client.backend.capabilities = client.backend.capabilities.lower("the test", groups=False)
        return client

    monkeypatch.setattr(consuming, "connect", without_groups)
    with pytest.raises(CapabilityError, match="tail needs groups"):
        await consuming.tail(url, "orders", form=consuming.raw, most=None)

    assert len(await left(url)) == 4
