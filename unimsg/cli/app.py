"""The commands and their arguments.

Law: one function for each command, which checks nothing itself and calls the module that does the work.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Annotated

import typer

from unimsg.cli import consume as consuming
from unimsg.cli import lines, report, serve
from unimsg.cli import publish as publishing
from unimsg.cli.terminal import command
from unimsg.cli.terminal import run as run_until_stopped
from unimsg.errors import ConfigError
from unimsg.operations.provision import Mode
from unimsg.spi import Topology
from unimsg.units import parse_duration

app = typer.Typer(
    help="Publish, consume and operate over any backend of unimsg: the URL names the service.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str, typer.Option("--url", envvar="UNIMSG_URL", help="scheme://where?option=value", show_default=False)
]
Destination = Annotated[str, typer.Argument(help="Its name on the service.", show_default=False)]
Raw = Annotated[
    bool, typer.Option("--raw", help="A line is a body, instead of JSON with body, key, headers, id.")
]
Most = Annotated[
    int | None, typer.Option("--max", min=1, metavar="N", help="End after N messages.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON instead of a table.")]
Group = Annotated[
    str | None,
    typer.Option("--group", "-g", help="The group; needed where there are groups.", show_default=False),
]


@app.callback()
def common(
    log_level: Annotated[
        str, typer.Option(help="What is logged to stderr: debug, info, warning or error.")
    ] = "warning",
) -> None:
    """Set up logging."""
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise typer.BadParameter("give debug, info, warning or error", param_hint="--log-level")
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", force=True)


@app.command()
@command
def publish(
    destination: Destination,
    file: Annotated[
        Path | None, typer.Argument(help="Where the lines are; - or nothing: stdin.", show_default=False)
    ] = None,
    *,
    url: Url,
    raw: Raw = False,
    key: Annotated[
        str | None, typer.Option(help="The key of every message, with --raw.", show_default=False)
    ] = None,
    timeout: Annotated[str, typer.Option(help="Time for each message, as 30s or 500ms.")] = "30s",
) -> None:
    """Publish lines.

    A line is JSON {"body": …, "key": …, "headers": {…}, "id": …}; only body is needed.

    Ends with 0 when every message is confirmed, 1 when some are not, 2 when a line is malformed; each is told by its
    number on stderr.
    """
    if key is not None and not raw:
        raise ConfigError("--key goes with --raw: else a line has its own key")
    publishing.publish(url, destination, file, raw=raw, key=key, timeout=parse_duration(timeout))


@app.command()
@command
def consume(
    destination: Destination,
    *,
    url: Url,
    group: Group = None,
    raw: Raw = False,
    most: Most = None,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when there is nothing more.")] = False,
) -> None:
    """Write messages as lines, and ack them.

    The lines are those that publish reads. A message is acked after its line was written. When nobody reads any more,
    as in a pipe to head, what was not written goes back, and the exit code is that of a closed pipe, 141.
    """
    form = consuming.raw if raw else lines.render
    run_until_stopped(
        consuming.consume(url, destination, group=group, form=form, most=most, until_idle=until_idle)
    )


@app.command()
@command
def tail(
    destination: Destination,
    *,
    url: Url,
    raw: Raw = False,
    most: Most = None,
) -> None:
    """Write what is new; no group misses it."""
    form = consuming.raw if raw else lines.render
    run_until_stopped(consuming.tail(url, destination, form=form, most=most))


@app.command()
@command
def run(
    router: Annotated[str, typer.Argument(help="module:name of a unimsg.Router.", show_default=False)],
    *,
    url: Url,
    health_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Answer GET /live and /ready here; 0: any.", show_default=False),
    ] = None,
    health_host: Annotated[str, typer.Option(help="Where to listen for them.")] = "127.0.0.1",
) -> None:
    """Run a router until a signal.

    SIGTERM or SIGINT stop it in order: what was accepted is finished, the rest goes back. A second one hurries.
    """
    loaded = serve.load(router)
    run_until_stopped(serve.serve(loaded, url, port=health_port, host=health_host))


@app.command()
@command
def capabilities(
    url: Annotated[
        str | None, typer.Argument(help="One URL; all backends unless given.", show_default=False)
    ] = None,
    *,
    ask: Annotated[bool, typer.Option("--open", help="Connect: the service may take more.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what backends can do.

    With a URL: what is in effect there, and what took the rest.
    """
    if url is None:
        report.all_capabilities(as_json=as_json)
    else:
        run_until_stopped(report.capabilities_of(url, ask=ask, as_json=as_json))


@app.command()
@command
def provision(
    destination: Destination,
    *,
    url: Url,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", "-g", help="A group of it; may be repeated.", show_default=False),
    ] = None,
    dead_letter: Annotated[
        str | None, typer.Option(help="Where its dead letters go.", show_default=False)
    ] = None,
    mode: Annotated[Mode, typer.Option(help="existing only looks, ensure makes what is missing.")] = "ensure",
    as_json: AsJson = False,
) -> None:
    """Make destinations and groups.

    A destination, its groups and where its dead letters go; nothing is ever deleted. Ends with 1 when something is
    missing or differs.
    """
    topology = Topology(destination=destination, groups=tuple(group or ()), dead_letter=dead_letter)
    run_until_stopped(report.provision(url, topology, mode, as_json=as_json))


@app.command()
@command
def redrive(  # noqa: PLR0913 - what can be asked for
    dead_letter: Annotated[str, typer.Argument(help="Where the dead letters are.", show_default=False)],
    destination: Annotated[
        str | None, typer.Argument(help="Where they go; else where each came from.", show_default=False)
    ] = None,
    *,
    url: Url,
    group: Annotated[
        str | None,
        typer.Option(
            "--group", "-g", help="Whose, and for whom; else everybody's, for all.", show_default=False
        ),
    ] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only this id; may be repeated.")] = None,
    keys: Annotated[list[str] | None, typer.Option("--key", help="Only this key; may be repeated.")] = None,
    error_types: Annotated[
        list[str] | None, typer.Option("--error-type", help="Only with this error; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    rate: Annotated[float | None, typer.Option(help="Messages a second.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many.", show_default=False)] = None,
    native: Annotated[bool, typer.Option("--native", help="Let the service move all of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give dead letters back.

    Each is published and confirmed before it is acked. Ends with 1 when some could not be published; they stay.
    """
    choice = report.Choice(ids=ids or (), keys=keys or (), error_types=error_types or ())
    run_until_stopped(
        report.redrive(
            url,
            dead_letter,
            destination,
            group=group,
            choice=choice,
            dry_run=dry_run,
            rate=rate,
            limit=limit,
            native=native,
            as_json=as_json,
        )
    )


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@command
def conformance(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="run URL | report", help="See conformance --help.")
    ] = None,
) -> None:
    """Prove a backend, or show what is proved."""
    try:
        suite = importlib.import_module("unimsg.testing.conformance.report")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the conformance suite needs {error.name}, which is not here: pip install 'unimsg[dev]'"
        ) from None
    raise typer.Exit(int(suite.main(arguments or [])))
