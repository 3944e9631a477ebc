"""Judge: what the ledgers of a drill prove, by the verdict of "Fault drills" in the design.

Law: pure; lines in, a verdict out. It trusts the order of the lines and nothing else. What it cannot match is a
violation, and each kind of violation has a test that shows that it is seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from msgspec import Struct, field

from tests.chaos.ledger import Completed, Dead, Effect, Ended, Killed, Killing, Line, Lost, Ran, Sent

SHOWN = 5
"""Examples of one kind of violation that a report names."""


class Verdict(Struct, kw_only=True):
    """What was counted, and what is wrong."""

    messages: int = 0
    sends: int = 0
    confirmed: int = 0
    unknown: int = 0
    cut: int = 0
    """Sends whose producer was killed before they had an end: unknown to everybody."""
    effects: int = 0
    repeated: Counter[str] = field(default_factory=Counter)
    """Extra effects by what excuses them: `kill`, `lost`, `resent`."""
    dead: int = 0
    dead_twice: int = 0
    kills: int = 0
    losses: int = 0
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
        excused = ", ".join(f"{count} by {cause}" for cause, count in sorted(self.repeated.items())) or "none"
        said = [
            f"{self.messages:,} messages in {self.sends:,} sends",
            f"{self.confirmed:,} confirmed; sends that are unknown: {self.unknown}, cut off by a kill: {self.cut}",
            f"{self.kills} kills, {self.losses} deliveries lost while they were in hand",
            f"{self.effects:,} effects; repeated and excused: {excused}",
            f"{self.dead} dead letters, {self.dead_twice} of them written twice",
        ]
        for kind, found in self.violations.items():
            more = "" if len(found) <= SHOWN else ", …"
            said.append(f"VIOLATION {kind}: {len(found)} ({', '.join(found[:SHOWN])}{more})")
        return [*said, "the verdict holds" if self.holds else "THE VERDICT DOES NOT HOLD"]


class Done(Struct):
    """One effect, and what became of it."""

    who: str
    key: str
    number: int
    completed: bool = False
    lost: bool = False
    dying: bool = False
    """Its process was being killed when the next effect of the message came."""
    accused: bool = False


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
        self._sends: dict[str, int] = Counter()
        self._open: Counter[tuple[str, str]] = Counter()
        self._ends: dict[str, Counter[str]] = defaultdict(Counter)
        self._poisoned: set[str] = set()
        self._effects: dict[str, list[Done]] = defaultdict(list)
        self._killing: set[str] = set()
        self._killed: set[str] = set()
        self._dead: Counter[str] = Counter()
        self._highest: dict[str, int] = {}
        self._verdict = Verdict()

    def judge(self, lines: Iterable[Line]) -> Verdict:
        """Read all lines and give the verdict."""
        for line in lines:
            self._read(line)
        verdict = self._verdict
        self._judge_sends()
        self._judge_effects()
        self._judge_dead()
        verdict.messages, verdict.sends = len(self._sends), sum(self._sends.values())
        verdict.kills = len(self._killed)
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
            case Completed() | Lost():
                self._fate(line)
            case Killing():
                self._killing.add(line.who)
            case Killed():
                self._killed.add(line.who)
            case Ran():
                self._verdict.accuse("ended badly", [f"{line.who} with {line.code}"] if line.code else [])
            case Dead():
                self._dead[line.id] += 1

    def _sent(self, line: Sent) -> None:
        self._sends[line.id] += 1
        self._open[line.who, line.id] += 1
        if line.poison:
            self._poisoned.add(line.id)

    def _fate(self, line: Completed | Lost) -> None:
        lost = isinstance(line, Lost)
        self._verdict.losses += lost
        if (latest := self._latest(line.who, line.id)) is not None:
            latest.lost |= lost
            latest.completed |= not lost

    def _ended(self, line: Ended) -> None:
        send = line.who, line.id
        if not self._open[send]:
            self._verdict.accuse("ended twice, or never sent", [line.id])
            return
        self._open[send] -= 1
        self._ends[line.id][line.how] += 1

    def _effect(self, line: Effect) -> None:
        before = self._effects[line.id]
        if before:
            self._repeat(line, before[-1])
        elif self._ordered:
            if line.number < self._highest.get(line.key, -1):
                self._verdict.accuse("overtaken", [line.id])
            self._highest[line.key] = max(line.number, self._highest.get(line.key, -1))
        if line.who in self._killed:
            self._verdict.accuse("effects of the dead", [line.id])
        before.append(Done(line.who, line.key, line.number))

    def _repeat(self, line: Effect, before: Done) -> None:
        """An extra effect: what had completed is never excused, whatever is told of it later."""
        before.dying = before.who in self._killing
        if before.completed:
            before.accused = True
            self._verdict.accuse("repeated after completion", [line.id])

    def _latest(self, who: str, message: str) -> Done | None:
        """The last effect of a process on a message."""
        return next((done for done in reversed(self._effects.get(message, ())) if done.who == who), None)

    # ------------------------------------------------------------ judging

    def _judge_sends(self) -> None:
        verdict = self._verdict
        for (who, message), count in self._open.items():
            if count and who in self._killed:
                verdict.cut += count
                self._ends[message]["cut"] += count
            elif count:
                verdict.accuse("sends without an end", [message])
        for message, ends in self._ends.items():
            verdict.confirmed += bool(ends["confirmed"])
            verdict.unknown += ends["unknown"]
            if message not in self._poisoned and ends["confirmed"] and message not in self._effects:
                verdict.accuse("confirmed and missing", [message])
            if ends["not published"] == ends.total() and (message in self._effects or message in self._dead):
                verdict.accuse("not published, and there all the same", [message])

    def _judge_effects(self) -> None:
        verdict = self._verdict
        for message, effects in self._effects.items():
            verdict.effects += len(effects)
            if message not in self._sends:
                verdict.accuse("invented", [message])
            elif message in self._poisoned:
                verdict.accuse("effects of the poisoned", [message])
            copies = 0 if self._once else self._copies(message) - 1
            for before in effects[:-1]:
                if before.accused:
                    continue
                cause = self._cause(before)
                if cause is None and copies > 0:
                    cause, copies = "resent", copies - 1
                if cause is None:
                    verdict.accuse("repeated without a cause", [message])
                else:
                    verdict.repeated[cause] += 1

    def _cause(self, before: Done) -> str | None:
        if before.dying and before.who in self._killed:
            return "kill"
        return "lost" if before.lost else None

    def _copies(self, message: str) -> int:
        """How often a message may be there: once for each send that was not refused."""
        return self._ends[message].total() - self._ends[message]["not published"]

    def _judge_dead(self) -> None:
        verdict = self._verdict
        certain = {message for message in self._poisoned if self._ends[message]["confirmed"]}
        verdict.accuse("poisoned, and no dead letter", sorted(certain - self._dead.keys()))
        verdict.accuse("dead letters of the healthy", sorted(self._dead.keys() - self._poisoned))
        verdict.dead, verdict.dead_twice = len(self._dead), self._dead.total() - len(self._dead)
        if verdict.dead_twice > len(self._killed) + verdict.losses:
            verdict.accuse("dead letters written twice without a cause", [str(verdict.dead_twice)])
