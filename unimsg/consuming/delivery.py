"""Delivery: one message in the hands of a handler, and the verbs that settle it.

Law: knows the loop it came from only by the `Home` protocol below; no backend, no store, no clock. It is created
for every message, so it has slots and little else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from unimsg.message import Message, Position, Receipt, WireMessage

if TYPE_CHECKING:
    from unimsg.consuming.guard import Claim
    from unimsg.consuming.lanes import Lane
    from unimsg.consuming.link import Link
    from unimsg.spi import Received
    from unimsg.units import Duration

T = TypeVar("T")

# The life of a delivery, in this order; it never goes back except RUNNING -> HELD -> WAITING.
WAITING, RUNNING, HELD, SETTLING, DONE, DROPPED = range(6)
"""In a lane; in a handler; due later; a verdict was given; settled; gone without a verdict (it will come again)."""


Verb: TypeAlias = Literal["ack", "fail", "defer", "dead_letter", "give_back"]


class Home(Protocol):
    """What a delivery asks of the loop that made it."""

    destination: str
    group: str | None
    state: Any

    async def by_hand(self, delivery: Delivery[Any], verb: Verb, value: Any, /) -> None:  # noqa: ANN401 - by verb
        """Settle it now, or when its handler returns."""

    async def publish(self, destination: str, body: Any, options: Mapping[str, Any], /) -> Receipt:  # noqa: ANN401 - any body
        """Publish with the client that consumes."""
        ...


class Trouble:
    """What is remembered of a delivery that failed at least once.

    Attributes:
        first, last: when it failed, in seconds since the epoch.
        error_type, error: of the last failure.
        doomed: why it must be dead-lettered; set once that is decided, so that it is not run again.
    """

    __slots__ = ("doomed", "error", "error_type", "first", "last")

    def __init__(self, now: float) -> None:
        self.first = self.last = now
        self.error_type = ""
        self.error = ""
        self.doomed = ""


class Delivery(Generic[T]):
    """One message given to one handler: at least once, and again until it is settled.

    A handler that returns has acked; one that raises has failed. The verbs below settle earlier or otherwise.
    The same verb twice is one; another verb after the first is a `SettleError`.

    Attributes:
        body: decoded by the codec.
        attempt: executions of the handler that are known, this one included: 1 is the first.
        fencing_token: with `@idempotent`, a number that strictly increases for each claim of this key; else 0.
    """

    __slots__ = (
        "_claim",
        "_lane",
        "_link",
        "_loop",
        "_received",
        "_seq",
        "_since",
        "_size",
        "_slot",
        "_state",
        "_trouble",
        "_verb",
        "attempt",
        "body",
        "fencing_token",
    )

    body: T
    _claim: Claim
    """Of an idempotent handler; there while `fencing_token` is not 0."""

    def __init__(self, received: Received, loop: Home, link: Link | None, attempt: int, seq: int) -> None:
        self._received = received
        self._loop = loop
        self._link = link
        self._seq = seq
        self._since = 0.0
        self._state = WAITING
        self._lane: Lane | None = None
        self._slot: Any = None
        self._trouble: Trouble | None = None
        self._verb: tuple[str, Any] | None = None
        self.attempt = attempt
        self.fencing_token = 0
        body = received.message.body
        self._size = len(body) if body is not None else 0

    def __repr__(self) -> str:
        return f"<Delivery {self.id} of {self.destination!r} attempt={self.attempt}>"

    # ------------------------------------------------------------ what it is

    @property
    def message(self) -> WireMessage:
        """The message as it travelled, its body still encoded."""
        return self._received.message

    @property
    def id(self) -> str | None:
        """The producer's identity of the message, the same on every resend; None on foreign messages."""
        return self._received.message.id

    @property
    def key(self) -> str | None:
        """The ordering key."""
        return self._received.message.key

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, as the producer set them."""
        return self._received.message.headers

    @property
    def deliveries(self) -> int:
        """The broker's own count of deliveries, this one included: an upper bound of the attempts."""
        return self._received.deliveries

    @property
    def position(self) -> Position | None:
        """Where the service keeps the message; None where it does not say."""
        return self._received.position

    @property
    def destination(self) -> str:
        """The destination that it was received from."""
        return self._loop.destination

    @property
    def group(self) -> str | None:
        """The group that received it."""
        return self._loop.group

    @property
    def state(self) -> Any:  # noqa: ANN401 - whatever the program's lifespan yielded
        """What the router's lifespan yielded."""
        return self._loop.state

    @property
    def lease_lost(self) -> bool:
        """True once the lease or the assignment is gone: stop what has effects, nothing will be acked."""
        return self._state == DROPPED

    @property
    def settled(self) -> bool:
        """True once a verdict was given."""
        return self._state in (SETTLING, DONE)

    # ------------------------------------------------------------ what becomes of it

    async def ack(self) -> None:
        """Settle as done: it will not come again, unless the process dies before the broker has heard.

        Raises:
            LeaseLostError: the lease is gone; another consumer may have the message.
            AssignmentLostError: the partition, shard or channel is gone.
            SettleError: another verdict was given before.
        """
        await self._loop.by_hand(self, "ack", None)

    async def fail(self, *, delay: Duration | None = None) -> None:
        """Settle as failed: it counts as an attempt and comes again after `delay`, or is dead-lettered.

        Args:
            delay: until the next attempt; the retry policy decides unless given.

        Raises:
            LeaseLostError, AssignmentLostError, SettleError: as `ack`.
        """
        await self._loop.by_hand(self, "fail", (None, _seconds(delay)))

    async def defer(self, delay: Duration = 0.0) -> None:
        """Put it off: it comes again after `delay`, and that does not count as an attempt.

        Raises:
            LeaseLostError, AssignmentLostError, SettleError: as `ack`.
        """
        await self._loop.by_hand(self, "defer", _seconds(delay) or 0.0)

    async def dead_letter(self, reason: str) -> None:
        """Put it aside for good; returns when the dead letter is confirmed.

        Without a dead letter destination it stays, is retried at the longest delay, and `health` turns red.

        Args:
            reason: what is wrong with it, for the reader of the dead letter.

        Raises:
            LeaseLostError, AssignmentLostError, SettleError: as `ack`.
        """
        await self._loop.by_hand(self, "dead_letter", reason)

    async def publish(self, destination: str, body: Any, **options: Any) -> Receipt:  # noqa: ANN401 - any body
        """Publish with the client that consumes; see `Client.publish` for the options, ends and errors.

        It is not part of this delivery's settlement: if the handler fails afterwards, it stays published.
        """
        return await self._loop.publish(destination, body, options)

    async def __aenter__(self) -> Delivery[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state in (SETTLING, DONE):
            return
        if error is None:
            await self._loop.by_hand(self, "ack", None)
        elif isinstance(error, Exception):
            if self._state != DROPPED:
                await self._loop.by_hand(self, "fail", (error, None))
        else:
            await self._loop.by_hand(self, "give_back", None)


Handler: TypeAlias = Callable[[Delivery[T]], Awaitable[None]]
"""What a router or subscriber runs: `async def`, one delivery in, nothing out."""

BatchHandler: TypeAlias = Callable[[list[Delivery[T]]], Awaitable[None]]
"""With `batch=`: a list of deliveries in, each settled on its own; what is not settled is acked on return."""

AnyMessage: TypeAlias = Message[Any]


def _seconds(value: Duration | None) -> float | None:
    if value is None or isinstance(value, (int, float)):
        return value
    return value.total_seconds()
