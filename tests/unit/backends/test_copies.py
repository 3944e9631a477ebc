"""Copies for a retry are written once, whoever asks how often, and are nobody's when the originals are another's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from unimsg.backends._broker.copies import Copies
from unimsg.errors import Error, SettleError, TimedOutError
from unimsg.spi import Settlement

LONG = 30.0


class Server:
    """Writes what it is given, and answers when it is told to."""

    def __init__(self) -> None:
        self.written: list[object] = []
        self.called = asyncio.Event()
        self.answer: asyncio.Future[Sequence[Error | None]] = asyncio.get_running_loop().create_future()
        self.copies = Copies(self.write, "none")

    async def write(self, settlements: Sequence[Settlement]) -> Sequence[Error | None]:
        """Write, and wait for the answer."""
        self.written += [each.token for each in settlements]
        self.called.set()
        return await self.answer


def wanted(*names: str) -> dict[object, Settlement]:
    """Each wants a copy."""
    return {name: Settlement("retry", name) for name in names}


async def test_who_asks_again_waits_for_the_same_copy() -> None:
    """The first asked too early, the second was cancelled, the third has the answers: each its own."""
    server = Server()
    early = await server.copies.write(wanted("a", "b"), 0.0)
    assert {type(error) for error in early.values()} == {TimedOutError}
    await server.called.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await server.copies.write(wanted("a", "b"), LONG)
    server.answer.set_result([None, refused := SettleError("no room")])

    assert await server.copies.write(wanted("b", "a"), LONG) == {"b": refused, "a": None}
    assert server.written == ["a", "b"]
    await server.copies.aclose()


async def test_what_has_failed_is_written_again() -> None:
    """An answer is told once; who asks after it wants another copy."""
    server = Server()
    server.answer.set_exception(failure := TimedOutError("gone"))
    for _ in range(2):
        assert await server.copies.write(wanted("a"), LONG) == {"a": failure}

    assert server.written == ["a", "a"]


async def test_what_is_dropped_is_written_no_more() -> None:
    """Whoever waits is told that there is no confirm, and nothing is left running."""
    server = Server()
    waiting = asyncio.create_task(server.copies.write(wanted("a"), LONG))
    await server.called.wait()
    await server.copies.aclose()

    assert isinstance((await waiting)["a"], TimedOutError)
    assert server.answer.cancelled()
