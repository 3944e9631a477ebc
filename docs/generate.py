"""Writes `docs/reference/` from the code; `make docs` runs it, and a test fails when it was forgotten.

Law: reads signatures, docstrings, options and declared capabilities; adds no sentence about behaviour of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from docs import claims
from unimsg import errors, registry
from unimsg.capabilities import FIELDS, Capabilities
from unimsg.options import Options, json_schema

FOLDER = Path(__file__).with_name("reference")
NOTE = "<!-- Written by `make docs` from the code. Changes made here are lost. -->\n"
MODULES = {
    "unimsg": "What most programs import.",
    "unimsg.codecs": "",
    "unimsg.stores": "",
    "unimsg.sync": "",
    "unimsg.testing": "",
}
LINE = 100
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Yields")


def public(module: Any) -> list[str]:
    """What a module offers: its `__all__`, else what it defines."""
    named = getattr(module, "__all__", None)
    if named is not None:
        return sorted(named)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "") == module.__name__
    )


# ---------------------------------------------------------------- docstrings


def prose(value: object) -> str:
    """A docstring as Markdown: the sections of Google style become lists."""
    text = inspect.getdoc(value) or ""
    if isinstance(value, type) and text == (inspect.getdoc(value.__base__) or ""):
        return ""
    out: list[str] = []
    for block in re.split(rf"\n(?=(?:{'|'.join(SECTIONS)}):\n)", text):
        head, _, rest = block.partition("\n")
        if head.rstrip(":") in SECTIONS:
            inside, _, after = (
                re.split(r"(\n+)(?=\S)", rest, maxsplit=1)
                if re.search(r"\n+(?=\S)", rest)
                else (rest, "", "")
            )
            out += [f"*{head.rstrip(':')}*", *items(textwrap.dedent(inside)), after.strip()]
        else:
            out.append(code_blocks(block.strip()))
    return "\n\n".join(part for part in out if part)


def code_blocks(text: str) -> str:
    """Indented passages become fenced ones."""
    return re.sub(
        r"(?:^|(?<=\n\n))((?:    .*\n?|\n(?=    ))+)",
        lambda match: f"```text\n{textwrap.dedent(match[1]).rstrip()}\n```\n",
        text,
    )


def items(text: str) -> Iterator[str]:
    """Entries of a section, one line each."""
    entries = re.split(r"\n(?=\S)", text.strip())
    lines = []
    for entry in entries:
        joined = " ".join(line.strip() for line in entry.splitlines())
        name, colon, meaning = joined.partition(": ")
        named = colon and re.fullmatch(r"[\w*, .]+", name)
        lines.append(f"- `{name}`: {meaning}" if named else f"- {joined}")
    yield "\n".join(lines)


# ---------------------------------------------------------------- signatures


def signature(name: str, value: Callable[..., Any]) -> str:
    """A signature as it would be written, one argument a line when it is long."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    parameters = list(found.parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        del parameters[0]
    parts = [argument(parameter) for parameter in parameters]
    named = [n for n, parameter in enumerate(parameters) if parameter.kind is parameter.KEYWORD_ONLY]
    if named and not any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        parts.insert(named[0], "*")
    returned = plain(found.return_annotation) if found.return_annotation is not found.empty else "None"
    tail = "" if returned == "None" else f" -> {returned}"
    short = f"{name}({', '.join(parts)}){tail}"
    if len(short) <= LINE:
        return short
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){tail}"


def argument(parameter: inspect.Parameter) -> str:
    """One argument with its annotation and default."""
    star = "*" * (parameter.kind is parameter.VAR_POSITIONAL) + "**" * (
        parameter.kind is parameter.VAR_KEYWORD
    )
    text = star + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {plain(parameter.annotation)}"
    return text if parameter.default is parameter.empty else f"{text} = {default(parameter.default)}"


def default(value: object) -> str:
    """A default as it would be written."""
    if isinstance(value, type):
        return value.__name__
    return "…" if repr(value).startswith("<") else repr(value)


