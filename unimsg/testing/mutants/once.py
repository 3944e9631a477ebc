"""Effects that happen twice: dedup and idempotency, broken one at a time.

Law: as `backends`; what is shown on `STORE` is found out by a case of the stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from unimsg.backends.memory.backend import MemorySender
from unimsg.consuming.guard import Claim
from unimsg.consuming.leases import LeaseKeeper
from unimsg.errors import StoreUnavailableError
from unimsg.idempotency.guard import StoreGuard
from unimsg.idempotency.policy import Policy
from unimsg.idempotency.row import Row
from unimsg.stores.memory import _Table
from unimsg.testing.mutants.mutant import STORE, Patch, mutant


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


@mutant(22, killed_by="test_scopes_do_not_meet", scheme=STORE)
def scopes_meet(patch: Patch) -> None:
    """A key is one, whoever asks for it."""

    def claim(real: Any, self: Any, ask: Any, *args: Any) -> Any:
        return real(self, replace(ask, scope=""), *args)

    patch.around(_Table, "claim", claim)


@mutant(22, killed_by="test_two_handlers_and_two_groups_in_one_store", scheme=STORE)
def groups_share_a_scope(patch: Patch) -> None:
    """What one group has done, the others need not do."""

    def scope_of(real: Any, self: Any, name: str, destination: str, _group: str) -> Any:
        return real(self, name, destination, None)

    patch.around(Policy, "scope_of", scope_of)


@mutant(24, killed_by="test_a_claim_is_shorter_than_the_lease", scheme=STORE)
def claim_as_long_as_the_lease(patch: Patch) -> None:
    """A redelivery finds the key held by the one that crashed."""
    patch.put(Policy, "lock_for", lambda _self, lease: lease)


@mutant(24, killed_by="test_what_the_store_refuses_is_not_extended", scheme=STORE)
def lease_extended_first(patch: Patch) -> None:
    """The broker is asked to wait for what may be another's by now."""

    async def refused(real: Any, self: Any, claimed: Sequence[Any]) -> Any:
        await self._extend([delivery for delivery in claimed if delivery in self._alive()])
        return await real(self, claimed)

    patch.around(LeaseKeeper, "_refused", refused)


@mutant(26, killed_by="test_another_payload", scheme=STORE)
def payload_not_compared(patch: Patch) -> None:
    """Another payload gets the outcome that is stored."""

    def claim(real: Any, self: Any, ask: Any, **named: Any) -> Any:
        return real(self, replace(ask, fingerprint=None), **named)

    patch.around(Row, "claim", claim)


@mutant(26, killed_by="test_another_payload_for_a_key_that_is_done", scheme=STORE)
def other_payload_is_a_duplicate(patch: Patch) -> None:
    """A message that reuses a key is acked as if it had been handled."""

    def answered(real: Any, self: Any, ask: Any, answer: Any, *args: Any) -> Any:
        return Claim("skip") if answer.state == "reused" else real(self, ask, answer, *args)

    patch.around(StoreGuard, "_answered", answered)


@mutant(27, killed_by="test_down_before_the_handler", scheme=STORE)
def store_down_is_a_failure(patch: Patch) -> None:
    """A store that cannot be reached is taken out on the message."""

    async def claim(real: Any, self: Any, deliveries: Sequence[Any]) -> Any:
        try:
            return await real(self, deliveries)
        except StoreUnavailableError as error:
            return [Claim("reject", error=error)] * len(deliveries)

    patch.around(StoreGuard, "claim", claim)


@mutant(27, killed_by="test_down_after_the_handler", scheme=STORE)
def completion_given_up(patch: Patch) -> None:
    """What was done and could not be noted is given back, and done again."""

    async def complete(real: Any, self: Any, claims: Sequence[Any]) -> Any:
        try:
            return await real(self, claims)
        except StoreUnavailableError:
            return [False] * len(claims)

    patch.around(StoreGuard, "complete", complete)


@mutant(28, killed_by="test_attempts_survive_those_who_counted", scheme=STORE)
def release_removes_the_row(patch: Patch) -> None:
    """What is given back is forgotten, and how often it failed with it."""

    def release(real: Any, self: Any, *args: Any, now: float, **named: Any) -> Any:
        current = real(self, *args, now=now, **named)
        self.ends = now
        return current

    patch.around(Row, "release", release)


@mutant(28, killed_by="test_attempts_survive_a_restart", scheme=STORE)
def attempts_of_others_ignored(patch: Patch) -> None:
    """What the row counted before a restart is not believed."""

    def answered(real: Any, self: Any, ask: Any, answer: Any, *args: Any) -> Any:
        return real(self, ask, replace(answer, attempts=0), *args)

    patch.around(StoreGuard, "_answered", answered)


@mutant(29, killed_by="test_a_batch_is_claimed_and_completed_in_one_call", scheme=STORE)
def claimed_one_by_one(patch: Patch) -> None:
    """The store is asked for each message."""

    async def claim(real: Any, self: Any, deliveries: Sequence[Any]) -> Any:
        return [(await real(self, (delivery,)))[0] for delivery in deliveries]

    patch.around(StoreGuard, "claim", claim)
