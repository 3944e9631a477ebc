"""Publisher: what users call to publish to one destination.

Law: makes the message (its id is given here, once), checks it, waits for its end. How it gets there is the batcher's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from typing import Generic, TypeVar

from unimsg.capabilities import Capabilities
from unimsg.codecs import Codec
from unimsg.errors import ConfigError, Error, PublishManyError, RejectedError
from unimsg.message import NO_HEADERS, Message, Receipt, WireMessage, new_id
from unimsg.publishing import checks
from unimsg.publishing.batcher import Batcher
from unimsg.publishing.counters import PublisherStats
from unimsg.publishing.entry import Call, Part, Single
from unimsg.publishing.link import Link
from unimsg.publishing.outcomes import Wording
from unimsg.spi import Sender
from unimsg.units import Duration, seconds

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds that a publish may take."""
WINDOW = 1000
"""Messages of one `publish_many` that may be out at once; it goes on when half of them have ended."""


class Publisher(Generic[T]):
    """Publishes to one destination; made by `Client.publisher`, opened at first use, closed with its client.

    Used from one event loop, by any number of tasks: what they publish at the same time shares batches, and the end
    of one message is nobody else's.
    """

    def __init__(
        self,
        *,
        backend: str,
        destination: str,
        codec: Codec[T],
        open_sender: Callable[[], Awaitable[Sender]],
        translate: Callable[[Exception], Error | None],
        capabilities: Callable[[], Capabilities],
        others: Callable[[], Mapping[str, Capabilities]],
        ensure_open: Callable[[], Awaitable[None]],
    ) -> None:
        self.backend = backend
        self.destination = destination
        self._codec = codec
        self._open_sender = open_sender
        self._translate = translate
        self._capabilities = capabilities
        self._others = others
        self._ensure_open = ensure_open
        self._wording = Wording(backend, destination)
        self._batcher: Batcher | None = None

    async def publish(  # noqa: PLR0913 - what a message has
        self,
        body: T,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002 - the word of the design
        delay: Duration = 0.0,
        ttl: Duration | None = None,
        priority: int | None = None,
        content_type: str | None = None,
        timeout: Duration = TIMEOUT,  # noqa: ASYNC109 - a deadline with three ends, not a cancellation
    ) -> Receipt:
        """Publish one message; returns only when the service has confirmed it.

        Messages of one key arrive in the order of these calls, on a backend that declares order. A call that is
        cancelled withdraws the message if it was not handed over yet; else its outcome is unknown.

        Args:
            body: what the codec takes.
            key: ordering and partition key.
            headers: text to text; names that begin with `unimsg-` are reserved.
            id: the identity of the message, the same on every resend; a new UUIDv7 unless given.
            delay: time before it may be delivered (needs `delay`).
            ttl: time after which it is dropped if not delivered (needs `ttl`).
            priority: 0 to 9, higher first (needs `priority`).
            content_type: media type of the body; the codec's unless given.
            timeout: time until the call ends in any case.

        Returns:
            The receipt: its id, its position where the service tells, whether it was a duplicate.

        Raises:
            PublishError: it is certainly not published: refused before the wire or by the service, or not sent in time.
            OutcomeUnknownError: it left and no answer came in time; publish it again with the same id.
            CapabilityError: the backend, as configured, has no delay, ttl, priority or headers.
            EncodeError: the body does not fit the codec.
            BackendError: the destination could not be opened: it does not exist, or access is denied.
            ClosedError: the publisher is closed.
        """
        codec = self._codec
        try:
            encoded = codec.encode(body)
        except Error as error:
            self._wording.placed(error)
            raise
        message = Message(
            body=encoded,
            key=key,
            headers=headers if headers is not None else NO_HEADERS,
            id=new_id() if id is None else id,
            content_type=codec.content_type if content_type is None else content_type,
            timestamp=time.time(),
            delay=delay if type(delay) is float else self._seconds("delay", delay),
            ttl=None if ttl is None else self._seconds("ttl", ttl),
            priority=priority,
        )
        return await self._publish(self._checked(message), timeout)

    async def publish_wire(
        self,
        message: WireMessage,
        *,
        timeout: Duration = TIMEOUT,  # noqa: ASYNC109 - as above
    ) -> Receipt:
        """Publish a message whose body is encoded already, as it is: id, headers (reserved ones too), timestamp.

        Raises, returns and leaves behind what `publish` does.
        """
        return await self._publish(self._checked(message, reserved=True), timeout)

    async def publish_many(
        self,
        messages: Iterable[Message[T]],
        *,
        timeout: Duration = TIMEOUT,  # noqa: ASYNC109 - as above
    ) -> list[Receipt]:
        """Publish many messages; returns when each has been confirmed, raises when each has ended.

        At most a window of them is out at once, so `messages` may be a long generator; each one's timeout runs from
        when it was taken. When a message with a key is not confirmed and may be published again, the rest of that
        key is not sent (`NotSentError`): published again in the order of the results, the key keeps its order. A call
        that is cancelled withdraws what was not handed over yet; the outcome of the rest is unknown.

        Args:
            messages: in the order in which they are to be published.
            timeout: time for each of them.

        Returns:
            One receipt for each message, in order.

        Raises:
            PublishManyError: at least one was not confirmed; `results` has a receipt or an error for each message
                that was taken, in order.
            ClosedError: the publisher was closed before anything was taken.
        """
        batcher, budget = self._ready(), self._timeout(timeout)
        batcher.refuse_when_closed()
        if not isinstance(messages, Iterable):
            raise self._wording.placed(
                ConfigError(
                    f"publish_many takes messages, not {type(messages).__name__}: [Message(body=…), …]"
                )
            )
        call = Call()
        try:
            for message in messages:
                self._take(batcher, call, message, budget)
                if call.left >= WINDOW:
                    await call.until(WINDOW // 2)
            await call.until(0)
        except BaseException:
            batcher.ledger.abandon(call)
            raise
        if call.failed:
            raise self._incomplete(call)
        return call.results  # type: ignore[return-value]  # nothing failed, so each is a receipt

    async def flush(self) -> None:
        """Return when everything accepted so far has ended, sending what waits without lingering."""
        if self._batcher is not None:
            await self._batcher.flush()

    async def aclose(self, timeout: Duration = 10.0) -> None:  # noqa: ASYNC109 - as above
        """Flush, answer whoever still waits, close the sender; new calls get `ClosedError` at once.

        Args:
            timeout: time for all of it. What was not handed over by then ends as `NotSentError`, the rest as
                `OutcomeUnknownError`.
        """
        if self._batcher is None:
            self._batcher = self._make_batcher()
        await self._batcher.aclose(self._timeout(timeout, least=0.0))

    @property
    def stats(self) -> PublisherStats:
        """What became of everything so far."""
        if self._batcher is None:
            return PublisherStats()
        ledger = self._batcher.ledger
        counters = ledger.counters
        return PublisherStats(
            accepted=counters.accepted,
            confirmed=counters.confirmed,
            not_published=counters.not_published,
            unknown=counters.unknown,
            waiting=ledger.waiting,
            in_flight=ledger.in_flight,
            resent=counters.resent,
            batches=counters.batches,
            reopened=self._batcher.link.reopened,
        )

    async def _publish(self, message: WireMessage, timeout: Duration) -> Receipt:  # noqa: ASYNC109 - as above
        batcher = self._batcher
        if batcher is None or batcher.loop is not asyncio.get_running_loop():
            batcher = self._ready()
        budget = timeout if type(timeout) is float and timeout > 0 else self._timeout(timeout)
        entry = Single(message, batcher.loop.time() + budget)
        try:
            if batcher.offer(entry, inline=True):
                await batcher.send_inline(entry)
            if entry.outcome is None:
                entry.future = batcher.loop.create_future()
                await entry.future
        except asyncio.CancelledError:
            batcher.ledger.withdraw(entry)
            raise
        outcome = entry.outcome
        if type(outcome) is Receipt:
            return outcome
        assert isinstance(outcome, Error)  # noqa: S101 - one or the other
        raise outcome

    def _take(self, batcher: Batcher, call: Call, message: Message[T], budget: float) -> None:
        """Take one message of many; what is wrong with it is its result."""
        if not isinstance(message, Message):
            raise self._wording.placed(
                ConfigError(
                    f"publish_many takes messages, not {type(message).__name__}: Message(body=…, key=…)"
                )
            )
        index = len(call.results)
        call.results.append(None)
        call.left += 1
        if call.halted and message.key in call.halted:
            call.note(index, batcher.ledger.halted())
            return
        try:
            entry = Part(self._wire(message), batcher.loop.time() + budget, call=call, index=index)
            batcher.offer(entry)
        except Error as error:
            call.note(index, error)

    def _incomplete(self, call: Call) -> PublishManyError:
        errors = [result for result in call.results if isinstance(result, Error)]
        return PublishManyError(
            f"{len(errors)} of {len(call.results)} messages were not confirmed, see results; the first: {errors[0]}",
            results=call.results,
            backend=self.backend,
            destination=self.destination,
        )

    def _wire(self, message: Message[T]) -> WireMessage:
        """Encode; the id it has, or gets here, is the one it keeps."""
        try:
            encoded = self._codec.encode(message.body)
        except Error as error:
            self._wording.placed(error)
            raise
        return self._checked(
            Message(
                body=encoded,
                key=message.key,
                headers=message.headers,
                id=message.id if message.id is not None else new_id(),
                content_type=message.content_type or self._codec.content_type,
                timestamp=message.timestamp or time.time(),
                delay=message.delay,
                ttl=message.ttl,
                priority=message.priority,
            )
        )

    def _checked(self, message: WireMessage, *, reserved: bool = False) -> WireMessage:
        """Return the message, its headers out of the caller's reach."""
        try:
            return checks.message(message, reserved=reserved)
        except RejectedError as error:
            self._wording.placed(error)
            raise

    def _examine(self, message: WireMessage) -> None:
        if message.headers or message.delay or message.ttl is not None or message.priority is not None:
            checks.capabilities(
                message,
                self._capabilities(),
                backend=self.backend,
                destination=self.destination,
                others=self._others,
            )

    def _timeout(self, timeout: Duration, *, least: float = 1e-9) -> float:
        value = timeout if type(timeout) is float else self._seconds("timeout", timeout)
        if not value >= least:
            raise self._wording.placed(RejectedError(f"timeout must be more than 0 seconds, not {timeout!r}"))
        return value

    def _seconds(self, name: str, value: Duration) -> float:
        try:
            return seconds(value)
        except (TypeError, ValueError) as error:
            if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)):
                accepted = "seconds or a timedelta"
            else:
                accepted = "0 or more seconds" if name == "delay" else "more than 0 seconds"
            raise self._wording.placed(RejectedError(f"{name} must be {accepted}, not {value!r}")) from error

    def _ready(self) -> Batcher:
        batcher = self._batcher
        if batcher is None:
            batcher = self._batcher = self._make_batcher()
        if batcher.loop is not asyncio.get_running_loop():
            raise self._wording.placed(
                ConfigError("the publisher belongs to another event loop: one loop per client")
            )
        return batcher

    def _make_batcher(self) -> Batcher:
        return Batcher(
            self._wording, examine=self._examine, translate=self._translate, make_link=self._make_link
        )

    def _make_link(self, home: Batcher) -> Link:
        return Link(
            home,
            name=self.destination,
            open_sender=self._open_sender,
            ensure_open=self._ensure_open,
            translate=self._translate,
        )
