"""The sqlite backend: one file, any number of processes, behind the contract of `unimsg.spi`.

Law: names, clock and waiting; what becomes of a message is decided in `log`, `group` and `take`, on the writer's
thread: the event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from unimsg.backends.sqlite import members, wire
from unimsg.backends.sqlite.bell import Bell
from unimsg.backends.sqlite.capabilities import declare, rules
from unimsg.backends.sqlite.file import PART
from unimsg.backends.sqlite.group import Group, Token, Verdict
from unimsg.backends.sqlite.log import Log
from unimsg.backends.sqlite.options import Options
from unimsg.backends.sqlite.take import Haul, Taken
from unimsg.errors import CapabilityError, ClosedError, Error, NotFoundError, NotSentError, UnavailableError
from unimsg.message import Position, Receipt, WireMessage
from unimsg.options import check_name
from unimsg.spi import Drift, Events, Received, ReceiveLimits, SendLimits, Settlement, Start, Topology
from unimsg.sqlitefile.clock import Clock
from unimsg.sqlitefile.place import DAMAGED, Place, primary, surely_unwritten
from unimsg.sqlitefile.writer import Writer

NAME = "sqlite"


class SqliteBackend:
    """The file of one URL."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.capabilities = declare(options)
        self._rules = rules(options)
        place = Place(options.path, PART, create=options.create, synchronous=options.synchronous)
        self.writer = Writer(place)

    async def open(self) -> None:
        """Open the file, making it when it is missing and `create` allows that."""
        await self.writer.open()
        self.clock = Clock()
        self.bell = Bell(self.writer)

    async def open_sender(self, destination: str, /) -> SqliteSender:
        """Open the way into a destination."""
        return SqliteSender(self, await self._log(destination))

    async def open_receiver(
        self, destination: str, group: str | None, start: Start, events: Events, prefetch: int, /
    ) -> SqliteReceiver:
        """Open the way out of a destination for one member of a group."""
        if group is None:
            raise CapabilityError(
                "a group is required here: give group=",
                missing=("groups",),
                backend=NAME,
                destination=destination,
            )
        self._check("group", group)
        log, now = await self._log(destination), self.clock.now()
        found, member = await self.writer.submit(lambda db: members.join(db, log, group, start, now))
        return SqliteReceiver(self, found, member, prefetch)

    async def _log(self, destination: str) -> Log:
        self._check("destination", destination)
        number, _ = await self.writer.submit(
            partial(members.destination, name=destination, create=self.options.create)
        )
        if number is None:
            raise NotFoundError(
                "there is no such destination, and create=false: provision it",
                backend=NAME,
                destination=destination,
            )
        return Log(number, destination, self._rules)

    async def probe(self) -> None:
        """Read from the file."""
        await self.writer.peek(lambda db: db.execute("SELECT version FROM unimsg_schema").fetchone())

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]:
        """Bring destinations and groups into being, or say what is missing."""
        drifts = [await self._provided(topology.destination, mode)]
        if topology.dead_letter is not None:
            drifts.append(await self._provided(topology.dead_letter, mode))
        for name in topology.groups:
            self._check("group", name)
            work = partial(
                members.provide_group, rules=self._rules, where=topology.destination, name=name, mode=mode
            )
            state = await self.writer.submit(work)
            drifts.append(Drift(what=f"group {name}", state=state))
        return drifts

    async def forget(self, destination: str, group: str, /) -> None:
        """See `unimsg.spi.Forgets`."""
        await self.writer.submit(partial(members.forget, where=destination, name=group))

    async def _provided(self, name: str, mode: str) -> Drift:
        self._check("destination", name)
        number, made = await self.writer.submit(
            partial(members.destination, name=name, create=mode == "ensure")
        )
        state: Any = "missing" if number is None else "created" if made else "present"
        return Drift(what=f"destination {name}", state=state)

    def _check(self, kind: str, name: str) -> None:
        check_name(kind, name, names=self.options.names, backend=NAME)

    def translate(self, error: Exception, /) -> Error | None:
        """Return our error for one of SQLite's."""
        if not isinstance(error, sqlite3.Error):
            return None
        cure = "; restore it, see https://sqlite.org/recovery.html" if primary(error) in DAMAGED else ""
        ours = UnavailableError(f"the file failed: {error}{cure}", backend=NAME)
        ours.__cause__ = error
        return ours

    async def aclose(self) -> None:
        """Finish what was submitted and close the file."""
        if hasattr(self, "bell"):
            self.bell.close()
        await self.writer.aclose()


