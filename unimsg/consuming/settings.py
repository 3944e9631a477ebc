"""Settings: how one handler wants to consume one destination, checked and normalised once.

Law: data and checks; `client.subscriber(...)` and `Router.on(...)` take the same list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from unimsg.capabilities import Needs, Ordering
from unimsg.codecs import JSON, Codec, resolve
from unimsg.errors import OptionError
from unimsg.message import Position
from unimsg.policies.retry import RetryPolicy
from unimsg.spi import Start
from unimsg.units import Duration, seconds

ORDERS = ("none", "key", "partition", "total")
REPLAYS: Mapping[type, Literal["position", "time"]] = {Position: "position", datetime: "time"}


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
                values[name] = _duration(name, values[name])
        if values.get("retry", 0) is None:
            del values["retry"]
        if values.get("needs", 0) is None:
            del values["needs"]
        settings = cls(destination=destination, **values)
        settings._check()
        return replace(settings, needs=settings._implied().merge(settings.needs))

    def _check(self) -> None:
        for name, least in (("concurrency", 1), ("prefetch", 1), ("batch", 1)):
            value = getattr(self, name)
            if value is None and name == "batch":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                self._refuse(name, value, f"a whole number from {least} on")
        if self.rate is not None and not (isinstance(self.rate, (int, float)) and self.rate > 0):
            self._refuse("rate", self.rate, "messages a second, more than 0")
        if self.order is not None and self.order not in ORDERS:
            self._refuse("order", self.order, "one of " + ", ".join(repr(order) for order in ORDERS))
        if not isinstance(self.retry, RetryPolicy):
            self._refuse("retry", self.retry, "a RetryPolicy")
        if not isinstance(self.needs, Needs):
            self._refuse("needs", self.needs, "a Needs")
        if not (self.start in ("oldest", "newest") if isinstance(self.start, str) else type(self.start) in REPLAYS):
            self._refuse("start", self.start, '"oldest", "newest", a datetime or a Position')
        if isinstance(self.start, datetime) and self.start.tzinfo is None:
            self._refuse("start", self.start, "a datetime with a time zone")
        for name in ("group", "dead_letter"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                self._refuse(name, value, "a non-empty string")
        if self.dead_letter is not None and self.dead_letter == self.destination:
            self._refuse("dead_letter", self.dead_letter, "another destination than the one consumed")
        if self.timeout <= 0:
            self._refuse("timeout", self.timeout, "a duration above 0")

    def _refuse(self, name: str, value: object, accepted: str) -> None:
        raise OptionError(f"{name}={value!r} is not accepted: give {accepted}", destination=self.destination)

    def _implied(self) -> Needs:
        """What the settings themselves ask of a backend."""
        return Needs(
            ordering=self.order if self.order not in (None, "none") else None,
            replay=REPLAYS.get(type(self.start)),
            groups=None if self.group is None else True,
        )


def _known(values: Mapping[str, Any]) -> None:
    fields = set(Settings.__dataclass_fields__) - {"destination"}
    for name in values:
        if name not in fields:
            raise OptionError(f"{name!r} is no setting of a subscriber; known are {', '.join(sorted(fields))}")


def _duration(name: str, value: Duration) -> float:
    try:
        result = seconds(value)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name}={value!r} is not a duration: give seconds or a timedelta") from error
    if result < 0:
        raise OptionError(f"{name}={value!r} is negative: give seconds or a timedelta from 0 on")
    return result
