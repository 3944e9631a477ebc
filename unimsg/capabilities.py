"""What a backend can promise, what a program needs, and how the two are compared.

Law: data and one comparison. No backend is named here: who else has a capability is handed in by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from unimsg.errors import CapabilityError, ConfigError

Ordering = Literal["none", "key", "partition", "total"]
Guarantee = Literal["at_most_once", "at_least_once", "transactional"]
Dedup = Literal["none", "window", "producer"]
Replay = Literal["none", "position", "time"]
Support = Literal["none", "emulated", "native"]
Attempts = Literal["process", "broker", "durable"]
Durability = Literal["memory", "disk", "replicated"]

SCALES: Mapping[str, tuple[str, ...]] = {
    "ordering": ("none", "key", "partition", "total"),
    "delivery": ("at_most_once", "at_least_once", "transactional"),
    "dedup": ("none", "window", "producer"),
    "replay": ("none", "position", "time"),
    "headers": ("none", "emulated", "native"),
    "delay": ("none", "emulated", "native"),
    "dead_letter": ("none", "emulated", "native"),
    "attempts": ("process", "broker", "durable"),
    "durability": ("memory", "disk", "replicated"),
}
"""The fields with named levels, weakest first: having a level means having all below it."""


class Lease(Struct, frozen=True):
    """For how long a delivery belongs to its consumer.

    Attributes:
        seconds: the lease given at receipt.
        extendable: whether it can be prolonged while a handler runs.
        longest: the most that all extensions together can reach, in seconds; None: no cap.
    """

    seconds: float
    extendable: bool = True
    longest: float | None = None


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a program can rely on with one backend, as configured.

    Attributes:
        ordering: what is delivered in the order it was published.
        delivery: how often a confirmed message arrives.
        dedup: whether a second publish with the same id is recognised, and by what.
        dedup_window: for how many seconds it is; None: unlimited or not applicable.
        groups: whether several groups each get every message.
        replay: whether a group can start or go back to a position, or to a time as well.
        retention: seconds a message is kept when nobody consumes it; None: no limit is known.
        max_message_bytes: the most that one encoded message may have; None: no limit is known.
        headers: whether headers travel beside the body.
        delay: whether a message can be published to become visible later.
        ttl: whether a message can expire.
        priority: whether higher priorities overtake.
        dead_letter: whether what cannot be handled can be put aside.
        lease: the lease of a delivery; None: there is none (logs).
        attempts: who remembers how often a handler has run for a message.
        durability: what a confirmed message survives.
        wildcard: whether one subscription can match many destinations.
        lowered: field -> the option or fact that took its declared value; not a capability.
    """

    ordering: Ordering = "none"
    delivery: Guarantee = "at_least_once"
    dedup: Dedup = "none"
    dedup_window: float | None = None
    groups: bool = False
    replay: Replay = "none"
    retention: float | None = None
    max_message_bytes: int | None = None
    headers: Support = "none"
    delay: Support = "none"
    ttl: bool = False
    priority: bool = False
    dead_letter: Support = "none"
    lease: Lease | None = None
    attempts: Attempts = "process"
    durability: Durability = "memory"
    wildcard: bool = False
    lowered: Mapping[str, str] = {}

    def lower(self, because: str, **values: object) -> Capabilities:
        """Return these capabilities with some fields replaced, remembering why.

        Args:
            because: the option or fact that takes them, for the refusal: `"option acks=1"`.
            **values: the effective values.
        """
        return replace(self, **values, lowered={**self.lowered, **dict.fromkeys(values, because)})


FIELDS: tuple[str, ...] = tuple(name for name in Capabilities.__struct_fields__ if name != "lowered")
"""The 17 capabilities, in the order in which they are shown."""