def plain(annotation: object) -> str:
    """An annotation without the noise of where its names are defined."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:unimsg|collections|typing|datetime|asyncio|contextlib)(?:\.\w+)*\.(?=\w)", "", text)


def member(cls: type, name: str) -> str:
    """One member of a class."""
    static = inspect.getattr_static(cls, name)
    if isinstance(static, property):
        returned = inspect.signature(static.fget).return_annotation if static.fget else ""
        return f"##### `{name}`: {plain(returned)}\n\n{prose(static)}\n"
    value = getattr(cls, name)
    if not callable(value):
        return ""
    prefix = "async " if inspect.iscoroutinefunction(value) else ""
    return f"##### `{name}`\n\n```text\n{prefix}{signature(name, value)}\n```\n\n{prose(value)}\n"


def members(cls: type) -> Iterator[str]:
    """The public members of a class that have a docstring, inherited ones of ours included."""
    for name in dir(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), object)
        if not name.startswith("_") and owner.__module__.startswith("unimsg"):
            value = inspect.getattr_static(cls, name)
            if (isinstance(value, property) or callable(value)) and inspect.getdoc(value):
                yield member(cls, name)


def api() -> str:
    """Every public name."""
    parts = [
        NOTE,
        "# Public API\n\nErrors have a [page of their own](errors.md), options [too](options.md).\n",
    ]
    for name, line in MODULES.items():
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        summary = line or (inspect.getdoc(module) or "").partition("\n")[0]
        parts.append(f"## `{name}`\n\n{summary}\n")
        parts += [entry(public_name, getattr(module, public_name)) for public_name in public(module)]
    return "\n".join(parts)


def entry(name: str, value: Any) -> str:
    """One public name."""
    if isinstance(value, type) and issubclass(value, BaseException):
        return f"### `{name}`\n\nSee [errors](errors.md#{name.lower()}).\n"
    if isinstance(value, type):
        hidden = (
            getattr(value, "_is_protocol", False) or inspect.getattr_static(value, "__init__", None) is None
        )
        call = "" if hidden else f"```text\n{signature(name, value)}\n```\n\n"
        return f"### `{name}`\n\n{call}{prose(value)}\n\n" + "\n".join(members(value))
    if callable(value):
        prefix = "async " if inspect.iscoroutinefunction(value) else ""
        return f"### `{name}`\n\n```text\n{prefix}{signature(name, value)}\n```\n\n{prose(value)}\n"
    return f"### `{name}`\n\n`{value!r}`\n" if " at 0x" not in repr(value) else f"### `{name}`\n"


# ---------------------------------------------------------------- errors, options, capabilities


def error_tree() -> str:
    """The tree, then each class with what it carries."""
    tree = textwrap.dedent((inspect.getdoc(errors) or "").split("\n\n", 2)[2])
    parts = [NOTE, f"# Errors\n\n```text\n{tree}\n```\n"]
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and value.__module__ == errors.__name__
    ]
    for cls in classes:
        bases = ", ".join(f"`{base.__name__}`" for base in cls.__bases__)
        retryable = getattr(cls, "retryable", None)
        again = "" if retryable is None else f" Trying again can help: {'yes' if retryable else 'no'}."
        parts.append(f"## `{cls.__name__}`\n\nA kind of {bases}.{again}\n\n{prose(cls)}\n")
    return "\n".join(parts)


def options() -> str:
    """What the URL of each scheme can say."""
    parts = [
        NOTE,
        "# Options\n\n`scheme://where?option=value`; durations and sizes carry units (`20s`, `64KiB`).\n",
    ]
    for scheme in registry.schemes():
        if scheme not in registry.BACKENDS:
            continue
        cls = registry.options_of(scheme)
        meanings = {**attributes(Options), **attributes(cls)}
        parts.append(
            f"## `{scheme}`\n\n{(inspect.getdoc(registry.plugin(scheme)) or '').partition(chr(10))[0]}\n"
        )
        rows = ["| option | value | default | meaning |", "|---|---|---|---|"]
        for name, schema in json_schema(cls)["properties"].items():
            if name not in cls.IN_WHERE:
                default = f"`{schema['default']}`" if "default" in schema else ""
                rows.append(f"| `{name}` | {kind(schema)} | {default} | {meanings.get(name, '')} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def kind(schema: Mapping[str, Any]) -> str:
    """What a value looks like."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    name = schema.get("format", schema.get("type", ""))
    least, most = schema.get("minimum"), schema.get("maximum")
    bounds = f" from {least}" if least is not None else ""
    return f"{name}{bounds}{f' to {most}' if most is not None else ''}"


