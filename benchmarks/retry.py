"""Retry on a success: what a message pays for being retried if it failed, when it does not fail.

Ours are the very parts that the consuming loop calls for it: the attempts that are remembered, the guard around the
handler, the brakes, which are told of a whole batch. The peers wrap the handler, as they are made to be used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.table import Bar, Measured, compare
from unimsg.consuming.brakes import Brakes
from unimsg.consuming.health import LoopHealth
from unimsg.consuming.verdicts import Verdicts
from unimsg.policies.retry import RetryPolicy

CALLS = 200_000
THEIR_CALLS = 20_000
BATCH = 100
PATH = "retry, a handler that succeeds"


class Given:
    """As much of a delivery as retry looks at."""

    __slots__ = ("_trouble", "attempt", "id")

    def __init__(self) -> None:
        self._trouble = None
        self.attempt = 1
        self.id = "0190163d-8694-739b-aea5-966c26f8ad91"


async def handle(delivery: Any) -> None:
    """A handler that does nothing."""


async def bare() -> None:
    """Call the handler."""
    delivery = Given()
    for _ in range(CALLS):
        await handle(delivery)


async def ours() -> None:
    """Call it as the consuming loop does, as far as retry is concerned."""
    home: Any = None  # a failure would need one
    verdicts = Verdicts(home, RetryPolicy(), "dead")
    brakes = Brakes(LoopHealth("orders", "billing"), lambda: None)
    delivery = Given()
    for _ in range(CALLS // BATCH):
        for _ in range(BATCH):
            if verdicts.past:
                raise AssertionError
            if delivery._trouble is not None:  # noqa: SLF001 - as the loop does
                raise AssertionError
            try:
                await handle(delivery)
            except BaseException as error:
                await verdicts.failed(delivery, error)  # type: ignore[arg-type]  # never reached
                raise
        brakes.succeeded(BATCH)


def wrapped(retry: Callable[[Any], Any]) -> Callable[[], Awaitable[None]]:
    """Return a run of the handler behind a peer's decorator."""
    decorated = retry(handle)

    async def run() -> None:
        delivery = Given()
        for _ in range(THEIR_CALLS):
            await decorated(delivery)

    return run


def peers() -> dict[str, tuple[int, Callable[[], Awaitable[None]]]]:
    """Those that are installed."""
    found = {}
    try:
        import stamina  # noqa: PLC0415 - a peer, in the extra `bench`
    except ImportError:
        pass
    else:
        found["stamina"] = (THEIR_CALLS, wrapped(stamina.retry(on=Exception, attempts=5)))
    try:
        import tenacity  # noqa: PLC0415 - as above
    except ImportError:
        return found
    waiting = tenacity.wait_exponential_jitter(multiplier=1, max=300)
    stopping = tenacity.stop_after_attempt(5)
    found["tenacity"] = (THEIR_CALLS, wrapped(tenacity.retry(wait=waiting, stop=stopping)))
    return found


def run(rounds: int) -> tuple[list[Measured], list[Bar]]:
    """Measure all of it."""
    rows: list[Measured] = [
        *compare(PATH, {"bare call": (CALLS, bare), "unimsg": (CALLS, ours), **peers()}, rounds)
    ]
    return rows, [Bar(PATH, "bare call", 0.5, "above"), Bar(PATH, "stamina", 0.1), Bar(PATH, "tenacity", 0.1)]
