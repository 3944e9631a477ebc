"""Harness: an embedded backend seen through the contract only, and short words for messages and settlements.

Law: knows the seam, no backend's inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unimsg import registry
from unimsg.message import Message, Receipt, WireMessage
from unimsg.spi import Received, Settlement
from unimsg.testing.clock import ManualClock


class NoEvents:
    """A core that listens to nothing."""

    def assigned(self, assignments: Any, /) -> None: ...
    async def revoked(self, assignments: Any, deadline: float, /) -> None: ...
    def lost(self, assignments: Any, /) -> None: ...
    def wake(self) -> None: ...


def message(body: str = "", *, key: str | None = None, **fields: Any) -> WireMessage:
    """Make a message on the wire."""
    return Message(body=body.encode(), key=key, **fields)


def bodies(batch: Sequence[Received]) -> list[str]:
    """Return what was received, as text."""
    return [(received.message.body or b"").decode() for received in batch]


class World:
    """One backend with as many clients as a test wants."""

    def __init__(self, scheme: str, folder: Path, clock: ManualClock) -> None:
        self.scheme = scheme
        self.clock = clock
        self._where = {"name": str(folder)} if scheme == "memory" else {"path": str(folder / "messages.db")}
        self._open: list[Any] = []

    async def backend(self, **options: Any) -> Any:
        """Open one more client of the same broker."""
        plugin = registry.plugin(self.scheme)
        backend = plugin.build(plugin.Options(scheme=self.scheme, **self._where, **options))
        await backend.open()
        self._open.append(backend)
        return backend

    async def receiver(self, backend: Any, group: str = "g", **given: Any) -> Any:
        """Open a receiver of `orders`."""
        return await backend.open_receiver(
            given.get("destination", "orders"),
            group,
            given.get("start", "oldest"),
            NoEvents(),
            given.get("prefetch", 1000),
        )

    async def send(
        self, backend: Any, *messages: WireMessage, destination: str = "orders"
    ) -> Sequence[Receipt]:
        """Send one batch, all of which must be confirmed."""
        sender = await backend.open_sender(destination)
        receipts: Sequence[Receipt] = await sender.send_batch(messages, self.clock.time() + 30)
        assert all(isinstance(receipt, Receipt) for receipt in receipts)
        return receipts

    async def aclose(self) -> None:
        for backend in self._open:
            await backend.aclose()


def settlement(received: Received, verb: Any = "ack", delay: float = 0.0) -> Settlement:
    """Return a settlement as the core makes it."""
    executions = (received.attempts or 0) + (verb == "retry")
    return Settlement(verb, received.token, received.assignment, delay, executions, received.first_failed)


async def settle(
    receiver: Any, batch: Sequence[Received], verb: Any = "ack", delay: float = 0.0
) -> list[Any]:
    """Settle all of a batch in one way; returns the classes of the errors."""
    results = await receiver.settle_batch([settlement(received, verb, delay) for received in batch])
    return [type(result) for result in results if result is not None]
