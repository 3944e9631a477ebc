"""Lanes: what is cut keeps the limits, order and count, against a plain model."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from unimsg.message import Message
from unimsg.publishing.entry import ENDED, SENT, Entry
from unimsg.publishing.lanes import Lanes
from unimsg.spi import SendLimits


class LanesMachine(RuleBasedStateMachine):
    """Put, cut, give back, put back, withdraw and let time pass, in any order."""

    @initialize(
        atomic=st.booleans(), of_one_lane=st.booleans(), most=st.integers(1, 4), heaviest=st.integers(5, 12)
    )
    def start(self, *, atomic: bool, of_one_lane: bool, most: int, heaviest: int) -> None:
        """Any shape of limits."""
        self.limits = SendLimits(
            max_messages=most,
            max_bytes=heaviest,
            in_flight=4,
            measure=lambda _message: 1,
            atomic_lane=atomic,
            batch_is_lane=of_one_lane,
        )
        self.lanes = Lanes(self.limits)
        self.now = 0.0
        self.number = 0
        self.waiting: dict[str | None, list[Entry]] = {}
        self.due: dict[Entry, float] = {}
        self.out: list[list[Entry]] = []

    @rule(key=st.sampled_from(["a", "b", "c", None]), size=st.integers(1, 5))
    def put(self, key: str | None, size: int) -> None:
        """One more."""
        entry = Entry(Message(body=b"", key=key, id=str(self.number)), 1e9)
        self.number += 1
        entry.size = size
        self.lanes.put(entry, key)
        self.waiting.setdefault(key, []).append(entry)

    @rule()
    def cut(self) -> None:
        """Limits, order, and no lane that is out or held."""
        batch = self.lanes.cut()
        keys = [entry.message.key for entry in batch]
        assert len(batch) <= self.limits.max_messages
        assert sum(entry.size for entry in batch) <= self.limits.max_bytes
        if self.limits.batch_is_lane:
            assert len(set(keys)) <= 1
        named = [key for key in keys if key is not None]
        if not self.limits.atomic_lane:
            assert len(named) == len(set(named))
        busy = {entry.message.key for other in self.out for entry in other} - {None}
        assert not busy & set(named)
        for entry in batch:
            assert entry.state == SENT
            assert self.due.get(entry, 0.0) <= self.now
            mine = self.waiting[entry.message.key]
            if entry.message.key is not None:
                assert mine[0] is entry
            mine.remove(entry)
        assert batch or not self.sendable()
        if batch:
            self.out.append(batch)

    def sendable(self) -> list[Entry]:
        """What the model says could be cut."""
        busy = {entry.message.key for batch in self.out for entry in batch} - {None}
        found: list[Entry] = []
        for key, entries in self.waiting.items():
            if key is None:
                found += [entry for entry in entries if self.due.get(entry, 0.0) <= self.now]
            elif entries and key not in busy and self.held.get(key, 0.0) <= self.now:
                found += entries if self.limits.atomic_lane else entries[:1]
        return found

    @property
    def held(self) -> dict[str | None, float]:
        """Until when each key is held."""
        return self._held

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[str | None, float] = {}

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def bring_home(self, data: st.DataObject) -> None:
        """Some of a batch have ended, the others are put back to the head of their lane."""
        batch = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        again = [entry for entry in batch if data.draw(st.booleans())]
        for entry in batch:
            if entry not in again:
                entry.state = ENDED
        due = self.now + data.draw(st.integers(0, 3))
        for key in dict.fromkeys(entry.message.key for entry in again):
            mine = [entry for entry in again if entry.message.key == key]
            self.lanes.put_back(mine, due)
            self.waiting[key] = mine + self.waiting.get(key, [])
            if key is None:
                self.due.update(dict.fromkeys(mine, due))
            else:
                self._held[key] = due
        self.lanes.give_back(batch)
        self.lanes.release(self.now)

    @precondition(lambda self: any(self.waiting.values()))
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """Any of those that wait."""
        entries = [entry for each in self.waiting.values() for entry in each]
        entry = data.draw(st.sampled_from(entries))
        self.lanes.withdraw(entry)
        entry.state = ENDED
        self.waiting[entry.message.key].remove(entry)

    @rule(seconds=st.integers(0, 2))
    def let_time_pass(self, seconds: int) -> None:
        """What is due can be cut."""
        self.now += seconds
        self.lanes.release(self.now)

    @invariant()
    def totals_are_true(self) -> None:
        """What the batcher decides by, and what would leak."""
        if not hasattr(self, "lanes"):
            return
        waiting = [entry for each in self.waiting.values() for entry in each]
        assert self.lanes.waiting == len(waiting)
        assert set(self.lanes) == set(waiting)
        sendable = self.sendable()
        assert self.lanes.messages == len(sendable)
        assert self.lanes.size == sum(entry.size for entry in sendable)

    def teardown(self) -> None:
        """When all has ended nothing is left."""
        if not hasattr(self, "lanes"):
            return
        for batch in self.out:
            self.lanes.give_back(batch)
        self.lanes.release(1e9)
        while self.lanes.messages:
            self.lanes.give_back(self.lanes.cut())
        assert self.lanes.is_empty
        assert not self.lanes._ready
        assert not self.lanes._held


TestLanes = LanesMachine.TestCase
TestLanes.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
