"""Deliveries made by hand, so that a handler is tested without a broker.

Law: no client, no loop, no backend; what a handler does with a delivery is written down, nothing is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from unimsg.codecs import JSON, Codec, resolve
from unimsg.consuming.delivery import DONE, DROPPED, RUNNING, Delivery, Verb
from unimsg.consuming.handlers import prepare
from unimsg.errors import Fail, LeaseLostError, SettleError
from unimsg.message import NO_HEADERS, Message, Position, Receipt, WireMessage, new_id
from unimsg.policies.retry import RetryPolicy
from unimsg.spi import Received

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a delivery.

    Attributes:
        verb: `ack`, `fail`, `defer`, `dead_letter`; `give_back` where a cancelled handler left it open.
        delay: seconds until it comes again, where the handler or the policy said so.
        reason: why it failed or is dead, for people.
        error: what the handler raised.
    """

    verb: Verb
    delay: float | None = None
    reason: str = ""
    error: BaseException | None = None


@dataclass(slots=True)
class _Home:
    """Takes the place of the consuming loop and writes down what it is asked."""

    destination: str
    group: str | None
    state: Any
    settled: Settled | None = None
    published: list[tuple[str, Message[Any]]] = field(default_factory=list)

    async def by_hand(self, delivery: Delivery[Any], verb: Verb, value: Any, /) -> None:
        if delivery.lease_lost:
            raise LeaseLostError("the lease is gone: it will come again", destination=self.destination)
        if self.settled is not None:
            if self.settled.verb == verb:
                return
            raise SettleError(
                f"{verb} after {self.settled.verb}: a delivery is settled once", destination=self.destination
            )
        self.settled = _written(verb, value)
        delivery._state = DONE  # noqa: SLF001 - this file is the loop here

    async def publish(self, destination: str, body: Any, options: Mapping[str, Any], /) -> Receipt:
        given = {name: value for name, value in options.items() if name not in ("codec", "timeout")}
        if given.get("headers", 0) is None:
            del given["headers"]
        message: Message[Any] = Message(body=body, **given)
        self.published.append((destination, message))
        return Receipt(id=message.id)


def _written(verb: Verb, value: Any) -> Settled:
    if verb == "fail":
        error, delay = value
        return Settled(verb, delay=delay, reason=str(error or ""), error=error)
    if verb == "defer":
        return Settled(verb, delay=value)
    if verb == "dead_letter":
        return Settled(verb, reason=value)
    return Settled(verb)


class HandMade(Delivery[T], Generic[T]):
    """A delivery for one test: it behaves as a real one and remembers what was done with it."""

    __slots__ = ("_home",)

    def __init__(self, received: Received, home: _Home, attempt: int, body: T) -> None:
        super().__init__(received, home, None, attempt, 0)
        self._home = home
        self._state = RUNNING
        self.body = body

    @property
    def settlement(self) -> Settled | None:
        """What it was settled with; None: nobody has settled it yet."""
        return self._home.settled

    @property
    def published(self) -> list[tuple[str, Message[Any]]]:
        """What was published through it: destination and message, bodies not encoded."""
        return self._home.published

    def lose(self) -> None:
        """Let its lease end: `lease_lost` turns true, and settling it raises `LeaseLostError`."""
        self._state = DROPPED


def delivery(  # noqa: PLR0913 - one argument for each fact of a delivery
    body: T,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    id: str | None = None,  # noqa: A002 - the word of the field
    attempt: int = 1,
    deliveries: int | None = None,
    destination: str = "destination",
    group: str | None = "group",
    position: Position | None = None,
    state: Any = None,
    codec: Codec[Any] | type[Any] | None = None,
    fencing_token: int = 0,
) -> HandMade[T]:
    """Return a delivery as a consuming loop would give it to a handler.

    Args:
        body: what the handler finds in `delivery.body`.
        key: the ordering key.
        headers: as the producer set them.
        id: the producer's identity of the message; a new one unless given.
        attempt: executions of the handler that are known, this one included.
        deliveries: the broker's count; the attempt unless given.
        destination: where it comes from.
        group: who receives it.
        position: where it stands in a log.
        state: what the router's lifespan yielded.
        codec: what `message.body` is encoded with; JSON unless given.
        fencing_token: of an idempotency claim.

    Raises:
        EncodeError: the body does not fit the codec: no broker could deliver it.
    """
    used = JSON if codec is None else resolve(codec)
    message = WireMessage(
        body=used.encode(body),
        key=key,
        headers=headers if headers is not None else NO_HEADERS,
        id=id if id is not None else new_id(),
        content_type=used.content_type,
    )
    received = Received(
        message=message,
        token=None,
        lane=key,
        deliveries=deliveries if deliveries is not None else attempt,
        position=position,
    )
    made = HandMade(received, _Home(destination, group, state), attempt, body)
    made.fencing_token = fencing_token
    return made


async def handle(
    handler: Callable[[Any], Awaitable[Any]],
    delivery: HandMade[Any],
    *,
    retry: RetryPolicy | None = None,
) -> Settled:
    """Run a handler on a delivery as a consuming loop does, and return what would become of the message.

    Args:
        handler: what a router or subscriber would run; a decorated one claims its key as a plain function does.
        delivery: made by `delivery`.
        retry: decides after a failure; the default policy unless given.

    Raises:
        ConfigError: no router would take this handler.
    """
    prepare(handler)
    policy = retry if retry is not None else RetryPolicy()
    try:
        result = await handler(delivery)
    except Exception as error:  # noqa: BLE001 - a loop takes any, and so must this
        if delivery.settlement is not None:
            return delivery.settlement
        return _judged(policy, error, delivery.attempt)
    if delivery.settlement is not None:
        return delivery.settlement
    if result is not None:
        reason = f"it returned {type(result).__name__}; a handler returns None"
        return Settled("dead_letter", reason=reason)
    return Settled("ack")


def _judged(policy: RetryPolicy, error: Exception, attempt: int) -> Settled:
    verdict = policy.verdict(error, attempt)
    verb: Verb = "fail" if verdict.action == "retry" else verdict.action
    raised = None if isinstance(error, Fail) else error
    return Settled(verb, delay=verdict.delay, reason=verdict.reason, error=raised)
