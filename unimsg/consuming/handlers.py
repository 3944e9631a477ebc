"""Handlers: what a function must be to be run by a loop, found out when it is registered.

Law: looks at a callable, never calls it; knows an idempotent handler only as `Guarded`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from unimsg.consuming.guard import Guarded
from unimsg.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Prepared:
    """A handler taken apart.

    Attributes:
        function: what the loop awaits.
        name: for logs, dead letters and the idempotency scope.
        guarded: the handler as `@idempotent` made it, if it did.
    """

    function: Callable[[Any], Awaitable[None]]
    name: str
    guarded: Guarded | None


def prepare(handler: Any) -> Prepared:  # noqa: ANN401 - whatever a program registers, it is checked here
    """Check a handler and take it apart.

    Raises:
        ConfigError: it is no function, not `async def`, or cannot be called with one delivery.
    """
    guarded = handler if isinstance(handler, Guarded) else None
    function: Any = guarded.handler if guarded is not None else handler
    name = name_of(function)
    if not callable(function) or inspect.isclass(function):
        raise ConfigError(
            f"a handler must be an async function of one delivery, not {type(function).__name__}"
        )
    if inspect.isasyncgenfunction(inner_of(function)):
        raise ConfigError(f"handler {name} contains `yield`: a handler is `async def` and returns None")
    if not inspect.iscoroutinefunction(inner_of(function)):
        raise ConfigError(
            f"handler {name} is not `async def`: it would block every other message; make it async"
        )
    try:
        inspect.signature(function).bind(object())
    except TypeError as error:
        raise ConfigError(f"handler {name} cannot be called with one delivery: {error}") from error
    except ValueError:  # no signature to look at
        pass
    return Prepared(function=cast("Callable[[Any], Awaitable[None]]", function), name=name, guarded=guarded)


def name_of(function: Any) -> str:  # noqa: ANN401 - any callable
    """Return a stable name: module and qualified name."""
    inner = inner_of(function)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{getattr(named, '__module__', '?')}.{named.__qualname__}"


def inner_of(function: Any) -> Any:  # noqa: ANN401 - any callable
    """Return the function that a call of it runs: behind partials, and the `__call__` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and hasattr(type(function), "__call__"):  # noqa: B004 - the type's, not the value's
        called = type(function).__call__
        return called if inspect.isfunction(called) else function
    return function
