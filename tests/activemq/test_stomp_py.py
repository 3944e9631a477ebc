"""Beside plain stomp.py on a real broker, both ways.

Law: promise 20: body, headers, id and key travel in native fields; a foreign message keeps what its sender gave it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import Queue
from typing import Any
from urllib.parse import urlsplit

import stomp

import unimsg
import unimsg.backends.activemq
from tests.activemq.test_access import provided
from unimsg import codecs

PATIENCE = 10.0
"""Seconds after which something has not happened."""


class Listener(stomp.ConnectionListener):  # type: ignore[misc]  # it has no types
    """Puts aside what comes."""

    def __init__(self) -> None:
        self.frames: Queue[Any] = Queue()
        self.receipts: Queue[str] = Queue()

    def on_message(self, frame: Any) -> None:
        self.frames.put(frame)

    def on_receipt(self, frame: Any) -> None:
        self.receipts.put(frame.headers["receipt-id"])


class Plain:
    """stomp.py, without us."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self.listener = Listener()
        self.connection: Any = stomp.Connection12([(place.hostname, place.port)], auto_decode=False)
        self.connection.set_listener("", self.listener)
        self.connection.connect(place.username, place.password, wait=True)

    def publish(self, destination: str, body: bytes, headers: dict[str, str]) -> None:
        """Send with a receipt."""
        place = f"/topic/VirtualTopic.{destination}"
        self.connection.send(place, body, headers=headers, persistent="true", receipt="sent")
        assert self.listener.receipts.get(timeout=PATIENCE) == "sent"

    def receive(self, queue: str) -> Any:
        """Take one frame and ack it."""
        self.connection.subscribe(queue, "0", ack="client-individual")
        frame = self.listener.frames.get(timeout=PATIENCE)
        self.connection.ack(frame.headers["ack"], receipt="acked")
        assert self.listener.receipts.get(timeout=PATIENCE) == "acked"
        return frame


async def test_beside_plain_stomp_py_both_ways(broker_url: Callable[..., str]) -> None:
    """What it sends we read, what we send it reads."""
    url = broker_url("activemq")
    async with unimsg.connect(url) as client:
        destination = await provided(client)
        plain = await asyncio.to_thread(Plain, url)
        try:
            receipt = await client.publish(
                destination, {"n": 1}, key="ann", headers={"colour": "red: \n dark"}, ttl=60
            )
            frame = await asyncio.to_thread(plain.receive, f"/queue/Consumer.g.VirtualTopic.{destination}")
            theirs = {
                "correlation-id": "c",
                "content-type": "text/plain",
                "colour": "blue",
                "unimsg-key": "bob",
            }
            await asyncio.to_thread(plain.publish, destination, b"\xff\0\n", theirs)
        finally:
            await asyncio.to_thread(plain.connection.disconnect)

        assert frame.body == b'{"n":1}'
        told = {name: frame.headers[name] for name in ("unimsg-id", "unimsg-key", "colour", "persistent")}
        assert told == {
            "unimsg-id": receipt.id,
            "unimsg-key": "ann",
            "colour": "red: \n dark",
            "persistent": "true",
        }
        async for delivery in client.subscriber(destination, group="g", codec=codecs.BYTES):
            async with delivery:
                assert (delivery.body, delivery.id, delivery.key) == (b"\xff\0\n", None, "bob")
                assert delivery.headers == {"colour": "blue"}
            break
        frame = unimsg.backends.activemq.native(delivery)
        assert frame.headers["correlation-id"] == "c"
