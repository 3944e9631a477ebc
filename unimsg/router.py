"""Router: handlers by destination, started, drained and stopped together.

Law: registers and supervises; every handler runs in a subscriber of the client that it is given. One client each run.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, Unpack

from unimsg.client import Client
from unimsg.codecs import Codec
from unimsg.consuming.handlers import Prepared, prepare
from unimsg.consuming.health import LoopHealth
from unimsg.consuming.settings import Given, Settings
from unimsg.consuming.subscriber import Subscriber
from unimsg.errors import ConfigError

log = logging.getLogger("unimsg.router")

H = TypeVar("H", bound=Callable[..., Any])
Lifespan = Callable[[Client], AbstractAsyncContextManager[Any]]

SIGNALS = (signal.SIGINT, signal.SIGTERM)
HELD = "__unimsg_router__"
"""Set on what a router holds, so that a decorator applied above `@router.on` can refuse instead of doing nothing."""
ROUNDS = 1_000
"""Rounds of `run_until_idle` before it is taken for a loop: handlers that feed each other for ever."""


@dataclass(frozen=True, slots=True)
class Route:
    """One handler for one destination and group."""

    settings: Settings
    handler: Callable[..., Any]
    prepared: Prepared


class Router:
    """Handlers by destination and group.

    Args:
        lifespan: an async context manager function of the client; what it yields is `delivery.state` in every handler.
            It is entered before the first message and left after the last.
    """

    def __init__(self, *, lifespan: Lifespan | None = None) -> None:
        if lifespan is not None and not callable(lifespan):
            raise ConfigError(
                f"lifespan={lifespan!r} is not accepted: give an async context manager function of the client"
            )
        self._lifespan = lifespan
        self._routes: dict[tuple[str, str | None], Route] = {}

    def __repr__(self) -> str:
        return f"<Router of {', '.join(destination for destination, _ in self._routes) or 'nothing'}>"

    @property
    def routes(self) -> Sequence[Route]:
        """What was registered, in order."""
        return tuple(self._routes.values())

    def on(
        self, destination: str, *, codec: Codec[Any] | type[Any] | None = None, **settings: Unpack[Given]
    ) -> Callable[[H], H]:
        """Register a handler for a destination; it is returned as it is.

        Args:
            destination: its name on the service.
            codec: what bodies are decoded with: a codec, or a class that one is made for; JSON unless given.
            **settings: those of `Client.subscriber`.

        Raises:
            ConfigError: the handler is not `async def`, or this destination and group have one already.
            OptionError: a setting is unknown, of the wrong type or out of range.
        """
        if not (isinstance(destination, str) and destination):
            raise ConfigError(
                f"@router.on({getattr(destination, '__name__', repr(destination))}): give the name of a destination, "
                "as in @router.on('orders')"
            )
        built = Settings.build(destination, {**settings, "codec": codec})

        def register(handler: H) -> H:
            self._add(Route(settings=built, handler=handler, prepared=prepare(handler)))
            with suppress(AttributeError):  # a bound method, or an object with slots: it cannot be marked
                setattr(handler, HELD, True)
            return handler

        return register

    def include(self, other: Router) -> None:
        """Take over the routes of another router; its lifespan is not taken over.

        Raises:
            ConfigError: a destination and group would have two handlers; nothing was taken over.
        """
        if not isinstance(other, Router):
            raise ConfigError(f"include takes a Router, not {type(other).__name__}")
        if other is self:
            raise ConfigError("a router cannot include itself")
        for key in other._routes:
            self._refuse_second(key)
        if other._lifespan is not None:
            raise ConfigError(
                "the included router has a lifespan of its own: enter it in the lifespan of this one"
            )
        for route in other.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        key = (route.settings.destination, route.settings.group)
        self._refuse_second(key)
        self._routes[key] = route

    def _refuse_second(self, key: tuple[str, str | None]) -> None:
        if key in self._routes:
            destination, group = key
            raise ConfigError(
                f"{destination!r} for group {group!r} has a handler already, {self._routes[key].prepared.name}: "
                "give each its own group, or call both from one handler"
            )

    # ------------------------------------------------------------ run

    async def run(self, client: Client, *, signals: bool = True) -> None:
        """Run all handlers until stopped: by cancellation, by SIGINT or SIGTERM, or when one loop ends for good.

        Stopping drains: what runs may end within `drain`, what has not started goes back, everything is settled. A
        second signal or cancellation cancels what still runs.

        Args:
            client: where to consume; it stays open.
            signals: take SIGINT and SIGTERM while this runs.

        Raises:
            ConfigError: no handler is registered.
            Error: what ended a loop for good, such as a destination that does not exist; the others were stopped.
        """
        async with self._open(client) as crew:
            with _signals(crew.signal) if signals else nullcontext():
                async with crew.running():
                    await crew.over.wait()

    @asynccontextmanager
    async def running(self, client: Client) -> AsyncIterator[None]:
        """Run all handlers while the block runs, for a web framework's lifespan; takes no signals.

        Entering returns when every loop has its receiver (or is retrying); leaving drains. A loop that ends for good
        turns `client.health().live` False, and its error is raised on leaving.
        """
        async with self._open(client) as crew, crew.running():
            yield

    async def run_until_idle(self, client: Client) -> Sequence[LoopHealth]:
        """Run all handlers until no destination has anything left, what they publish to each other included.

        Returns:
            What became of everything, a `LoopHealth` for each handler.
        """
        async with self._open(client) as crew:
            reports = [LoopHealth(s.destination, s.group) for _, s in crew.members]
            for _ in range(ROUNDS):
                round_ = await _gather(*(s.run_until_idle(r.handler) for r, s in crew.members))
                for report, health in zip(reports, round_, strict=True):
                    report.reasons = health.reasons
                    for name, count in health.counters.items():
                        report.counters[name] = report.counters.get(name, 0) + count
                if not any(health.counters["received"] for health in round_):
                    return reports
            raise ConfigError(
                f"handlers still feed each other after {ROUNDS} rounds: is there a loop of destinations?"
            )

    @asynccontextmanager
    async def _open(self, client: Client) -> AsyncIterator[_Crew]:
        if not self._routes:
            raise ConfigError("this router has no handlers: decorate one with @router.on('destination')")
        if not isinstance(client, Client):
            raise ConfigError(
                f"a router runs on a Client, not {type(client).__name__}: connect(url) makes one"
            )
        lifespan = self._lifespan(client) if self._lifespan is not None else nullcontext()
        async with lifespan as state:
            crew = _Crew(client)
            crew.members = [(route, client.subscribe(route.settings, state=state)) for route in self.routes]
            try:
                yield crew
            finally:
                await crew.stop()


class _Crew:
    """The subscribers of one run."""

    def __init__(self, client: Client) -> None:
        self.members: list[tuple[Route, Subscriber[Any]]] = []
        self.over = asyncio.Event()
        self._client = client
        self._tasks: list[asyncio.Task[None]] = []
        self._signals = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all while the block runs."""
        self._start()
        try:
            await self._ready()
            yield
        finally:
            await self.stop()
            self.raise_first()

    def _start(self) -> None:
        for route, subscriber in self.members:
            task = asyncio.create_task(
                subscriber.run(route.handler), name=f"unimsg.run[{route.settings.destination}]"
            )
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("%s ended for good: %s", task.get_name(), error)
            self._client.died(str(error))
        self.over.set()

    async def _ready(self) -> None:
        """Return when every loop has its receiver, or some time has passed, or one has failed."""
        over = asyncio.create_task(self.over.wait())
        opened = [asyncio.create_task(subscriber.opened.wait()) for _, subscriber in self.members]
        try:
            pending = set(opened)
            deadline = asyncio.get_running_loop().time() + self._client.options.open_timeout
            while pending and not over.done():
                left = deadline - asyncio.get_running_loop().time()
                done, _ = await asyncio.wait(
                    {*pending, over}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    return
                pending -= done
        finally:
            for task in (over, *opened):
                task.cancel()
        self.raise_first()

    def signal(self) -> None:
        """The first signal stops, the second makes it hurry."""
        self._signals += 1
        self.over.set()
        if self._signals > 1:
            for _, subscriber in self.members:
                subscriber.hurry()

    async def stop(self) -> None:
        """Drain all at once; a cancellation meanwhile makes it hurry, and is raised when all have ended."""
        closing = asyncio.ensure_future(self._stop())
        cancelled: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as error:
                cancelled = error
                for _, subscriber in self.members:
                    subscriber.hurry()
            except Exception as error:  # noqa: BLE001 - told by `raise_first`
                log.debug("while stopping: %r", error)
        if cancelled is not None:
            raise cancelled

    async def _stop(self) -> None:
        await _gather(*(subscriber.aclose() for _, subscriber in self.members))
        if self._tasks:
            await asyncio.wait(self._tasks)

    def raise_first(self) -> None:
        """Raise what ended a loop, if anything did."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error


async def _gather(*work: Any) -> list[Any]:  # noqa: ANN401 - awaitables
    """Await all, also when one fails; then raise the first error."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@contextmanager
def _signals(called: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    taken: list[signal.Signals] = []
    for number in SIGNALS:
        try:
            loop.add_signal_handler(number, called)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            continue
        taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