class SqliteSender:
    """The way into one destination; concurrent calls share a commit."""

    def __init__(self, backend: SqliteBackend, log: Log) -> None:
        self._backend = backend
        self._log = log
        self._closed = False
        self.limits = SendLimits(
            max_messages=500,
            max_bytes=16 << 20,
            in_flight=4,
            measure=wire.measure(backend.options.max_body),
            linger=0.001,
            lane=lambda message: message.key,
        )

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Store all or nothing; see `unimsg.spi.Sender`."""
        backend, log = self._backend, self._log
        if self._closed:
            raise ClosedError("the sender is closed", backend=NAME, destination=log.name)
        now = backend.clock.now()
        try:
            receipts = await backend.writer.submit(lambda db: log.append(db, messages, now))
        except (sqlite3.Error, UnavailableError) as error:
            if not surely_unwritten(error):
                raise
            raise NotSentError(f"nothing was written: {error}", backend=NAME) from error
        backend.bell.ring_all(log.number, everyone=any(message.delay for message in messages))
        return receipts

    async def aclose(self) -> None:
        """Nothing is on its way."""
        self._closed = True


class SqliteReceiver:
    """The way out of one destination for one member of a group."""

    def __init__(self, backend: SqliteBackend, group: Group, member: int, prefetch: int) -> None:
        self._backend = backend
        self._group = group
        self._member = member
        self._prefetch = prefetch
        self._place = (group.log.number, group.number)
        self._loop = asyncio.get_running_loop()
        self._out: dict[Token, float] = {}
        """What is out with this member, until when; past its lease it no longer counts."""
        self._late: set[asyncio.Future[Any]] = set()
        self._stopped = self._closed = False
        self.limits = ReceiveLimits(
            max_messages=500,
            wait=backend.options.wait,
            settle_every=0.002,
            defer="broker",
            lease_covers_lane=True,
        )

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """See `unimsg.spi.Receiver`; what a cancelled call had leased is given back at once."""
        if self._closed:
            raise ClosedError("the receiver is closed", backend=NAME, destination=self._group.log.name)
        bell, clock = self._backend.bell, self._backend.clock
        deadline = self._loop.time() + wait
        while not self._stopped and max_messages > 0:
            rung = bell.rung(self._place)
            haul = await self._take(max_messages)
            if haul.more:
                bell.ring(self._place)
            now = self._loop.time()
            if haul.taken:
                return [self._received(taken, now) for taken in haul.taken]
            if haul.more:
                continue
            if now >= deadline or self._stopped:
                break
            due = now + self._group.log.rules.lease
            if haul.due is not None:
                due = min(due, clock.on_loop(haul.due))
            await bell.wait(self._place, min(deadline, due), rung)
        return []

    async def _take(self, most: int) -> Haul:
        now, room = self._backend.clock.now(), self._prefetch - len(self._out)
        if room < most:
            self._out = {token: until for token, until in self._out.items() if until > now}
            room = self._prefetch - len(self._out)
        if room <= 0:
            return Haul([])
        lane_room, most = max(1, self._prefetch // 4), min(most, room)
        job = self._backend.writer.submit(
            partial(members.take, group=self._group, member=self._member, room=lane_room, most=most, now=now),
            solid=False,
        )
        try:
            haul = await asyncio.shield(job)
        except asyncio.CancelledError:
            job.add_done_callback(self._too_late)
            raise
        self._out.update(
            dict.fromkeys((taken.token for taken in haul.taken), now + self._group.log.rules.lease)
        )
        return haul

    def _too_late(self, job: asyncio.Future[Haul]) -> None:
        """Give back what a cancelled receive was about to get."""
        if job.cancelled() or job.exception() is not None or not job.result().taken or self._closed:
            return
        now = self._backend.clock.now()
        verdicts = [
            Verdict(
                taken.token, done=False, due=now, executions=taken.attempts, first_failed=taken.first_failed
            )
            for taken in job.result().taken
        ]
        back = self._backend.writer.submit(lambda db: self._group.settle(db, verdicts, now), solid=False)
        self._late.add(back)
        back.add_done_callback(self._returned)

    def _returned(self, back: asyncio.Future[Any]) -> None:
        self._late.discard(back)
        self._backend.bell.ring(self._place, everyone=True)

    def _received(self, taken: Taken, now: float) -> Received:
        message = wire.decode(taken.row)
        log = self._group.log
        return Received(
            message,
            taken.token,
            message.key if log.rules.ordered else None,
            None,
            taken.deliveries,
            taken.attempts,
            now + log.rules.lease,
            Position(log.name, self._group.offset(taken.token)),
            taken,
            taken.first_failed,
        )

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """See `unimsg.spi.Receiver`."""
        now, group, out = self._backend.clock.now(), self._group, self._out
        verdicts = [
            Verdict(s.token, s.verb == "ack", now + s.delay, s.executions, s.first_failed)
            for s in settlements
        ]
        results, waits = await self._backend.writer.submit(lambda db: group.settle(db, verdicts, now))
        for settlement in settlements:
            out.pop(settlement.token, None)
        if waits:
            self._backend.bell.ring(self._place, everyone=True)
        return results

    async def extend_batch(self, tokens: Sequence[Any], seconds: float, /) -> Sequence[Error | None]:
        """See `unimsg.spi.Extends`."""
        now, group = self._backend.clock.now(), self._group
        results = await self._backend.writer.submit(
            lambda db: group.extend(db, tokens, now + seconds, now), solid=False
        )
        for token, error in zip(tokens, results, strict=True):
            if error is None and token in self._out:
                self._out[token] = now + seconds
        return results

    async def seek(self, start: Start, /) -> None:
        """See `unimsg.spi.Seeks`."""
        now, group, member = self._backend.clock.now(), self._group, self._member
        await self._backend.writer.submit(lambda db: members.seek(db, group, member, start, now))
        self._out.clear()
        self._backend.bell.ring(self._place, everyone=True)

    async def lag(self) -> int | None:
        """See `unimsg.spi.Lags`."""
        return await self._backend.writer.peek(self._group.lag)

    async def stop_intake(self) -> None:
        """See `unimsg.spi.Receiver`."""
        self._stopped = True
        self._backend.bell.ring(self._place, everyone=True)
        if self._late:
            await asyncio.wait(self._late)

    async def aclose(self, *, abort: bool = False) -> None:
        """Give back what is out, uncounted; with `abort` it comes again when its leases end."""
        if self._closed:
            return
        await self.stop_intake()
        self._closed = True
        now, group, member = self._backend.clock.now(), self._group, self._member
        await self._backend.writer.submit(
            lambda db: members.leave(db, group, member, now, abort=abort), solid=False
        )
        self._backend.bell.ring(self._place, everyone=True)
