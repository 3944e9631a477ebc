"""MiniStack that counts its calls: run by the Python of its own environment, as `python -P THIS`.

Law: changes nothing of what it answers. The operation `CountCalls` of SQS tells how often each operation was called.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any


def counted(name: str, handler: Callable[..., Any], calls: Counter[str]) -> Callable[..., Any]:
    """Return a handler that counts; MiniStack has both kinds of functions."""

    async def wait(*told: Any) -> Any:
        calls[name] += 1
        return await handler(*told)

    def at_once(*told: Any) -> Any:
        calls[name] += 1
        return handler(*told)

    return wait if inspect.iscoroutinefunction(handler) else at_once


def main() -> None:
    """Start it."""
    handlers = import_module("ministack.services.sqs")._HANDLERS  # noqa: SLF001 - it has no other door
    calls = Counter[str]()
    for name, handler in list(handlers.items()):
        handlers[name] = counted(name, handler, calls)
    handlers["CountCalls"] = lambda _asked, _queue: dict(calls)
    import_module("ministack.app").main()


if __name__ == "__main__":
    main()
