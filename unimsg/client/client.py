"""Client: hands out publishers and subscribers on one backend, and owns what it opens.

Law: wires the way out, the way in and one backend together, which know nothing of each other; no policy, no backend's
name. One event loop for each client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from unimsg import registry
from unimsg.capabilities import Capabilities, Needs, check
from unimsg.client.health import Health
from unimsg.client.publishers import Publishers, everything
from unimsg.client.session import Session
from unimsg.codecs import BYTES, Codec, resolve
from unimsg.consuming.services import Services
from unimsg.consuming.settings import Given, Settings
from unimsg.consuming.subscriber import Subscriber
from unimsg.errors import CapabilityError, ClosedError, OptionError
from unimsg.message import Receipt, WireMessage
from unimsg.operations import provision as provisioning
from unimsg.operations import redrive as redriving
from unimsg.options import Options, render
from unimsg.publishing.publisher import Publisher
from unimsg.spi import Backend, Drift, Events, Provisions, Receiver, Redrives, Topology
from unimsg.units import Duration

T = TypeVar("T")


class Client:
    """One account on one service: hands out publishers and subscribers, and closes them with itself.

    Use it as `async with connect(url) as client`: entering makes one bounded attempt to open (`open_timeout`, 10 s;
    `open=lazy` leaves it to the first use), leaving drains subscribers, flushes publishers and closes. One event loop.
    """

    def __init__(self, backend: Backend, options: Options, needs: Needs | None) -> None:
        self._options = options
        self._name = options.scheme
        self._session = Session(backend, options, needs)
        self._publishers = Publishers(self._new_publisher)
        self._subscribers: list[Subscriber[Any]] = []
        self._fatal: list[str] = []
        self._closing = False

    def __repr__(self) -> str:
        return f"<Client {render(self._options)}>"

    @property
    def capabilities(self) -> Capabilities:
        """What this client can do: as declared for its options, refined once it is open."""
        return self._session.backend.capabilities

    @property
    def backend(self) -> Backend:
        """The native side, one step away."""
        return self._session.backend

    @property
    def options(self) -> Options:
        """What it was connected with."""
        return self._options

    # ------------------------------------------------------------ open and close

    async def __aenter__(self) -> Self:
        if self._options.open != "lazy":
            await self._session.ensure_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Drain subscribers, flush and close publishers, close the backend; in this order, each within its budget.

        A cancellation leaves nothing open: what was not settled or confirmed by then comes again, or is reported to
        its caller as not sent or unknown.
        """
        if self._closing:
            return
        self._closing = True
        try:
            await everything(subscriber.aclose() for subscriber in self._subscribers)
        finally:
            self._session.closed = True  # not before: a handler that ends within the drain may still publish
            try:
                await self._publishers.aclose()
            finally:
                await self._session.aclose()

    # ------------------------------------------------------------ the way out

    async def publish(  # noqa: PLR0913 - one argument for each field of a message
        self,
        destination: str,
        body: Any,  # noqa: ANN401 - whatever the codec takes
        *,
        codec: Codec[Any] | type[Any] | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,  # noqa: A002 - the word of the field
        delay: Duration = 0.0,
        ttl: Duration | None = None,
        priority: int | None = None,
        content_type: str | None = None,
        timeout: Duration = 30.0,  # noqa: ASYNC109 - a deadline with three ends, not a cancellation
    ) -> Receipt:
        """Publish one message and return when the service has confirmed it; see `Publisher.publish` for all of it.

        Publishers are opened at first use and kept (the last hundred destinations).
        """
        return await self._publishers.cached(destination, codec).publish(
            body,
            key=key,
            headers=headers,
            id=id,
            delay=delay,
            ttl=ttl,
            priority=priority,
            content_type=content_type,
            timeout=timeout,
        )

    @overload
    def publisher(self, destination: str, *, needs: Needs | None = None) -> Publisher[Any]: ...
    @overload
    def publisher(
        self, destination: str, *, codec: Codec[T] | type[T], needs: Needs | None = None
    ) -> Publisher[T]: ...
    def publisher(
        self,
        destination: str,
        *,
        codec: Codec[Any] | type[Any] | None = None,
        needs: Needs | None = None,
    ) -> Publisher[Any]:
        """Return a publisher for one destination, without any I/O; it opens at first use and closes with the client.

        Args:
            destination: its name on the service.
            codec: what the body must be: a codec, or a class that one is made for; JSON unless given.
            needs: what this publisher relies on beyond the client's needs.

        Raises:
            CapabilityError: a need is not met by what is declared.
            OptionError: `codec` is nothing that bodies can be encoded with.
            ClosedError: the client is closed.
        """
        return self._publishers.make(destination, resolve(codec), needs)

    def _new_publisher(self, destination: str, codec: Codec[Any], needs: Needs | None) -> Publisher[Any]:
        self._session.check_destination(destination)
        check(needs, self.capabilities, backend=self._name, destination=destination, others=registry.declared)

        async def ensure_open() -> None:
            await self._session.ensure_open()
            check(
                needs,
                self.capabilities,
                backend=self._name,
                destination=destination,
                others=registry.declared,
            )

        return Publisher(
            backend=self._name,
            destination=destination,
            codec=codec,
            open_sender=lambda: self._session.bounded(
                lambda: self._session.backend.open_sender(destination), "opening the way out", destination
            ),
            translate=self._session.backend.translate,
            capabilities=lambda: self.capabilities,
            others=registry.declared,
            ensure_open=ensure_open,
        )

    async def _publish_wire(self, destination: str, message: WireMessage) -> Receipt:
        return await self._publishers.cached(destination, None).publish_wire(message, timeout=30.0)

    # ------------------------------------------------------------ the way in

    @overload
    def subscriber(
        self, destination: str, *, codec: Codec[T] | type[T], **settings: Unpack[Given]
    ) -> Subscriber[T]: ...
    @overload
    def subscriber(
        self, destination: str, *, codec: None = None, **settings: Unpack[Given]
    ) -> Subscriber[Any]: ...
    def subscriber(
        self, destination: str, *, codec: Codec[Any] | type[Any] | None = None, **settings: Unpack[Given]
    ) -> Subscriber[Any]:
        """Return a subscriber to one destination, without any I/O; it closes with the client.

        Args:
            destination: its name on the service.
            codec: what bodies are decoded with: a codec, or a class that one is made for; JSON unless given.
            **settings: as `Router.on` takes them: `group`, `concurrency` (10), `order` (what the
                backend keeps), `retry`, `dead_letter`, `timeout` (15 min), `start` ("oldest"), `prefetch` (1,000
                messages at most), `rate` (starts a second), `batch`, `batch_wait` (1 s), `drain` (25 s), `needs`.

        Raises:
            OptionError: a setting is unknown, of the wrong type or out of range.
            CapabilityError: a need, also one that a setting implies, is not met by what is declared.
            ClosedError: the client is closed.
        """
        self._session.check_destination(destination)
        return self.subscribe(Settings.build(destination, {**settings, "codec": codec}))

    def subscribe(self, settings: Settings, *, state: Any = None) -> Subscriber[Any]:  # noqa: ANN401 - the program's
        """Return a subscriber for settings that were built already; what `Router` uses."""
        destination = settings.destination
        self._session.check_destination(destination)
        if self._closing:
            raise ClosedError("the client is closing: connect again", backend=self._name)
        settings = settings.asking(self._options.only_group)
        check(
            settings.needs,
            self.capabilities,
            backend=self._name,
            destination=destination,
            others=registry.declared,
        )

        looked = settings.dead_letter is None

        async def open_receiver(events: Events) -> Receiver:
            nonlocal looked
            if not looked and settings.dead_letter is not None:
                await self._look_for(settings.dead_letter)
                looked = True
            return await self._session.bounded(
                lambda: self._session.backend.open_receiver(
                    destination, settings.group, settings.start, events, settings.prefetch
                ),
                "opening the way in",
                destination,
            )

        services = Services(
            backend=self._name,
            open_receiver=open_receiver,
            capabilities=lambda: self.capabilities,
            others=registry.declared,
            translate=self._session.backend.translate,
            dead_letter=self._publish_wire,
            publish=lambda where, body, options: self.publish(where, body, **options),
            max_body=self._options.max_body,
        )
        subscriber: Subscriber[Any] = Subscriber(
            services, settings, ensure_open=self._session.ensure_open, state=state
        )
        self._subscribers.append(subscriber)
        return subscriber

    async def _look_for(self, destination: str) -> None:
        """Raise when nothing can be published there: found at start, not when the first dead letter is due."""
        backend = self._session.backend
        sender = await self._session.bounded(
            lambda: backend.open_sender(destination), "opening the way to dead letters", destination
        )
        await sender.aclose()

    # ------------------------------------------------------------ the operator's part

    async def provision(self, topology: Topology, *, mode: provisioning.Mode = "ensure") -> Sequence[Drift]:
        """Make what is missing, and say what was looked at; nothing is ever deleted or changed unasked.

        Args:
            topology: a destination, its groups, where its dead letters go.
            mode: `existing` only looks; `assume` asks nothing; `ensure` creates what is missing.

        Raises:
            CapabilityError: this backend has nothing that could be made.
        """
        await self._session.ensure_open()
        backend = self._session.backend
        if not isinstance(backend, Provisions):
            raise CapabilityError("there is nothing to provision on this backend", backend=self._name)
        return await self._session.bounded(
            lambda: provisioning.provision(
                backend.provision, topology, mode, groups=self.capabilities.groups
            ),
            "provisioning",
            topology.destination,
        )

    async def redrive(
        self,
        dead_letter: str,
        destination: str | None = None,
        *,
        group: str | None,
        filter: redriving.Filter | None = None,  # noqa: A002 - the word for it
        dry_run: bool = False,
        rate: float | None = None,
        limit: int | None = None,
        native: bool = False,
    ) -> redriving.Redriven:
        """Give dead letters back: each is published again and confirmed before it is acked, so none is ever lost.

        Body, key, id and headers are those of the message it was; the header `unimsg-redrive` says for which group it
        comes again and for the how-manieth time. Other groups ack it unhandled; an idempotent handler that had given
        the message up runs it anew. What stays goes back uncounted. A crash or a cancellation leaves every dead letter
        that was not confirmed where it was; one that was may come a second time, with the same number.

        Args:
            dead_letter: where the dead letters are; they are read by the group `redrive`, where there are groups; where
                there are partitions by `redrive-` and this name.
            destination: where they go; each to where it came from unless given.
            group: whose dead letters, and for whom; None: everybody's, and for whoever gets them.
            filter: takes a `Letter`, and returns whether it goes; all go unless given.
            dry_run: publish nothing, only count.
            rate: messages a second; as fast as it goes unless given.
            limit: at most so many.
            native: let the service move them itself, which takes no filter and writes no header: only for dead letters
                that the service made, since an idempotent handler takes those it gave up for duplicates.

        Returns:
            What became of them. `complete` is False when the limit was reached, or too many stay for one run.

        Raises:
            NotFoundError: there is no such destination; nothing was moved.
            CapabilityError: `native`, and the service cannot do it.
            OptionError: `rate` or `limit` is not above 0, or `native` is given with what it cannot take.
            Error: the way out broke; what was not confirmed stays a dead letter.
        """
        redriving.check(
            rate=rate, limit=limit, native=native, narrowed=bool(filter or dry_run or rate or limit)
        )
        await self._session.ensure_open()
        if native:
            return await self._redrive_natively(dead_letter, destination)
        return await redriving.Redrive(
            self.subscriber(
                dead_letter,
                codec=BYTES,
                **redriving.settings(redriving.reader(dead_letter, self.capabilities)),
            ),
            self._publish_wire,
            destination=destination,
            group=group,
            filter=filter,
            dry_run=dry_run,
            rate=rate,
            limit=limit,
        ).run()

    async def _redrive_natively(self, dead_letter: str, destination: str | None) -> redriving.Redriven:
        backend = self._session.backend
        if not isinstance(backend, Redrives):
            raise CapabilityError(
                "this service moves no dead letters itself: leave native out", backend=self._name
            )
        if destination is None:
            raise OptionError("native=True needs a destination", backend=self._name, destination=dead_letter)
        moved = await self._session.bounded(
            lambda: backend.redrive(dead_letter, destination), "redriving", dead_letter
        )
        return redriving.Redriven(looked_at=moved or 0, redriven=moved or 0, complete=moved is not None)

    def health(self) -> Health:
        """How this client is doing; cheap, without I/O."""
        loops = [s.health() for s in self._subscribers]
        reasons = [f"{loop.destination}: {reason}" for loop in loops for reason in loop.reasons.values()]
        reasons += self._fatal
        ready = (
            self._session.opened
            and not self._session.closed
            and not reasons
            and all(loop.ready for loop in loops if loop.running)
        )
        return Health(
            live=not self._fatal,
            ready=ready,
            reasons=reasons,
            subscribers=loops,
            publishers=self._publishers.stats(),
        )

    def died(self, reason: str) -> None:
        """A consuming loop ended for good: `health().live` is False from now on."""
        self._fatal.append(reason)
