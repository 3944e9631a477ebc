"""A way out that breaks its promises: parts of `unimsg.publishing` and of the client, replaced one at a time.

Law: as `backends`.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from unimsg.client.client import Client
from unimsg.errors import OutcomeUnknownError
from unimsg.message import new_id
from unimsg.publishing import returns
from unimsg.publishing.batcher import Batcher
from unimsg.publishing.lanes import Lanes
from unimsg.testing.mutants.mutant import Patch, mutant


@mutant(2, killed_by="test_a_publish_whose_answer_is_lost_is_unknown_and_not_sent_again")
def unknown_called_failed(patch: Patch) -> None:
    """What left without an answer is reported as not published."""
    patch.put(returns, "meaning_of_raised", lambda _error: "refused")


@mutant(2, killed_by="test_a_publish_whose_answer_is_lost_is_unknown_and_not_sent_again")
def unknown_sent_again(patch: Patch) -> None:
    """What left without an answer is sent once more, unasked."""
    patch.put(returns, "meaning_of_raised", lambda _error: "again")


@mutant(2, killed_by="test_each_publish_is_counted_in_one_place")
def unknown_confirmed(patch: Patch) -> None:
    """A lost answer is taken for a confirmation."""
    real: Any = Batcher._send  # noqa: SLF001 - this is what is broken

    async def send(self: Any, lanes: Any, flight: Any) -> None:
        await real(self, lanes, flight)
        for entry in flight.batch:
            if isinstance(entry.outcome, OutcomeUnknownError):
                self.ledger.counters.unknown -= 1
                self.ledger.counters.confirmed += 1

    patch.put(Batcher, "_send", send)


@mutant(3, killed_by="test_throttling_slows_down_and_loses_nothing")
def id_changed_on_resend(patch: Patch) -> None:
    """What is sent again is another message to the service."""

    def put_back(real: Any, self: Any, entries: Any, due: float) -> None:
        for entry in entries:
            entry.message = replace(entry.message, id=new_id())
        real(self, entries, due)

    patch.around(Lanes, "put_back", put_back)


@mutant(4, killed_by="test_the_order_of_a_key_survives_batches_that_are_refused", scheme="fifolike")
def key_passes_its_refused_head(patch: Patch) -> None:
    """A refused message waits beside its lane, and the rest of the key goes on."""

    def put_back(_real: Any, self: Any, entries: Any, _due: float) -> None:
        for entry in entries:
            lane = entry.lane
            entry.state = 0
            lane.entries[entry] = None
            lane.size += entry.size
            self.waiting += 1

    patch.around(Lanes, "put_back", put_back)


@mutant(17, killed_by="test_publishers_are_open_until_handlers_have_ended")
def publishers_closed_first(patch: Patch) -> None:
    """A client that closes refuses what its last handlers publish."""

    async def close(real: Any, self: Any) -> None:
        self._session.closed = True
        await real(self)

    patch.around(Client, "aclose", close)


@mutant(19, killed_by="test_the_largest_body_passes_and_one_byte_more_is_refused_before_the_wire")
def limits_unchecked(patch: Patch) -> None:
    """A message of any size is handed to the service."""

    def examined(_real: Any, _self: Any, entry: Any, limits: Any) -> Any:
        entry.size = 1
        return limits.lane(entry.message)

    patch.around(Batcher, "_examined", examined)
