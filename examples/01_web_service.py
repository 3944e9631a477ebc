"""A web service that publishes an order for each request: any ASGI server runs `app`.

Law: the answer is 202 only when the broker has confirmed. (With an outbox the order and its message would be one
transaction; the outbox is not built yet.)
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

import unimsg
from unimsg.errors import OutcomeUnknownError, PublishError

Event = MutableMapping[str, Any]


class Order(msgspec.Struct):
    """What a client orders."""

    id: str
    customer: str
    amount: float


class App:
    """One client for the whole process: opened at startup, flushed and closed at shutdown."""

    def __init__(self, url: str) -> None:
        """Remember the URL; nothing is opened yet."""
        self.client = unimsg.connect(url)

    async def __call__(
        self, scope: Event, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]
    ) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await receive()
            async with self.client:
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        status = await self.order((await receive()).get("body", b""))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def order(self, body: bytes) -> int:
        """Publish one order and return the HTTP status."""
        try:
            order = msgspec.json.decode(body, type=Order)
            await self.client.publish("orders", order, key=order.customer, id=order.id, timeout=5)
        except msgspec.DecodeError:
            return 422
        except PublishError:
            return 503  # certainly not published: the caller may simply repeat
        except OutcomeUnknownError:
            return 504  # perhaps published: repeated with the same id, the consumer recognises it
        return 202


app = App(os.environ.get("UNIMSG_URL", "memory://orders"))