class Needs(Struct, frozen=True, kw_only=True):
    """What a program cannot do without; every field is optional and named as in `Capabilities`.

    A level asks for at least that level, True for the capability, a number for at least that much
    (`lease`: at least so many seconds, or any lease with True).

    Raises:
        CapabilityError: on connecting or opening, when the backend falls short.
    """

    ordering: Ordering | None = None
    delivery: Guarantee | None = None
    dedup: Dedup | None = None
    dedup_window: float | None = None
    groups: bool | None = None
    replay: Replay | None = None
    retention: float | None = None
    max_message_bytes: int | None = None
    headers: Support | None = None
    delay: Support | None = None
    ttl: bool | None = None
    priority: bool | None = None
    dead_letter: Support | None = None
    lease: float | bool | None = None
    attempts: Attempts | None = None
    durability: Durability | None = None
    wildcard: bool | None = None

    def __post_init__(self) -> None:
        for name, scale in SCALES.items():
            value = getattr(self, name)
            if value is not None and value not in scale:
                levels = ", ".join(repr(level) for level in scale)
                raise CapabilityError(f"need {name}={value!r} is unknown: one of {levels}", missing=(name,))
        for name, accepts, accepted in KINDS:
            value = getattr(self, name)
            if value is not None and not accepts(value):
                raise CapabilityError(
                    f"need {name}={value!r} is not accepted: give {accepted}", missing=(name,)
                )

    def merge(self, other: Needs | None) -> Needs:
        """Return needs that hold when both hold."""
        if other is None:
            return self
        merged: dict[str, Any] = {}
        for name in FIELDS:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is None or theirs is None:
                merged[name] = theirs if mine is None else mine
            else:
                merged[name] = _stronger(name, mine, theirs)
        return Needs(**merged)


def _switch(value: object) -> bool:
    return isinstance(value, bool)


def _amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < inf


KINDS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    *((name, _switch, "True or False") for name in ("groups", "ttl", "priority", "wildcard")),
    *((name, _amount, "a number of seconds from 0 on") for name in ("dedup_window", "retention")),
    ("max_message_bytes", _amount, "a number of bytes from 0 on"),
    ("lease", lambda value: _switch(value) or _amount(value), "True, False or a number of seconds from 0 on"),
)
"""What the needs without levels accept, and how that is said."""


def missing(needs: Needs, capabilities: Capabilities) -> tuple[str, ...]:
    """Return the names of the fields in which `capabilities` fall short of `needs`, in their order."""
    short = [
        name
        for name in FIELDS
        if (need := getattr(needs, name)) is not None and not _meets(name, need, getattr(capabilities, name))
    ]
    if needs.dedup_window and capabilities.dedup == "none" and "dedup_window" not in short:
        short.append("dedup_window")  # a window of None means unlimited only where there is dedup
    return tuple(short)


def check(
    needs: Needs | None,
    capabilities: Capabilities,
    *,
    backend: str,
    destination: str | None = None,
    others: Callable[[], Mapping[str, Capabilities]] = dict,
) -> None:
    """Refuse when a need is not met, naming what is missing, what took it, and who has it.

    Args:
        needs: what is asked for; None asks for nothing.
        capabilities: declared or effective capabilities.
        backend: the name to show.
        destination: the destination concerned, if any.
        others: called only to word a refusal: the declared capabilities of all backends by scheme.

    Raises:
        CapabilityError: with `missing`.
        ConfigError: `needs` is none.
    """
    if needs is not None and not isinstance(needs, Needs):
        raise ConfigError(f"needs={needs!r} is not accepted: give a Needs, as in Needs(ordering='key')")
    if needs is None or not (names := missing(needs, capabilities)):
        return
    parts: list[str] = []
    known = others()
    for name in names:
        need, have = getattr(needs, name), getattr(capabilities, name)
        because = capabilities.lowered.get(name)
        taken = f" (taken by {because})" if because else ""
        asked = Needs(**{name: need})
        have_it = [scheme for scheme, theirs in known.items() if not missing(asked, theirs)]
        who = f"; available with {', '.join(have_it)}" if have_it else ""
        parts.append(f"{name}={_show(need)} is needed, {name}={_show(have)} is what there is{taken}{who}")
    raise CapabilityError(". ".join(parts), missing=names, backend=backend, destination=destination)


def _meets(name: str, need: Any, have: Any) -> bool:  # noqa: ANN401 - the fields have eight different types
    if name in SCALES:
        scale = SCALES[name]
        return scale.index(have) >= scale.index(need)
    if name == "lease":
        if need is False:
            return True
        return have is not None and (need is True or have.extendable or have.seconds >= need)
    if isinstance(need, bool):
        return bool(have) or not need
    return have is None or have >= need


def _stronger(name: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - as above
    scale = SCALES.get(name)
    return max(left, right, key=scale.index) if scale else max(left, right)


def _show(value: object) -> str:
    if isinstance(value, Lease):
        return f"{value.seconds:g}s"
    return f"{value:g}" if isinstance(value, float) else str(value)
