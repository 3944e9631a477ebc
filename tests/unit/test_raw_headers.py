"""Headers that a mapping of text cannot hold survive a copy, a dead letter and a redrive.

Law: pure functions of `unimsg.headers`; promise 20.
"""

from __future__ import annotations

from unimsg.headers import DEAD_LETTER, REDRIVE, RawHeaders, copied, marked, redriven

PAIRS = (("trace", b"a"), ("trace", b"\xff"), ("gone", None), ("plain", b"x"))


def raw() -> RawHeaders:
    return RawHeaders({"trace": "\udcff", "gone": "", "plain": "x"}, PAIRS)


def test_a_copy_keeps_the_pairs() -> None:
    """A publisher copies headers, since their giver may go on to change them."""
    assert isinstance(copy := copied(raw()), RawHeaders)
    assert (copy, copy.pairs) == (raw(), PAIRS)
    assert type(copied({"a": "b"})) is dict


def test_a_dead_letter_adds_its_header_to_the_pairs() -> None:
    """Promise 14: what was there stays byte for byte; a mark of the same name is replaced."""
    letter = marked(marked(raw(), DEAD_LETTER, "first"), DEAD_LETTER, "second")

    assert letter == {**raw(), DEAD_LETTER: "second"}
    assert isinstance(letter, RawHeaders)
    assert letter.pairs == (*PAIRS, (DEAD_LETTER, b"second"))


def test_a_redrive_takes_the_dead_letter_off_and_keeps_the_rest() -> None:
    """Promise 20."""
    again = redriven(marked(raw(), DEAD_LETTER, "why"), "g")

    assert isinstance(again, RawHeaders)
    assert again.pairs[:-1] == PAIRS
    assert again.pairs[-1][0] == REDRIVE
    assert DEAD_LETTER not in again
