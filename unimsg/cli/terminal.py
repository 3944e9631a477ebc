"""Terminal: what every command shares: exit codes, one sentence for an error, tables that survive a pipe.

Law: writes to stdout what was asked for and to stderr what is said about it; colour and progress only on a terminal.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from unimsg.errors import ConfigError, Error
from unimsg.options import redact

P = ParamSpec("P")
R = TypeVar("R")

OK, SOME_FAILED, BAD_INPUT, INTERRUPTED, TERMINATED, PIPE_CLOSED = 0, 1, 2, 130, 143, 141
"""Exit codes; the last three are those of a shell for SIGINT, SIGTERM and SIGPIPE."""
WIDE = 10_000
"""Columns where there is no terminal: nothing is cut or wrapped."""


class Terminated(Exception):  # noqa: N818 - a signal, not an error
    """SIGTERM was received."""


def say(sentence: str) -> None:
    """Tell something about what happens, on stderr, without secrets."""
    with suppress(OSError):
        sys.stderr.write(f"unimsg: {redact(sentence)}\n")
        sys.stderr.flush()


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Make a command end as a shell expects: an error is one sentence, an interrupt is no traceback."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except Error as error:
            say(str(error))
            raise typer.Exit(BAD_INPUT if isinstance(error, ConfigError) else SOME_FAILED) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Terminated:
            raise typer.Exit(TERMINATED) from None
        except BrokenPipeError:
            quiet_stdout()
            raise typer.Exit(PIPE_CLOSED) from None
        except OSError as error:  # a full disk behind stdout
            say(error.strerror or type(error).__name__)
            raise typer.Exit(SOME_FAILED) from None

    return wrapped


def quiet_stdout() -> None:
    """Nobody reads stdout any more: what is still buffered for it goes nowhere, without a word at the end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run to the end; SIGINT and SIGTERM cancel it, so that it stops in order, and are told afterwards."""
    return asyncio.run(_until_terminated(work))


async def _until_terminated(work: Coroutine[Any, Any, R]) -> R:
    task = asyncio.ensure_future(work)
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        while True:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if terminated and task.done():
                    raise Terminated from None
                if task.done():
                    raise
                task.cancel()
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGTERM)


def show_json(value: object) -> None:
    """Print a value as one line of JSON."""
    typer.echo(msgspec.json.encode(value, enc_hook=str).decode())


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: framed on a terminal, plain aligned columns in a pipe."""
    terminal = sys.stdout.isatty()
    table = Table(*columns, box=None, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(file=sys.stdout, width=None if terminal else WIDE, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())
