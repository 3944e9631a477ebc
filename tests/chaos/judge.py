"""Judge: what the ledgers of a drill prove, by the verdict of "Fault drills" in the design.

Law: pure; lines in, a verdict out. It trusts the order of the lines and nothing else. What it cannot match one to one
is a violation, and each kind of violation has a test that shows that it is seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct, field

from tests.chaos.ledger import (
    Buried,
    Burying,
    Completed,
    Dead,
    Effect,
    Ended,
    Failing,
    Killed,
    Killing,
    Line,
    Lost,
    Ran,
    Retried,
    Sent,
    Struck,
)
from tests.chaos.plan import role_of

SHOWN = 5
"""Examples of one kind of violation that a report names."""
PUT_OUT = frozenset({"taken away", "AssignmentLostError", "commit failed"})
"""Losses of a log, where each message has a place: who is put out of its group may read on until it learns of it."""


class Verdict(Struct, kw_only=True):
    """What was counted, and what is wrong."""

    messages: int = 0
    sends: int = 0
    confirmed: int = 0
    missing: int = 0
    """Confirmed, and neither handled nor dead-lettered."""
    unknown: int = 0
    cut: int = 0
    """Sends whose producer was killed before they had an end: unknown to everybody."""
    effects: int = 0
    repeated: Counter[str] = field(default_factory=Counter)
    """Extra effects by what excuses them: a kill, a loss and why, a message that was sent twice."""
    dead: int = 0
    dead_again: Counter[str] = field(default_factory=Counter)
    """Extra dead letters by what excuses them."""
    kills: Counter[str] = field(default_factory=Counter)
    """Processes that were killed, by their role."""
    struck: Counter[str] = field(default_factory=Counter)
    """What else was done to brokers, network and crew."""
    losses: Counter[str] = field(default_factory=Counter)
    """Deliveries that were lost while they were in hand, by why."""
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.violations

    def accuse(self, kind: str, what: Iterable[str]) -> None:
        """Note what is wrong, if anything."""
        found = list(what)
        if found:
            self.violations.setdefault(kind, []).extend(found)

    def lines(self) -> list[str]:
        """Return the verdict for people."""
        said = [
            f"{self.messages:,} messages in {self.sends:,} sends",
            f"{self.confirmed:,} confirmed, of these missing: {self.missing}",
            f"sends that are unknown: {self.unknown}, cut off by a kill: {self.cut}",
            f"killed: {_told(self.kills)}; also: {_told(self.struck)}",
            f"lost while in hand: {_told(self.losses)}",
            f"{self.effects:,} effects; repeated and excused: {_told(self.repeated)}",
            f"{self.dead} dead letters; written again and excused: {_told(self.dead_again)}",
        ]
        for kind, found in self.violations.items():
            more = "" if len(found) <= SHOWN else ", …"
            said.append(f"VIOLATION {kind}: {len(found)} ({', '.join(found[:SHOWN])}{more})")
        return [*said, "the verdict holds" if self.holds else "THE VERDICT DOES NOT HOLD"]


def _told(counted: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counted.items())) or "none"


class Record(NamedTuple):
    """What may have one effect: a message, or one of its copies where nobody recognises a message sent twice."""

    id: str
    at: str


class Deed(Struct):
    """One effect or one dead letter, and what became of the delivery that it was done for."""

    who: str
    at: str
    completed: bool = False
    lost: str = ""
    confirmed: bool | None = True
    """Of a dead letter: whether the service has it; None: the end of the writing was not seen."""
    kept: str = ""
    """Of a dead letter: where, if the service says so."""
    writings: int = 1
    """Of a dead letter: how often its delivery began to write it, again where that was not confirmed."""
    dying: bool = False
    """Its process was being killed when the next deed came."""
    settled: bool = False
    """It was completed when the next deed came: nothing that is told later excuses that one."""


class Judge:
    """Reads lines in their order.

    Args:
        ordered: whether messages of one key may not overtake each other.
        once: whether a message that is published again is recognised, by the service or by the consumer; without
            that each send that was not refused may have its own effect.
    """

    def __init__(self, *, ordered: bool = True, once: bool = True) -> None:
        self._ordered = ordered
        self._once = once
        self._sends: Counter[str] = Counter()
        self._open: Counter[tuple[str, str]] = Counter()
        self._ends: dict[str, Counter[str]] = defaultdict(Counter)
        self._poisoned: set[str] = set()
        self._effects: dict[Record, list[Deed]] = {}
        self._burials: dict[Record, list[Deed]] = {}
        self._handled: set[str] = set()
        self._failed_and_lost: Counter[str] = Counter()
        self._failing: set[tuple[str, str, int]] = set()
        self._in_hand: dict[tuple[str, str, int], Deed] = {}
        self._killing: set[str] = set()
        self._killed: set[str] = set()
        self._dead: Counter[Record] = Counter()
        self._highest: dict[str, int] = {}
        self._verdict = Verdict()

    def judge(self, lines: Iterable[Line]) -> Verdict:
        """Read all lines and give the verdict."""
        for line in lines:
            self._read(line)
        self._judge_sends()
        self._judge_effects()
        self._judge_dead()
        verdict = self._verdict
        verdict.messages, verdict.sends = len(self._sends), self._sends.total()
        verdict.kills = Counter(map(role_of, self._killed))
        return verdict

    # ------------------------------------------------------------ reading

    def _read(self, line: Line) -> None:
        match line:
            case Sent():
                self._sent(line)
            case Ended():
                self._ended(line)
            case Effect():
                self._effect(line)
            case Burying():
                self._deed(self._burials, line, Deed(line.who, line.at, confirmed=None))
            case Buried():
                self._buried(line)
            case Failing() | Retried():
                self._failed(line)
            case Completed() | Lost():
                self._fate(line)
            case Dead():
                self._dead[self._record(line)] += 1
            case _:
                self._trouble(line)

    def _trouble(self, line: Killing | Killed | Ran | Struck) -> None:
        match line:
            case Killing():
                self._killing.add(line.who)
            case Killed():
                self._killed.add(line.who)
                cut_off = {taken for taken in self._failing if taken[0] == line.who}
                self._failed_and_lost.update(message for _, message, _ in cut_off)
                self._failing -= cut_off
            case Ran():
                self._verdict.accuse("ended badly", [f"{line.who} with {line.code}"] if line.code else [])
            case Struck():
                self._verdict.struck[line.what] += 1

    def _sent(self, line: Sent) -> None:
        self._sends[line.id] += 1
        self._open[line.who, line.id] += 1
        if line.poison:
            self._poisoned.add(line.id)

    def _ended(self, line: Ended) -> None:
        send = line.who, line.id
        if not self._open[send]:
            self._verdict.accuse("ended twice, or never sent", [line.id])
            return
        self._open[send] -= 1
        self._ends[line.id][line.how] += 1

    def _effect(self, line: Effect) -> None:
        if line.id not in self._handled:
            self._handled.add(line.id)
            if self._ordered and line.number < self._highest.get(line.key, -1):
                self._verdict.accuse("overtaken", [line.id])
            self._highest[line.key] = max(line.number, self._highest.get(line.key, -1))
        self._deed(self._effects, line, Deed(line.who, line.at))

    def _failed(self, line: Failing | Retried) -> None:
        """Until the service has forgotten what failed, a kill leaves the copy for its retry beside it."""
        taken = line.who, line.id, line.take
        if isinstance(line, Failing):
            self._failing.add(taken)
        else:
            self._failing.discard(taken)

    def _deed(self, deeds: dict[Record, list[Deed]], line: Effect | Burying, deed: Deed) -> None:
        """Note a deed, and what is known by now of the one before."""
        if line.who in self._killed:
            self._verdict.accuse("deeds of the dead", [line.id])
        before = deeds.setdefault(self._record(line), [])
        mine = self._in_hand.get((line.who, line.id, line.take))
        if mine is not None and mine.confirmed is False and not (mine.lost or mine.completed):
            # Its own failure is the cause, whatever others did meanwhile: it may not know yet that it is put out.
            mine.writings += 1
            mine.confirmed = None
            self._verdict.dead_again["not confirmed"] += 1
            return
        if before:
            before[-1].dying = before[-1].who in self._killing
            before[-1].settled = before[-1].completed
        before.append(deed)
        self._in_hand[line.who, line.id, line.take] = deed
        self._failing.discard((line.who, line.id, line.take))

    def _buried(self, line: Buried) -> None:
        deed = self._in_hand.get((line.who, line.id, line.take))
        if deed is None:
            self._verdict.accuse("buried without a beginning", [line.id])
        else:
            deed.confirmed, deed.kept = line.confirmed, line.kept

    def _fate(self, line: Completed | Lost) -> None:
        deed = self._in_hand.get((line.who, line.id, line.take))
        self._failing.discard((line.who, line.id, line.take))
        if isinstance(line, Lost):
            self._verdict.losses[line.why or "lost"] += 1
            if deed is not None:
                deed.lost = line.why or "lost"
            elif (
                line.id in self._poisoned
            ):  # its retry may be a copy that is stored, and the original comes too
                self._failed_and_lost[line.id] += 1
        elif deed is not None:
            deed.completed = True

    def _record(self, line: Effect | Burying | Dead) -> Record:
        return Record(line.id, "" if self._once else line.at)

    # ------------------------------------------------------------ judging

    def _judge_sends(self) -> None:
        verdict, seen = self._verdict, self._handled | {record.id for record in self._dead}
        for (who, message), count in self._open.items():
            if count and who in self._killed:
                verdict.cut += count
                self._ends[message]["cut"] += count
            elif count:
                verdict.accuse("sends without an end", [message])
        for message, ends in self._ends.items():
            verdict.confirmed += bool(ends["confirmed"])
            verdict.unknown += ends["unknown"]
            if ends["confirmed"] and message not in seen:
                verdict.missing += 1
                verdict.accuse("confirmed and missing", [message])
            if ends["not published"] == ends.total() and message in seen:
                verdict.accuse("not published, and there all the same", [message])

    def _judge_effects(self) -> None:
        verdict = self._verdict
        verdict.effects = sum(map(len, self._effects.values()))
        verdict.accuse("invented", sorted(self._handled - self._sends.keys()))
        verdict.accuse("effects of the poisoned", sorted(self._handled & self._poisoned))
        self._judge_repeats(self._effects, verdict.repeated, "repeated")

    def _judge_dead(self) -> None:
        """Each dead letter matches one writing of it, and each writing after the first has a cause."""
        verdict = self._verdict
        found = {record.id for record in self._dead}
        written = {record.id for record in self._burials}
        certain = {message for message in self._poisoned if self._ends[message]["confirmed"]}
        verdict.accuse("poisoned, and no dead letter", sorted(certain - found))
        verdict.accuse("dead letters of the healthy", sorted((found | written) - self._poisoned))
        for record in sorted(self._dead.keys() | self._burials.keys()):
            burials = self._burials.get(record, [])
            kept = [burial.kept for burial in burials if burial.confirmed is True]
            if self._dead[record] < len(set(filter(None, kept))) + kept.count(""):
                verdict.accuse("dead letters confirmed and missing", [record.id])
            if self._dead[record] > sum(burial.writings for burial in burials):
                verdict.accuse("dead letters that nobody wrote", [record.id])
        verdict.dead = len(found)
        self._judge_repeats(self._burials, verdict.dead_again, "buried again")

    def _judge_repeats(self, deeds: dict[Record, list[Deed]], excused: Counter[str], accusation: str) -> None:
        """Match each deed after the first of a record with what befell the one before, and records with sends."""
        copies: Counter[str] = Counter()
        for record, done in deeds.items():
            copies[record.id] += 1
            if copies[record.id] > 1:
                self._copied(record, copies, excused, accusation)
            spent: Deed | None = None
            for before, after in pairwise(done):
                cause = self._cause(before) if before is not spent else None
                if cause is not None:
                    excused[cause] += 1
                elif after.at and after.lost in PUT_OUT:
                    spent = after  # its loss is the cause of itself, and not of the next as well
                    excused["put out, not knowing yet"] += 1
                elif not self._once and not record.at:  # nobody says which copy it was: the sends alone tell
                    copies[record.id] += 1
                    self._copied(record, copies, excused, accusation)
                else:
                    how = "after completion" if before.settled else "without a cause"
                    self._verdict.accuse(f"{accusation} {how}", [record.id])

    def _copied(self, record: Record, copies: Counter[str], excused: Counter[str], accusation: str) -> None:
        """One more copy of a message: there may be one for each send that was not refused, and for each lost retry."""
        ends = self._ends[record.id]
        sent = ends.total() - ends["not published"]
        if copies[record.id] <= sent:
            excused["sent again"] += 1
        elif copies[record.id] <= sent + self._failed_and_lost[record.id]:
            excused["retry lost in hand"] += 1
        else:
            self._verdict.accuse(f"{accusation} more often than sent", [record.id])

    def _cause(self, before: Deed) -> str | None:
        if before.settled:
            return None
        if before.dying and before.who in self._killed:
            return "by a kill"
        if before.confirmed is False:
            return "not confirmed"
        return before.lost or None
