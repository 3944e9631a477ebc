"""Progress says what is still open: a drill is over when nothing is, and a strike that comes later proves nothing."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.drill import Progress
from tests.chaos.ledger import Completed, Effect, Ended, Ledger, Line, Sent, Struck, read
from tests.chaos.plan import Plan


class Drill:
    """A plan of two messages by one producer, and how far its ledgers say it has come."""

    def __init__(self, folder: Path, *, patience: float = 6.0) -> None:
        self.plan = Plan(
            url="none://", folder=str(folder), messages=2, producers=1, patience=patience, stall=0.1
        )
        self._events = Ledger(self.plan.events)
        self._sends = Ledger(self.plan.sends("producer-1"))
        self.progress = Progress(self.plan, self._events)

    def publish(self, *ids: str, poison: bool = False) -> None:
        """These are confirmed."""
        for each in ids:
            self._sends.write(Sent("producer-1#1", each, poison=poison))
            self._sends.write(Ended("producer-1#1", each, "confirmed"))

    def note(self, *lines: Line) -> None:
        """A consumer did this."""
        for line in lines:
            self._events.write(line)

    def struck(self) -> list[str]:
        """What was noted."""
        return [line.what for line in read([self.plan.events]) if isinstance(line, Struck)]


def effect(message: str) -> Effect:
    """It had its effect."""
    return Effect("consumer-1#1", message, "k", 0)


async def test_a_strike_that_comes_when_all_is_over_has_another_name(tmp_path: Path) -> None:
    """So a drill whose fault fell on nobody is red."""
    drill = Drill(tmp_path)
    drill.publish("a", "b")
    drill.note(effect("a"))
    drill.progress.note("broker killed")
    drill.note(effect("b"), Completed("consumer-1#1", "a"), Completed("consumer-1#1", "b"))
    assert await drill.progress.until_done()
    drill.progress.note("broker killed")

    assert drill.struck() == ["broker killed", "broker killed, when all was over"]


async def test_what_is_confirmed_and_had_no_effect_is_open(tmp_path: Path) -> None:
    """Nothing moves any more: it stalled."""
    drill = Drill(tmp_path)
    drill.publish("a", "b")
    drill.note(effect("a"), Completed("consumer-1#1", "a"))

    assert not await drill.progress.until_done()


async def test_a_drill_that_is_as_patient_as_it_may_stall_is_over_all_the_same(tmp_path: Path) -> None:
    """Its last completion was not told: a kill fell between; nothing is open, so it did not stall."""
    drill = Drill(tmp_path, patience=0.1)
    drill.publish("a", "b")
    drill.note(effect("a"), effect("b"))

    assert await drill.progress.until_done()


async def test_of_the_poisoned_only_a_completion_is_waited_for(tmp_path: Path) -> None:
    """They have no effect, and a dead letter is looked for when all is over."""
    drill = Drill(tmp_path, patience=0.1)
    drill.publish("a", poison=True)
    drill.publish("b")
    drill.note(effect("b"))

    assert await drill.progress.until_done()
