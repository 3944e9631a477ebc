"""A receiver made by hand, and a subscriber on it: the consuming loop without any backend."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from unimsg.capabilities import Capabilities, Lease
from unimsg.consuming.services import Services
from unimsg.consuming.settings import Settings
from unimsg.consuming.subscriber import Subscriber
from unimsg.errors import Error, LeaseLostError
from unimsg.message import Receipt, WireMessage
from unimsg.policies.retry import RetryPolicy
from unimsg.spi import Assignment, Events, Received, ReceiveLimits, Receiver, Settlement

LIMITS = ReceiveLimits(max_messages=100, wait=1.0)
LOG = ReceiveLimits(max_messages=100, wait=1.0, ack="cumulative", retry="core", release="none")
FAST = RetryPolicy(max_attempts=3, initial=0.001, max=0.002, jitter="none")


class FakeReceiver:
    """Gives what it was fed, remembers how it was settled; `extended` counts lease extensions by token."""

    def __init__(self, limits: ReceiveLimits = LIMITS) -> None:
        self.limits = limits
        self.fed: deque[Received] = deque()
        self.given: list[Any] = []
        self.settled: list[Settlement] = []
        self.extended: list[Any] = []
        self.closed: list[bool] = []
        self.stopped = 0
        self.polls: list[int] = []
        self.fail_receive: deque[Exception] = deque()
        self.fail_settle: deque[Exception | list[Error | None]] = deque()
        self.refuse_extend: set[Any] = set()
        self.arrived = asyncio.Event()

    def feed(
        self, *bodies: bytes, key: str | None = None, assignment: Assignment | None = None, **facts: Any
    ) -> None:
        """Add messages; tokens count from 0."""
        for body in bodies:
            token = facts.pop("token", len(self.given) + len(self.fed))
            message = WireMessage(body=body, key=key, id=facts.get("id", f"id-{token}"))
            more = {name: value for name, value in facts.items() if name != "id"}
            self.fed.append(Received(message=message, token=token, lane=key, assignment=assignment, **more))
        self.arrived.set()

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        self.polls.append(max_messages)
        if self.fail_receive:
            raise self.fail_receive.popleft()
        if not self.fed and wait and max_messages:
            self.arrived.clear()
            try:
                async with asyncio.timeout(wait):
                    await self.arrived.wait()
            except TimeoutError:
                pass
            if self.fail_receive:
                raise self.fail_receive.popleft()
        batch = [self.fed.popleft() for _ in range(min(max_messages, len(self.fed)))]
        self.given += [received.token for received in batch]
        return batch

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        await asyncio.sleep(0)
        if self.fail_settle:
            failure = self.fail_settle.popleft()
            if isinstance(failure, Exception):
                raise failure
            self.settled += [s for s, error in zip(settlements, failure, strict=True) if error is None]
            return failure
        self.settled += settlements
        return [None] * len(settlements)

    async def extend_batch(self, tokens: Sequence[Any], seconds: float, /) -> Sequence[Error | None]:
        self.extended += tokens
        return [LeaseLostError("gone") if token in self.refuse_extend else None for token in tokens]

    async def stop_intake(self) -> None:
        self.stopped += 1

    async def aclose(self, *, abort: bool = False) -> None:
        self.closed.append(abort)

    def verbs(self) -> list[tuple[str, Any]]:
        """What was settled, as (verb, token)."""
        return [(s.verb, s.token) for s in self.settled]


class World:
    """Everything around one subscriber."""

    def __init__(
        self,
        *,
        limits: ReceiveLimits = LIMITS,
        capabilities: Capabilities | None = None,
        **settings: Any,
    ) -> None:
        self.limits = limits
        self.receivers: list[FakeReceiver] = [FakeReceiver(limits)]
        self.opened = 0
        self.open_errors: deque[Exception] = deque()
        self.events: Events | None = None
        self.letters: list[tuple[str, WireMessage]] = []
        self.letter_errors: deque[Exception] = deque()
        self.published: list[tuple[str, Any]] = []
        self.bury: Callable[[str, WireMessage], Awaitable[object]] = self._bury
        self.capabilities = capabilities or Capabilities(ordering="key", groups=True)
        services = Services(
            backend="fake",
            open_receiver=self._open,
            capabilities=lambda: self.capabilities,
            others=dict,
            translate=lambda _error: None,
            dead_letter=self._bury_by,
            publish=self._publish,
        )
        self.settings = Settings.build("orders", {"group": "billing", **settings})
        self.subscriber: Subscriber[Any] = Subscriber(services, self.settings, ensure_open=self._ensure)

    @property
    def receiver(self) -> FakeReceiver:
        """The current one."""
        return self.receivers[-1]

    @property
    def counters(self) -> dict[str, int]:
        """Outcomes so far."""
        return self.subscriber.health().counters

    async def _ensure(self) -> None:
        pass

    async def _open(self, events: Events) -> Receiver:
        self.opened += 1
        self.events = events
        if self.open_errors:
            raise self.open_errors.popleft()
        if self.opened > 1:
            self.receivers.append(FakeReceiver(self.limits))
        return self.receiver

    async def _bury_by(self, destination: str, message: WireMessage) -> object:
        """Whichever way a test has put in."""
        return await self.bury(destination, message)

    async def _bury(self, destination: str, message: WireMessage) -> object:
        if self.letter_errors:
            raise self.letter_errors.popleft()
        self.letters.append((destination, message))
        return None

    async def _publish(self, destination: str, body: Any, _options: Any) -> Receipt:
        self.published.append((destination, body))
        return Receipt(id="p")

    def start(self, handler: Any) -> asyncio.Task[None]:
        """Run in the background."""
        return asyncio.create_task(self.subscriber.run(handler))

    async def stop(self, task: asyncio.Task[None], drain: float | None = None) -> None:
        """Close, and surface what ended the run."""
        await self.subscriber.aclose(drain)
        await task


def leased(seconds: float = 30.0) -> Capabilities:
    """Capabilities with a lease that can be extended."""
    return Capabilities(ordering="key", groups=True, lease=Lease(seconds=seconds, extendable=True))


async def until(condition: Any, rounds: int = 2000) -> None:
    """Let the loop turn until the condition holds."""
    for _ in range(rounds):
        if condition():
            return
        await asyncio.sleep(0.001)  # whatever turns the condition has no event of its own
    raise AssertionError("it never came about")


def balance(world: World) -> None:
    """Promise 21: everything received has exactly one outcome."""
    c = world.counters
    outcomes = ("acked", "failed", "deferred", "dead_lettered", "released", "lost", "expired")
    assert c["received"] == sum(c[name] for name in outcomes) + world.subscriber.health().in_flight
