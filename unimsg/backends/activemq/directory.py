"""Directory: which destinations a broker has, told by the advisories that it replays to whoever subscribes to them.

Law: looks anew each time, on a connection of its own, and makes nothing. A broker tells it as JSON, if the libraries
for that are on its class path (they are in the distribution's `lib/optional`) and the user may read
`ActiveMQ.Advisory.>`; one that does not tell is asked once, one that began to tell and stood still is asked again.
Source: `AdvisoryBroker.addConsumer` and `JmsFrameTranslator` of ActiveMQ 5.19.1.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple, NoReturn

import msgspec

from unimsg.backends.activemq import trouble, wire
from unimsg.backends.activemq.connection import Connection, Endpoints
from unimsg.backends.activemq.options import Options
from unimsg.backends.activemq.stomp import Frame, encode
from unimsg.errors import Error, NotFoundError, PermissionDeniedError, TimedOutError

log = logging.getLogger("unimsg.backends.activemq")

REPLAYED, LIVE = "/topic/ActiveMQ.Advisory.", "/topic/ActiveMQ.*."
"""Advisories of all there is, then of each change; through the wildcard, of changes alone."""
END, QUEUES, TOPICS = "TempQueue", "Queue", "Topic"
ALL = str(1 << 20)
"""Prefetch: as many destinations are told before the end is."""
PATIENCE = 3.0
"""Seconds without anything told, after the broker has answered that it took the last of our frames."""
REMOVED = 1
"""`DestinationInfo.REMOVE_OPERATION_TYPE`."""

_names = count(1)


class Known(NamedTuple):
    """What there is, by the broker's names."""

    topics: frozenset[str]
    queues: frozenset[str]

    def holds(self, place: str) -> bool:
        """Whether this topic or queue is there."""
        return place.removeprefix(wire.TOPIC) in self.topics or place.removeprefix(wire.QUEUE) in self.queues

    def has_queue(self, destination: str) -> bool:
        """Whether any group has a queue of a destination."""
        return any(wire.is_of(name, destination) for name in self.queues)

    def has(self, destination: str) -> bool:
        """Whether a destination is there: its topic, or a queue of it, since topics do not outlive the broker."""
        return self.holds(wire.topic(destination)) or self.has_queue(destination)

    def has_group(self, destination: str, group: str) -> bool:
        """Whether a group has its queue."""
        return self.holds(wire.queue(destination, group))


class Directory:
    """Asks one broker."""

    def __init__(self, endpoints: Endpoints, options: Options) -> None:
        self._endpoints = endpoints
        self._options = options
        self._tells = True

    async def look(self) -> Known | None:
        """Return what there is; None: this broker does not tell.

        Raises:
            Error: it could not be reached.
        """
        return await self._ask(REPLAYED)

    async def make(self, places: Sequence[str]) -> Known | None:
        """Bring topics and queues into being, and return those that were not there; None: this broker does not tell.

        Raises:
            Error: it could not be reached, or refused.
        """
        made = await self._ask(LIVE, places)
        if made is None:
            connection = await self._endpoints.connect()
            try:
                for place in places:
                    await make(connection, place, within=self._options.open_timeout)
            finally:
                await connection.aclose()
        return made

    async def _ask(self, prefix: str, places: Sequence[str] = ()) -> Known | None:
        if not self._tells:
            return None
        look = _Look(prefix)
        connection = await self._endpoints.connect(look.take, look.lost)
        try:
            await look.begin(connection, places, within=self._options.open_timeout)
            return await look.known()
        except (TimeoutError, PermissionDeniedError, msgspec.MsgspecError, LookupError) as error:
            self._tells = False
            log.warning(
                "the broker does not tell what destinations it has (%s): whoever names one first makes it",
                error.sentence if isinstance(error, PermissionDeniedError) else type(error).__name__,
            )
            return None
        finally:
            await connection.aclose(abort=True)

    async def check(self, destination: str, group: str | None = None) -> Known | None:
        """Return what there is; None: this broker does not tell, or destinations come into being on first use.

        Raises:
            NotFoundError: the destination, or the group's queue of it, is not there.
        """
        if self._options.create or (known := await self.look()) is None:
            return None
        missing = None
        if not known.has(destination):
            missing = "there is no such destination"
        elif group is not None and not known.has_group(destination, group):
            missing = f"group {group!r} has no queue here"
        if missing is not None:
            raise NotFoundError(f"{missing}: provision it", backend=trouble.NAME, destination=destination)
        return known


class _Look:
    """What is told until a queue of our own, made last, is told of too: then that was all."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._told: dict[str, list[Frame]] = {kind: [] for kind in (END, QUEUES, TOPICS)}
        self._own = b""
        self._complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def begin(self, connection: Connection, places: Sequence[str], *, within: float) -> None:
        """Subscribe to all, make what is to be made, then a queue that goes with the connection."""
        self._own = f'"{connection.session}:'.encode()
        for kind in self._told:
            place = self._prefix + kind
            told = {"id": kind, "destination": place, "ack": "auto", "activemq.prefetchSize": ALL}
            connection.write_now(encode("SUBSCRIBE", told))
        for place in places:
            await make(connection, place, within=within)
        await connection.ask("SUBSCRIBE", {"id": "own", "destination": "/temp-queue/own"}, within=within)

    def take(self, frame: Frame) -> None:
        """One advisory."""
        kind = frame.headers["subscription"]
        if kind in self._told:
            self._told[kind].append(frame)
        if kind == END and self._own in frame.body and not self._complete.done():
            self._complete.set_result(None)

    def lost(self, error: Error) -> None:
        """The connection ended."""
        if not self._complete.done():
            self._complete.set_exception(error)
            self._complete.exception()  # whoever looks may have learnt of it before

    async def known(self) -> Known:
        """Return what was told, when that is all.

        Raises:
            TimeoutError: nothing is told; TimedOutError: something was, and not all of it; the ConnectionLostError of
                the connection, when that ended.
        """
        seen = -1
        while not self._complete.done():
            if seen == (seen := sum(map(len, self._told.values()))):
                self._stood_still(seen)
            await asyncio.wait([self._complete], timeout=PATIENCE)
        self._complete.result()
        return self._read()

    def _stood_still(self, seen: int) -> NoReturn:
        """A busy broker that tells in words we can read is no silent one: it is asked again, not given up for good."""
        if not seen:
            raise TimeoutError
        self._read()
        raise TimedOutError(f"the broker told of {seen} destinations and not of all", backend=trouble.NAME)

    def _read(self) -> Known:
        return Known(_read(self._told[TOPICS]), _read(self._told[QUEUES]))


def _read(frames: Sequence[Frame]) -> frozenset[str]:
    names = set[str]()
    for frame in frames:
        told = msgspec.json.decode(frame.body)["DestinationInfo"]
        change = names.discard if told["operationType"] == REMOVED else names.add
        change(told["destination"]["string"])
    return frozenset(names)


async def make(connection: Connection, place: str, *, within: float) -> None:
    """Bring a topic or a queue into being: the broker makes it for whoever subscribes, and keeps it."""
    name = f"m{next(_names)}"
    told = {"id": name, "destination": place, "ack": "client-individual", "activemq.prefetchSize": "1"}
    await connection.ask("SUBSCRIBE", {**told, "selector": "unimsgNothing = 'ever'"}, within=within)
    await connection.ask("UNSUBSCRIBE", {"id": name}, within=within)
