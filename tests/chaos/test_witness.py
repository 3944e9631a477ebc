"""The witness excuses nothing that was not lost: a share that was drained in time has no excuse to come again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import witness
from tests.chaos.ledger import Completed, Ledger, Line, Lost, Retried, read
from tests.chaos.unanswered import Unanswered
from unimsg.consuming.delivery import DONE, DROPPED, RUNNING, SETTLING
from unimsg.errors import AssignmentLostError, Error
from unimsg.spi import Assignment, Settlement
from unimsg.testing.clock import ManualClock


class Scene:
    """A link that does what it is told, and the witness on it: three messages of one share, two with their effect."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.share = Assignment("orders-0", None)
        self.answer: Error | None = None
        self.answering = asyncio.Event()
        self.answering.set()
        self.drain = asyncio.Event()
        self.drain.set()
        home = SimpleNamespace(live=list[Any]())
        self.link: Any = SimpleNamespace(
            receiver=SimpleNamespace(settle_batch=self._settle),
            track=lambda delivery, assignment: None,
            revoked=self._revoked,
            lost=lambda assignments: self.link._forget(set(assignments)),
            _forget=lambda mine: None,
            aclose=self._aclose,
        )
        witness.Commits(self.link, Ledger(path), "c#1")
        for number, state in enumerate((DONE, DONE, RUNNING)):
            received = SimpleNamespace(token=number)
            delivery = SimpleNamespace(
                id=str(number), _seq=number, _state=state, _received=received, _loop=home
            )
            self.link.track(delivery, self.share)

    async def commit(self, token: int) -> None:
        """Commit up to a message."""
        await self.link.receiver.settle_batch([Settlement("ack", token, self.share)])

    async def revoke(self, within: float = 60.0) -> None:
        """Take the share away, in order."""
        await self.link.revoked([self.share], asyncio.get_running_loop().time() + within)

    async def _settle(self, settlements: Sequence[Settlement], /) -> Sequence[Error | None]:
        await self.answering.wait()
        return [self.answer] * len(settlements)

    async def _revoked(self, assignments: Sequence[Assignment], deadline: float, /) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self.drain.wait()
        except TimeoutError:
            pass
        self.link._forget(set(assignments))

    async def _aclose(self, *, abort: bool) -> None:
        """Nothing to close."""

    def lines(self) -> list[Line]:
        """What was written down."""
        return list(read([self._path]))


@pytest.fixture
async def scene(tmp_path: Path) -> Scene:
    """See there."""
    return Scene(tmp_path / "events")


async def test_what_a_commit_covers_is_completed_when_it_is_confirmed(scene: Scene) -> None:
    """Not before; and only what it covers."""
    scene.answer = AssignmentLostError("no")
    await scene.commit(0)
    assert scene.lines() == []
    scene.answer = None
    await scene.commit(0)
    assert scene.lines() == [Completed("c#1", "0", 0)]


async def test_a_share_that_was_drained_in_time_excuses_nothing(scene: Scene) -> None:
    """Promise 7: what had its effect and was neither committed nor refused is a fault if it comes again."""
    await scene.commit(0)
    await scene.revoke()

    assert scene.lines() == [Completed("c#1", "0", 0)]


async def test_a_drain_that_took_too_long_excuses_what_had_its_effect(scene: Scene) -> None:
    """Only that: of what still runs the loop tells by itself."""
    scene.drain.clear()
    await scene.revoke(within=0.0)

    assert scene.lines() == [Lost("c#1", str(n), n, "drain too long") for n in (0, 1)]


async def test_a_commit_that_failed_excuses_what_it_would_have_covered(scene: Scene) -> None:
    """Until one succeeds."""
    scene.answer = AssignmentLostError("the group has moved on")
    await scene.commit(1)
    await scene.revoke()

    assert scene.lines() == [Lost("c#1", str(n), n, "commit failed") for n in (0, 1)]


async def test_a_commit_that_was_made_good_excuses_nothing(scene: Scene) -> None:
    """The last one counts."""
    scene.answer = AssignmentLostError("not now")
    await scene.commit(1)
    scene.answer = None
    await scene.commit(0)
    await scene.revoke()

    assert scene.lines() == [Completed("c#1", "0", 0)]


