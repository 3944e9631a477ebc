"""Runs a coroutine in a context of its own, without a task: what it sets the next message never sees.

Law: one function on the hot path. A task per message would cost six times as much (see `benchmarks/`).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import Any


def start(handler: Callable[[Any], Coroutine[Any, Any, Any]], argument: object) -> tuple[bool, Any]:
    """Run `handler(argument)` in a copy of the current context, up to where it waits.

    Returns:
        False and what it returned, if it never waited; else True and the rest, to be awaited at once: a cancellation
        reaches the handler.
    """
    run = copy_context().run
    coroutine = run(handler, argument)
    try:
        step = run(coroutine.send, None)
    except StopIteration as stop:
        return False, stop.value
    return True, _drive(coroutine, run, step)


@types.coroutine
def _drive(
    coroutine: Coroutine[Any, Any, Any],
    run: Callable[..., Any],
    step: Any,  # noqa: ANN401 - whatever the coroutine awaits, usually a Future
) -> Generator[Any, Any, Any]:
    while True:
        try:
            value = yield step
        except GeneratorExit:
            run(coroutine.close)
            raise
        except BaseException as error:  # noqa: BLE001 - it is thrown into the handler, whatever it is
            try:
                step = run(coroutine.throw, error)
            except StopIteration as stop:
                return stop.value
        else:
            try:
                step = run(coroutine.send, value)
            except StopIteration as stop:
                return stop.value
