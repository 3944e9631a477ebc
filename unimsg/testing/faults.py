"""Faults on purpose: a backend around a backend that fails where a test's script says so.

Law: knows the contract of `unimsg.spi`, no backend; without a script everything passes through unchanged. What passes
is written down, so that a test can also say what must not have been sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from msgspec.structs import replace

from unimsg.client import Client
from unimsg.errors import ConfigError, ConnectError, ConnectionLostError, Error
from unimsg.message import Receipt, WireMessage
from unimsg.spi import (
    Backend,
    Events,
    Extends,
    Lags,
    Pausable,
    Provisions,
    Received,
    Receiver,
    Redrives,
    Seeks,
    Sender,
    Settlement,
    Start,
)

R = TypeVar("R")

Operation: TypeAlias = Literal[
    "open",
    "open_sender",
    "open_receiver",
    "send",
    "receive",
    "settle",
    "extend",
    "probe",
    "close",
    "close_sender",
    "close_receiver",
]


@dataclass(frozen=True, slots=True)
class Fail:
    """The call raises; with `after` it reaches the service first, and only the answer is lost."""

    error: Exception
    after: bool = False


@dataclass(frozen=True, slots=True)
class Some:
    """Some entries of a batch fail.

    Attributes:
        choose: index and entry -> the error of this entry; None: it goes through.
        after: the entries that fail reach the service all the same.
    """

    choose: Callable[[int, Any], Error | None]
    after: bool = False


@dataclass(frozen=True, slots=True)
class Hang:
    """The call does not answer until it is cancelled or `until` is set; then it goes on."""

    until: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """The call takes so many seconds longer."""

    seconds: float


Fault: TypeAlias = Fail | Some | Hang | Late


class Faults:
    """The script of one client, and what passed.

    Attributes:
        calls: how often each operation was called.
        sent: the batches that were given to `send_batch`.
        settled: the batches that were given to `settle_batch`.
        extended: the tokens of each `extend_batch`.
        limits: fields of `SendLimits` in place of the backend's own: lower ones, so that few messages fill a batch.
    """

    def __init__(self) -> None:
        self.limits: dict[str, float] = {}
        self.calls: Counter[str] = Counter()
        self.sent: list[Sequence[WireMessage]] = []
        self.settled: list[Sequence[Settlement]] = []
        self.extended: list[Sequence[Any]] = []
        self._script: defaultdict[str, deque[Fault | None]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self._down: Error | None = None
        self._cuts: set[asyncio.Future[None]] = set()

    # ------------------------------------------------------------ the script

    def next(self, operation: Operation, *faults: Fault | None) -> None:
        """The next calls of an operation meet these, one each, in order; None: that one is left alone."""
        self._script[operation].extend(faults)

    def always(self, operation: Operation, fault: Fault | None) -> None:
        """Every call meets this one, after the script has run out; None: no more."""
        if fault is None:
            self._always.pop(operation, None)
        else:
            self._always[operation] = fault

    def cut(self) -> None:
        """The connection breaks now: calls that wait end in `ConnectionLostError`, the next ones work again."""
        for future in self._cuts:
            if not future.done():
                future.set_exception(ConnectionLostError("the connection was cut by the test"))
                future.exception()  # nobody may be waiting for it

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Nothing can be reached while the block runs."""
        self._down = ConnectError("the service is down, says the test")
        self.cut()
        try:
            yield
        finally:
            self._down = None

    # ------------------------------------------------------------ at work

    async def meet(self, operation: str, call: Callable[[], Awaitable[R]]) -> R:
        """Make a call as the script wants it."""
        fault = self._begin(operation)
        if isinstance(fault, Hang):
            await self._or_cut((fault.until or asyncio.Event()).wait())
        elif isinstance(fault, Late):
            await self._or_cut(asyncio.sleep(fault.seconds))
        elif isinstance(fault, Fail):
            if fault.after:
                await call()
            raise fault.error
        return await self._or_cut(call())

    async def meet_batch(
        self,
        operation: str,
        entries: Sequence[Any],
        call: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]],
    ) -> Sequence[Any]:
        """Make a call about several entries as the script wants it."""
        fault = self._script[operation][0] if self._script[operation] else self._always.get(operation)
        if not isinstance(fault, Some):
            return await self.meet(operation, lambda: call(entries))
        self._begin(operation)
        bad = {
            at: error for at, entry in enumerate(entries) if (error := fault.choose(at, entry)) is not None
        }
        good = [entry for at, entry in enumerate(entries) if at not in bad or fault.after]
        answers = iter(await self._or_cut(call(good)) if good else ())
        results = [next(answers) if at not in bad or fault.after else None for at in range(len(entries))]
        return [bad.get(at, result) for at, result in enumerate(results)]

    async def close(self, operation: str, call: Callable[[], Awaitable[None]]) -> None:
        """Close as the script wants it; what is down or cut keeps nobody from closing."""
        script = self._script[operation]
        fault = script.popleft() if script else self._always.get(operation)
        if isinstance(fault, Hang):
            await (fault.until or asyncio.Event()).wait()
        elif isinstance(fault, Fail):
            raise fault.error
        await call()

    def _begin(self, operation: str) -> Fault | None:
        self.calls[operation] += 1
        if self._down is not None:
            raise self._down
        script = self._script[operation]
        return script.popleft() if script else self._always.get(operation)

    async def _or_cut(self, work: Awaitable[R]) -> R:
        """Await, unless the connection is cut meanwhile; a cancellation reaches the work."""
        cut: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task: asyncio.Future[R] = asyncio.ensure_future(work)
        self._cuts.add(cut)
        try:
            await asyncio.wait((task, cut), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ConnectionLostError("the connection was cut by the test")
        finally:
            self._cuts.discard(cut)
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))


