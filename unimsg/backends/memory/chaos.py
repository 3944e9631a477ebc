"""Chaos: a broker that does all that a real one may do, by a seed, so that a test can find out early.

Law: nothing here breaks a promise: what is confirmed is delivered, and messages with an order keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from msgspec.structs import replace

from unimsg.backends.memory.backend import NAME, MemoryBackend, MemoryReceiver, MemorySender
from unimsg.backends.memory.broker import Hub
from unimsg.backends.memory.group import Group, Member
from unimsg.backends.memory.options import Options
from unimsg.errors import Error, NotSentError, UnavailableError
from unimsg.message import Receipt, WireMessage
from unimsg.spi import Received, Settlement


class ChaosBackend(MemoryBackend):
    """A broker with bad days."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._random = Random(options.chaos)  # noqa: S311 - repeatable is what it must be

    def _sender(self, hub: Hub) -> MemorySender:
        return ChaosSender(hub, self.options, self._random)

    def _receiver(self, hub: Hub, group: Group, member: Member) -> MemoryReceiver:
        return ChaosReceiver(hub, group, member, self.options, self._random)


class ChaosSender(MemorySender):
    """Refuses some, doubles some, makes some late."""

    def __init__(self, hub: Hub, options: Options, random: Random) -> None:
        super().__init__(hub, options)
        self._options = options
        self._random = random
        # as where a batch can fail in part: what follows a refused message of its key must not be on its way already
        self.limits = replace(self.limits, lane=lambda message: message.key, atomic_lane=False)

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Store some of them."""
        results: list[Receipt | Error] = []
        for message in messages:
            if self._random.random() < self._options.fail:
                results.append(NotSentError("refused by chaos: send it again", backend=NAME))
                continue
            late = message
            if self._options.delay:
                late = replace(message, delay=message.delay + self._random.uniform(0, self._options.delay))
            results += await super().send_batch([late], deadline)
            if self._random.random() < self._options.duplicate:
                self._hub.send([late], self._time(), dedup=False)
        return results


class ChaosReceiver(MemoryReceiver):
    """Shuffles what has no order, and refuses some settlements."""

    def __init__(self, hub: Hub, group: Group, member: Member, options: Options, random: Random) -> None:
        super().__init__(hub, group, member, options)
        self._options = options
        self._random = random

    async def receive_batch(self, max_messages: int, wait: float, /) -> Sequence[Received]:
        """Receive, now and then in another order."""
        batch = list(await super().receive_batch(max_messages, wait))
        if self._random.random() >= self._options.reorder:
            return batch
        free = [index for index, received in enumerate(batch) if received.lane is None]
        shuffled = self._random.sample(free, len(free))
        for index, received in zip(free, [batch[index] for index in shuffled], strict=True):
            batch[index] = received
        return batch

    async def settle_batch(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        """Settle some of them."""
        refused = [self._random.random() < self._options.fail for _ in settlements]
        through = [settlement for settlement, no in zip(settlements, refused, strict=True) if not no]
        results = iter(await super().settle_batch(through))
        return [UnavailableError("refused by chaos", backend=NAME) if no else next(results) for no in refused]
