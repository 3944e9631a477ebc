"""What the commands of an operator print: capabilities, drift, redrive.

Law: calls the public API and shows its answer as a table or as one line of JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import typer

from unimsg import registry
from unimsg.capabilities import FIELDS, Capabilities, Lease
from unimsg.cli.terminal import OK, SOME_FAILED, say, show_json, show_table
from unimsg.client import connect
from unimsg.operations.provision import Mode
from unimsg.operations.redrive import Letter, Redriven
from unimsg.spi import Drift, Topology

# ---------------------------------------------------------------- capabilities


def all_capabilities(*, as_json: bool) -> None:
    """Show what every backend declares with its default options."""
    declared = registry.declared()
    if as_json:
        show_json({scheme: _plain(value) for scheme, value in declared.items()})
        return
    rows = [[field, *(shown(getattr(value, field)) for value in declared.values())] for field in FIELDS]
    show_table(["capability", *declared], rows)


async def capabilities_of(url: str, *, ask: bool, as_json: bool) -> None:
    """Show what one URL can do, and what took the rest; `ask` opens it, since the service may take more."""
    client = connect(url)
    if ask:
        async with client:
            found = client.capabilities
    else:
        found = client.capabilities
    declared = registry.declared().get(client.options.scheme, found)
    if as_json:
        show_json({**_plain(found), "lowered": dict(found.lowered)})
        return
    show_table(["capability", "value", "because"], [_row(field, found, declared) for field in FIELDS])


def _row(field: str, found: Capabilities, declared: Capabilities) -> Sequence[str]:
    value, usual = getattr(found, field), getattr(declared, field)
    because = found.lowered.get(field, "")
    if because and usual != value:
        because += f", else {shown(usual)}"
    return field, shown(value), because


def _plain(capabilities: Capabilities) -> Mapping[str, Any]:
    return {field: msgspec.to_builtins(getattr(capabilities, field)) for field in FIELDS}


def shown(value: object) -> str:
    """Return a capability as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Lease):
        return f"{value.seconds:g} s{'' if value.extendable else ', fixed'}"
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- provision


async def provision(url: str, topology: Topology, mode: Mode, *, as_json: bool) -> None:
    """Make what is missing, and show what was found; ends with 1 when something is missing or differs."""
    async with connect(url) as client:
        found = await client.provision(topology, mode=mode)
    if as_json:
        show_json([msgspec.to_builtins(drift) for drift in found])
    else:
        show_table(["what", "state", "detail"], [(drift.what, drift.state, drift.detail) for drift in found])
    raise typer.Exit(SOME_FAILED if any(map(_wrong, found)) else OK)


def _wrong(drift: Drift) -> bool:
    return drift.state in ("missing", "differs")


# ---------------------------------------------------------------- redrive


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters: all that are given must hold."""

    ids: Sequence[str] = ()
    keys: Sequence[str] = ()
    error_types: Sequence[str] = ()

    def __call__(self, letter: Letter) -> bool:
        """Whether this one goes."""
        message, info = letter.message, letter.info
        return (
            (not self.ids or message.id in self.ids)
            and (not self.keys or message.key in self.keys)
            and (not self.error_types or (info is not None and info.error_type in self.error_types))
        )

    def __bool__(self) -> bool:
        return bool(self.ids or self.keys or self.error_types)


async def redrive(  # noqa: PLR0913 - what the command takes
    url: str,
    dead_letter: str,
    destination: str | None,
    *,
    group: str | None,
    choice: Choice,
    dry_run: bool,
    rate: float | None,
    limit: int | None,
    native: bool,
    as_json: bool,
) -> None:
    """Give dead letters back, and show what became of them; ends with 1 when some could not be published."""
    async with connect(url) as client:
        report = await client.redrive(
            dead_letter,
            destination,
            group=group,
            filter=choice or None,
            dry_run=dry_run,
            rate=rate,
            limit=limit,
            native=native,
        )
    for failure in report.failures:
        say(failure)
    if as_json:
        show_json(msgspec.to_builtins(report))
    else:
        show_table(["dead letters", "count"], list(_counts(report)))
    raise typer.Exit(SOME_FAILED if report.failed else OK)


def _counts(report: Redriven) -> Sequence[tuple[str, str]]:
    verb = "would be redriven" if report.dry_run else "redriven"
    rows = [("looked at", report.looked_at), (verb, report.redriven)]
    rows += [(f"  {error}", count) for error, count in report.errors.items()]
    rows += [("left", report.left), ("failed", report.failed)]
    return [(what, str(count)) for what, count in rows] + (
        [] if report.complete else [("more may be there", "")]
    )
