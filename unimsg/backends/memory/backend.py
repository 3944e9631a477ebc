"""The memory backend: a broker in this process behind the contract of `unimsg.spi`.

Law: names, clock and waiting; what becomes of a message is decided in `log` and `group`, chaos in `chaos`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from unimsg.backends.memory import wire
from unimsg.backends.memory.broker import Broker, Hub, broker
from unimsg.backends.memory.capabilities import declare, rules
from unimsg.backends.memory.group import Group, Member
from unimsg.backends.memory.options import Options
from unimsg.errors import BackendError, CapabilityError, ClosedError, Error, NotFoundError, OptionError
from unimsg.message import Position, Receipt, WireMessage
from unimsg.options import check_name
from unimsg.spi import Drift, Events, Received, ReceiveLimits, SendLimits, Settlement, Start, Topology

NAME = "memory"


class MemoryBackend:
    """The broker of one URL."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.capabilities = declare(options)
        self._broker: Broker = broker(options.name, rules(options))
        self._closed = False

    async def open(self) -> None:
        """Nothing is to be connected."""

    async def open_sender(self, destination: str, /) -> MemorySender:
        """Open the way into a destination."""
        return self._sender(self._hub(destination))

    async def open_receiver(
        self, destination: str, group: str | None, start: Start, events: Events, prefetch: int, /
    ) -> MemoryReceiver:
        """Open the way out of a destination for one member of a group."""
        if group is None:
            raise CapabilityError(
                "a group is required here: give group=",
                missing=("groups",),
                backend=NAME,
                destination=destination,
            )
        self._check("group", group)
        hub = self._hub(destination)
        now = asyncio.get_running_loop().time()
        with hub.lock:
            found = hub.log.groups.get(group)
            if found is None:
                found = Group(group, hub.log, _offset(hub, start, now))
            return self._receiver(hub, found, Member(prefetch, self.options.lease))

    def _sender(self, hub: Hub) -> MemorySender:
        return MemorySender(hub, self.options)

    def _receiver(self, hub: Hub, group: Group, member: Member) -> MemoryReceiver:
        return MemoryReceiver(hub, group, member, self.options)

    def _hub(self, destination: str) -> Hub:
        if self._closed:
            raise ClosedError("the backend is closed", backend=NAME)
        self._check("destination", destination)
        if not self.options.create and destination not in self._broker:
            raise NotFoundError(
                "there is no such destination, and create=false: provision it",
                backend=NAME,
                destination=destination,
            )
        return self._broker.hub(destination)

    async def probe(self) -> None:
        """Memory is there."""
        if self._closed:
            raise ClosedError("the backend is closed", backend=NAME)

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]:
        """Bring destinations and groups into being, or say what is missing."""
        drifts = [self._provided("destination", topology.destination, mode)]
        if topology.dead_letter is not None:
            drifts.append(self._provided("destination", topology.dead_letter, mode))
        if topology.destination not in self._broker:
            return [*drifts, *(Drift(what=f"group {name}", state="missing") for name in topology.groups)]
        hub = self._broker.hub(topology.destination)
        for name in topology.groups:
            self._check("group", name)
            with hub.lock:
                there = name in hub.log.groups
                if not there and mode == "ensure":
                    Group(name, hub.log, hub.log.oldest())
            state: Any = "present" if there else "created" if mode == "ensure" else "missing"
            drifts.append(Drift(what=f"group {name}", state=state))
        return drifts

    async def forget(self, destination: str, group: str, /) -> None:
        """See `unimsg.spi.Forgets`."""
        if destination in self._broker:
            hub = self._broker.hub(destination)
            with hub.lock:
                hub.log.left(group)

    def _provided(self, kind: str, name: str, mode: str) -> Drift:
        self._check(kind, name)
        if name in self._broker:
            return Drift(what=f"{kind} {name}", state="present")
        if mode != "ensure":
            return Drift(what=f"{kind} {name}", state="missing")
        self._broker.hub(name)
        return Drift(what=f"{kind} {name}", state="created")

    def _check(self, kind: str, name: str) -> None:
        check_name(kind, name, names=self.options.names, backend=NAME)

    def translate(self, error: Exception, /) -> Error | None:
        """There is no foreign library here."""
        return None

    async def aclose(self) -> None:
        """Let go of the broker; a private one ends with this."""
        self._closed = True


