"""The judge can say no: each kind of violation, made up, is found; and what is allowed is not accused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.judge import SHOWN, Judge, Verdict
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
    Ledger,
    Line,
    Lost,
    Ran,
    Retried,
    Sent,
    Struck,
    Tail,
    read,
)


def sent(*ids: str, how: str = "confirmed", poison: bool = False) -> list[Line]:
    """Publishes that ended."""
    return [line for name in ids for line in (Sent("p#1", name, poison), Ended("p#1", name, how))]  # type: ignore[arg-type]  # one of three words


def effect(
    name: str, who: str = "c#1", *, number: int = 0, key: str | None = None, take: int = 0, at: str = ""
) -> Effect:
    """An effect on a message that is alone with its key, unless told otherwise."""
    return Effect(who, name, name if key is None else key, number, take, at)


def buried(name: str, who: str = "c#1", *, confirmed: bool = True, at: str = "", take: int = 0) -> list[Line]:
    """A dead letter that was written, or perhaps."""
    return [Burying(who, name, take, at), Buried(who, name, take, confirmed)]


def killed(who: str = "c#1") -> list[Line]:
    """The two lines of a kill."""
    return [Killing(who), Killed(who)]


GOOD = [*sent("a"), effect("a"), Completed("c#1", "a")]
POISON = sent("a", poison=True)
GRAVE = [*POISON, *buried("a"), Completed("c#1", "a"), Dead("a")]

DEAD_ABB = [Dead("a"), Dead("b"), Dead("b")]

VIOLATIONS: list[tuple[str, Sequence[Line]]] = [
    ("confirmed and missing", [*GOOD, *sent("b")]),
    ("confirmed and missing", POISON),
    ("sends without an end", [*GOOD, Sent("p#1", "b")]),
    ("sends without an end", [Sent("p#1", "b"), *sent("b"), effect("b"), *killed("p#2")]),
    ("ended twice, or never sent", [*GOOD, Ended("p#1", "a", "confirmed")]),
    ("ended twice, or never sent", [Ended("p#1", "a", "unknown")]),
    ("not published, and there all the same", [*sent("b", how="not published"), effect("b")]),
    (
        "not published, and there all the same",
        [*sent("b", how="not published", poison=True), *buried("b"), Dead("b")],
    ),
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
    # the loss of another delivery of the same message to the same process
    (
        "repeated without a cause",
        [*sent("a"), effect("a", take=1), Lost("c#1", "a", 2), effect("a", "c#2")],
    ),
    # announced, never done: the process lives on
    ("repeated without a cause", [*sent("a"), effect("a"), Killing("c#1"), effect("a", "c#2")]),
    # told to leave, and it drained: no kill
    (
        "repeated without a cause",
        [*sent("a"), effect("a"), Struck("c told to leave"), Ran("c#1", 0), effect("a", "c#2")],
    ),
    # one kill excuses one extra effect of a message, not two
    (
        "repeated without a cause",
        [*sent("a"), effect("a"), *killed(), effect("a", "c#2"), effect("a", "c#3")],
    ),
    ("repeated after completion", [*GOOD, effect("a", "c#2")]),
    ("repeated after completion", [*GOOD, *killed(), effect("a", "c#2")]),
    ("repeated after completion", [*GOOD, Lost("c#1", "a"), effect("a", "c#2")]),
    # a lease that was lost later did not bring back what was completed, nor a connection to what is no log
    (
        "repeated after completion",
        [*GOOD, effect("a", "c#2", at="p@1"), Lost("c#2", "a", why="LeaseLostError")],
    ),
    ("repeated after completion", [*GOOD, effect("a", "c#2"), Lost("c#2", "a", why="AssignmentLostError")]),
    # who was put out excuses its own effect, not the next as well
    (
        "repeated without a cause",
        [*GOOD, effect("a", "c#2", at="p@1"), Lost("c#2", "a", why="taken away"), effect("a", "c#3")],
    ),
    ("overtaken", [*sent("a", "b"), effect("b", key="k", number=1), effect("a", key="k", number=0)]),
    # behind a gap, and long after
    (
        "overtaken",
        [*sent(*"abc"), *(effect(m, key="k", number=n) for n, m in ((1, "b"), (2, "c"), (0, "a")))],
    ),
    ("deeds of the dead", [*sent("a"), *killed(), effect("a")]),
    ("effects of the poisoned", [*sent("a", poison=True), effect("a"), *buried("a"), Dead("a")]),
    ("poisoned, and no dead letter", POISON),
    ("dead letters of the healthy", [*GOOD, Dead("a")]),
    ("dead letters of the healthy", [*GOOD, Dead("nobody")]),
    # written, and perhaps redriven since: the burial alone is enough
    ("dead letters of the healthy", [*GOOD, Burying("c#1", "a")]),
    ("dead letters that nobody wrote", [*GRAVE, Dead("a")]),
    # as many as there were burials, but not of this message
    (
        "dead letters that nobody wrote",
        [*sent("a", "b", poison=True), *buried("a"), *killed(), *buried("a", "c#2"), *buried("b"), *DEAD_ABB],
    ),
    # a kill elsewhere: it wrote nothing
    ("dead letters that nobody wrote", [*GRAVE, *killed("c#2"), Dead("a")]),
    # the service said that it has two
    (
        "dead letters confirmed and missing",
        [*POISON, *buried("a"), *killed(), *buried("a", "c#2"), Dead("a")],
    ),
    ("dead letters confirmed and missing", [*POISON, *buried("a")]),
    ("buried again without a cause", [*POISON, *buried("a"), *buried("a", "c#2"), Dead("a"), Dead("a")]),
    ("buried again without a cause", [*POISON, *buried("a"), *buried("a", take=1), Dead("a"), Dead("a")]),
    # begun, and its end was not seen, though nobody died
    ("buried again without a cause", [*POISON, Burying("c#1", "a"), *buried("a", "c#2"), Dead("a")]),
    ("buried again after completion", [*GRAVE, *killed(), *buried("a", "c#2"), Dead("a")]),
    # it knew that it was put out, and wrote again all the same
    (
        "buried again after completion",
        [
            *(*POISON, *buried("a", confirmed=False), Lost("c#1", "a", why="taken away")),
            *(*buried("a", "c#2"), Completed("c#2", "a"), *buried("a", confirmed=False), Dead("a")),
        ],
    ),
    # its one failure to write excuses one writing more, its own or another's, not both
    (
        "buried again without a cause",
        [
            *(*POISON, *buried("a", confirmed=False), *buried("a", "c#2"), *buried("a")),
            Dead("a"),
            Dead("a"),
        ],
    ),
    ("buried without a beginning", [*GRAVE, Buried("c#2", "a")]),
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
        {"by a kill": 1},
    ),
    (
        "redelivered before the kill was written down",
        [*sent("a"), effect("a"), Killing("c#1"), effect("a", "c#2"), Killed("c#1")],
        {"by a kill": 1},
    ),
    (
        "the last effect of a process that is being killed",
        [*sent("a"), Killing("c#1"), effect("a"), Killed("c#1"), effect("a", "c#2")],
        {"by a kill": 1},
    ),
    (
        "one kill, several messages in hand",
        [*sent("a", "b"), effect("a"), effect("b"), *killed(), effect("a", "c#2"), effect("b", "c#2")],
        {"by a kill": 2},
    ),
    (
        "killed twice in a row",
        [*sent("a"), effect("a"), *killed(), effect("a", "c#2"), *killed("c#2"), effect("a", "c#3")],
        {"by a kill": 2},
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
        [*sent("a"), effect("a", take=1), Lost("c#1", "a", 1, "drain too long"), effect("a", take=2)],
        {"drain too long": 1},
    ),
    (
        "the same process again, and the loss of the first delivery was noticed late",
        [*sent("a"), effect("a", take=1), effect("a", take=2), Lost("c#1", "a", 1)],
        {"lost": 1},
    ),
    (
        "put out of its group, it read on before it knew, what another had completed",
        [*GOOD, effect("a", "c#2", at="p@1"), Lost("c#2", "a", why="AssignmentLostError")],
        {"put out, not knowing yet": 1},
    ),
    (
        "put out of its group, it read on before it knew, what another had in hand",
        [
            *(*sent("a"), effect("a"), effect("a", "c#2", at="p@1")),
            *(Completed("c#1", "a"), Lost("c#2", "a", why="taken away")),
        ],
        {"put out, not knowing yet": 1},
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
        {"by a kill": 2},
    ),
    ("a refused message that is published again", [*sent("a", how="not published"), *GOOD], {}),
    ("an unknown end, and it was not stored", [*sent("a", how="unknown")], {}),
    ("an unknown end, and it was stored", [*sent("a", how="unknown"), effect("a")], {}),
    ("a producer that was killed while it waited", [Sent("p#1", "a"), *killed("p#1"), effect("a")], {}),
    ("a dead letter", GRAVE, {}),
]


@pytest.mark.parametrize(("lines", "excused"), [row[1:] for row in ALLOWED], ids=[row[0] for row in ALLOWED])
def test_what_is_allowed_is_not_accused(lines: Sequence[Line], excused: dict[str, int]) -> None:
    """At least once: each extra effect matches one kill or one loss between effect and completion."""
    verdict = Judge().judge(lines)

    assert verdict.violations == {}
    assert verdict.repeated == excused


BURIED_AGAIN: list[tuple[str, Sequence[Line], dict[str, int]]] = [
    (
        "a kill between the dead letter and the ack",
        [*buried("a"), *killed(), *buried("a", "c#2"), Dead("a"), Dead("a")],
        {"by a kill": 1},
    ),
    (
        "a kill before the dead letter was there",
        [Burying("c#1", "a"), *killed(), *buried("a", "c#2"), Dead("a")],
        {"by a kill": 1},
    ),
    (
        "a kill after it was there, and before it was confirmed",
        [Burying("c#1", "a"), *killed(), *buried("a", "c#2"), Dead("a"), Dead("a")],
        {"by a kill": 1},
    ),
    (
        "not confirmed, written again, and it was there",
        [*buried("a", confirmed=False), *buried("a"), Dead("a"), Dead("a")],
        {"not confirmed": 1},
    ),
    (
        "not confirmed, written again, and it was not there",
        [*buried("a", confirmed=False), *buried("a"), Dead("a")],
        {"not confirmed": 1},
    ),
    (
        "not confirmed, and written again by the same one after another one had done it: it was cut off",
        [
            *buried("a", confirmed=False),
            *(*buried("a", "c#2"), Completed("c#2", "a")),
            *buried("a", confirmed=False),
            Lost("c#1", "a", why="taken away"),
            Dead("a"),
            Dead("a"),
            Dead("a"),
        ],
        {"not confirmed": 2},
    ),
    (
        "its share was taken away before the ack",
        [*buried("a"), Lost("c#1", "a", why="taken away"), *buried("a", "c#2"), Dead("a"), Dead("a")],
        {"taken away": 1},
    ),
]


@pytest.mark.parametrize(
    ("lines", "excused"), [row[1:] for row in BURIED_AGAIN], ids=[row[0] for row in BURIED_AGAIN]
)
def test_a_dead_letter_may_be_there_again_where_its_writing_was_cut_off(
    lines: Sequence[Line], excused: dict[str, int]
) -> None:
    """Promise 5: confirmed, then acked; what falls between the two repeats it, one to one."""
    verdict = Judge().judge([*POISON, *lines])

    assert verdict.violations == {}
    assert verdict.dead_again == excused
    assert verdict.dead == 1


def test_a_resent_message_may_be_there_once_for_each_send_where_nobody_recognises_it() -> None:
    """Without dedup an unknown send may be stored, and stored again; not more often than it was sent."""
    twice = [*sent("a", how="unknown"), *GOOD, effect("a", "c#2")]

    assert Judge(once=True).judge(twice).violations
    assert Judge(once=False).judge(twice).repeated == {"sent again": 1}
    assert Judge(once=False).judge([*twice, effect("a", "c#3")]).violations == {
        "repeated more often than sent": ["a"]
    }


def test_a_retry_that_was_lost_in_hand_may_be_there_beside_its_original() -> None:
    """Promise 9: where a retry is a copy, a crash between copy and ack makes one more; the healthy have none."""
    dead = [Dead("a"), Dead("a")]
    twice = [*buried("a"), Completed("c#1", "a"), *buried("a", take=1), Completed("c#1", "a", 1), *dead]
    lost = Lost("c#1", "a", 7, "AssignmentLostError")

    assert Judge(once=False).judge([*POISON, *twice]).violations == {
        "buried again more often than sent": ["a"]
    }
    assert Judge(once=False).judge([*POISON, lost, *twice]).violations == {}
    healthy: list[Line] = [*GOOD, Lost("c#1", "a", 7, "AssignmentLostError"), effect("a", "c#2")]
    assert Judge(once=False).judge(healthy).violations


def test_a_kill_excuses_a_copy_only_of_what_had_failed_and_was_not_forgotten() -> None:
    """Promise 9: copy and original are both there when the kill fell between the two; settled, only the copy is."""
    dead = [Dead("a"), Dead("a")]
    twice = [*buried("a", "c#2"), Completed("c#2", "a"), *buried("a", "c#3"), Completed("c#3", "a"), *dead]
    kill: list[Line] = [Killing("c#1"), Killed("c#1")]
    failing = Failing("c#1", "a", 7)
    more = {"buried again more often than sent": ["a"]}

    def accused(*lines: Line) -> dict[str, list[str]]:
        return Judge(once=False).judge([*POISON, *lines, *twice]).violations

    assert accused(failing, *kill) == {}
    assert accused(failing, Retried("c#1", "a", 7), *kill) == more
    assert accused(*kill) == accused(Failing("c#2", "a", 7), *kill) == accused(failing) == more


def test_a_copy_is_told_from_the_same_one_again_where_the_service_says_where_it_stands() -> None:
    """Two sends are no excuse for one copy to come twice."""
    sends: list[Line] = [*sent("a", how="unknown"), *sent("a")]
    copies: list[Line] = [effect("a", at="7"), Completed("c#1", "a"), effect("a", "c#2", at="9")]

    assert Judge(once=False).judge([*sends, *copies]).repeated == {"sent again": 1}
    assert Judge(once=False).judge([*sends, effect("a", at="7"), effect("a", "c#2", at="7")]).violations == {
        "repeated without a cause": ["a"]
    }
    assert Judge(once=False).judge([*sends, *copies, effect("a", "c#2", at="11")]).violations == {
        "repeated more often than sent": ["a"]
    }


def test_each_copy_of_a_poisoned_message_has_its_own_dead_letter() -> None:
    """A second dead letter of one copy is not excused by the other."""
    sends = [
        *sent("a", how="unknown", poison=True),
        *POISON,
        *buried("a", at="7"),
        *buried("a", at="9", take=1),
    ]

    assert Judge(once=False).judge([*sends, Dead("a", "7"), Dead("a", "9")]).holds
    assert Judge(once=False).judge([*sends, Dead("a", "7"), Dead("a", "7")]).violations == {
        "dead letters that nobody wrote": ["a"],
        "dead letters confirmed and missing": ["a"],
    }


def test_a_dead_letter_that_the_service_recognised_is_known_by_its_place() -> None:
    """Written again after a kill, and kept where the first one is: one is enough; elsewhere it is another."""

    def twice(first: str, second: str) -> list[Line]:
        return [
            *POISON,
            *(Burying("c#1", "a"), Buried("c#1", "a", kept=first)),
            *killed(),
            *(Burying("c#2", "a"), Buried("c#2", "a", kept=second)),
        ]

    once = Judge().judge([*twice("q@1", "q@1"), Dead("a")])
    assert (once.holds, once.dead_again) == (True, {"by a kill": 1})
    lost = [
        twice("q@1", "q@1"),
        *([*twice(*places), Dead("a")] for places in (("q@1", "q@2"), ("q@1", ""), ("", ""))),
    ]
    for lines in lost:
        assert "dead letters confirmed and missing" in Judge().judge(lines).violations


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
            Sent("producer-1#1", "cut"),
            *killed("producer-1#1"),
            *killed("consumer-1#1"),
            *killed("consumer-2#1"),
            *sent("dead", poison=True),
            *buried("dead"),
            Dead("dead"),
            Lost("c#1", "u", why="drain too long"),
            Struck("network cut"),
            Struck("broker killed"),
            Struck("broker killed"),
        ]
    )

    assert verdict.holds
    assert (verdict.messages, verdict.sends, verdict.confirmed) == (4, 4, 2)
    assert (verdict.unknown, verdict.cut, verdict.missing) == (1, 1, 0)
    assert verdict.kills == {"producer": 1, "consumer": 2}
    assert verdict.struck == {"broker killed": 2, "network cut": 1}
    assert verdict.losses == {"drain too long": 1}
    assert (verdict.effects, verdict.dead) == (1, 1)
    assert "killed: 2 consumer, 1 producer; also: 2 broker killed, 1 network cut" in verdict.lines()
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
