"""Client: finds the backend of a URL, compares needs, hands out publishers and subscribers and owns what it opens.

Law: wires the way out, the way in and one backend together, which know nothing of each other; no policy, no backend's
name. One event loop for each client.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

from unimsg import registry
from unimsg.capabilities import Capabilities, Needs, check
from unimsg.codecs import JSON, Codec, resolve
from unimsg.consuming.health import LoopHealth
from unimsg.consuming.services import Services
from unimsg.consuming.settings import Given, Settings
from unimsg.consuming.subscriber import Subscriber
from unimsg.errors import (
    CapabilityError,
    ClosedError,
    ConfigError,
    ConnectError,
    Error,
    OptionError,
    TimedOutError,
)
from unimsg.message import Message, Receipt, WireMessage
from unimsg.options import Options, json_schema, parse, render
from unimsg.publishing.publisher import Publisher
from unimsg.spi import Backend, Drift, Events, Provisions, Receiver, Topology
from unimsg.units import Duration

log = logging.getLogger("unimsg.client")

T = TypeVar("T")
R = TypeVar("R")

CACHED = 100
"""Publishers that `Client.publish` keeps open; beyond that the one not used for longest is flushed and closed."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a client is doing: progress, not a ping.

    Attributes:
        live: no consuming loop has ended with an error; when False, restart the process.
        ready: the client is open and every consuming loop has its receiver and nothing wrong.
        reasons: what is wrong, in sentences.
        subscribers: each consuming loop.
    """

    live: bool
    ready: bool
    reasons: Sequence[str] = ()
    subscribers: Sequence[LoopHealth] = field(default_factory=tuple)


def connect(target: str | Options, *, needs: Needs | None = None) -> Client:
    """Return a client for a URL or options, without any I/O; what cannot work is refused here.

    Args:
        target: `scheme://where?option=value`, or the `Options` of a backend, which take what a URL cannot hold.
        needs: what the program relies on, compared with what the backend declares for these options; and again with
            what is in effect when a publisher or subscriber opens.

    Raises:
        UnknownSchemeError: no backend has this scheme.
        MissingExtraError: the backend's client library is not installed; the sentence gives the `pip install` line.
        OptionError: an option is unknown, repeated, empty, malformed or out of range.
        CapabilityError: a need is not met; the sentence names what took it and who has it.
    """
    if isinstance(target, Options):
        options, plugin = target, registry.plugin(target.scheme)
    elif isinstance(target, str):
        plugin = registry.plugin(target.partition("://")[0] if "://" in target else target)
        options = parse(target, plugin.Options)
    else:
        raise ConfigError(f"connect takes a URL or Options, not {type(target).__name__}")
    capabilities = plugin.declare(options)
    check(needs, capabilities, backend=options.scheme, others=registry.declared)
    return Client(plugin.build(options), options, needs)


def options_schema(scheme: str) -> dict[str, Any]:
    """Return the JSON Schema of the options of a scheme, for editors, forms and configuration checks."""
    return json_schema(registry.plugin(scheme).Options)


class Client:
    """One account on one service: hands out publishers and subscribers, and closes them with itself.

    Use it as `async with connect(url) as client`: entering makes one bounded attempt to open (`open_timeout`, 10 s;
    `open=lazy` leaves it to the first use), leaving drains subscribers, flushes publishers and closes. One event loop.
    """

    def __init__(self, backend: Backend, options: Options, needs: Needs | None) -> None:
        self._backend = backend
        self._options = options
        self._needs = needs
        self._name = options.scheme
        self._opened = False
        self._closed = False
        self._lock: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cache: OrderedDict[tuple[str, object], Publisher[Any]] = OrderedDict()
        self._publishers: list[Publisher[Any]] = []
        self._subscribers: list[Subscriber[Any]] = []
        self._retiring: set[asyncio.Task[None]] = set()
        self._fatal: list[str] = []

    def __repr__(self) -> str:
        return f"<Client {render(self._options)}>"

    @property
    def capabilities(self) -> Capabilities:
        """What this client can do: as declared for its options, refined once it is open."""
        return self._backend.capabilities

    @property
    def backend(self) -> Backend:
        """The native side, one step away."""
        return self._backend

    @property
    def options(self) -> Options:
        """What it was connected with."""
        return self._options

    # ------------------------------------------------------------ open and close

    async def __aenter__(self) -> Self:
        if self._options.open != "lazy":
            await self._ensure_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ensure_open(self) -> None:
        if self._opened and not self._closed and self._loop is asyncio.get_running_loop():
            return
        self._check_usable()
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if self._opened:
                return
            await self._bounded(self._backend.open, "open")
            check(self._needs, self._backend.capabilities, backend=self._name, others=registry.declared)
            self._opened = True
            log.info("%s: open", self._name)

    def _check_usable(self) -> None:
        if self._closed:
            raise ClosedError("the client is closed: connect again", backend=self._name)
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigError(
                "a client belongs to the event loop that used it first: connect one for each loop"
            )

    async def _bounded(
        self, attempt: Callable[[], Awaitable[R]], what: str, destination: str | None = None
    ) -> R:
        """One attempt, in the time that options give, its errors ours."""
        try:
            async with asyncio.timeout(self._options.open_timeout):
                return await attempt()
        except Error:
            raise
        except TimeoutError as error:
            raise TimedOutError(
                f"{what} took longer than open_timeout={self._options.open_timeout:g} s",
                backend=self._name,
                destination=destination,
            ) from error
        except Exception as error:
            ours = self._backend.translate(error)
            if ours is None and isinstance(error, OSError):
                ours = ConnectError(f"{what} failed: {error}", backend=self._name, destination=destination)
            if ours is None:
                raise
            raise ours from error

    async def aclose(self) -> None:
        """Drain subscribers, flush and close publishers, close the backend; in this order, each within its budget.

        A cancellation leaves nothing open: what was not settled or confirmed by then comes again, or is reported to
        its caller as not sent or unknown.
        """
        if self._closed:
            return
        self._closed = True
        try:
            await _all(subscriber.aclose() for subscriber in self._subscribers)
            await _all([*self._retiring, *(publisher.aclose() for publisher in self._every_publisher())])
        finally:
            if self._loop is not None:
                await self._backend.aclose()
        log.info("%s: closed", self._name)

    def _every_publisher(self) -> list[Publisher[Any]]:
        return [*self._publishers, *self._cache.values()]

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
        return await self._cached(destination, codec).publish(
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
        publisher = self._new_publisher(destination, resolve(codec), needs)
        self._publishers.append(publisher)
        return publisher

    def _new_publisher(self, destination: str, codec: Codec[Any], needs: Needs | None) -> Publisher[Any]:
        self._check_destination(destination)
        check(needs, self.capabilities, backend=self._name, destination=destination, others=registry.declared)

        async def ensure_open() -> None:
            await self._ensure_open()
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
            open_sender=lambda: self._bounded(
                lambda: self._backend.open_sender(destination), "opening the way out", destination
            ),
            translate=self._backend.translate,
            capabilities=lambda: self.capabilities,
            others=registry.declared,
            ensure_open=ensure_open,
        )

    def _cached(self, destination: str, codec: Codec[Any] | type[Any] | None) -> Publisher[Any]:
        key = (destination, codec)
        cache = self._cache
        publisher = cache.get(key)
        if publisher is not None and not self._closed:
            cache.move_to_end(key)
            return publisher
        publisher = cache[key] = self._new_publisher(
            destination, JSON if codec is None else resolve(codec), None
        )
        if len(cache) > CACHED:
            _, oldest = cache.popitem(last=False)
            task = asyncio.create_task(oldest.aclose(), name=f"unimsg.publisher[{destination}].retire")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return publisher

    def _check_destination(self, destination: str) -> None:
        if self._closed:
            raise ClosedError("the client is closed: connect again", backend=self._name)
        if not (isinstance(destination, str) and destination):
            raise OptionError(f"destination={destination!r} is not accepted: give a name", backend=self._name)

    async def _publish_wire(self, destination: str, message: WireMessage) -> Receipt:
        return await self._cached(destination, None).publish_wire(message, timeout=30.0)

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
        self._check_destination(destination)
        return self.subscribe(Settings.build(destination, {**settings, "codec": codec}))

    def subscribe(self, settings: Settings, *, state: Any = None) -> Subscriber[Any]:  # noqa: ANN401 - the program's
        """Return a subscriber for settings that were built already; what `Router` uses."""
        destination = settings.destination
        self._check_destination(destination)
        check(
            settings.needs,
            self.capabilities,
            backend=self._name,
            destination=destination,
            others=registry.declared,
        )

        async def open_receiver(events: Events) -> Receiver:
            return await self._bounded(
                lambda: self._backend.open_receiver(
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
            translate=self._backend.translate,
            dead_letter=self._publish_wire,
            publish=lambda where, body, options: self.publish(where, body, **options),
        )
        subscriber: Subscriber[Any] = Subscriber(
            services, settings, ensure_open=self._ensure_open, state=state
        )
        self._subscribers.append(subscriber)
        return subscriber

    # ------------------------------------------------------------ the operator's part

    async def provision(
        self, topology: Topology, *, mode: Literal["existing", "assume", "ensure"] = "ensure"
    ) -> Sequence[Drift]:
        """Make what is missing, and say what was looked at; nothing is ever deleted or changed unasked.

        Args:
            topology: a destination, its groups, where its dead letters go.
            mode: `existing` only looks; `assume` asks nothing; `ensure` creates what is missing.

        Raises:
            CapabilityError: this backend has nothing that could be made.
        """
        await self._ensure_open()
        if not isinstance(self._backend, Provisions):
            raise CapabilityError("there is nothing to provision on this backend", backend=self._name)
        backend = self._backend
        return await self._bounded(
            lambda: backend.provision(topology, mode), "provisioning", topology.destination
        )

    def health(self) -> Health:
        """How this client is doing; cheap, without I/O."""
        loops = [s.health() for s in self._subscribers]
        reasons = [f"{loop.destination}: {reason}" for loop in loops for reason in loop.reasons.values()]
        reasons += self._fatal
        ready = (
            self._opened
            and not self._closed
            and not reasons
            and all(loop.ready for loop in loops if loop.running)
        )
        return Health(live=not self._fatal, ready=ready, reasons=reasons, subscribers=loops)

    def died(self, reason: str) -> None:
        """A consuming loop ended for good: `health().live` is False from now on."""
        self._fatal.append(reason)


async def _all(work: Iterable[Awaitable[Any]]) -> None:
    """Await all, even when some fail; then raise the first error."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


__all__ = ["Client", "Health", "Message", "connect", "options_schema"]
