"""What each command prints, and how it ends: sentences and exit codes, no traceback, no secret.

Law: through typer's own runner, in this process; what needs pipes and signals stands in test_pipes.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from unimsg import sync
from unimsg.cli.app import app

APP = """
import unimsg

router = unimsg.Router()
number = 7
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/messages.db"


def unimsg(*arguments: str, stdin: bytes | str = "", url: str | None = None) -> Result:
    """Run the command line."""
    return CliRunner().invoke(app, list(arguments), input=stdin, env={"UNIMSG_URL": url})


# ---------------------------------------------------------------- publish and consume


def test_what_is_published_is_consumed(url: str) -> None:
    """Promise 20: body, key, headers and id come out as they went in, and so they can go in again."""
    line = '{"body":{"id":7,"amount":12.50},"key":"ann","id":"id-1","headers":{"n":"1"}}'
    published = unimsg("publish", "orders", stdin=line + "\n", url=url)
    consumed = unimsg("consume", "orders", "-g", "billing", "--until-idle", url=url)
    again = unimsg("publish", "copy", stdin=consumed.stdout, url=url)
    copied = unimsg("consume", "copy", "-g", "billing", "--until-idle", url=url)

    assert (published.exit_code, published.output) == (0, "")
    assert (consumed.exit_code, again.exit_code) == (0, 0)
    assert json.loads(consumed.stdout) == json.loads(line)
    assert '"amount":12.50' in consumed.stdout, "the body stands there byte for byte"
    assert copied.stdout == consumed.stdout


def test_bodies_that_are_no_json_travel_too(url: str) -> None:
    """As base64 in JSON, as they are with --raw."""
    unimsg("publish", "orders", "--raw", "--key", "ann", stdin=b"caf\xc3\xa9\r\nplain text\n\n", url=url)
    lines = unimsg("consume", "orders", "-g", "json", "--until-idle", url=url).stdout
    raw = unimsg("consume", "orders", "-g", "raw", "--raw", "--until-idle", url=url).stdout

    assert [json.loads(line)["body_base64"] for line in lines.splitlines()] == [
        "Y2Fmw6k=",
        "cGxhaW4gdGV4dA==",
    ]
    assert {json.loads(line)["key"] for line in lines.splitlines()} == {"ann"}
    assert raw == "café\nplain text\n"


def test_a_file_is_read(url: str, tmp_path: Path) -> None:
    """Also without a newline at its end, and with blank lines."""
    (tmp_path / "orders.jsonl").write_text('{"body":1}\n\n  \n{"body":2}', encoding="utf-8")

    assert unimsg("publish", "orders", str(tmp_path / "orders.jsonl"), url=url).exit_code == 0
    assert unimsg("consume", "orders", "-g", "g", "--raw", "--until-idle", url=url).stdout == "1\n2\n"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("nonsense", "line 2: not a message: "),
        ('{"bdy":1}', "line 2: not a message: Object contains unknown field `bdy`"),
        ('{"key":"ann"}', "line 2: not a message: body is missing"),
        ('{"body":1,"body_base64":"MQ=="}', "line 2: not a message: give body or body_base64, not both"),
        ('{"body":1,"key":7}', "line 2: not a message: Expected `str | null`, got `int` - at `$.key`"),
        ('{"body":1,"headers":{"n":1}}', "line 2: not a message: Expected `str`, got `int`"),
        ("[1]", "line 2: not a message: Expected `object`, got `array`"),
    ],
)
def test_a_malformed_line_is_told_by_its_number(url: str, line: str, sentence: str) -> None:
    """It ends with 2, and the others are published."""
    result = unimsg("publish", "orders", stdin=f'{{"body":1}}\n{line}\n{{"body":3}}\n', url=url)

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "2 published, 0 not confirmed, 1 malformed" in result.stderr
    assert unimsg("consume", "orders", "-g", "g", "--raw", "--until-idle", url=url).stdout == "1\n3\n"


