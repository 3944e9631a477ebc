"""A way in that breaks its promises: parts of `unimsg.consuming`, replaced one at a time.

Law: as `backends`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from unimsg.consuming import dead_letter, workers
from unimsg.consuming.brakes import Brakes
from unimsg.consuming.counters import Counters
from unimsg.consuming.delivery import DONE, Delivery
from unimsg.consuming.held import Held
from unimsg.consuming.intake import Intake
from unimsg.consuming.lanes import Lanes
from unimsg.consuming.leases import LeaseKeeper
from unimsg.consuming.link import Link
from unimsg.consuming.loop import ConsumingLoop
from unimsg.consuming.settler import Settler
from unimsg.consuming.supervisor import Supervisor
from unimsg.consuming.verdicts import Verdicts
from unimsg.consuming.watermark import Watermark
from unimsg.consuming.workers import Workers
from unimsg.errors import Fail
from unimsg.headers import DEAD_LETTER
from unimsg.policies import retry
from unimsg.spi import Settlement
from unimsg.testing.mutants.mutant import Patch, mutant

# ruff: noqa: SLF001 - a mutant breaks what is inside


@mutant(5, killed_by="test_nothing_is_lost_where_a_tenth_of_everything_fails")
def ack_before_success(patch: Patch) -> None:
    """A message is acked when its handler begins."""

    def start(handler: Any, delivery: Any) -> tuple[bool, Any]:
        delivery._loop.verdicts.acked(delivery)
        return True, handler(delivery)

    patch.put(workers, "start", start)


@mutant(6, 16, killed_by="test_a_failed_head_holds_its_key_while_others_go_on")
def lane_not_held(patch: Patch) -> None:
    """The rest of a key goes on while its head waits for a retry."""

    def hold(_real: Any, self: Any, delivery: Any) -> None:
        self.done(delivery)
        delivery._lane = None

    patch.around(Lanes, "hold", hold)


@mutant(16, killed_by="test_a_failed_head_holds_its_key_while_others_go_on")
def retry_handed_to_the_tail(patch: Patch) -> None:
    """What is due again stands behind the rest of its key."""

    def hold(_real: Any, self: Any, delivery: Any) -> None:
        self.done(delivery)

    def put_back(_real: Any, self: Any, delivery: Any) -> None:
        lane = delivery._lane
        if lane is None:
            self._insert(delivery, None)
            return
        self.waiting += 1
        lane.append(delivery)
        if len(lane) == 1 and not lane.out:
            self._lanes[lane.key] = lane
            self._ready.append(lane)

    patch.around(Lanes, "hold", hold)
    patch.around(Lanes, "put_back", put_back)


@mutant(7, killed_by="test_what_was_prefetched_goes_to_the_next_consumer_at_once", scheme="loglike")
def dropped_counted_as_done(patch: Patch) -> None:
    """What was given up without a verdict is taken for done, and its position is committed."""

    def forget(real: Any, self: Any, deliveries: Any) -> None:
        real(self, deliveries)
        for delivery in deliveries:
            delivery._state = DONE
        self.link.settler._mark(deliveries, "lost")

    patch.around(ConsumingLoop, "forget", forget)


@mutant(7, killed_by="test_what_failed_comes_again_after_a_restart_and_no_gap_is_skipped", scheme="loglike")
def commit_past_a_gap(patch: Patch) -> None:
    """The highest position that is done is committed, whatever is open below it."""

    def advance(_real: Any, self: Any) -> None:
        done = [delivery for delivery in self._open if delivery._state == DONE]
        if done:
            self.token, self.moved = done[-1]._received.token, True

    patch.around(Watermark, "advance", advance)


@mutant(8, killed_by="test_late_acks_of_a_lost_assignment_are_never_sent", scheme="loglike")
def settling_a_lost_assignment(patch: Patch) -> None:
    """Acks are sent for what was taken away."""

    def forget(real: Any, self: Any, mine: Any) -> None:
        late = [Settlement("ack", 0, assignment) for assignment in mine]
        real(self, mine)
        self._late = asyncio.ensure_future(self.receiver.settle_batch(late))

    patch.around(Link, "_forget", forget)


@mutant(8, killed_by="test_a_lease_is_kept_while_a_handler_runs")
def lease_not_extended(patch: Patch) -> None:
    """Nobody asks for longer."""

    async def extend(_real: Any, _self: Any, _due: Any) -> None:
        pass

    patch.around(LeaseKeeper, "_extend", extend)


@mutant(8, killed_by="test_a_handler_is_told_that_its_lease_is_lost")
def loss_not_told(patch: Patch) -> None:
    """A handler runs on when its message is somebody else's."""

    def cancel(real: Any, self: Any, gone: Any, reason: str) -> None:
        if reason != "lost":
            real(self, gone, reason)

    patch.around(Workers, "cancel", cancel)


