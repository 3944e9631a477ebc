"""The contract of a backend: batch I/O and pure wire mapping, nothing else.

Law: types only. Whatever is policy (batching, retry, leases, lanes, dead letters, telemetry) is done once, by the
portable layer. A backend never retries, sleeps on its own account, batches, logs bodies or starts a task per
message; a push client fills one bounded buffer that `receive_batch` drains, its tasks are named and awaited in
`aclose`. Times are seconds of `loop.time()` unless they are durations, so that a test can turn the clock.

A *lane* is what the broker keeps in order (a key, a message group; None: nothing). An *assignment* is what a member
was given and can lose as a whole (a partition, a shard, a channel's unacked deliveries): a new object each time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from unimsg.capabilities import Capabilities
from unimsg.errors import Error
from unimsg.message import Position, Receipt, WireMessage

VERSION = 1
"""Raised when a backend written for an older contract would no longer work."""

Start: TypeAlias = Literal["oldest", "newest"] | datetime | Position
"""Where a group that has no position yet begins."""


class Assignment:
    """What a group member was given and can lose as a whole; its identity is the epoch.

    Attributes:
        id: the service's name of it (`"orders-3"`), for people and for order by partition.
        live: False from the moment it is lost; set by the backend, never set back.
        native: whatever the backend needs to find it again.
    """

    __slots__ = ("id", "live", "native")

    def __init__(self, id: str, native: Any = None) -> None:  # noqa: A002, ANN401 - the service's word; opaque
        self.id = id
        self.live = True
        self.native = native


class Received(Struct, gc=False):
    """One message as it came.

    Attributes:
        message: the decoded wire; body still encoded.
        token: what `settle_batch` and `extend_batch` take to name this delivery.
        lane: see above.
        assignment: see above; None where a broker has nothing that can be lost as a whole.
        deliveries: the broker's own count, this one included; an upper bound of the executions.
        attempts: handler executions that the broker or our own header remembers; None: it remembers none.
        first_failed: when the first of them failed, where that is remembered too, in seconds since the epoch.
        lease_until: when the lease ends; None: there is no lease.
        position: where it stands in a log.
        native: the client library's object, for `unimsg.backends.<name>.native(delivery)`.
    """

    message: WireMessage
    token: Any
    lane: Hashable = None
    assignment: Assignment | None = None
    deliveries: int = 1
    attempts: int | None = None
    lease_until: float | None = None
    position: Position | None = None
    native: Any = None
    first_failed: float | None = None


class Settlement(Struct, gc=False):
    """What becomes of a delivery: it is done (`ack`), failed (`retry`), or goes back untouched (`release`).

    With `ack = "cumulative"` a token settles itself and everything before it in its assignment.

    Attributes:
        delay: seconds until it may come again.
        executions: of the handler so far, as `Received.attempts` shall say when it comes again, where it can.
        first_failed: when the first of them failed, in seconds since the epoch; goes the same way.
    """

    verb: Literal["ack", "retry", "release"]
    token: Any
    assignment: Assignment | None = None
    delay: float = 0.0
    executions: int = 0
    first_failed: float | None = None


class SendLimits(Struct, frozen=True, kw_only=True):
    """What the batcher keeps to.

    Attributes:
        max_messages, max_bytes: of one `send_batch`; bytes as `measure` counts them.
        in_flight: parallel `send_batch` calls in all.
        measure: encoded size of a message in bytes; raises the `PublishError` that the service would give for it.
        lane: at most one call is in flight for each lane; None: the message has no lane.
        batch_is_lane: all messages of one call must be of one lane.
        atomic_lane: False: one call may hold only one message of a lane, since a partial failure would reorder.
        linger: how long a batch that is not full may wait while others are in flight, in seconds.
    """

    max_messages: int
    max_bytes: int
    in_flight: int
    measure: Callable[[WireMessage], int]
    lane: Callable[[WireMessage], Hashable] = lambda _message: None
    batch_is_lane: bool = False
    atomic_lane: bool = True
    linger: float = 0.005


class ReceiveLimits(Struct, frozen=True, kw_only=True):
    """What the consuming loop keeps to.

    Attributes:
        max_messages: the most that one `receive_batch` gives.
        wait: the longest it may be asked to wait, in seconds.
        in_flight: parallel `receive_batch` calls that make sense; more than one only while answers come full.
        cancel_safe: False: a cancelled receive may strand messages; the core shields it, releases late arrivals.
        idle: for how long receives must come back empty before the destination counts as drained, in seconds.
        ack: `cumulative`: only the last token of a contiguous prefix is settled, for each assignment.
        settle_messages, settle_in_flight: of `settle_batch`.
        settle_every: seconds to gather settlements at most.
        retry: `broker`: `settle_batch` takes `retry` with a delay from `min_delay` to `max_delay`; `core`: it does not.
        defer: `broker`: a `release` with a delay counts nothing, so a deferred message waits there; `core`: in memory.
        handback_keeps_order: `release` of a whole lane in one call brings it back in order.
        lease_covers_lane: losing one lease loses the lane.
        poll_every: `receive_batch(0, 0)` is wanted at least so often, also when full; None: not needed.
        intake_ends: `after_drain`: `stop_intake` must wait until running handlers have ended.
        release: how unhandled messages go back: by settling, by closing, or not at all (logs: they were never taken).
    """

    max_messages: int
    wait: float = 20.0
    in_flight: int = 1
    cancel_safe: bool = True
    idle: float = 0.0
    ack: Literal["individual", "cumulative"] = "individual"
    settle_messages: int = 1000
    settle_in_flight: int = 1
    settle_every: float = 0.005
    retry: Literal["broker", "core"] = "broker"
    min_delay: float = 0.0
    max_delay: float = float("inf")
    defer: Literal["broker", "core"] = "core"
    handback_keeps_order: bool = True
    lease_covers_lane: bool = False
    poll_every: float | None = None
    intake_ends: Literal["first", "after_drain"] = "first"
    release: Literal["settle", "close", "none"] = "settle"


class Events(Protocol):
    """What a receiver tells the core, from the client library's own callbacks."""

    def assigned(self, assignments: Sequence[Assignment], /) -> None: ...
    async def revoked(self, assignments: Sequence[Assignment], deadline: float, /) -> None:
        """Return when these are drained and settled, or at `deadline`."""

    def lost(self, assignments: Sequence[Assignment], /) -> None:
        """They are gone (`live` is already False): called before anything else happens. No acks are sent for them."""

    def wake(self) -> None:
        """Something changed that a waiting loop should look at."""