class MemorySender:
    """The way into one destination; a call ends at once."""

    def __init__(self, hub: Hub, options: Options) -> None:
        self._hub = hub
        self._time = asyncio.get_running_loop().time
        self._closed = False
        self.limits = SendLimits(
            max_messages=1000,
            max_bytes=1 << 30,
            in_flight=8,
            measure=wire.measure(options.max_body),
            linger=0.0,  # and no lane is named: a call is over before the next can begin
        )

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Store all or nothing; see `unimsg.spi.Sender`."""
        if self._closed:
            raise ClosedError("the sender is closed", backend=NAME, destination=self._hub.log.name)
        return self._hub.send([wire.encode(message) for message in messages], self._time())

    async def aclose(self) -> None:
        """Nothing is on its way."""
        self._closed = True


class MemoryReceiver:
    """The way out of one destination for one member of a group."""

    def __init__(self, hub: Hub, group: Group, member: Member, options: Options) -> None:
        self._hub = hub
        self._group = group
        self._member = member
        self._lease = options.lease
        self._loop = asyncio.get_running_loop()
        self._waiters: set[asyncio.Future[None]] = set()
        self._stopped = self._closed = False
        group.members.add(member)
        self.limits = ReceiveLimits(
            max_messages=1000, wait=options.wait, settle_every=0.001, defer="broker", lease_covers_lane=True
        )

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """See `unimsg.spi.Receiver`; safe to cancel, since what is leased is returned without a pause."""
        if self._closed:
            raise ClosedError("the receiver is closed", backend=NAME, destination=self._hub.log.name)
        hub, group, member, time = self._hub, self._group, self._member, self._loop.time
        now = time()
        deadline = now + wait
        while not self._stopped and max_messages > 0:
            received = hub.take(group, member, max_messages, now)
            if received:
                return received
            if group.more and member.out < member.prefetch:
                await asyncio.sleep(0)  # so many messages wait for others that one look was not enough
            elif now < deadline:
                await self._wait(min(deadline, group.next, now + self._lease))
            else:
                break
            now = time()
        return []

    async def _wait(self, until: float) -> None:
        """Return when something may have come, or at `until`."""
        waiter = self._hub.wait(self._group, self._member)
        timer = self._loop.call_at(until, waiter.wake)
        self._waiters.add(waiter.future)
        try:
            await waiter.future
        finally:
            timer.cancel()
            self._waiters.discard(waiter.future)
            self._hub.leave(self._group, waiter)

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """See `unimsg.spi.Receiver`."""
        return self._hub.settle(self._group, settlements, self._loop.time())

    async def extend_batch(self, tokens: Sequence[Any], seconds: float, /) -> Sequence[Error | None]:
        """See `unimsg.spi.Extends`."""
        with self._hub.lock:
            return self._group.extend(tokens, seconds, self._loop.time())

    async def seek(self, start: Start, /) -> None:
        """See `unimsg.spi.Seeks`."""
        with self._hub.lock:
            if len(self._group.members) > 1:
                others = len(self._group.members) - 1
                raise BackendError(
                    f"the group has {others} other live members: stop them first",
                    backend=NAME,
                    destination=self._hub.log.name,
                )
            self._group.seek(_offset(self._hub, start, self._loop.time()))

    async def lag(self) -> int | None:
        """See `unimsg.spi.Lags`."""
        return self._group.lag

    async def stop_intake(self) -> None:
        """See `unimsg.spi.Receiver`."""
        self._stopped = True
        for future in self._waiters:
            if not future.done():
                future.set_result(None)

    async def aclose(self, *, abort: bool = False) -> None:
        """Give back what is out, uncounted; with `abort` it comes again when its leases end."""
        if self._closed:
            return
        self._closed = True
        await self.stop_intake()
        if not abort:
            self._hub.give_back(self._group, self._member, self._loop.time())
        self._group.members.discard(self._member)


def _offset(hub: Hub, start: Start, now: float) -> int:
    log = hub.log
    if start == "oldest":
        return log.oldest()
    if start == "newest":
        return log.next
    if isinstance(start, datetime):
        return log.find(start.timestamp() - hub.wall(now))
    if not isinstance(start, Position) or start.partition != log.name or not isinstance(start.offset, int):
        raise OptionError(
            f"start={start} is no position in this destination", backend=NAME, destination=log.name
        )
    return min(max(start.offset, log.oldest()), log.next)
