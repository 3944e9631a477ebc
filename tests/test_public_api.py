"""The public surface is pinned: what a user can import, with every signature.

Law: compares with `tests/public_api.txt`. A change is made on purpose, by `python tests/test_public_api.py`,
and stands in CHANGELOG.md.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

PINNED = Path(__file__).with_name("public_api.txt")

MODULES = (
    "unimsg",
    "unimsg.codecs",
    "unimsg.errors",
    "unimsg.spi",
    "unimsg.stores",
    "unimsg.sync",
    "unimsg.testing",
)
"""Public is what these hold (design: api.md, "Public surface"); the rest may change without notice."""


def public_names(module: ModuleType) -> list[str]:
    """What a module offers: its `__all__`, else what it defines without an underscore."""
    named = getattr(module, "__all__", None)
    if named is not None:
        return sorted(named)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", module.__name__) == module.__name__
    )


def signature(value: object) -> str:
    """The signature as it is written; empty where there is none to read."""
    try:
        written = str(inspect.signature(value))  # type: ignore[arg-type]  # TypeError answers for what cannot be called
    except (TypeError, ValueError):
        return ""
    return re.sub(
        r"<(\w+) [^<>]*(?:<\w+>)?[^<>]* at 0x[0-9a-f]+>", r"<\1>", written
    )  # a default without a text


def members(cls: type) -> Iterator[str]:
    """The public members of a class, inherited ones of ours included, one line each."""
    for name in sorted(dir(cls)):
        owner = next((base for base in cls.__mro__ if name in vars(base)), object)
        if name.startswith("_") or not owner.__module__.startswith("unimsg"):
            continue
        member = inspect.getattr_static(cls, name)
        if isinstance(member, property):
            yield f"    {name} -> {member.fget.__annotations__.get('return', '?') if member.fget else '?'}"
        elif callable(member) or isinstance(member, staticmethod | classmethod):
            asynchronous = "async " if inspect.iscoroutinefunction(getattr(cls, name)) else ""
            yield f"    {asynchronous}{name}{signature(getattr(cls, name))}"
        else:
            yield f"    {name}"


def describe(name: str) -> Iterator[str]:
    """One public module as lines: each name, its signature, its members."""
    module = importlib.import_module(name)
    yield f"{name}:"
    for public in public_names(module):
        value = getattr(module, public)
        if isinstance(value, type):
            bases = ", ".join(base.__name__ for base in value.__bases__)
            yield f"  class {public}({bases}){'' if issubclass(value, enum.Enum) else signature(value)}"
            yield from members(value)
        elif callable(value):
            yield f"  {public}{signature(value)}"
        else:
            yield f"  {public}: {type(value).__name__}"


def surface() -> str:
    """The whole public surface as text."""
    return "\n".join("\n".join(describe(name)) + "\n" for name in MODULES)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="signatures are spelled by Python 3.11")
def test_public_surface_is_pinned() -> None:
    """A name or signature changes on purpose only."""
    assert surface() == PINNED.read_text(encoding="utf-8"), (
        "run `python tests/test_public_api.py` if it is meant"
    )


def test_the_facade_defines_nothing() -> None:
    """Every name of `unimsg.__all__` comes from a submodule and is documented there."""
    facade = importlib.import_module("unimsg")
    values = {name: getattr(facade, name) for name in facade.__all__}

    assert [name for name, value in values.items() if not inspect.getdoc(value)] == []
    assert [name for name, value in values.items() if getattr(value, "__module__", "") == "unimsg"] == []


if __name__ == "__main__":
    PINNED.write_text(surface(), encoding="utf-8")