@mutant(11, killed_by="test_a_delayed_fail_does_not_come_early")
def delay_shortened(patch: Patch) -> None:
    """What waits in memory waits a tenth of its time, and so does what waits at the broker."""

    def hold(real: Any, self: Any, delivery: Any, delay: float) -> None:
        real(self, delivery, delay / 10)

    def settle(real: Any, self: Any, delivery: Any, verb: str, outcome: str, delay: float = 0.0) -> None:
        real(self, delivery, verb, outcome, delay / 10)

    patch.around(Held, "hold", hold)
    patch.around(Settler, "settle", settle)


@mutant(10, 17, killed_by="test_what_outlasts_the_budget_goes_back_uncounted")
def stop_burns_attempts(patch: Patch) -> None:
    """A handler that a stop cancels has failed."""

    async def give_back(_real: Any, self: Any, delivery: Any) -> None:
        await self.failed(delivery, Fail("it was stopped"))

    patch.around(Verdicts, "give_back", give_back)


@mutant(17, killed_by="test_acks_on_their_way_to_the_broker_are_waited_for")
def acks_not_flushed(patch: Patch) -> None:
    """A stop does not wait for what it has sent."""

    async def flush(_real: Any, _self: Any) -> None:
        pass

    patch.around(Settler, "flush", flush)


@mutant(17, killed_by="test_a_cancelled_long_poll_strands_nothing", scheme="fifolike")
def poll_left_open(patch: Patch) -> None:
    """A stop cancels a poll that stays open at the service, and gives back what it captures."""

    async def stop(_real: Any, self: Any) -> None:
        await self.abort()

    patch.around(Intake, "stop", stop)


@mutant(1, killed_by="test_no_loss_of_connection_is_permanent")
def loss_is_the_end(patch: Patch) -> None:
    """A consumer that loses its connection stops for good."""

    async def serve(real: Any, self: Any, link: Any) -> Any:
        error = await real(self, link)
        if error is not None:
            self._stop.set()
        return error

    patch.around(Supervisor, "_serve", serve)


@mutant(18, killed_by="test_prefetch_one_means_no_second_message", scheme="loglike")
def prefetch_without_bound(patch: Patch) -> None:
    """A consumer takes what there is, whether it has room or not."""
    patch.around(ConsumingLoop, "room", lambda _real, _self, _asked: 1000)


@mutant(21, killed_by="test_each_outcome_is_counted_once")
def outcome_counted_twice(patch: Patch) -> None:
    """An ack counts for two."""

    def add(real: Any, self: Any, outcome: str, count: int = 1) -> None:
        real(self, outcome, 2 * count)

    patch.around(Counters, "add", add)


@mutant(killed_by="test_what_a_handler_sets_in_its_context_the_next_never_sees")
def shared_context(patch: Patch) -> None:
    """All messages of a worker share one context."""

    def start(handler: Any, delivery: Any) -> tuple[bool, Any]:
        return True, handler(delivery)

    patch.put(workers, "start", start)


@mutant(9, killed_by="test_the_attempt_is_right_on_every_redelivery")
def defer_counts(patch: Patch) -> None:
    """Putting off counts as an attempt."""

    def defer(_real: Any, self: Any, delivery: Delivery[Any], delay: float) -> None:
        self._retry(delivery, delay)

    patch.around(Verdicts, "defer", defer)


@mutant(14, killed_by="test_a_trace_survives_retry_and_dead_letter")
def dead_letter_without_its_headers(patch: Patch) -> None:
    """A dead letter says why it is one, and forgets what it was sent with."""
    real = dead_letter.compose

    def compose(delivery: Any, reason: str, **facts: Any) -> Any:
        letter = real(delivery, reason, **facts)
        return replace(letter, headers={DEAD_LETTER: letter.headers[DEAD_LETTER]})

    patch.put(dead_letter, "compose", compose)


@mutant(5, 15, killed_by="test_the_original_outlives_a_consumer_that_cannot_dead_letter")
def acked_before_its_dead_letter_is_written(patch: Patch) -> None:
    """A dead letter that could not be written counts as written."""

    async def written(real: Any, self: Any, delivery: Any, reason: str) -> bool:
        await real(self, delivery, reason)
        return True

    patch.around(Verdicts, "_written", written)


@mutant(13, killed_by="test_what_cannot_be_decoded_goes_at_once")
def undecodable_is_tried_again(patch: Patch) -> None:
    """What cannot be decoded is retried like any failure."""
    patch.put(retry, "PERMANENT", ())


@mutant(12, killed_by="test_an_open_breaker_takes_in_nothing_and_burns_no_attempt")
def breaker_ignored(patch: Patch) -> None:
    """Intake goes on while almost everything fails."""
    patch.put(Brakes, "open", property(lambda _self: True))


@mutant(12, killed_by="test_retries_beyond_the_budget_are_deferred")
def budget_without_bottom(patch: Patch) -> None:
    """Every retry is granted, however many have failed."""
    patch.around(Brakes, "may_retry", lambda _real, _self: True)
