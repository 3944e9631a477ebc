"""Mutant: one way to break a promise, and how it is put in and taken out again.

Law: knows nothing of what it breaks; the ways stand in `backends`, `core_out` and `core_in`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

STORE = "memory store"
"""The scheme of a mutant that is found out by a case of the stores."""

ALL: list[Mutant] = []
"""Every mutant, in the order in which they are written down."""


class Patch:
    """Replaces attributes, and puts back what was there."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def put(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute of a class or module."""
        self._before.append((owner, name, inspect.getattr_static(owner, name)))
        setattr(owner, name, value)

    def around(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
        """Replace a function by `wrapper`, whose first argument is the function as it was."""
        real: Any = inspect.getattr_static(owner, name)

        @functools.wraps(real)
        def swapped(itself: Any, *args: Any, **named: Any) -> Any:
            return wrapper(real, itself, *args, **named)

        self.put(owner, name, swapped)

    def undo(self) -> None:
        """Put everything back."""
        while self._before:
            setattr(*self._before.pop())


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken world.

    Attributes:
        name: what it is called.
        breaks: the sentence that says what it does.
        promises: the numbers of the promises it breaks.
        killed_by: the test of the catalogue that fails on it.
        scheme: the backend on which that is shown, or `STORE`.
    """

    name: str
    breaks: str
    promises: tuple[int, ...]
    killed_by: str
    scheme: str
    apply: Callable[[Patch], None]

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Break it while the block runs."""
        patch = Patch()
        try:
            self.apply(patch)
            yield
        finally:
            patch.undo()


def mutant(
    *promises: int, killed_by: str, scheme: str = "memory"
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Write down a mutant; the function puts it in, its name and docstring say what it is."""

    def register(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name = apply.__name__.replace("_", " ")
        breaks = (inspect.getdoc(apply) or "").rstrip(".")
        ALL.append(Mutant(name, breaks, promises, killed_by, scheme, apply))
        return apply

    return register
