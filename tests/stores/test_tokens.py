"""Tokens: whatever is called in whatever order, one live token for each key, and they rise (promises 23, 25, 28)."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from hypothesis.strategies import floats, integers, sampled_from

from unimsg.idempotency.store import Answer, Ask, End, Grip
from unimsg.stores.memory import MemoryStore, Options

T = TypeVar("T")
LOCK, TTL = 10.0, 100.0
keys = sampled_from(["a", "b"])


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """Run a call of the memory store, which never waits."""
    try:
        call.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waited")


class Tokens(RuleBasedStateMachine):
    """The memory store, and what its callers may conclude from its answers alone."""

    grips = Bundle("grips")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.store = MemoryStore(Options(), clock=lambda: self.now)
        self.highest: dict[str, int] = {}
        self.live: dict[str, tuple[int, float]] = {}
        self.ended: dict[str, tuple[str, float]] = {}

    @rule(target=grips, key=keys, redrive=integers(0, 2), fingerprint=sampled_from([None, b"x"]))
    def claim(self, key: str, redrive: int, fingerprint: bytes | None) -> Grip:
        (answer,) = at_once(self.store.claim([Ask("s", key, fingerprint, redrive)], lock=LOCK, ttl=TTL))
        assert isinstance(answer, Answer)
        holder = self.live.get(key)
        if answer.state == "acquired":
            assert holder is None or holder[1] <= self.now, "two live tokens"
            assert answer.token > self.highest.get(key, 0), "tokens rise"
            state, until = self.ended.get(key, ("", 0.0))
            assert state != "completed" or until <= self.now, "a completed key ran again"
            assert state != "failed" or until <= self.now or redrive > 0, "a failed key ran again unasked"
            self.highest[key] = answer.token
            self.live[key] = (answer.token, self.now + LOCK)
            self.ended.pop(key, None)
        elif answer.state == "in_progress":
            assert holder is not None
            assert holder[0] == answer.token
            assert 0 < answer.remaining == holder[1] - self.now
        return Grip("s", key, answer.token)

    @rule(grip=grips)
    def renew(self, grip: Grip) -> None:
        (current,) = at_once(self.store.renew([grip], lock=LOCK))
        if current:
            assert self.live[grip.key][0] == grip.token == self.highest[grip.key]
            self.live[grip.key] = (grip.token, self.now + LOCK)

    @rule(grip=grips)
    def complete(self, grip: Grip) -> None:
        (current,) = at_once(self.store.complete([grip], [None], ttl=TTL))
        if current:
            assert grip.token == self.highest[grip.key]
            if self.live.pop(grip.key, None) is not None:
                self.ended[grip.key] = ("completed", self.now + TTL)

    @rule(grip=grips, end=sampled_from(["failed", "returned", "dead"]))
    def release(self, grip: Grip, end: End) -> None:
        (current,) = at_once(self.store.release([grip], [end], ttl=TTL))
        if current:
            assert grip.token == self.highest[grip.key]
            if self.live.pop(grip.key, None) is not None and end == "dead":
                self.ended[grip.key] = ("failed", self.now + TTL)

    @rule(seconds=floats(0.0, LOCK * 1.5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_for_the_end(self) -> None:
        self.now += TTL

    @rule(limit=integers(0, 3))
    def purge(self, limit: int) -> None:
        at_once(self.store.purge(limit))

    @invariant()
    def it_stays_small(self) -> None:
        assert len(self.store) <= 2


TestTokens = Tokens.TestCase
TestTokens.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
