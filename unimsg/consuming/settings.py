"""Settings: how one handler wants to consume one destination, checked and normalised once.

Law: data and checks; `client.subscriber(...)` and `Router.on(...)` take the same list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf
from typing import Any, Literal, TypedDict

from unimsg.capabilities import Needs, Ordering
from unimsg.codecs import JSON, Codec, resolve
from unimsg.errors import ConfigError, OptionError
from unimsg.message import Position
from unimsg.policies.retry import RetryPolicy
from unimsg.spi import Start
from unimsg.units import Duration, seconds

ORDERS = ("none", "key", "partition", "total")
REPLAYS: Mapping[type, Literal["position", "time"]] = {Position: "position", datetime: "time"}


class Given(TypedDict, total=False):
    """The settings of a subscriber as they are given, beside its codec."""

    group: str | None
    concurrency: int
    order: Ordering | None
    retry: RetryPolicy | None
    dead_letter: str | None
    timeout: Duration
    start: Start
    prefetch: int
    rate: float | None
    batch: int | None
    batch_wait: Duration
    drain: Duration
    needs: Needs | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `client.subscriber` and `Router.on` take; see there for each."""

    destination: str
    group: str | None = None
    codec: Codec[Any] = JSON
    concurrency: int = 10
    order: Ordering | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    dead_letter: str | None = None
    timeout: float = 900.0
    start: Start = "oldest"
    prefetch: int = 1000
    rate: float | None = None
    batch: int | None = None
    batch_wait: float = 1.0
    drain: float = 25.0
    needs: Needs = field(default_factory=Needs)

    @classmethod
    def build(cls, destination: str, given: Mapping[str, Any]) -> Settings:
        """Check what was given and return the settings.

        Raises:
            OptionError: an unknown name, a wrong type, or a value out of range; nothing was opened.
        """
        values = dict(given)
        _known(values)
        if "codec" in values:
            values["codec"] = resolve(values["codec"])
        for name in ("timeout", "batch_wait", "drain"):
            if name in values:
                values[name] = _duration(name, values[name], destination)
        if values.get("retry", 0) is None:
            del values["retry"]
        if values.get("needs", 0) is None:
            del values["needs"]
        settings = cls(destination=destination, **values)
        settings._check()
        return replace(settings, needs=settings._implied().merge(settings.needs))

    def _check(self) -> None:
        for name, accepts, accepted in RULES:
            value = getattr(self, name)
            if not accepts(value):
                self._refuse(name, value, accepted)
        if self.batch is not None and self.batch > self.prefetch:
            self._refuse("batch", self.batch, f"at most prefetch={self.prefetch}, or raise that")
        if self.dead_letter == self.destination:
            self._refuse("dead_letter", self.dead_letter, "another destination than the one consumed")

    def _refuse(self, name: str, value: object, accepted: str) -> None:
        raise OptionError(f"{name}={value!r} is not accepted: give {accepted}", destination=self.destination)

    def _implied(self) -> Needs:
        """What the settings themselves ask of a backend."""
        return Needs(
            ordering=self.order if self.order not in (None, "none") else None,
            replay=REPLAYS.get(type(self.start)),
        )

    def asking(self, only_group: str | None) -> Settings:
        """Return settings that need groups for theirs, unless it is the one that each destination has here."""
        if self.group in (None, only_group):
            return self
        return replace(self, needs=self.needs.merge(Needs(groups=True)))


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _name(value: object) -> bool:
    return value is None or (isinstance(value, str) and bool(value))


def _start(value: object) -> bool:
    if isinstance(value, str):
        return value in ("oldest", "newest")
    return isinstance(value, Position) or (isinstance(value, datetime) and value.tzinfo is not None)


def _rate(value: object) -> bool:
    return value is None or (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < inf
    )


RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("concurrency", _count, "a whole number from 1 on"),
    ("prefetch", _count, "a whole number from 1 on"),
    ("batch", lambda value: value is None or _count(value), "a whole number from 1 on"),
    ("rate", _rate, "messages a second, more than 0"),
    ("order", lambda value: value is None or value in ORDERS, "one of " + ", ".join(map(repr, ORDERS))),
    ("retry", lambda value: isinstance(value, RetryPolicy), "a RetryPolicy"),
    ("needs", lambda value: isinstance(value, Needs), "a Needs"),
    ("start", _start, '"oldest", "newest", a Position or a datetime with a time zone'),
    ("group", _name, "a name"),
    ("dead_letter", _name, "a name"),
    ("timeout", lambda value: value > 0, "a duration above 0"),
)
"""What each setting accepts, and how that is said."""


def _known(values: Mapping[str, Any]) -> None:
    fields = set(Settings.__dataclass_fields__) - {"destination"}
    for name in values:
        if name not in fields:
            raise OptionError(
                f"{name!r} is no setting of a subscriber; known are {', '.join(sorted(fields))}"
            )


def _duration(name: str, value: Duration, destination: str) -> float:
    try:
        return seconds(value)
    except ConfigError as error:
        raise OptionError(f"{name}={value!r} is not accepted: {error}", destination=destination) from None
