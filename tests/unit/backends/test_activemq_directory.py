"""The directory of ActiveMQ against a broker that is played by the test: what is told, and what silence means.

Law: the played broker says only what a test tells it to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from unimsg.backends.activemq import directory
from unimsg.backends.activemq.connection import Endpoints
from unimsg.backends.activemq.directory import Directory
from unimsg.backends.activemq.options import Options
from unimsg.backends.activemq.stomp import Frame, Parser, encode
from unimsg.errors import NotFoundError, TimedOutError

SESSION = "ID:played"
Say = Callable[..., None]
Answer = Callable[[Frame, Say], None]


def advisory(subscription: str, name: str, *, removed: bool = False) -> bytes:
    """One destination, as the broker tells of it."""
    told = {"DestinationInfo": {"operationType": int(removed), "destination": {"string": name}}}
    headers = {"subscription": subscription, "message-id": name, "destination": "/topic/x", "ack": name}
    return encode("MESSAGE", headers, msgspec.json.encode(told))


class Played:
    """A broker that answers as one function says, on every connection."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _frame, _say: None
        self.looks = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client comes."""
        self.writers.append(writer)
        parser = Parser(1 << 20)
        while data := await reader.read(1 << 16):
            for frame in parser.feed(data):
                if frame.command == "CONNECT":
                    self.looks += 1
                    told = {"version": "1.2", "heart-beat": "0,0", "session": SESSION}
                    writer.write(encode("CONNECTED", told))
                else:
                    self.answer(frame, writer.write)


@pytest.fixture
async def played() -> AsyncIterator[tuple[Played, Directory]]:
    """One that listens, and a directory that asks it."""
    broker = Played()
    server = await asyncio.start_server(broker.take, "127.0.0.1", 0)
    options = Options(hosts=f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield broker, Directory(Endpoints(options), options)
    server.close()
    for writer in broker.writers:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    await server.wait_closed()


def telling(*queues: str, silent: bool = False) -> Answer:
    """Tell of these queues, then of the one that is the looker's own; or keep that to yourself."""

    def answer(frame: Frame, say: Say) -> None:
        if frame.headers.get("id") == "own":
            for name in queues:
                say(advisory("Queue", name))
            say(encode("RECEIPT", {"receipt-id": frame.headers["receipt"]}))
            if not silent:
                say(advisory("TempQueue", f"{SESSION}:1"))

    return answer


async def test_what_is_told_is_known(played: tuple[Played, Directory]) -> None:
    """A destination is there by a queue of it; another group has none; principle 6."""
    broker, asked = played
    broker.answer = telling("Consumer.g.VirtualTopic.d")
    assert await asked.check("d", "g") is not None
    for destination, group in (("other", None), ("d", "other")):
        with pytest.raises(NotFoundError):
            await asked.check(destination, group)


async def test_who_may_not_look_is_told_once(played: tuple[Played, Directory]) -> None:
    """A refusal is for good: messages flow, and nobody asks again."""
    broker, asked = played

    def refuse(_frame: Frame, say: Say) -> None:
        say(
            encode(
                "ERROR", {"message": "User guest is not authorized to read from: topic://ActiveMQ.Advisory"}
            )
        )

    broker.answer = refuse
    assert await asked.check("d", "g") is None
    assert await asked.check("d", "g") is None
    assert broker.looks == 1


async def test_a_broker_that_was_slow_once_is_asked_again(
    played: tuple[Played, Directory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that told of something and then held still tells: what is missing later is not found; principle 6."""
    monkeypatch.setattr(directory, "PATIENCE", 0.01)
    broker, asked = played
    broker.answer = telling("Consumer.g.VirtualTopic.d", silent=True)
    with pytest.raises(TimedOutError):
        await asked.check("other")
    broker.answer = telling("Consumer.g.VirtualTopic.d")
    with pytest.raises(NotFoundError):
        await asked.check("other")


async def test_a_broker_that_says_nothing_is_asked_once(
    played: tuple[Played, Directory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the libraries for it a broker tells nothing: messages flow, and nobody asks again."""
    monkeypatch.setattr(directory, "PATIENCE", 0.01)
    broker, asked = played
    broker.answer = telling(silent=True)
    assert await asked.look() is None
    assert await asked.look() is None
    assert broker.looks == 1
