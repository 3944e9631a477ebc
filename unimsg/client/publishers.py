"""Publishers of one client: those it handed out, and a bounded cache of those that `Client.publish` opened itself.

Law: makes none; keeps, retires and closes what it is given the means to make.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any

from unimsg.capabilities import Needs
from unimsg.codecs import JSON, Codec, resolve
from unimsg.publishing.counters import PublisherStats
from unimsg.publishing.publisher import Publisher

CACHED = 100
"""Publishers that `Client.publish` keeps open; beyond that the one not used for longest is flushed and closed."""


class Publishers:
    """Keeps publishers until the client closes.

    Args:
        make: returns a new publisher to a destination, or refuses; called for each name and codec once.
    """

    def __init__(self, make: Callable[[str, Codec[Any], Needs | None], Publisher[Any]]) -> None:
        self._make = make
        self._handed_out: list[Publisher[Any]] = []
        self._cache: OrderedDict[tuple[str, object], Publisher[Any]] = OrderedDict()
        self._retiring: dict[asyncio.Task[None], Publisher[Any]] = {}
        self._retired: dict[str, PublisherStats] = {}
        self._closed = False

    def make(self, destination: str, codec: Codec[Any], needs: Needs | None) -> Publisher[Any]:
        """Return a new publisher that is handed out: it stays open until the client closes."""
        publisher = self._make(destination, codec, needs)
        self._handed_out.append(publisher)
        return publisher

    def cached(self, destination: str, codec: Codec[Any] | type[Any] | None) -> Publisher[Any]:
        """Return the publisher of a destination and codec, made at first use."""
        key = (destination, codec if isinstance(codec, Hashable) else id(codec))
        cache = self._cache
        publisher = cache.get(key)
        if publisher is not None and not self._closed:
            cache.move_to_end(key)
            return publisher
        publisher = cache[key] = self._make(destination, JSON if codec is None else resolve(codec), None)
        if len(cache) > CACHED:
            _, oldest = cache.popitem(last=False)
            task = asyncio.create_task(oldest.aclose(), name=f"unimsg.publisher[{destination}].retire")
            self._retiring[task] = oldest
            task.add_done_callback(self._is_retired)
        return publisher

    def _is_retired(self, task: asyncio.Task[None]) -> None:
        publisher = self._retiring.pop(task)
        past = self._retired.get(publisher.destination, PublisherStats())
        self._retired[publisher.destination] = past.plus(publisher.stats)

    def stats(self) -> dict[str, PublisherStats]:
        """What became of all that was published, by destination; a total never falls."""
        totals = dict(self._retired)
        for publisher in (*self._handed_out, *self._cache.values(), *self._retiring.values()):
            total = totals.get(publisher.destination, PublisherStats())
            totals[publisher.destination] = total.plus(publisher.stats)
        return totals

    async def aclose(self) -> None:
        """Flush and close all of them."""
        self._closed = True
        open_ = [*self._handed_out, *self._cache.values()]
        await everything([*self._retiring, *(publisher.aclose() for publisher in open_)])


async def everything(work: Iterable[Awaitable[Any]]) -> None:
    """Await all, even when some fail; then raise the first error."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