class Sender(Protocol):
    """The way out to one destination."""

    @property
    def limits(self) -> SendLimits: ...
    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Send once; one result for each input, in order. Raises only if the outcome of all is unknown.

        `NotSentError` only when it is certain that nothing left. Never retries. `deadline` is the latest of the
        batch. A cancellation leaves the outcome of all unknown.
        """
        ...

    async def aclose(self) -> None: ...


class Receiver(Protocol):
    """The way in from one destination for one group member."""

    @property
    def limits(self) -> ReceiveLimits: ...
    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """Return up to `max_messages`, waiting at most `wait` seconds for the first; fewer or none is normal.

        Shares `max_messages` fairly over its assignments. The end of a lease or delay wakes a waiting call.
        After `ThrottledError`, `TimedOutError`, `UnavailableError` or `PermissionDeniedError` the core calls again,
        later; after anything else the receiver is of no further use: the core closes and reopens it.
        """
        ...

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Settle once; one result for each input, in order. Raises only if the outcome of all is unknown."""
        ...

    async def stop_intake(self) -> None:
        """Nothing new arrives after this returns; what is buffered can still be received or is given back."""

    async def aclose(self, *, abort: bool = False) -> None:
        """Give back what is not settled, as `limits.release` says; `abort`: without asking the service."""


class Backend(Protocol):
    """One service under one account. `capabilities` are declared at first and refined by `open`."""

    capabilities: Capabilities

    async def open(self) -> None:
        """Connect: one attempt, no retry. After a failure it can be tried again."""

    async def open_sender(self, destination: str, /) -> Sender:
        """Raises NotFoundError when there is no such destination (logs and brokers that tell)."""
        ...

    async def open_receiver(
        self, destination: str, group: str | None, start: Start, events: Events, prefetch: int, /
    ) -> Receiver:
        """`prefetch` bounds what is out with this receiver; of that one lane gets a quarter at most where possible."""
        ...

    async def probe(self) -> None:
        """Ask the service whether it is there: cheap, no side effect."""

    def translate(self, error: Exception, /) -> Error | None:
        """Our error for one of the client library's; None: not one of theirs."""
        ...

    async def aclose(self) -> None: ...


class Plugin(Protocol):
    """What the package `unimsg.backends.<name>` holds: it loads no client library until `build`."""

    SCHEMES: Sequence[str]
    Options: type[Any]
    FACTS: Mapping[str, Any]

    def declare(self, options: Any, /) -> Capabilities: ...  # noqa: ANN401 - each backend's own Options
    def build(self, options: Any, /) -> Backend: ...  # noqa: ANN401 - as above


# ---------------------------------------------------------------- optional: each tied to a capability, both ways


@runtime_checkable
class Extends(Protocol):
    """Receiver; goes with `capabilities.lease.extendable`."""

    async def extend_batch(self, tokens: Sequence[Any], seconds: float, /) -> Sequence[Error | None]:
        """Prolong each lease to `seconds` from now; `LeaseLostError` where it is gone."""
        ...


@runtime_checkable
class Seeks(Protocol):
    """Receiver; goes with `capabilities.replay`. Moves the whole group, refused while other members live."""

    async def seek(self, start: Start, /) -> None: ...


@runtime_checkable
class Pausable(Protocol):
    """Receiver; goes with assignments. Also skips what is buffered, and keeps it for `resume`."""

    def pause(self, assignments: Sequence[Assignment], /) -> None: ...
    def resume(self, assignments: Sequence[Assignment], /) -> None: ...


@runtime_checkable
class Lags(Protocol):
    """Receiver; how many messages this member has before it, for `health`."""

    async def lag(self) -> int | None: ...


@runtime_checkable
class Redrives(Protocol):
    """Backend with a redrive of its own, for the unfiltered case."""

    async def redrive(self, dead_letter: str, destination: str, /) -> int | None: ...


@runtime_checkable
class Forgets(Protocol):
    """Backend; drops a group and its position, so that nothing is kept for it any more. Nobody reads with it now."""

    async def forget(self, destination: str, group: str, /) -> None: ...


class Topology(Struct, frozen=True, kw_only=True):
    """What an operator wants to exist: a destination, its groups, where its dead letters go."""

    destination: str
    groups: Sequence[str] = ()
    dead_letter: str | None = None
    settings: Mapping[str, str] = {}


class Drift(Struct, frozen=True, kw_only=True):
    """One thing that provisioning looked at, and what became of it."""

    what: str
    state: Literal["present", "created", "changed", "missing", "differs"]
    detail: str = ""


@runtime_checkable
class Provisions(Protocol):
    """Backend; `existing` only looks, `ensure` creates what is missing and never deletes."""

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]: ...
