"""Policy: what `@idempotent` was told, checked once; and the claim that a message or a call asks for.

Law: no I/O, no loop. The key is what the program says it is, never the broker's id; a key that cannot be used is an
error of the message, with a sentence for whoever reads its dead letter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, NoReturn
from urllib.parse import quote

from unimsg.consuming.delivery import Delivery
from unimsg.errors import ConfigError, MissingKeyError
from unimsg.headers import redrive_of
from unimsg.idempotency.store import Ask, Store
from unimsg.units import Duration, seconds

LONGEST = 200
"""Bytes of a key that are stored as they are; a longer one is stored as its digest."""
DIGEST = 16
SHARE = 0.9
"""Of the broker's lease, for the lock: it ends slightly before, so that a redelivery finds it open."""
LOCK = 30.0
"""Seconds of a claim where no lease of a broker sets it."""
LOCKS = (0.01, 43200.0)
TTLS = (1.0, 10 * 365 * 86400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What `idempotent` takes; see there for each."""

    store: Store
    key: Callable[..., str | int | None] | None
    scope: str | None
    ttl: float
    lock: float | None
    fingerprint: Callable[..., bytes | str | None] | None
    on_missing_key: Literal["error", "run"]
    on_store_error: Literal["defer", "run"]

    @classmethod
    def build(cls, store: object, given: dict[str, Any]) -> Policy:
        """Check what was given.

        Raises:
            ConfigError: a value cannot work; the sentence says what does.
        """
        if not isinstance(store, Store):
            hint = (
                ": idempotent(unimsg.store('sqlite:///seen.db'))"
                if isinstance(store, str) or callable(store)
                else ""
            )
            raise ConfigError(f"@idempotent takes a store first, not {type(store).__name__}{hint}")
        for name in ("key", "fingerprint"):
            if given[name] is not None and not callable(given[name]):
                _refuse(name, given[name], "a function of what the handler is called with")
        if given["scope"] is not None and not (isinstance(given["scope"], str) and given["scope"]):
            _refuse("scope", given["scope"], "a name")
        for name, known in (("on_missing_key", ("error", "run")), ("on_store_error", ("defer", "run"))):
            if given[name] not in known:
                _refuse(name, given[name], " or ".join(map(repr, known)))
        ttl = _within("ttl", given["ttl"], TTLS)
        lock = None if given["lock"] is None else _within("lock", given["lock"], LOCKS)
        if ttl <= (lock or 0.0):
            _refuse("ttl", given["ttl"], f"longer than the lock of {lock:g} s")
        return cls(store=store, **{**given, "ttl": ttl, "lock": lock})

    def ask(
        self, scope: str, delivery: Delivery[Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Ask | None:
        """Return what to claim for these arguments; None: there is no key, and it may run without.

        Args:
            scope: whose keys they are.
            delivery: the first argument, if it is one.
            args: what the function is called with.
            kwargs: the same, by name.

        Raises:
            MissingKeyError: there is no key, or none that can be used.
        """
        key: object = None
        try:
            if self.key is not None:
                key = self.key(*args, **kwargs)
            elif delivery is not None:
                key = delivery.id
        except Exception as error:
            raise MissingKeyError(f"key= raised {type(error).__name__}: {error}") from error
        if type(key) is not str or not key:
            key = self._unusual(key)
            if key is None:
                return None
        fingerprint, redrive = None, 0
        if self.fingerprint is not None:
            try:
                fingerprint = _digest(self.fingerprint(*args, **kwargs))
            except Exception as error:
                raise MissingKeyError(f"fingerprint= raised {type(error).__name__}: {error}") from error
        if delivery is not None and delivery.headers:
            mark = redrive_of(delivery.headers)
            redrive = mark.number if mark is not None else 0
        return Ask(scope, stored(key), fingerprint, redrive)

    def _unusual(self, key: object) -> str | None:
        """Return the text of a key that is a whole number; None: there is none, and it may run without."""
        if isinstance(key, (str, int)) and not isinstance(key, bool) and key != "":
            return str(key)
        if key is not None and key != "":
            raise MissingKeyError(f"key= returned {type(key).__name__}, not text: return str(...) of it")
        if self.on_missing_key == "run":
            return None
        if self.key is None:
            raise MissingKeyError(
                "there is no message id to take for a key: give @idempotent(key=), or on_missing_key='run'"
            )
        raise MissingKeyError(f"key= returned {key!r}: there is no key, so running it could not be made safe")

    def scope_of(self, name: str, destination: str | None = None, group: str | None = None) -> str:
        """Return whose keys these are: destination, group and handler; a given scope stands for all but the group."""
        parts = (
            (group or "", self.scope) if self.scope is not None else (destination or "", group or "", name)
        )
        return stored("/".join(quote(part, safe=" .<>") for part in parts))

    def lock_for(self, lease: float | None) -> float:
        """Return the seconds of a claim under a broker's lease.

        Raises:
            ConfigError: the lock that was given is not shorter than the lease.
        """
        if self.lock is None:
            return LOCK if lease is None else lease * SHARE
        if lease is not None and self.lock >= lease:
            raise ConfigError(
                f"lock={self.lock:g} s is not shorter than the broker's lease of {lease:g} s: a redelivery after a "
                "crash would find it held; leave it out, or lengthen the lease"
            )
        return self.lock


def stored(key: str) -> str:
    """Return a key as it is stored: itself, or its digest where it is long, or holds what a store may not take."""
    if key.isascii() and len(key) <= LONGEST and "\0" not in key:
        return key
    raw = key.encode("utf-8", "surrogatepass")
    if len(raw) <= LONGEST and "\0" not in key and not any("\ud800" <= sign <= "\udfff" for sign in key):
        return key
    return "blake2b:" + blake2b(raw, digest_size=DIGEST).hexdigest()


def _digest(payload: bytes | str | None) -> bytes | None:
    if payload is None:
        return None
    if isinstance(payload, str):
        payload = payload.encode("utf-8", "surrogatepass")
    if not isinstance(payload, (bytes, bytearray, memoryview)):
        raise MissingKeyError(f"fingerprint= returned {type(payload).__name__}: return bytes or text")
    return blake2b(payload, digest_size=DIGEST).digest()


def _within(name: str, value: Duration, allowed: tuple[float, float]) -> float:
    try:
        result = seconds(value)
    except ConfigError:
        _refuse(name, value, "seconds or a timedelta")
    if not allowed[0] <= result <= allowed[1]:
        _refuse(name, value, f"from {allowed[0]:g} s to {allowed[1]:g} s")
    return result


def _refuse(name: str, value: object, accepted: str) -> NoReturn:
    raise ConfigError(f"@idempotent({name}={value!r}) is not accepted: give {accepted}")
