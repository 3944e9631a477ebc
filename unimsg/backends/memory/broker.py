"""Broker: the destinations of one `memory://` URL, shared between its clients, and who waits for a message.

Law: the only place with a lock and with futures: clients of one name may live in several threads, each with its own
loop. A private broker (`memory://`) ends with its client, a named one (`memory://name`) with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from time import time

from unimsg.backends.memory.group import Group, Member
from unimsg.backends.memory.log import Log, Rules
from unimsg.errors import Error
from unimsg.message import Receipt, WireMessage
from unimsg.spi import Received, Settlement

_named: dict[str, Broker] = {}
_naming = threading.Lock()


def broker(name: str, rules: Rules) -> Broker:
    """Return the broker of this name; one without a name is new each time."""
    if not name:
        return Broker(rules)
    with _naming:
        found = _named.get(name)
        if found is None:
            found = _named[name] = Broker(rules)
        return found


def forget(name: str) -> None:
    """Drop a named broker and all that is in it; for tests."""
    with _naming:
        _named.pop(name, None)


class Broker:
    """Destinations by name."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._lock = threading.Lock()
        self._hubs: dict[str, Hub] = {}

    def __contains__(self, destination: str) -> bool:
        return destination in self._hubs

    def hub(self, destination: str) -> Hub:
        """Return a destination; it comes into being."""
        with self._lock:
            found = self._hubs.get(destination)
            if found is None:
                found = self._hubs[destination] = Hub(Log(destination, self.rules))
            return found


class Hub:
    """One destination: its log behind a lock, and the receivers that wait on it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.lock = threading.RLock()
        self._waiting: dict[str, deque[Waiter]] = {}

    def wall(self, now: float) -> float:
        """Return what to add to a `loop.time()` for seconds since the epoch."""
        if not hasattr(self, "_offset"):
            self._offset = time() - now
        return self._offset

    def send(self, messages: Sequence[WireMessage], now: float, *, dedup: bool = True) -> list[Receipt]:
        """Store, and wake one receiver of each group."""
        with self.lock:
            self.wall(now)
            receipts = self.log.append(messages, now, dedup=dedup)
            for name in self._waiting:
                self.wake(name)
            return receipts

    def take(self, group: Group, member: Member, most: int, now: float) -> list[Received]:
        """Lease messages to a member; the next in line is woken when more is there."""
        with self.lock:
            received = group.take(member, most, now)
            if group.more:
                self.wake(group.name)
            return received

    def settle(self, group: Group, settlements: Sequence[Settlement], now: float) -> list[Error | None]:
        """Settle, and wake who can have what came back or waited behind."""
        with self.lock:
            before, results = group.due, group.settle(settlements, now)
            self._changed(group, before)
            return results

    def give_back(self, group: Group, member: Member, now: float) -> None:
        """Give back what a member has out."""
        with self.lock:
            before = group.due
            group.give_back(member, now)
            self._changed(group, before)

    def _changed(self, group: Group, before: float) -> None:
        waiting = self._waiting.get(group.name)
        if not waiting:
            return
        if group.due < before:
            for _ in range(len(waiting)):
                self.wake(group.name)
        elif group.more:
            self.wake(group.name)
        for waiter in [waiter for waiter in waiting if waiter.member.lanes]:
            waiting.remove(waiter)
            waiter.wake()

    # ------------------------------------------------------------ waiting

    def wake(self, name: str) -> None:
        """Wake who waits longest."""
        waiting = self._waiting.get(name)
        if waiting:
            waiting.popleft().wake()

    def wait(self, group: Group, member: Member) -> Waiter:
        """Put a member at the end of the line."""
        waiter = Waiter(member)
        with self.lock:
            self._waiting.setdefault(group.name, deque()).append(waiter)
        return waiter

    def leave(self, group: Group, waiter: Waiter) -> None:
        """A waiter has ended, woken or not: it is out of the line, and its wake is not lost for the others."""
        with self.lock:
            waiting = self._waiting[group.name]
            if waiter in waiting:
                waiting.remove(waiter)
            if waiting and (group.more or group.due < float("inf")):
                self.wake(group.name)


class Waiter:
    """One receive that waits, on its own loop."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> None:
        """Wake it, from whatever thread."""
        if self._running() is self._loop:
            self._set()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    @staticmethod
    def _running() -> asyncio.AbstractEventLoop | None:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return None
