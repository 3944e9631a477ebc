"""Ledger: what happened in a drill, one line for each event, in the order in which it happened.

Law: files outside every store, only appended to, one write() a line: lines of several processes never mix, what a
killed process did stands before the line that says it is dead, and no two clocks are ever compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct


class Sent(Struct, tag="sent"):
    """A producer is about to publish: again, after an end that was no confirmation."""

    who: str
    id: str
    poison: bool = False


class Ended(Struct, tag="ended"):
    """A publish ended."""

    who: str
    id: str
    how: Literal["confirmed", "not published", "unknown"]


class Effect(Struct, tag="effect"):
    """A handler did what cannot be undone.

    Attributes:
        number: the place of the message among those of its key.
        take: which delivery it was, of those that the process took: the same message taken again is another one.
        at: where the service keeps the message: published twice it stands in two places. Empty: the service does not
            say.
    """

    who: str
    id: str
    key: str
    number: int
    take: int = 0
    at: str = ""


class Failing(Struct, tag="failing"):
    """A handler is about to fail on a poisoned message."""

    who: str
    id: str
    take: int = 0


class Retried(Struct, tag="retried"):
    """The service was told to bring it again, and has forgotten the delivery that failed."""

    who: str
    id: str
    take: int = 0


class Burying(Struct, tag="burying"):
    """A dead letter is about to be written."""

    who: str
    id: str
    take: int = 0
    at: str = ""


class Buried(Struct, tag="buried"):
    """It was, or it may have been: then the message was kept.

    Attributes:
        kept: where the service keeps it; empty: it does not say. One that it recognised is kept where the first one is.
    """

    who: str
    id: str
    take: int = 0
    confirmed: bool = True
    kept: str = ""


class Completed(Struct, tag="completed"):
    """The store has noted the effect, or the service has confirmed the ack: from here on it may not happen again."""

    who: str
    id: str
    take: int = 0


class Lost(Struct, tag="lost"):
    """A consumer lost the lease, the assignment or the connection of a message before it had settled it.

    Attributes:
        why: the error, or what went wrong while its share was taken away.
    """

    who: str
    id: str
    take: int = 0
    why: str = ""


class Killing(Struct, tag="killing"):
    """A process is about to be killed."""

    who: str


class Killed(Struct, tag="killed"):
    """It is dead: nothing that it did can stand below this line."""

    who: str


class Ran(Struct, tag="ran"):
    """A process ended by itself, or because it was asked to."""

    who: str
    code: int


class Struck(Struct, tag="struck"):
    """Something was done to brokers, to the network or to the crew that is no kill of a process of the drill."""

    what: str


class Dead(Struct, tag="dead"):
    """A dead letter, as it was read when all was over.

    Attributes:
        at: where the service kept the message that it was made from; empty: the service does not say.
    """

    id: str
    at: str = ""


Happened: TypeAlias = Sent | Ended | Effect | Failing | Retried | Burying | Buried | Completed | Lost
Line: TypeAlias = Happened | Killing | Killed | Ran | Struck | Dead

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Ledger:
    """One file to append to."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

    def write(self, line: Line) -> None:
        """Append one line; when this returns, no kill can take it back."""
        os.write(self._file, _encode(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Tail:
    """Reads what was appended to a file since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def read(self) -> Iterator[Line]:
        """Yield the new lines."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        yield from map(_decode, whole.splitlines())


def read(paths: Iterable[Path]) -> Iterator[Line]:
    """Yield the lines of some files, one file after the other."""
    for path in paths:
        yield from Tail(path).read()
