"""Batcher: brings what was offered to the sender, a batch at a time, and each entry to its end.

Law: owns the flow and the time: when a batch is cut, how many are out, what is sent again and when, whose deadline has
passed. What order means is in `lanes`, what becomes of results in `returns`, where the sender comes from in `link`.

A batch goes out at once when none is out, else when it is full or has waited for `linger`. It is sent by one of at most
`in_flight` pumps, tasks that stay: so a publish costs no task, all that is offered in one turn of the event loop shares
a batch, and the cancellation of one caller reaches nobody else's message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence, Sized
from contextvars import Context

from unimsg.errors import ClosedError, Error
from unimsg.message import Receipt, WireMessage
from unimsg.publishing.entry import WAITING, Entry
from unimsg.publishing.lanes import Lanes
from unimsg.publishing.ledger import NEVER, Flight, Ledger
from unimsg.publishing.link import Link
from unimsg.publishing.outcomes import Wording
from unimsg.publishing.returns import Returns
from unimsg.spi import Sender, SendLimits

SWEEP = 0.01
"""Seconds between two looks for passed deadlines, at least: one timer serves all messages."""
GRACE = 5.0
"""Seconds after the last deadline of a batch when a sender that has not answered is given up."""
YIELD_EVERY = 64
"""Messages sent inline between two turns of the event loop, so that others get theirs."""
LOOK_EVERY = 8
"""Batches between two looks at whether the sender answers without suspending: a look costs a callback."""
CLOSING = 0.2
"""The part of the time to close that is kept for closing the sender."""


class Batcher:
    """The flow of one publisher; used from one event loop."""

    def __init__(
        self,
        wording: Wording,
        *,
        examine: Callable[[WireMessage], None],
        translate: Callable[[Exception], Error | None],
        make_link: Callable[[Batcher], Link],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.ledger = Ledger(wording)
        self.link = make_link(self)
        self._wording = wording
        self._examine = examine
        self._returns = Returns(self.ledger, translate)
        self._pumps: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._busy = 0
        """Pumps that were woken or are sending."""
        self._woken = 0
        """Of these, the ones that have not cut their batch yet."""
        self._lingered = False
        self._linger: asyncio.TimerHandle | None = None
        self._paused_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_at = NEVER
        self._closing: asyncio.Task[None] | None = None
        self._over = False
        self._swift = False
        """The sender was seen to answer without suspending."""
        self._inline = 0
        self._ready: Sized = getattr(self.loop, "_ready", "unknown")
        """What the event loop is about to run; where it does not tell, there may always be something."""

    # ------------------------------------------------------------ in

    def offer(self, entry: Entry, *, inline: bool = False) -> bool:
        """Take an entry; from here on it has exactly one end.

        Args:
            entry: what is to go out.
            inline: whether the caller is ready to send it itself.

        Returns:
            Whether the caller must now await `send_inline`: nobody else is there to share a batch.

        Raises:
            ClosedError: after `aclose` has begun.
            PublishError, CapabilityError: a check before the wire; the entry was not taken.
        """
        ledger = self.ledger
        self.refuse_when_closed()
        lanes = ledger.lanes
        alone = False
        if lanes is None:
            ledger.unopened[entry] = None
        else:
            name = self._examined(entry, lanes.limits)
            alone = inline and self._is_alone(lanes)
            if alone:
                lanes.hand_over(entry, name)
            else:
                lanes.put(entry, name)
        ledger.counters.accepted += 1
        if entry.deadline < self._sweep_at:
            self._sweep_by(entry.deadline)
        if not alone:
            self._announce(lanes)
        return alone

    def refuse_when_closed(self) -> None:
        """Raises ClosedError after `aclose` has begun."""
        if self._closing is not None:
            raise self._wording.placed(ClosedError("the publisher is closed, nothing was sent"))

    def _is_alone(self, lanes: Lanes) -> bool:
        """Whether nothing waits, nothing is out, and nothing else in this process is about to run.

        Only with a sender that was seen to answer without suspending: there two turns of the event loop cost more
        than all the rest, and no cancellation or deadline can fall between.
        """
        return (
            self._swift
            and not self._busy
            and not self._ready
            and lanes.is_empty
            and self.link.sender is not None
            and not self._paused_until
        )

    def _announce(self, lanes: Lanes | None) -> None:
        """Something was put in."""
        if lanes is None or self.link.sender is None:
            self.link.start()
        elif self._busy > self._woken:
            self._swift = False  # somebody runs while a batch is out: the sender suspended
            self._stir()
        elif not self._busy or lanes.is_full:
            self._stir()  # else a pump was woken that takes this one too

    def _examined(self, entry: Entry, limits: SendLimits) -> Hashable:
        """Check against what is known of the service only now; returns the name of the lane."""
        message = entry.message
        self._examine(message)
        try:
            entry.size = limits.measure(message)
        except Error as error:
            self._wording.placed(error)
            raise
        return limits.lane(message)

    # ------------------------------------------------------------ the link

    def opened(self, sender: Sender) -> None:
        """A sender is there: what waited for it is checked against its limits and goes out."""
        ledger = self.ledger
        if ledger.lanes is not None:
            ledger.lanes.limits = sender.limits
        else:
            ledger.lanes = Lanes(sender.limits)
            while ledger.unopened:
                entry, _ = ledger.unopened.popitem(last=False)
                try:
                    ledger.lanes.put(entry, self._examined(entry, sender.limits))
                except Error as error:
                    ledger.end(entry, error)
            ledger.look()
        self._stir()

    def failed(self, error: Error) -> None:
        """There will be no sender: all who wait get this error."""
        for entry in tuple(self.ledger):
            if entry.state == WAITING:
                self.ledger.end(entry, self._wording.again(error))
        self.ledger.look()

    def delayed(self, error: Error) -> None:
        """There is no sender yet; this is why."""
        for entry in self.ledger:
            entry.error = error

    def wanted(self) -> bool:
        """Whether any message waits for a sender."""
        return self.ledger.waiting > 0

    # ------------------------------------------------------------ out

    def _due(self, busy: int) -> bool:
        """Whether another batch should go now, when `busy` pumps are at work."""
        lanes = self.ledger.lanes
        if lanes is None or not lanes.messages or self.link.sender is None or self._paused_until:
            return False
        if not busy:
            return True
        if busy >= lanes.limits.in_flight:
            return False
        return self._lingered or self.ledger.watched or lanes.batches > self._woken

    def _stir(self) -> None:
        """Something may go now: wake a pump, or see to it that what waits does not wait too long."""
        if self._due(self._busy):
            self._busy += 1
            self._woken += 1
            while self._idle:
                wake = self._idle.pop()
                if not wake.done():
                    wake.set_result(None)
                    return
            name = f"unimsg publisher {self._wording.destination}: pump"
            pump = self.loop.create_task(self._pump(), name=name, context=Context())
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)
        elif self._linger is None and self._busy > self._woken and not self._lingered:
            lanes = self.ledger.lanes
            if lanes is not None and lanes.messages:
                self._linger = self.loop.call_later(lanes.limits.linger, self._on_linger)

    def _on_linger(self) -> None:
        self._linger = None
        self._lingered = True
        self._stir()

    async def _pump(self) -> None:
        task = asyncio.current_task()
        while True:
            self._woken -= 1
            lanes = self.ledger.lanes
            if lanes is not None and self._due(0) and (batch := lanes.cut()):
                self._lingered = False
                if lanes.messages:
                    self._stir()
                await self._send(lanes, Flight(batch, task))
            if self._due(self._busy - 1):
                self._woken += 1
                continue
            self._busy -= 1
            if self._over:  # its sender ignored the cancellation by which all pumps end
                return
            self._stir()
            wake: asyncio.Future[None] = self.loop.create_future()
            self._idle.append(wake)
            await wake

    async def send_inline(self, entry: Entry) -> None:
        """Send an entry in its caller's own task; see `offer`."""
        lanes = self.ledger.lanes
        assert lanes is not None  # noqa: S101 - else it would not be alone
        self._busy += 1
        try:
            await self._send(lanes, Flight([entry], asyncio.current_task(), inline=True))
        finally:
            self._busy -= 1
        if lanes.messages:
            self._stir()
        self._inline += 1
        if not self._inline % YIELD_EVERY:
            await asyncio.sleep(0)

    async def _send(self, lanes: Lanes, flight: Flight) -> None:
        """Send one batch once, and bring its results home."""
        sender, ledger, batch = self.link.sender, self.ledger, flight.batch
        assert sender is not None  # noqa: S101 - nothing is cut without one
        looks = not self._swift and not ledger.counters.batches % LOOK_EVERY
        mark = self.loop.call_soon(flight.note_suspension) if looks else None
        ledger.flights.add(flight)
        ledger.counters.batches += 1
        raised: BaseException | None = None
        results: Sequence[Receipt | Error] = ()
        try:
            results = await sender.send_batch([entry.message for entry in batch], flight.deadline)
        except asyncio.CancelledError as error:
            self._swift = False
            if flight.is_cancelled():
                ledger.crash(flight)
                lanes.give_back(batch)
                raise
            raised = error
        except Exception as error:  # noqa: BLE001 - by the contract the outcome of all is unknown: each caller is told
            raised = error
        finally:
            ledger.flights.discard(flight)
        if mark is not None:
            mark.cancel()
            self._swift = not flight.suspended
        back = self._returns.take(lanes, batch, results, raised)
        if back is not None:
            if back.sender_lost or (flight.overdue and not flight.inline):
                self.link.lose(sender)
            self._paused_until = max(self._paused_until, back.pause_until)
        lanes.give_back(batch)
        if ledger.watched:
            ledger.look()
        if back is not None:
            self._on_alarm()

    # ------------------------------------------------------------ time

    def _on_alarm(self) -> None:
        """Let go what waited for a time, and set the alarm for the next."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        now = self.loop.time()
        if self._paused_until <= now:
            self._paused_until = 0.0
        lanes = self.ledger.lanes
        due = lanes.release(now) if lanes is not None else None
        times = [at for at in (due, self._paused_until) if at]
        if times:
            self._alarm = self.loop.call_at(min(times), self._on_alarm)
        self._stir()

    def _sweep_by(self, at: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep_at = at
        self._sweep = self.loop.call_at(at, self._on_sweep)

    def _on_sweep(self) -> None:
        """Answer those whose deadline has passed; give up a sender that does not answer at all."""
        now = self.loop.time()
        nearest = self.ledger.expire(now)
        for flight in self.ledger.flights:
            if flight.overdue:
                continue
            given_up = flight.deadline if flight.inline else flight.deadline + GRACE
            if given_up > now:
                nearest = min(nearest, given_up)
            else:
                flight.give_up()
        self._sweep, self._sweep_at = None, NEVER
        if nearest < NEVER:
            self._sweep_by(max(nearest, now + SWEEP))
        self._stir()

    # ------------------------------------------------------------ the end

    async def flush(self) -> None:
        """Send what waits without lingering; returns when everything accepted so far has ended."""
        done = self.ledger.watch()
        self._stir()
        try:
            await done
        finally:
            done.cancel()
            self.ledger.look()

    async def aclose(self, within: float) -> None:
        """Flush within that many seconds, answer the rest, close the sender; a second call waits for the first."""
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(within), name="unimsg publisher: close")
        await asyncio.shield(self._closing)

    async def _close(self, within: float) -> None:
        ends = self.loop.time() + within
        try:
            async with asyncio.timeout(within * (1 - CLOSING)):
                await self.flush()
        except TimeoutError:
            pass
        self._over = True
        self.ledger.end_all("the publisher was closed")
        for timer in (self._linger, self._alarm, self._sweep):
            if timer is not None:
                timer.cancel()
        self._linger = self._alarm = self._sweep = None
        for pump in self._pumps:
            pump.cancel()
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=max(0.0, ends - self.loop.time()))
        await self.link.aclose(max(0.0, ends - self.loop.time()))
