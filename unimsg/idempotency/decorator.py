"""`idempotent`: one decorator, two readings: a handler that a loop runs, or a plain async function.

Law: checks and hands over; the loop's reading is in `guard`, the plain one in `call`. Every misuse is refused here,
with what to do instead.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, ParamSpec, TypeVar, cast

from unimsg.codecs import Codec
from unimsg.consuming.guard import Guard, Guarded
from unimsg.consuming.handlers import inner_of, name_of
from unimsg.errors import ConfigError
from unimsg.idempotency.call import Calls
from unimsg.idempotency.guard import StoreGuard
from unimsg.idempotency.outcome import codec_of
from unimsg.idempotency.policy import Policy
from unimsg.idempotency.store import Store
from unimsg.router import HELD
from unimsg.units import Duration, show_duration

log = logging.getLogger("unimsg.idempotency")

P = ParamSpec("P")
R = TypeVar("R")

WEEK = 7 * 86400.0


def idempotent(
    store: Store,
    *,
    key: Callable[..., str | int | None] | None = None,
    scope: str | None = None,
    ttl: Duration = WEEK,
    lock: Duration | None = None,
    fingerprint: Callable[..., bytes | str | None] | None = None,
    on_missing_key: Literal["error", "run"] = "error",
    on_store_error: Literal["defer", "run"] = "defer",
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Make the effect of an async function happen once for each key.

    Once, unless a process dies or loses its claim between the effect and the note of it. On a handler, put it below
    `@router.on`: the loop claims in batches, a duplicate is acked without running, one that is in progress elsewhere
    waits. Called as a plain function, it claims, runs and completes; a duplicate returns what the first call returned
    (kept as JSON, 64 KiB at most). A failure gives the claim back: the next delivery or call runs it again.

    Args:
        store: where it is noted, made by `unimsg.store(url)`; opened and closed by those who use it.
        key: the identity of the effect, text or a whole number, of what the function is called with; the id of the
            message unless given. Never the broker's id.
        scope: whose keys these are, in place of destination and handler name; the group is always part of it.
        ttl: for how long a key is remembered, 7 days unless given; at least as long as the broker keeps a message.
        lock: how long a claim lasts before it is renewed; slightly shorter than the broker's lease unless given, 30 s
            where there is none. After a crash it must run out before another worker can have the key.
        fingerprint: bytes or text that must be the same for the same key; another is a `KeyReuseError`.
        on_missing_key: `error` refuses what has no key, `run` runs it every time.
        on_store_error: while the store cannot be reached, `defer` runs nothing, `run` runs everything unclaimed.

    Raises:
        ConfigError: the function is not `async def`, stands above `@router.on`, or a setting is out of range.

    A plain call raises `InProgressError` (with `retry_after`) while another has the key, `KeyReuseError`,
    `MissingKeyError`, `StoreUnavailableError`, and `LeaseLostError` when another took the key over while it ran. One
    that is cancelled gives its claim back and counts nothing.
    """
    policy = Policy.build(
        store,
        {
            "key": key,
            "scope": scope,
            "ttl": ttl,
            "lock": lock,
            "fingerprint": fingerprint,
            "on_missing_key": on_missing_key,
            "on_store_error": on_store_error,
        },
    )

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        checked = _checked(function)
        codec = codec_of(checked, name_of(checked))
        return cast("Callable[P, Coroutine[Any, Any, R]]", Idempotent(checked, policy, codec))

    return decorate


class Idempotent:
    """What the decorator returns: to be awaited as the function it was, or taken apart by a consuming loop.

    Attributes:
        handler: the function.
    """

    def __init__(
        self, function: Callable[..., Awaitable[Any]], policy: Policy, codec: Codec[Any] | None
    ) -> None:
        functools.update_wrapper(self, function)
        self.handler = function
        self._policy = policy
        self._codec = codec
        self._name = name_of(function)
        self._calls = Calls(policy, function, self._name, codec)
        mark = getattr(inspect, "markcoroutinefunction", None)  # from Python 3.12 on
        if mark is not None:
            mark(self)

    def __repr__(self) -> str:
        return f"<idempotent {self._name}>"

    def __get__(self, instance: object, owner: type | None = None) -> Idempotent:
        """Bind a method: its key is asked of what it is called with, without the instance."""
        if instance is None:
            return self
        return Idempotent(cast("Any", self.handler).__get__(instance, owner), self._policy, self._codec)

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:  # noqa: ANN401 - the function's own
        """Run once for each key."""
        return self._calls.run(args, kwargs)

    async def guard(
        self, *, destination: str, group: str | None, lease: float | None, retention: float | None = None
    ) -> Guard:
        """Open the store and return the policy for one loop; see `unimsg.consuming.guard.Guarded`."""
        policy = self._policy
        lock = policy.lock_for(lease)
        if retention is not None and policy.ttl < retention:
            log.warning(
                "%s remembers keys for %s, and %r keeps messages for %s: a duplicate may come after its key is "
                "forgotten; give @idempotent(ttl=) at least as much",
                self._name,
                show_duration(policy.ttl),
                destination,
                show_duration(retention),
            )
        await policy.store.__aenter__()
        return StoreGuard(policy, policy.scope_of(self._name, destination, group), lock)


def _checked(function: Any) -> Callable[..., Awaitable[Any]]:  # noqa: ANN401 - whatever was decorated
    """Return the function, if it can be made idempotent.

    Raises:
        ConfigError: it cannot.
    """
    if not callable(function) or inspect.isclass(function):
        raise ConfigError(f"@idempotent(...) decorates an async function, not {type(function).__name__}")
    name = name_of(function)
    if getattr(function, HELD, False):
        raise ConfigError(
            f"@idempotent stands above @router.on for {name}: the router would run it without; put it below"
        )
    if isinstance(function, Guarded):
        raise ConfigError(f"{name} is idempotent already: decorate it once")
    if inspect.isasyncgenfunction(function):
        raise ConfigError(f"{name} contains `yield`: @idempotent takes `async def` that returns")
    if not inspect.iscoroutinefunction(inner_of(function)):
        raise ConfigError(f"{name} is not `async def`: @idempotent awaits what it runs; make it async")
    return cast("Callable[..., Awaitable[Any]]", function)
