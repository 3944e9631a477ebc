"""The consuming loop: receive -> lease -> lane -> handler -> verdict -> settle, and the way back when it stops.

Law: the parts are wired here and nowhere else; each does one thing and knows the loop, not the others. Everything
that is policy is the portable layer's, everything that is I/O is the receiver's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from unimsg.capabilities import Capabilities, check
from unimsg.consuming.brakes import Brakes
from unimsg.consuming.claims import Claims
from unimsg.consuming.counters import Counters
from unimsg.consuming.decoding import decoder
from unimsg.consuming.delivery import DONE, DROPPED, HELD, RUNNING, WAITING, Delivery, Verb
from unimsg.consuming.guard import Guard
from unimsg.consuming.health import LoopHealth
from unimsg.consuming.held import Held
from unimsg.consuming.lanes import Lanes, lane_of
from unimsg.consuming.limiter import Limiter
from unimsg.consuming.link import Link
from unimsg.consuming.prefetch import BYTES, Prefetch
from unimsg.consuming.services import Services
from unimsg.consuming.settings import Settings
from unimsg.consuming.verdicts import Verdicts
from unimsg.consuming.workers import Workers
from unimsg.errors import AssignmentLostError, Error, LeaseLostError
from unimsg.headers import for_another
from unimsg.message import Receipt
from unimsg.spi import Assignment, Received, ReceiveLimits

log = logging.getLogger("unimsg.consuming")

AnyDelivery = Delivery[Any]
NO_LIMIT = 1 << 62


class ConsumingLoop:
    """One handler (or iterator) on one destination and group, over any number of links."""

    def __init__(
        self,
        services: Services,
        settings: Settings,
        *,
        handler: Callable[[Any], Awaitable[None]] | None,
        handler_name: str = "",
        guard: Guard | None = None,
        state: Any = None,  # noqa: ANN401 - whatever the program's lifespan yielded
        until_idle: bool = False,
    ) -> None:
        self.services = services
        self.settings = settings
        self.destination = settings.destination
        self.group = settings.group
        self.backend = services.backend
        self.handler_name = handler_name
        self.state = state
        self.until_idle = until_idle
        self.capabilities = services.capabilities()
        self.clock = asyncio.get_running_loop().time
        self.counters = Counters()
        self.health = LoopHealth(settings.destination, settings.group)
        self.decode = decoder(settings.codec, services.max_body)
        self.lanes = Lanes()
        self.held = Held(self._due)
        self.live: set[AnyDelivery] = set()
        self.watchers: list[asyncio.Future[None]] = []
        self.limiter = Limiter(settings.rate) if settings.rate else None
        self.brakes = Brakes(self.health, self.reopen_intake)
        self.verdicts = Verdicts(self, settings.retry, settings.dead_letter)
        self.claims = Claims(self, guard) if guard is not None else None
        most = settings.retry.max_deliveries
        self.most_deliveries = NO_LIMIT if guard is not None or most is None else most
        self.lane_limit = max(1, settings.prefetch // 4)
        self.prefetch = _prefetch(settings, self.capabilities)
        self.link: Link | None = None
        self.limits = ReceiveLimits(max_messages=1)
        self.paused = False
        self.stopping = False
        self.idle = asyncio.Event()
        self._bytes = 0
        self._sequence = 0
        self.late: list[AnyDelivery] = []
        """What arrived, or had not started, when the loop was told to stop."""
        self._lane_of = lane_of(settings.order or self.capabilities.ordering)
        self.workers: Workers | None = None
        if handler is not None:
            self.workers = Workers(self, handler, self.claims or self.lanes)

    # ------------------------------------------------------------ in

    async def open_link(self) -> Link:
        """Open a receiver: one attempt; refused when the capabilities in effect fall short."""
        link, settings, services = Link(self), self.settings, self.services
        receiver = await services.open_receiver(link)
        self.capabilities = services.capabilities()
        try:
            check(
                settings.needs,
                self.capabilities,
                backend=self.backend,
                destination=self.destination,
                others=services.others,
            )
        except Error:
            await receiver.aclose(abort=True)
            raise
        self._lane_of = lane_of(settings.order or self.capabilities.ordering)
        link.attach(receiver)
        self.limits = receiver.limits
        self.link = link
        return link

    def accept(self, link: Link, batch: Sequence[Received]) -> None:
        """What came: into hand, above the watermark, into its lane."""
        self.counters.received += len(batch)
        now = self.clock()
        track = link.track if link.settler.cumulative else None
        past, lane_of, put, live = self.verdicts.past, self._lane_of, self.lanes.put, self.live
        held: Assignment | None = None
        for received in batch:
            self._sequence = seq = self._sequence + 1
            delivery: AnyDelivery = Delivery(received, self, link, (received.attempts or 0) + 1, seq)
            delivery._since = now
            if past or received.first_failed is not None:
                self.verdicts.recall(delivery)
            live.add(delivery)
            self._bytes += delivery._size
            assignment = received.assignment
            if assignment is not held and assignment is not None and not link.holds(assignment):
                self.forget((delivery,))  # taken away while the answer was under way
                continue
            held = assignment
            if track is not None and held is not None:
                track(delivery, held)
            if self.stopping or not link.open:
                self.late.append(delivery)
                continue
            if (headers := received.message.headers) and for_another(headers, self.group):
                self.verdicts.skipped(delivery)
            elif put(delivery, lane_of(received)) > self.lane_limit and assignment is not None:
                link.pause(assignment, lane_of(received))
        self.prefetch.measure(self.counters.settled, now)
        self.wake()

    def wake(self) -> None:
        """Whoever can start should: claims first where there are any, else workers, else an iterator."""
        if self.claims is not None:
            self.claims.wake()
        elif self.workers is not None and not self.paused:
            self.workers.wake(self.lanes.ready)
        if self.watchers:
            self.moved()

    def wake_all(self) -> None:
        """Something of importance changed: everybody looks."""
        if self.workers is not None:
            self.workers.wake(self.workers.idle)
        self.moved()

    def room(self, asked: int) -> int:
        """How many more may be asked for, when `asked` are on their way."""
        if self.paused or self.stopping or not self.brakes.open:
            return 0
        if self.claims is not None and self.claims.store_down:
            return 0
        if self.link is not None and self.link.blocked:
            return 0
        return self.prefetch.room(len(self.live) + asked, self._bytes)

    def take_more(self, delivery: AnyDelivery) -> AnyDelivery | None:
        """The next of the same lane, for a batch handler; claimed deliveries come one by one."""
        return self.lanes.take_more(delivery) if self.claims is None else None

    # ------------------------------------------------------------ out: the settler's ledger

    def finished(self, deliveries: Sequence[AnyDelivery], outcome: str, /) -> None:
        """These have their outcome; one that was lost while it was settled keeps that."""
        count = 0
        for delivery in deliveries:
            if delivery._state != DROPPED:
                delivery._state = DONE
                self._bytes -= delivery._size
                count += 1
        self.live.difference_update(deliveries)
        self.counters.add(outcome, count)
        if outcome == "acked":
            self.brakes.succeeded(count)
        self._freed()

    def lost(self, deliveries: Sequence[AnyDelivery], error: BaseException, /) -> None:
        """These are gone without a verdict: never acked, and cancelled where they run."""
        gone = [d for d in deliveries if d in self.live]
        if self.limits.lease_covers_lane and isinstance(error, LeaseLostError):
            gone = self._with_their_lanes(gone)
        if not gone:
            return
        if not isinstance(error, AssignmentLostError):
            log.warning("%s: %d deliveries lost: %s", self.destination, len(gone), error)
        states = {delivery: delivery._state for delivery in gone}
        self._drop(gone)
        self.counters.lost += len(gone)
        self._leave_lanes(states)
        if self.workers is not None:
            self.workers.cancel(states.__contains__, "lost")
        self._freed()

    def _with_their_lanes(self, gone: list[AnyDelivery]) -> list[AnyDelivery]:
        keys, lost = {d._lane.key for d in gone if d._lane is not None}, set(gone)
        self.drop_waiting(lambda d: d._lane is not None and d._lane.key in keys and d not in lost)
        return gone

    def _leave_lanes(self, states: Mapping[AnyDelivery, int]) -> None:
        if any(state == WAITING for state in states.values()):
            self.lanes.remove(states.__contains__)
            if self.claims is not None:
                self.claims.remove(states.__contains__)
        for delivery, state in states.items():
            if state == HELD:
                self.lanes.forget_held(delivery)
            elif state == RUNNING and delivery._slot is None:  # an iterator's: nobody else will say it
                self.lanes.done(delivery)

    def _freed(self) -> None:
        link = self.link
        if link is not None:
            if link.paused:
                link.reconsider()
            if link.intake.waiting and self._worth_asking():
                link.intake.open_gate()
        if self.watchers:
            self.moved()

    def _worth_asking(self) -> bool:
        """Ask when a good batch has room, or at once when nobody has work."""
        room = self.room(0)
        return room > 0 and (
            not self.lanes.ready or room * 2 >= min(self.limits.max_messages, self.prefetch.target)
        )

    # ------------------------------------------------------------ waiting in memory

    def hold(self, delivery: AnyDelivery, delay: float) -> None:
        """Keep a delivery until it is due; its lane waits with it."""
        self.lanes.hold(delivery)
        delivery.fencing_token = 0
        delivery._slot = None
        self.held.hold(delivery, delay)

    def _due(self, delivery: AnyDelivery) -> None:
        delivery._state = WAITING
        delivery._verb = None
        self.lanes.put_back(delivery)
        self.wake()

    def release(self, delivery: AnyDelivery) -> None:
        """Hand one back without counting; a log never took it, so there it is only dropped."""
        if self.stopping and delivery not in self.late:
            self.late.append(delivery)  # after the last poll has ended: an open one would catch it again
            return
        link = delivery._link
        if link is not None and link.open and self.limits.release == "settle":
            self.verdicts.remember((delivery,))
            link.settler.settle(delivery, "release", "released")
        else:
            self.forget((delivery,))

    def forget(self, deliveries: Sequence[AnyDelivery]) -> None:
        """These go back by themselves: the service never lost them."""
        self._drop(deliveries)
        self.counters.released += len(deliveries)
        self._freed()

    def _drop(self, deliveries: Sequence[AnyDelivery]) -> None:
        self.verdicts.remember(deliveries)
        for delivery in deliveries:
            delivery._state = DROPPED
            self._bytes -= delivery._size
        self.live.difference_update(deliveries)

    def set_aside(self, delivery: AnyDelivery) -> None:
        """Leave one that an iterator has in hand as it is until the loop ends; then it goes back uncounted."""
        self.lanes.done(delivery)
        delivery._state = WAITING
        self.late.append(delivery)
        self.moved()

    def drop_waiting(self, gone: Callable[[AnyDelivery], bool]) -> None:
        """Hand back what has not started and is not held for good reason, lane by lane, in order."""
        for delivery in self.take_waiting(gone):
            self.release(delivery)

    def take_waiting(self, gone: Callable[[AnyDelivery], bool]) -> list[AnyDelivery]:
        """Take out what has not started or waits for a retry, in the order in which it came."""
        taken = self.lanes.remove(gone)
        if self.claims is not None:
            taken += self.claims.remove(gone)
        held = self.held.remove(gone)
        for delivery in held:
            self.lanes.forget_held(delivery)
        return sorted([*taken, *held], key=lambda d: d._seq)

    # ------------------------------------------------------------ policies

    def reopen_intake(self) -> None:
        """There may be room again."""
        if self.link is not None and self.link.open:
            self.link.intake.open_gate()

    def undecodable(self) -> None:
        """One more body did not fit the codec."""
        self.counters.undecodable += 1
        self.brakes.undecodable()

    def condemned(self, delivery: AnyDelivery) -> str | None:
        """Why a delivery must not run any more; None: it may."""
        trouble = delivery._trouble
        if trouble is not None and trouble.doomed:
            return trouble.doomed
        received = delivery._received
        if received.attempts is None and received.deliveries > self.most_deliveries:
            return f"delivered {received.deliveries} times, at most {self.most_deliveries} are allowed"
        return None

    # ------------------------------------------------------------ health and logs

    def report(self) -> LoopHealth:
        """Bring the health up to date and return it."""
        self.verdicts.look()
        health, now = self.health, self.clock()
        link = self.link
        health.in_flight = len(self.live)
        health.oldest = now - min(d._since for d in self.live) if self.live else None
        health.since_poll = now - link.intake.last_poll if link is not None else None
        health.ready = health.running and link is not None and link.open and not health.reasons
        health.counters = self.counters.as_dict()
        return health

    def describe(self, delivery: AnyDelivery) -> str:
        """Name a delivery in a log line, without its body."""
        where = f" at {delivery.position}" if delivery.position else ""
        return f"{self.destination!r} message {delivery.id}{where}"

    # ------------------------------------------------------------ waiting for others

    def moved(self) -> None:
        """Something ended or came: whoever watches should look."""
        watchers, self.watchers = self.watchers, []
        for future in watchers:
            if not future.done():
                future.set_result(None)

    async def change(self) -> None:
        """Return at the next move."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.watchers.append(future)
        await future

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds."""
        while not condition():
            await self.change()

    async def flush(self, link: Link) -> None:
        """Return when every verdict given so far is settled."""
        if self.claims is not None:
            await self.claims.flush()
        await link.settler.flush()

    def rested(self) -> None:
        """All workers rest: nothing will fill the settler's batch, so send it."""
        if self.link is not None and not self.lanes.ready:
            if self.claims is not None:
                self.claims.kick()
            self.link.settler.kick()

    # ------------------------------------------------------------ what deliveries ask

    async def by_hand(self, delivery: AnyDelivery, verb: Verb, value: Any, /) -> None:  # noqa: ANN401 - by verb
        """See the verbs of `Delivery`."""
        await self.verdicts.by_hand(delivery, verb, value)

    async def publish(self, destination: str, body: Any, options: Mapping[str, Any], /) -> Receipt:  # noqa: ANN401 - any body
        """See `Delivery.publish`."""
        return await self.services.publish(destination, body, options)


def _prefetch(settings: Settings, capabilities: Capabilities) -> Prefetch:
    return Prefetch(
        messages=settings.prefetch,
        size=BYTES,
        workers=max(settings.concurrency, settings.batch or 1),
        lease=capabilities.lease.seconds if capabilities.lease else None,
    )
