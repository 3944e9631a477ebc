"""What the consuming loop asks of an idempotency policy: claim, renew, complete and release, a batch at a time.

Law: types only. The loop knows no store and no decorator; `unimsg.idempotency` implements this, the
subscriber takes it from the handler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from unimsg.consuming.delivery import Delivery, Handler
from unimsg.errors import Error

Release: TypeAlias = Literal["failed", "dead", "returned"]
"""How a claim is given back: it counts as an attempt, it is final, or it counts nothing."""


class Claim(Struct, gc=False):
    """What became of one claim.

    Attributes:
        action: `run` it; `skip`: it is a duplicate (or another group's redrive), ack it; `wait`: another worker has
            it, come back in `delay` seconds; `reject`: it can never run (`error` says why), dead-letter it.
        token: the fencing token, with `run`.
        attempts: executions that the store remembers, with `run`.
        delay: seconds, with `wait`.
        error: with `reject`.
        row: what the guard knows it by when the claim comes back to it; with `run`.
        until: when the claim ends unless it is renewed, in the loop's time; kept by the loop.
    """

    action: Literal["run", "skip", "wait", "reject"]
    token: int = 0
    attempts: int = 0
    delay: float = 0.0
    error: Error | None = None
    row: Any = None
    until: float = 0.0


class Guard(Protocol):
    """The policy of one handler on one destination and group.

    Every call takes a batch and answers for each in order; it raises `StoreUnavailableError` when the store cannot
    be reached at all. `lock` is the length of a claim in seconds. A claim is asked for with a decoded delivery, and
    goes by itself from then on: a delivery may be gone, or its body changed, when its claim is given back.
    """

    lock: float

    async def claim(self, deliveries: Sequence[Delivery[Any]], /) -> Sequence[Claim]:
        """Ask whether each may run."""
        ...

    async def renew(self, claims: Sequence[Claim], /) -> Sequence[bool]:
        """Prolong each claim to `lock` seconds from now; False: the token is no longer the current one."""
        ...

    async def complete(self, claims: Sequence[Claim], /) -> Sequence[bool]:
        """Mark as done; False: the token is no longer the current one, which is lease loss."""
        ...

    async def release(self, claims: Sequence[Claim], outcomes: Sequence[Release], /) -> Sequence[bool]:
        """Give the claim back: `failed` counts as an attempt, `returned` does not, `dead` is final."""
        ...

    async def aclose(self) -> None:
        """Let go of the store; claims still held run out by themselves."""


@runtime_checkable
class Guarded(Protocol):
    """What `@idempotent` returns: callable as it is, or taken apart by a consuming loop."""

    handler: Handler[Any]

    async def guard(
        self, *, destination: str, group: str | None, lease: float | None, retention: float | None
    ) -> Guard:
        """Open the store and return the policy.

        Args:
            destination: what the loop consumes.
            group: for whom.
            lease: the backend's, in seconds; the lock is made slightly shorter.
            retention: for how long the backend keeps a message, as far as it is known.
        """
        ...
