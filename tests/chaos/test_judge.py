"""The judge can say no: each kind of violation, made up, is found; and what is allowed is not accused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.judge import SHOWN, Judge, Verdict
from tests.chaos.ledger import (
    Completed,
    Dead,
    Effect,
    Ended,
    Killed,
    Killing,
    Ledger,
    Line,
    Lost,
    Ran,
    Sent,
    Tail,
    read,
)


def sent(*ids: str, how: str = "confirmed", poison: bool = False) -> list[Line]:
    """Publishes that ended."""
    return [line for name in ids for line in (Sent("p#1", name, poison), Ended("p#1", name, how))]  # type: ignore[arg-type]  # one of three words


def effect(name: str, who: str = "c#1", *, number: int = 0, key: str | None = None) -> Effect:
    """An effect on a message that is alone with its key, unless told otherwise."""
    return Effect(who, name, name if key is None else key, number)


def killed(who: str = "c#1") -> list[Line]:
    """The two lines of a kill."""
    return [Killing(who), Killed(who)]


GOOD = [*sent("a"), effect("a"), Completed("c#1", "a")]

VIOLATIONS: list[tuple[str, Sequence[Line]]] = [
    ("confirmed and missing", [*GOOD, *sent("b")]),
    ("sends without an end", [*GOOD, Sent("p#1", "b")]),
    ("sends without an end", [Sent("p#1", "b"), *sent("b"), effect("b"), *killed("p#2")]),
    ("ended twice, or never sent", [*GOOD, Ended("p#1", "a", "confirmed")]),
    ("ended twice, or never sent", [Ended("p#1", "a", "unknown")]),
    ("not published, and there all the same", [*sent("b", how="not published"), effect("b")]),
    ("not published, and there all the same", [*sent("b", how="not published", poison=True), Dead("b")]),
    ("invented", [*GOOD, effect("b")]),
    ("repeated without a cause", [*sent("a"), effect("a"), effect("a", "c#2")]),
    # a kill of somebody else, a kill after the repetition, a loss of another message, a loss before the effect
    ("repeated without a cause", [*sent("a"), effect("a"), *killed("c#3"), effect("a", "c#2")]),
    ("repeated without a cause", [*sent("a"), effect("a"), effect("a", "c#2"), *killed()]),
    (
        "repeated without a cause",
        [*sent("a", "b"), effect("a"), effect("b"), Lost("c#1", "b"), effect("a", "c#2")],
    ),
    ("repeated without a cause", [*sent("a"), Lost("c#1", "a"), effect("a"), effect("a", "c#2")]),
    # announced, never done: the process lives on
    ("repeated without a cause", [*sent("a"), effect("a"), Killing("c#1"), effect("a", "c#2")]),
    # one kill excuses one extra effect of a message, not two
    (
        "repeated without a cause",
        [*sent("a"), effect("a"), *killed(), effect("a", "c#2"), effect("a", "c#3")],
    ),
    ("repeated after completion", [*GOOD, effect("a", "c#2")]),
    ("repeated after completion", [*GOOD, *killed(), effect("a", "c#2")]),
    ("repeated after completion", [*GOOD, Lost("c#1", "a"), effect("a", "c#2")]),
    ("overtaken", [*sent("a", "b"), effect("b", key="k", number=1), effect("a", key="k", number=0)]),
    # behind a gap, and long after
    (
        "overtaken",
        [*sent(*"abc"), *(effect(m, key="k", number=n) for n, m in ((1, "b"), (2, "c"), (0, "a")))],
    ),
    ("effects of the dead", [*sent("a"), *killed(), effect("a")]),
    ("effects of the poisoned", [*sent("a", poison=True), effect("a"), Dead("a")]),
    ("poisoned, and no dead letter", [*sent("a", poison=True)]),
    ("dead letters of the healthy", [*GOOD, Dead("a")]),
    ("dead letters of the healthy", [*GOOD, Dead("nobody")]),
    ("dead letters written twice without a cause", [*sent("a", poison=True), Dead("a"), Dead("a")]),
    ("ended badly", [*GOOD, Ran("c#1", 1)]),
]


@pytest.mark.parametrize(("kind", "lines"), VIOLATIONS)
def test_each_violation_is_found(kind: str, lines: Sequence[Line]) -> None:
    """A judge that cannot say no proves nothing; it says what, once, and names it."""
    verdict = Judge().judge(lines)

    assert not verdict.holds
    assert kind in verdict.violations
    assert any(f"VIOLATION {kind}: 1 (" in line for line in verdict.lines())


ALLOWED: list[tuple[str, Sequence[Line], dict[str, int]]] = [
    ("the plain case", GOOD, {}),
    (
        "a kill between effect and completion",
        [*sent("a"), effect("a"), *killed(), effect("a", "c#2")],
        {"kill": 1},
    ),
    (
        "redelivered before the kill was written down",
        [*sent("a"), effect("a"), Killing("c#1"), effect("a", "c#2"), Killed("c#1")],
        {"kill": 1},
    ),
    (
        "the last effect of a process that is being killed",
        [*sent("a"), Killing("c#1"), effect("a"), Killed("c#1"), effect("a", "c#2")],
        {"kill": 1},
    ),
    (
        "one kill, several messages in hand",
        [*sent("a", "b"), effect("a"), effect("b"), *killed(), effect("a", "c#2"), effect("b", "c#2")],
        {"kill": 2},
    ),
    (
        "killed twice in a row",
        [*sent("a"), effect("a"), *killed(), effect("a", "c#2"), *killed("c#2"), effect("a", "c#3")],
        {"kill": 2},
    ),
    (
        "a lease lost after the effect",
        [*sent("a"), effect("a"), Lost("c#1", "a"), effect("a", "c#2")],
        {"lost": 1},
    ),
    (
        "a lease whose loss was noticed late",
        [*sent("a"), effect("a"), effect("a", "c#2"), Lost("c#1", "a")],
        {"lost": 1},
    ),
    (
        "the same process again, after it lost the lease",
        [*sent("a"), effect("a"), Lost("c#1", "a"), effect("a")],
        {"lost": 1},
    ),
    (
        "a replay after a crash is no inversion",
        [
            *sent("a", "b"),
            effect("a", key="k", number=0),
            effect("b", key="k", number=1),
            *killed(),
            effect("a", "c#2", key="k", number=0),
            effect("b", "c#2", key="k", number=1),
        ],
        {"kill": 2},
    ),
    ("a refused message that is published again", [*sent("a", how="not published"), *GOOD], {}),
    ("an unknown end, and it was not stored", [*sent("a", how="unknown")], {}),
    ("an unknown end, and it was stored", [*sent("a", how="unknown"), effect("a")], {}),
    ("a producer that was killed while it waited", [Sent("p#1", "a"), *killed("p#1"), effect("a")], {}),
    ("a dead letter twice, by a kill", [*sent("a", poison=True), *killed(), Dead("a"), Dead("a")], {}),
]


@pytest.mark.parametrize(("lines", "excused"), [row[1:] for row in ALLOWED], ids=[row[0] for row in ALLOWED])
def test_what_is_allowed_is_not_accused(lines: Sequence[Line], excused: dict[str, int]) -> None:
    """At least once: each extra effect matches one kill or one loss between effect and completion."""
    verdict = Judge().judge(lines)

    assert verdict.violations == {}
    assert verdict.repeated == excused


def test_a_resent_message_may_be_there_once_for_each_send_where_nobody_recognises_it() -> None:
    """Without dedup an unknown send may be stored, and stored again; not more often than it was sent."""
    twice = [*sent("a", how="unknown"), *GOOD, effect("a", "c#2")]

    assert Judge(once=True).judge(twice).violations
    # its completion names the process, not the copy: two plain effects are told apart by the sends alone
    lines = [*sent("a", how="unknown"), *sent("a"), effect("a"), effect("a", "c#2")]
    assert Judge(once=False).judge(lines).repeated == {"resent": 1}
    assert Judge(once=False).judge([*lines, effect("a", "c#3")]).violations == {
        "repeated without a cause": ["a"]
    }


def test_without_order_nothing_is_overtaken() -> None:
    """A backend that declares no order is not held to one."""
    lines = [*sent("a", "b"), effect("b", key="k", number=1), effect("a", key="k", number=0)]

    assert Judge(ordered=False).judge(lines).holds


def test_counts_are_those_of_the_lines() -> None:
    """What the report says."""
    verdict = Judge().judge(
        [
            *GOOD,
            *sent("u", how="unknown"),
            Sent("p#1", "cut"),
            *killed("p#1"),
            *sent("dead", poison=True),
            Dead("dead"),
            Lost("c#1", "u"),
        ]
    )

    assert verdict.holds
    assert (verdict.messages, verdict.sends, verdict.confirmed) == (4, 4, 2)
    assert (verdict.unknown, verdict.cut, verdict.kills, verdict.losses) == (1, 1, 1, 1)
    assert (verdict.effects, verdict.dead) == (1, 1)
    assert verdict.lines()[-1] == "the verdict holds"


def test_a_report_names_a_few_of_many() -> None:
    """A drill that goes wrong altogether is still readable."""
    verdict = Verdict()
    verdict.accuse("overtaken", map(str, range(SHOWN + 1)))

    assert "VIOLATION overtaken: 6 (0, 1, 2, 3, 4, …)" in verdict.lines()
    assert verdict.lines()[-1] == "THE VERDICT DOES NOT HOLD"


def test_what_is_written_is_read_in_order_and_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    """The ledger survives a reader that looks while others write."""
    path = tmp_path / "ledger"
    ledger, other, tail = Ledger(path), Ledger(path), Tail(path)
    assert list(tail.read()) == []
    ledger.write(GOOD[0])
    other.write(GOOD[1])
    with path.open("ab") as file:
        file.write(b'{"type":"dead"')
        file.flush()
        assert list(tail.read()) == GOOD[:2]
        file.write(b',"id":"d"}\n')
    ledger.close()
    other.close()

    assert list(tail.read()) == [Dead("d")]
    assert list(read([path, tmp_path / "nothing"])) == [*GOOD[:2], Dead("d")]