async def test_a_commit_that_was_not_awaited_excuses_nothing(scene: Scene) -> None:
    """A drain that ends in time has seen its commit confirmed; found so, and mended, on a real broker."""
    scene.answering.clear()
    commit = asyncio.create_task(scene.commit(1))
    await asyncio.sleep(0)
    await scene.revoke()
    scene.answering.set()
    await commit

    assert scene.lines() == []


async def test_a_commit_that_was_given_up_is_a_failed_one(scene: Scene) -> None:
    """Its answer never came."""
    scene.answering.clear()
    commit = asyncio.create_task(scene.commit(1))
    await asyncio.sleep(0)
    commit.cancel()
    await asyncio.wait((commit,))
    await scene.revoke()

    assert scene.lines() == [Lost("c#1", str(n), n, "commit failed") for n in (0, 1)]


async def test_an_expelled_member_has_an_excuse(scene: Scene) -> None:
    """Nobody asked it."""
    scene.link.lost([scene.share])

    assert scene.lines() == [Lost("c#1", str(n), n, "taken away") for n in (0, 1)]


async def test_a_lost_connection_is_an_excuse_and_an_orderly_end_is_none(
    scene: Scene, tmp_path: Path
) -> None:
    """Promise 17: who leaves in order has settled what was done."""
    await scene.link.aclose(abort=False)
    assert scene.lines() == []

    other = Scene(tmp_path / "other")
    await other.link.aclose(abort=True)
    assert other.lines() == [Lost("c#1", str(n), n, "connection lost") for n in (0, 1)]


class Channel:
    """A link whose acks nobody answers, and the witness on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.link: Any = SimpleNamespace(lost=lambda assignments: None, aclose=self._aclose)
        self.acks = Unanswered(self.link, Ledger(path), "c#1", patience=5.0)

    def ack(self, *numbers: int, state: int = SETTLING, final: bool = True) -> None:
        """Ack some."""
        acked = [SimpleNamespace(id=str(number), _seq=number, _state=state) for number in numbers]
        self.acks.acked(acked, final=final)

    async def _aclose(self, *, abort: bool) -> None:
        """Nothing to close."""

    def lines(self) -> list[tuple[type[Line], str]]:
        """What was written down."""
        return [
            (type(line), line.id)
            for line in read([self._path])
            if isinstance(line, Completed | Retried | Lost)
        ]


async def test_an_ack_that_nobody_answers_counts_when_its_connection_has_lived_on(tmp_path: Path) -> None:
    """Before, it may not have arrived: then it is lost, and no completion that came again."""
    async with ManualClock() as clock:
        channel = Channel(tmp_path / "events")
        channel.ack(1)
        await clock.advance(4.0)
        channel.ack(2)
        assert channel.lines() == []
        await clock.advance(1.0)
        channel.link.lost([])

    assert channel.lines() == [(Completed, "1"), (Lost, "2")]


async def test_the_ack_of_a_copied_original_is_no_completion_and_may_be_lost(tmp_path: Path) -> None:
    """The copy comes again in any case; the original as well, where the ack did not arrive; promise 9."""
    async with ManualClock() as clock:
        channel = Channel(tmp_path / "events")
        channel.ack(1, final=False)
        await clock.advance(5.0)
        channel.ack(2, final=False)
        channel.link.lost([])

    assert channel.lines() == [(Retried, "1"), (Lost, "2")]


async def test_what_was_lost_while_it_was_acked_is_no_completion(tmp_path: Path) -> None:
    """Its loss is written down where the core tells of it."""
    async with ManualClock() as clock:
        channel = Channel(tmp_path / "events")
        channel.ack(1, state=DROPPED)
        await clock.advance(5.0)

    assert channel.lines() == []


async def test_an_ack_that_nobody_answers_counts_when_the_server_said_goodbye(tmp_path: Path) -> None:
    """An end without it is a loss."""
    async with ManualClock():
        orderly, aborted = Channel(tmp_path / "orderly"), Channel(tmp_path / "aborted")
        for channel, abort in ((orderly, False), (aborted, True)):
            channel.ack(1)
            await channel.link.aclose(abort=abort)

    assert (orderly.lines(), aborted.lines()) == ([(Completed, "1")], [(Lost, "1")])
