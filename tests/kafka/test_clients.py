"""What is opened is closed, also where it was cancelled half-way: no connection and no task is left.

Law: looks at every connection that aiokafka makes, and cancels at the moments at which it forgets one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiokafka.client
import pytest
from aiokafka.conn import AIOKafkaConnection

import unimsg
from tests.kafka.conftest import MakeTopic
from tests.kafka.test_access import MISTAKES
from tests.kafka.test_consume import Heard
from unimsg.errors import OptionError
from unimsg.message import Position
from unimsg.testing.conformance.world import eventually

Made = list[Any]


@contextmanager
def watched(then: Callable[[int], object] = lambda _: None) -> Iterator[Made]:
    """Give the connections that aiokafka makes; `then` is called after each, with its number."""
    made: Made = []
    create = aiokafka.client.create_conn

    async def created(*where: Any, **how: Any) -> Any:
        connection = await create(*where, **how)
        made.append(connection)
        then(len(made))
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiokafka.client, "create_conn", created)
        yield made


def left(before: set[asyncio.Task[Any]], made: Made) -> list[Any]:
    """What is still there: tasks and connections."""
    return [*(asyncio.all_tasks() - before), *(connection for connection in made if connection.connected())]


def openings(client: unimsg.Client, topic: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    """What of a backend makes connections."""
    backend = client.backend
    return {
        "backend": backend.open,
        "sender": lambda: backend.open_sender(topic),
        "receiver": lambda: backend.open_receiver(topic, topic, "newest", Heard(), 10),
    }


async def test_a_cancelled_open_leaves_nothing_behind(url: str, topic: MakeTopic) -> None:
    """A: cancelled when its first connection is there, its second, and so on, until it is too late for that."""
    name = await topic()
    for what in ("backend", "sender", "receiver"):
        for moment in range(1, 9):
            before = asyncio.all_tasks()
            task: asyncio.Task[Any] | None = None
            client = unimsg.connect(url)
            with watched(lambda count: task is not None and count == moment and task.cancel()) as made:  # noqa: B023 - used at once
                task = asyncio.ensure_future(openings(client, name)[what]())
                await asyncio.wait((task,))
                cancelled = task.cancelled()
                await client.backend.aclose()
                await asyncio.sleep(0)
                assert left(before, made) == [], f"{what}, cancelled at connection {moment}"
            if not cancelled:
                break
        assert moment > 1, "it was never cancelled, so nothing was proved"


@pytest.mark.parametrize("mistake", ["mechanism not offered", "wrong password", "plain text to a TLS port"])
async def test_a_refused_connection_is_closed_when_that_is_told(
    mistake: str, listener: Callable[[str], str], certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A: also one over TLS, whose end takes an answer: else a program that ends now leaves it open."""
    made: Made = []

    def make(*where: Any, **how: Any) -> Any:
        made.append(AIOKafkaConnection(*where, **how))
        return made[-1]

    monkeypatch.setattr("unimsg.backends.kafka.connecting.AIOKafkaConnection", make)
    at, query, kind, _ = MISTAKES[mistake]
    backend = unimsg.connect(
        f"kafka://{listener(at)}?{query.replace('CA', f'{certificates}/ca.pem')}"
    ).backend
    with pytest.raises(kind):
        await backend.open()
    await backend.aclose()
    assert made
    assert [one for one in made if one._protocol._transport is not None] == []


async def test_a_position_in_another_topic_is_refused_before_anything_is_opened(
    url: str, topic: MakeTopic
) -> None:
    """A: permanent, and so it makes no connection of its own."""
    name = await topic()
    async with unimsg.connect(url) as client:
        subscriber = client.subscriber(name, group=name, start=Position("elsewhere-0", 1))
        await client.backend.probe()
        with watched() as made, pytest.raises(OptionError, match="no position in this topic"):
            await subscriber.seek(Position("elsewhere-0", 1))
        assert made == []


async def test_an_end_that_is_cut_leaves_nothing_behind(url: str, topic: MakeTopic) -> None:
    """A: aiokafka's own end hangs, as when a broker dies: a heartbeat that goes on would connect again."""
    name, before = await topic(), asyncio.all_tasks()
    client = unimsg.connect(url)
    with watched() as made:
        await client.backend.open()
        heard = Heard()
        receiver: Any = await client.backend.open_receiver(name, name, "newest", heard, 10)
        await eventually(lambda: heard.held, "the receiver has its share")
        receiver._member.consumer._coordinator.close = asyncio.Event().wait
        await client.backend.aclose()
        assert left(before, made) == []


async def test_closing_a_backend_ends_what_nobody_closed(url: str, topic: MakeTopic) -> None:
    """A: a sender and a receiver whose own closing was given up."""
    name, before = await topic(), asyncio.all_tasks()
    client = unimsg.connect(url)
    with watched() as made:
        await client.backend.open()
        await client.backend.open_sender(name)
        heard = Heard()
        await client.backend.open_receiver(name, name, "newest", heard, 10)
        await eventually(lambda: heard.held, "the receiver has its share")
        await client.backend.aclose()
        await asyncio.sleep(0)
        assert left(before, made) == []