def attributes(cls: type) -> Mapping[str, str]:
    """The meanings in the `Attributes:` section of a class."""
    text = inspect.getdoc(cls) or ""
    _, _, section = text.partition("Attributes:\n")
    joined = re.split(r"\n(?=\S)", textwrap.dedent(section.partition("\n\n")[0]).strip())
    found: dict[str, str] = {}
    for line in joined:
        names, _, meaning = " ".join(part.strip() for part in line.splitlines()).partition(": ")
        found |= {name.strip(): meaning for name in names.split(",")}
    return found


def capabilities() -> str:
    """What each backend declares with its default options."""
    declared = {name: value for name, value in registry.declared().items() if name in registry.BACKENDS}
    head = [
        NOTE,
        "# Capabilities\n\nDeclared by each backend with its default options; options lower them. The tests",
    ]
    head.append("behind each claim are the conformance suite: see `unimsg conformance`.\n")
    rows = ["| capability | " + " | ".join(f"`{name}`" for name in declared) + " | meaning |"]
    rows.append("|---|" + "---|" * (len(declared) + 1))
    meanings = attributes(Capabilities)
    for field in FIELDS:
        cells = " | ".join(shown(getattr(value, field)) for value in declared.values())
        rows.append(f"| `{field}` | {cells} | {meanings.get(field, '')} |")
    return "\n".join([*head, "\n".join(rows)]) + "\n"


def shown(value: object) -> str:
    """A capability as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return ", ".join(
            f"{name} {getattr(value, name)}" for name in names if getattr(value, name) is not None
        )
    return "not known" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def refusals() -> str:
    """Every row of the table of bad input, with what the error really says."""
    table, handlers = (
        importlib.import_module("tests.bad_input"),
        importlib.import_module("tests.bad_handlers"),
    )
    parts = [
        NOTE,
        "# Refusals\n\nWhat cannot work is refused with one of these sentences before anything is half done: nothing",
        "is published, nothing stays open, no password shows. Each row is a test: `tests/test_bad_input.py`.\n",
    ]
    for topic, rows in table.TABLE.items():
        said = asyncio.run(table.sentences(rows))
        lines = ["| what is done | error | what it says |", "|---|---|---|"]
        for row, sentence in zip(rows, said, strict=True):
            error = f"[{row.error.__name__}](errors.md#{row.error.__name__.lower()})"
            lines.append(f"| {code(row.what)} | {error} | {code(sentence)} |")
        parts.append(f"## {topic}\n\n" + "\n".join(lines) + "\n")
    lines = ["| the handler | reason of the dead letter holds |", "|---|---|"]
    lines += [f"| {case.what} | {code(case.says)} |" for case in handlers.RETURNED]
    parts.append(
        "## Handlers that do it wrong\n\nThe message goes to the dead letters at once.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    return "\n".join(parts)


def code(text: str) -> str:
    """A text as code in a cell of a table; the working folder has no name there."""
    text = re.sub(r"(?<=folder )/\S+?(?=/no/)", "…", text).replace("|", "\\|").replace("\n", "⏎")
    text = text.encode("utf-8", "backslashreplace").decode()
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def command_line() -> str:
    """What `--help` says, of all commands."""
    app = importlib.import_module("unimsg.cli.app").app
    names = re.findall(r"^  (\w+)  ", help_of(app).partition("Commands:\n")[2], re.MULTILINE)
    parts = [NOTE, f"# Command line\n\n```text\n{help_of(app)}```\n"]
    parts += [f"## `unimsg {name}`\n\n```text\n{help_of(app, name)}```\n" for name in names]
    return "\n".join(parts)


def help_of(app: Any, *command: str) -> str:
    """The help of a command, as it is shown in a terminal of the usual width."""
    runner = importlib.import_module("typer.testing").CliRunner()
    result = runner.invoke(app, [*command, "--help"], prog_name="unimsg", env={"COLUMNS": "80"})
    logging.getLogger().handlers.clear()  # the command logs to a stream that ends with it
    return "".join(f"{line.rstrip()}\n" for line in result.output.strip().splitlines())


def pages() -> Mapping[str, str]:
    """Every generated page by its file name."""
    built = {
        "api.md": api(),
        "errors.md": error_tree(),
        "options.md": options(),
        "capabilities.md": capabilities(),
        "cli.md": command_line(),
        "refusals.md": refusals(),
    }
    return {
        name: re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).rstrip() + "\n"
        for name, text in built.items()
    }


def main() -> None:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    claims.main()


if __name__ == "__main__":
    main()
