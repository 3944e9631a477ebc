"""`unimsg publish`: lines of a file or a pipe become messages.

Law: reads what is there, publishes that as one window, and goes on; a slow pipe is published at once, a fast one in
batches. Every line that is not confirmed is named by its number.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from unimsg import sync
from unimsg.cli import lines
from unimsg.cli.terminal import BAD_INPUT, INTERRUPTED, OK, SOME_FAILED, say
from unimsg.codecs import BYTES
from unimsg.errors import ConfigError, EncodeError, Error, OutcomeUnknownError, PublishManyError
from unimsg.message import Message, Receipt

READ = 1 << 20
"""Bytes that are read at a time."""
LONGEST = 64 << 20
"""Bytes that one line may have."""

Numbered = tuple[int, bytes]


class Watch(Protocol):
    """What is told how far it is."""

    def advance(self, read: int) -> None:
        """So many more bytes are done."""


class Bar:
    """A progress bar on stderr."""

    def __init__(self, total: int | None) -> None:
        self._progress = Progress(
            TextColumn("publishing"),
            BarColumn(),
            DownloadColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, read: int) -> None:
        """See `Watch`."""
        self._progress.advance(self._task, read)


class Quiet:
    """Nobody watches."""

    def advance(self, read: int) -> None:
        """See `Watch`."""


def windows(stream: BinaryIO) -> Iterator[tuple[list[Numbered], int]]:
    """Yield the complete lines that are there, numbered from 1, and how many bytes were read for them.

    Raises:
        ConfigError: a line is longer than any body may be.
    """
    number, rest = 0, b""
    read = getattr(stream, "read1", stream.read)
    while data := read(READ):
        *complete, rest = (rest + data).split(b"\n")
        if len(rest) > LONGEST:
            raise ConfigError(
                f"line {number + len(complete) + 1} has more than {LONGEST} bytes: is this text?"
            )
        yield list(enumerate(complete, number + 1)), len(data)
        number += len(complete)
    if rest:
        yield [(number + 1, rest)], 0


class Publishing:
    """One run of the command, and what became of the lines so far."""

    def __init__(
        self, publisher: sync.Publisher[bytes | None], *, raw: bool, key: str | None, timeout: float
    ) -> None:
        self._publisher = publisher
        self._raw = raw
        self._key = key
        self._timeout = timeout
        self.confirmed = self.failed = self.malformed = 0

    def publish(self, window: Sequence[Numbered]) -> None:
        """Publish the lines of a window; blank ones are none."""
        numbers: list[int] = []
        messages: list[Message[bytes | None]] = []
        for number, text in window:
            line = text.removesuffix(b"\r")
            if not (line if self._raw else line.strip()):
                continue
            try:
                messages.append(self._message(line))
            except EncodeError as error:
                self.malformed += 1
                say(f"line {number}: {error}")
            else:
                numbers.append(number)
        for number, message, result in zip(numbers, messages, self._results(messages), strict=True):
            if isinstance(result, Receipt):
                self.confirmed += 1
            else:
                self.failed += 1
                end = "outcome unknown" if isinstance(result, OutcomeUnknownError) else "not published"
                say(f"line {number} (id {message.id}): {end}: {result}")

    def _message(self, line: bytes) -> Message[bytes | None]:
        if self._raw:
            return Message(body=line, key=self._key)
        return lines.parse(line)

    def _results(self, messages: list[Message[bytes | None]]) -> Sequence[Any]:
        if not messages:
            return ()
        try:
            return self._publisher.publish_many(messages, timeout=self._timeout)
        except PublishManyError as error:
            return error.results

    @property
    def code(self) -> int:
        """How the command ends."""
        return BAD_INPUT if self.malformed else SOME_FAILED if self.failed else OK


def publish(
    url: str, destination: str, file: Path | None, *, raw: bool, key: str | None, timeout: float
) -> None:
    """Publish a file, or stdin."""
    with (
        sync.connect(url) as client,
        _opened(file) as stream,
        _watched(file) as watch,
    ):
        run = Publishing(client.publisher(destination, codec=BYTES), raw=raw, key=key, timeout=timeout)
        try:
            for window, read in windows(stream):
                run.publish(window)
                watch.advance(read)
        except KeyboardInterrupt:
            say(f"interrupted: {run.confirmed} messages are published, of the next lines some may be")
            raise typer.Exit(INTERRUPTED) from None
        except Error as error:
            say(f"stopped after {run.confirmed} messages: {error}")
            raise typer.Exit(BAD_INPUT if isinstance(error, ConfigError) else SOME_FAILED) from None
    if run.code != OK or sys.stderr.isatty():
        say(f"{run.confirmed} published, {run.failed} not confirmed, {run.malformed} malformed")
    raise typer.Exit(run.code)


def _opened(file: Path | None) -> AbstractContextManager[BinaryIO]:
    if file is None or str(file) == "-":
        return nullcontext(typer.get_binary_stream("stdin"))
    try:
        return file.open("rb")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None


def _watched(file: Path | None) -> AbstractContextManager[Watch]:
    if not sys.stderr.isatty():
        return nullcontext(Quiet())
    total = file.stat().st_size if file is not None and file.is_file() else None
    return Bar(total)
