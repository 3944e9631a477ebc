"""What the shapes share: options, sizes, waiting.

Law: nothing here behaves as a service does; that is each shape's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar
from urllib.parse import quote, unquote

from unimsg.errors import MessageTooLargeError, NotFoundError
from unimsg.message import WireMessage
from unimsg.options import Options, Range, Seconds, check_name

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, repr=False)
class ShapeOptions(Options):
    """What every shape can be told.

    Attributes:
        name: clients of one name share a broker.
        create: whether destinations come into being on first use.
        wait: the longest that one receive waits.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"name"})

    name: str = ""
    create: bool = True
    wait: Annotated[Seconds, Range(0.001, 3600)] = 2.0

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:  # noqa: ARG003 - a name is all there is
        """Return the name of the broker."""
        return {"name": unquote(where)}

    def where(self, *, secrets: bool) -> str:  # noqa: ARG002 - there are none
        """Return the name."""
        return quote(self.name, safe="")


class Bell:
    """Wakes all who wait."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake them."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, until: float) -> None:
        """Return when it rings, or at `until`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_at(until, _ring, future)
        self._waiting.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)


def _ring(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Shared(Generic[T]):
    """Brokers by name; one without a name is its client's own."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._named: dict[str, T] = {}

    def get(self, name: str) -> T:
        """Return the broker of a name."""
        if not name:
            return self._make()
        if name not in self._named:
            self._named[name] = self._make()
        return self._named[name]


class Destinations(Generic[T]):
    """The destinations of one broker."""

    def __init__(self) -> None:
        self._all: dict[str, T] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._all

    def find(self, name: str, options: ShapeOptions, make: Callable[[str], T]) -> T:
        """Return it; made on first use where that is allowed.

        Raises:
            NotFoundError: it is not, and there is none.
        """
        if name not in self._all and not options.create:
            raise NotFoundError(
                f"there is no {name!r}, and create=false: provision it",
                backend=options.scheme,
                destination=name,
            )
        check_name("destination", name, names=options.names, backend=options.scheme)
        return self.make(name, make)

    def make(self, name: str, make: Callable[[str], T]) -> T:
        """Return it, made where there is none."""
        if name not in self._all:
            self._all[name] = make(name)
        return self._all[name]


def measure(limit: int, backend: str) -> Callable[[WireMessage], int]:
    """Return what gives the size of a message and refuses one beyond `limit` bytes."""

    def size(message: WireMessage) -> int:
        found = len(message.body or b"") + sum(
            len(name.encode("utf-8", "surrogateescape")) + len(value.encode("utf-8", "surrogateescape"))
            for name, value in message.headers.items()
        )
        if found > limit:
            raise MessageTooLargeError(
                f"body and headers have {found} bytes, the limit is {limit}: send a reference instead",
                size=found,
                limit=limit,
                backend=backend,
            )
        return found

    return size


def key_lane(message: WireMessage) -> Hashable:
    """The lane of a service that orders by key."""
    return message.key