def test_a_message_that_is_refused_is_told_by_its_number(url: str) -> None:
    """It ends with 1; the id is told, so that it can be published again."""
    lines = '{"body":1}\n{"body":2,"id":"id-2","headers":{"unimsg-mine":"1"}}\n'
    result = unimsg("publish", "orders", stdin=lines, url=url)

    assert result.exit_code == 1
    assert "line 2 (id id-2): not published: " in result.stderr
    assert "are reserved" in result.stderr
    assert "1 published, 1 not confirmed, 0 malformed" in result.stderr


def test_max_ends_it(url: str) -> None:
    """After so many; the rest is still there."""
    unimsg("publish", "orders", "--raw", stdin="1\n2\n3\n", url=url)

    assert unimsg("consume", "orders", "-g", "g", "--raw", "--max", "2", url=url).stdout == "1\n2\n"
    assert unimsg("consume", "orders", "-g", "g", "--raw", "--max", "1", url=url).stdout == "3\n"


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("publish", "orders", "--url", "kafak://x"), 2, "did you mean kafka://?"),
        (("publish", "orders", "--url", "memory://?leese=1s"), 2, "did you mean lease?"),
        (
            ("publish", "orders", "no-such-file", "--url", "memory://"),
            2,
            "cannot read no-such-file: No such file",
        ),
        (("publish", "orders", "--key", "k", "--url", "memory://"), 2, "--key goes with --raw"),
        (("publish", "orders", "--timeout", "soon", "--url", "memory://"), 2, "a duration with its unit"),
        (("consume", "orders", "--url", "memory://"), 2, "a group is required here: give group="),
        (("consume", "orders", "-g", "g", "--url", "memory://?create=false"), 1, "provision it"),
        (("consume", "orders", "-g", "a b", "--url", "memory://"), 2, "is not portable"),
        (("consume", "orders", "--max", "0", "--url", "memory://"), 2, "--max"),
        (("tail", "orders"), 2, "Missing option '--url' (env var: 'UNIMSG_URL')"),
        (("run", "app", "--url", "memory://"), 2, "names no router: give module:name"),
        (("run", "no.such:router", "--url", "memory://"), 2, "there is no module 'no.such'"),
        (("capabilities", "memory://?x=1"), 2, "is no option of memory://"),
        (("redrive", "dead", "--rate", "0", "--url", "memory://"), 2, "rate=0.0 is not accepted"),
        (("redrive", "dead", "--native", "--dry-run", "--url", "memory://"), 2, "native moves all of them"),
        (("redrive", "dead", "-g", "g", "--url", "memory://?create=false"), 1, "no such destination"),
        (("--log-level", "loud", "capabilities"), 2, "give debug, info, warning or error"),
        (("nonsense",), 2, "No such command 'nonsense'"),
    ],
)
def test_an_error_is_one_sentence(arguments: tuple[str, ...], code: int, sentence: str) -> None:
    """It says what to do, and is no traceback."""
    result = unimsg(*arguments)

    assert result.exit_code == code, result.output
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_no_secret_is_shown() -> None:
    """Whatever is wrong with the URL that holds it."""
    for target in (
        "memory://user:hunter2@host",
        "memory://?password=hunter2",
        "nope://u:hunter2@h?token=hunter2",
    ):
        result = unimsg("publish", "orders", "--url", target)
        assert result.exit_code == 2
        assert "hunter2" not in result.output


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pip install unimsg` alone has the script, not what it needs."""
    from unimsg.cli import main  # noqa: PLC0415 - found before its parts are taken away

    monkeypatch.delitem(sys.modules, "unimsg.cli.app")
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delattr("unimsg.cli.app")
    with pytest.raises(SystemExit) as caught:
        main()

    assert caught.value.code == 2
    assert capsys.readouterr().err == "unimsg: the command line needs typer: pip install 'unimsg[cli]'\n"


# ---------------------------------------------------------------- run


def test_what_is_no_router_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is found in the current folder."""
    (tmp_path / "no_router_here.py").write_text(APP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    wrong = unimsg("run", "no_router_here:number", "--url", "memory://")
    missing = unimsg("run", "no_router_here:nobody", "--url", "memory://")
    empty = unimsg("run", "no_router_here:router", "--url", "memory://")

    assert (wrong.exit_code, missing.exit_code, empty.exit_code) == (2, 2, 2)
    assert "is no unimsg.Router, it is of type int" in wrong.stderr
    assert "has no 'nobody'" in missing.stderr
    assert "this router has no handlers" in empty.stderr


# ---------------------------------------------------------------- capabilities, provision, redrive, conformance


def test_capabilities_of_all() -> None:
    """A table, and the same as JSON."""
    table = unimsg("capabilities").stdout.splitlines()
    data = json.loads(unimsg("capabilities", "--json").stdout)

    assert table[0].split()[:3] == ["capability", "memory", "sqlite"]
    assert len(table) == 18
    assert data["sqlite"]["durability"] == "disk"
    assert data["memory"]["lease"] == {"seconds": 30.0, "extendable": True, "longest": None}


def test_capabilities_of_one_url_say_what_took_them(tmp_path: Path) -> None:
    """The option that lowered it stands beside it; nothing is opened unless asked for."""
    target = f"sqlite:///{tmp_path}/no.db?dedup=0s"
    table = unimsg("capabilities", target).stdout
    data = json.loads(unimsg("capabilities", target, "--json").stdout)

    assert "option dedup=0s, else window" in table
    assert data["lowered"]["dedup"] == "option dedup=0s"
    assert list(tmp_path.iterdir()) == []
    assert unimsg("capabilities", target, "--open").exit_code == 0
    assert (tmp_path / "no.db").exists()


def test_provision_shows_what_it_found(url: str) -> None:
    """`existing` ends with 1 while something is missing."""
    arguments = ("provision", "orders", "-g", "billing", "--dead-letter", "orders-dead")
    before = unimsg(*arguments, "--mode", "existing", url=url)
    made = unimsg(*arguments, url=url)
    after = unimsg(*arguments, "--mode", "existing", "--json", url=url)

    assert (before.exit_code, made.exit_code, after.exit_code) == (1, 0, 0)
    assert "group billing                 missing" in before.stdout
    assert "group billing                 created" in made.stdout
    assert {row["state"] for row in json.loads(after.stdout)} == {"present"}


def test_redrive_counts(url: str) -> None:
    """By the type of the error; a choice leaves the others."""
    with sync.connect(url) as client:
        for key in ("ann", "bob"):
            client.publish("orders-dead", key, key=key, id=f"id-{key}")

    dry = unimsg("redrive", "orders-dead", "orders", "--dry-run", url=url)
    some = unimsg("redrive", "orders-dead", "orders", "--key", "ann", "--json", url=url)
    none = unimsg("redrive", "orders-dead", "orders", "--error-type", "ValueError", url=url)
    moved = unimsg("consume", "orders", "-g", "g", "--raw", "--until-idle", url=url)

    assert dry.stdout.splitlines() == [
        "dead letters       count",
        "looked at          2",
        "would be redriven  2",
        "  unknown          2",
        "left               0",
        "failed             0",
    ]
    assert (json.loads(some.stdout)["redriven"], json.loads(some.stdout)["left"]) == (1, 1)
    assert "redriven      0" in none.stdout
    assert moved.stdout == '"ann"\n'


def test_conformance_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments and its exit code; without the suite a sentence says what is missing."""
    from types import SimpleNamespace  # noqa: PLC0415 - for this one

    seen: list[list[str]] = []

    def main(arguments: list[str]) -> int:
        seen.append(arguments)
        return 3

    monkeypatch.setitem(sys.modules, "unimsg.testing.conformance.report", SimpleNamespace(main=main))
    passed = unimsg("conformance", "run", "memory://", "--help")
    monkeypatch.setitem(sys.modules, "unimsg.testing.conformance.report", None)
    missing = unimsg("conformance", "report")

    assert (passed.exit_code, seen) == (3, [["run", "memory://", "--help"]])
    assert missing.exit_code == 2
    assert "the conformance suite needs" in missing.stderr


@pytest.mark.parametrize(
    "name", ["publish", "consume", "tail", "run", "capabilities", "provision", "redrive", "conformance"]
)
def test_every_command_is_listed(name: str) -> None:
    """With a summary that is not cut off."""
    (line,) = [line for line in unimsg("--help").stdout.splitlines() if line.startswith(f"  {name} ")]

    assert not line.endswith("...")
