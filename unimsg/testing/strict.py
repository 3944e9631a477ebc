"""Strict: what a test leaves behind is a failure: messages nobody handled, errors nobody looked at, tasks.

Law: one private `memory://` for one test function; entered and left on its loop. Knows nothing of pytest's fixtures.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeAlias

import pytest

from unimsg import codecs
from unimsg.backends.memory.backend import MemoryBackend
from unimsg.client import Client, connect
from unimsg.consuming.dead_letter import DeadLetterInfo, read
from unimsg.message import Message, WireMessage
from unimsg.router import Router
from unimsg.testing.clock import ManualClock

Runner: TypeAlias = "Callable[[Router], Awaitable[Run]]"
TURNS = 10
"""Turns of the loop that a task which was cancelled has to end."""


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """One dead letter.

    Attributes:
        destination: where it waits.
        message: as it was published at first, its body decoded.
        info: why it is there.
    """

    destination: str
    message: Message[Any]
    info: DeadLetterInfo


@dataclass(slots=True)
class Run:
    """What became of everything when a router ran until nothing was left.

    Looking at `errors` or `dead_letters` is taken for knowing of them; errors that nobody looks at fail the test.

    Attributes:
        counters: of all handlers together: `acked`, `failed`, `deferred`, `dead_lettered` and so on.
        published: what the handlers published, as (destination, message), bodies decoded; dead letters left out.
    """

    counters: Mapping[str, int]
    published: list[tuple[str, Message[Any]]]
    _dead_letters: list[DeadLettered]
    _errors: list[BaseException]
    _seen: Callable[[], None]

    @property
    def dead_letters(self) -> list[DeadLettered]:
        """What was dead-lettered, in order."""
        self._seen()
        return self._dead_letters

    @property
    def errors(self) -> list[BaseException]:
        """What the handlers raised, `Fail`, `Defer` and `DeadLetter` left out, in order."""
        self._seen()
        return self._errors


@dataclass
class _Errors(logging.Handler):
    """Keeps what handlers raised: the consuming loop logs each with its traceback, once."""

    unseen: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(logging.ERROR)

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.unseen.append(record.exc_info[1])


class Strict:
    """A client and what must be true when its test is over: `async with Strict("orders") as strict`.

    Args:
        *destinations: those that exist; another one is a `NotFoundError`.
        errors: whether handlers may raise without anybody looking at it.
        left: whether messages may be left for a group.
    """

    def __init__(self, *destinations: str, errors: bool = False, left: bool = False) -> None:
        self.client: Client = connect("memory://?create=false")
        self._may_fail = errors
        self._may_leave = left
        self._clock: ManualClock | None = None
        self._errors = _Errors()
        self._before: set[asyncio.Task[Any]] = set()
        for name in destinations:
            self._broker.hub(name)

    @property
    def _broker(self) -> Any:
        backend = self.client.backend
        assert isinstance(backend, MemoryBackend)
        return backend._broker  # noqa: SLF001 - a test looks into its own broker

    def stop_the_clock(self) -> ManualClock:
        """Return a clock that is entered with this: time jumps whenever nothing else can run."""
        if self._clock is None:
            self._clock = ManualClock(auto=True)
        return self._clock

    async def __aenter__(self) -> Self:
        self._before = asyncio.all_tasks()
        logging.getLogger("unimsg.consuming").addHandler(self._errors)
        if self._clock is not None:
            await self._clock.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            left = list(self._left())
            await self.client.aclose()
            running = await self._still_running()
        finally:
            logging.getLogger("unimsg.consuming").removeHandler(self._errors)
            if self._clock is not None:
                await self._clock.__aexit__(kind, error, trace)
        if error is None:
            problems = [*left, *self._not_looked_at(), *running]
            if problems:
                pytest.fail("\n".join(["the test left something behind:", *problems]), pytrace=False)

    # ------------------------------------------------------------ what is left

    def _left(self) -> Iterator[str]:
        if self._may_leave:
            return
        for name, hub in self._broker._hubs.items():  # noqa: SLF001 - as above
            for group, member in hub.log.groups.items():
                if member.lag:
                    yield f"  {member.lag} messages in {name!r} that group {group!r} has not handled"

    def _not_looked_at(self) -> Iterator[str]:
        if not self._may_fail:
            for error in self._errors.unseen:
                yield f"  a handler raised {error!r}, and nobody looked at `errors` or `dead_letters` of the run"

    async def _still_running(self) -> list[str]:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - self._before
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [f"  task {task.get_name()} still ran: {task.get_coro()!r}" for task in tasks]

    # ------------------------------------------------------------ run

    async def run(self, router: Router) -> Run:
        """Run all handlers until no destination has anything left, what they publish to each other included.

        Raises:
            pytest.fail.Exception: a destination that a route names is not declared.
        """
        self._check_declared(router)
        before = {name: hub.log.next for name, hub in self._hubs()}
        known = len(self._errors.unseen)
        reports = await router.run_until_idle(self.client)
        counters: dict[str, int] = {}
        for report in reports:
            for name, count in report.counters.items():
                counters[name] = counters.get(name, 0) + count
        errors = self._errors.unseen[known:]
        published: list[tuple[str, Message[Any]]] = []
        dead: list[DeadLettered] = []
        for name, hub in self._hubs():
            for message in (record.message for record in hub.log.read(before.get(name, 0))):
                info = read(message.headers)
                if info is None:
                    published.append((name, decoded(message)))
                else:
                    dead.append(DeadLettered(name, decoded(message), info))
        return Run(counters, published, dead, errors, lambda: self._looked_at(errors))

    def _hubs(self) -> Iterable[tuple[str, Any]]:
        return list(self._broker._hubs.items())  # noqa: SLF001 - as above

    def _looked_at(self, errors: list[BaseException]) -> None:
        known = {id(error) for error in errors}
        self._errors.unseen = [error for error in self._errors.unseen if id(error) not in known]

    def _check_declared(self, router: Router) -> None:
        named = [
            name
            for route in router.routes
            for name in (route.settings.destination, route.settings.dead_letter)
        ]
        for name in named:
            if name is not None and name not in self._broker:
                pytest.fail(
                    f"destination {name!r} is not declared: add it to @pytest.mark.unimsg({name!r}), or to "
                    "unimsg_destinations in the configuration of pytest",
                    pytrace=False,
                )


def decoded(message: WireMessage) -> Message[Any]:
    """Return the message with its body as an object, where the content type says how; else bytes."""
    kind = (message.content_type or "").partition(";")[0]
    codec: Any = {"application/json": codecs.JSON, "text/plain": codecs.TEXT}.get(kind, codecs.BYTES)
    return Message(
        body=codec.decode(message.body),
        key=message.key,
        headers=message.headers,
        id=message.id,
        content_type=message.content_type,
        timestamp=message.timestamp,
        delay=message.delay,
        ttl=message.ttl,
        priority=message.priority,
    )
