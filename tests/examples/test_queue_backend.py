"""The backend of the how-to is a backend: a third party's, found by entry point.

Law: through the public API; what it does not declare is refused for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import unimsg
from examples import queue_backend
from unimsg import Message, RetryPolicy, registry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if a package with the entry point of the how-to were installed."""
    found = {"queue": EntryPoint("queue", "examples.queue_backend", registry.GROUP)}
    monkeypatch.setattr(registry, "_third_parties", lambda: found)
    monkeypatch.setattr(queue_backend, "QUEUES", {})
    yield
    assert registry.schemes()[-1] == "queue"


def test_the_page_shows_the_file() -> None:
    """What the how-to prints is what is tested here, to the letter."""
    page = (ROOT / "docs/how-to/write-a-backend.md").read_text(encoding="utf-8")
    source = (ROOT / "examples/queue_backend.py").read_text(encoding="utf-8")

    assert f"```python\n{source}```\n" in page


def test_it_is_short() -> None:
    """The how-to says how long it is."""
    source = (ROOT / "examples/queue_backend.py").read_text(encoding="utf-8")
    code = re.sub(r'"""(?:.|\n)*?"""', "", source)

    assert len([line for line in code.splitlines() if line.strip()]) <= 150


async def test_the_core_does_the_rest() -> None:
    """Retries and dead letters come with the contract (promises 5, 9, 14)."""
    router = unimsg.Router()
    retry = RetryPolicy(max_attempts=2, initial=0, max=0)
    seen: list[tuple[str, int]] = []

    @router.on("orders", retry=retry, dead_letter="dead")
    async def handle(delivery: unimsg.Delivery[str]) -> None:
        seen.append((delivery.body, delivery.attempt))
        if delivery.body == "poison":
            raise ConnectionError("never")
        if delivery.body == "flaky" and delivery.attempt == 1:
            raise ConnectionError("once")

    async with unimsg.connect("queue://") as client:
        for body in ("good", "poison", "flaky"):
            await client.publish("orders", body)
        (health,) = await router.run_until_idle(client)
        dead: list[Any] = []

        async def look(delivery: unimsg.Delivery[str]) -> None:
            dead.append(delivery.body)

        await client.subscriber("dead").run_until_idle(look)

    assert sorted(seen) == [("flaky", 1), ("flaky", 2), ("good", 1), ("poison", 1), ("poison", 2)]
    assert dead == ["poison"]
    assert (health.counters["acked"], health.counters["dead_lettered"]) == (2, 1)


async def test_what_is_not_settled_goes_back() -> None:
    """A receiver that closes loses nothing."""
    backend = queue_backend.build(queue_backend.Options())
    sender = await backend.open_sender("orders")
    await sender.send_batch([Message(body=b"1")], 0.0)
    for expected in (1, 2):
        receiver = await backend.open_receiver("orders", None, "oldest", Deaf(), 10)
        (received,) = await receiver.receive_batch(10, 1.0)
        await receiver.aclose()

        assert (received.message.body, received.deliveries, received.attempts) == (b"1", expected, 0)


class Deaf:
    """Events that nobody listens to."""

    def assigned(self, _assignments: object, /) -> None: ...
    async def revoked(self, _assignments: object, _deadline: float, /) -> None: ...
    def lost(self, _assignments: object, /) -> None: ...
    def wake(self) -> None: ...


def test_what_it_does_not_declare_is_refused() -> None:
    """Nobody had to write that."""
    client = unimsg.connect("queue://")

    with pytest.raises(unimsg.CapabilityError, match="queue"):
        client.subscriber("orders", order="key")
    with pytest.raises(unimsg.CapabilityError, match="queue"):
        client.subscriber("orders", group="billing")