def inject(client: Client) -> Faults:
    """Put a script between a client and its backend; without one nothing changes.

    Raises:
        ConfigError: the client is open already.
    """
    if client._session.opened:  # noqa: SLF001 - this is the one who goes between
        raise ConfigError("faults are injected before a client is used: inject, then enter it")
    faults = Faults()
    client._session.backend = around(client.backend, faults)  # noqa: SLF001 - as above
    return faults


def around(backend: Backend, faults: Faults) -> Backend:
    """Return a backend that fails as scripted; it has the optional parts that `backend` has."""
    wrapped: Backend = _with(_Backend, backend, faults, {Provisions: ("provision",), Redrives: ("redrive",)})
    return wrapped


def _with(base: type[Any], inner: Any, faults: Faults, optional: Mapping[type[Any], Sequence[str]]) -> Any:
    """Make a wrapper with the methods of the optional protocols that `inner` has: run-time checks look at them."""
    more = {
        name: getattr(inner, name)
        for protocol, names in optional.items()
        if isinstance(inner, protocol)
        for name in names
    }
    methods = {name: staticmethod(method) for name, method in more.items() if not hasattr(base, name)}
    return type(base.__name__, (base,), methods)(inner, faults)


class _Backend:
    def __init__(self, inner: Backend, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def open(self) -> None:
        await self._faults.meet("open", self._inner.open)

    async def open_sender(self, destination: str, /) -> Sender:
        sender = await self._faults.meet("open_sender", lambda: self._inner.open_sender(destination))
        wrapped: Sender = _with(_Sender, sender, self._faults, {})
        return wrapped

    async def open_receiver(
        self, destination: str, group: str | None, start: Start, events: Events, prefetch: int, /
    ) -> Receiver:
        receiver = await self._faults.meet(
            "open_receiver", lambda: self._inner.open_receiver(destination, group, start, events, prefetch)
        )
        base = _Leased if isinstance(receiver, Extends) else _Receiver
        optional = {Seeks: ("seek",), Pausable: ("pause", "resume"), Lags: ("lag",)}
        wrapped: Receiver = _with(base, receiver, self._faults, optional)
        return wrapped

    async def probe(self) -> None:
        await self._faults.meet("probe", self._inner.probe)

    async def aclose(self) -> None:
        await self._faults.close("close", self._inner.aclose)


class _Sender:
    def __init__(self, inner: Sender, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults
        self.limits = replace(inner.limits, **faults.limits)

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        self._faults.sent.append(list(messages))
        return await self._faults.meet_batch(
            "send", messages, lambda good: self._inner.send_batch(good, deadline)
        )

    async def aclose(self) -> None:
        await self._faults.close("close_sender", self._inner.aclose)


class _Receiver:
    def __init__(self, inner: Any, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults
        self.limits = inner.limits

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        return await self._faults.meet("receive", lambda: self._inner.receive_batch(max_messages, wait))

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        self._faults.settled.append(list(settlements))
        return await self._faults.meet_batch("settle", settlements, self._inner.settle_batch)

    async def stop_intake(self) -> None:
        await self._inner.stop_intake()

    async def aclose(self, *, abort: bool = False) -> None:
        await self._faults.close("close_receiver", lambda: self._inner.aclose(abort=abort))


class _Leased(_Receiver):
    async def extend_batch(self, tokens: Sequence[Any], seconds: float, /) -> Sequence[Error | None]:
        self._faults.extended.append(list(tokens))
        return await self._faults.meet_batch(
            "extend", tokens, lambda good: self._inner.extend_batch(good, seconds)
        )
