"""Effects that happen twice: dedup and idempotency, broken one at a time.

Law: as `backends`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unimsg.backends.memory.backend import MemorySender
from unimsg.idempotency.guard import StoreGuard
from unimsg.stores.memory import _Table
from unimsg.testing.mutants.mutant import Patch, mutant


@mutant(3, killed_by="test_an_id_is_stored_once_within_the_window")
def dedup_forgotten(patch: Patch) -> None:
    """An id that is known is stored again."""

    async def send(_real: Any, self: Any, messages: Sequence[Any], _deadline: float) -> Any:
        return self._hub.send(messages, self._time(), dedup=False)

    patch.around(MemorySender, "send_batch", send)


@mutant(23, killed_by="test_concurrent_duplicates_run_once")
def claim_given_to_all(patch: Patch) -> None:
    """Whoever asks for a key gets it."""

    def claim(real: Any, self: Any, ask: Any, *args: Any) -> Any:
        self.rows.pop((ask.scope, ask.key), None)
        return real(self, ask, *args)

    patch.around(_Table, "claim", claim)


@mutant(5, 25, killed_by="test_an_idempotent_handler_that_fails_first_has_one_effect")
def completion_forgotten(patch: Patch) -> None:
    """What is done is given back instead of being marked as done."""

    async def complete(_real: Any, self: Any, claims: Sequence[Any]) -> Any:
        return await self.release(claims, ["returned"] * len(claims))

    patch.around(StoreGuard, "complete", complete)
