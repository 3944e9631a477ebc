"""The pytest plugin, seen from the tests of a user: what passes, what fails and how that is said.

Law: each case is a suite of its own, run by pytest in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[3]
HEAD = """
import asyncio, pytest, unimsg
from unimsg.client import connect
from unimsg.errors import NotFoundError, OptionError, DeadLetter, Fail
from unimsg.router import Router

router = Router()

@router.on("orders", group="billing", dead_letter="dead")
async def bill(order):
    if order.body == "poison":
        raise DeadLetter("poison")
    if order.body == "wrong":
        raise ValueError("no such card")
    await order.publish("receipts", {"for": order.body}, key=order.key)

"""
DECLARED = '@pytest.mark.unimsg("orders", "receipts", "dead")\n'


LOOPS = "asyncio_default_fixture_loop_scope = function\n"


class Suite:
    """A suite of one file."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.options = ["-p", "no:cacheprovider", "-p", "no:randomly"]
        self.ini = LOOPS + "asyncio_mode = auto"

    def run(self, text: str, head: str = HEAD) -> pytest.RunResult:
        """Run it as a user would, with the plugin found by its entry point or by its name."""
        self._pytester.makeini(f"[pytest]\n{self.ini}\nfilterwarnings = error\n")
        self._pytester.makepyfile(head + text)
        loaded = [] if registered() else ["-p", "unimsg.testing.plugin"]
        return self._pytester.runpytest_subprocess(*self.options, *loaded)


def registered() -> bool:
    """Whether this environment was made after the entry point was added."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - only here

    return any(entry.value == "unimsg.testing.plugin" for entry in entry_points(group="pytest11"))


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Suite(pytester)


HANDLED = (
    DECLARED
    + """
async def test_billing(unimsg_client, unimsg_run):
    await unimsg_client.publish("orders", 7, key="ann")
    run = await unimsg_run(router)
    ((where, receipt),) = run.published
    assert (where, receipt.body, receipt.key) == ("receipts", {"for": 7}, "ann")
    assert run.counters["acked"] == 1
    assert run.dead_letters == [] and run.errors == []
"""
)


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_it_works_with_pytest_asyncio(suite: Suite, mode: str) -> None:
    suite.ini = LOOPS + f"asyncio_mode = {mode}"
    mark = "@pytest.mark.asyncio\n" if mode == "strict" else ""
    suite.run(mark + HANDLED).assert_outcomes(passed=1)


def test_it_works_with_anyio(suite: Suite) -> None:
    pytest.importorskip("anyio")
    suite.ini = ""
    suite.options += ["-p", "no:asyncio"]
    backend = '\n@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n\n@pytest.mark.anyio\n'
    suite.run(backend + HANDLED).assert_outcomes(passed=1)


def test_it_works_in_a_class_with_parameters_and_fixtures_of_its_own(suite: Suite) -> None:
    suite.run(
        """
@pytest.fixture
async def filled(unimsg_client):
    await unimsg_client.publish("orders", 1)
    yield unimsg_client

@pytest.mark.unimsg("orders", "receipts", "dead")
class TestBilling:
    @pytest.mark.parametrize("more", [1, 2])
    async def test_all(self, filled, unimsg_run, more):
        await filled.publish("orders", more)
        run = await unimsg_run(router)
        assert len(run.published) == 2
"""
    ).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            DECLARED
            + """
async def test(unimsg_client, unimsg_run):
    await unimsg_run(router)
    await unimsg_client.publish("orders", 7)
""",
            ["*1 messages in 'orders' that group 'billing' has not handled*"],
        ),
        (
            DECLARED
            + """
async def test(unimsg_client, unimsg_run, unimsg_clock):
    await unimsg_client.publish("orders", "wrong")
    await unimsg_run(router)
""",
            [
                "*a handler raised ValueError('no such card'), and nobody looked at `errors` or `dead_letters`*"
            ],
        ),
        (
            DECLARED
            + """
async def test(unimsg_client):
    asyncio.create_task(asyncio.Event().wait(), name="forgotten")
""",
            ["*task forgotten still ran*"],
        ),
        (
            """
async def test(unimsg_client):
    await unimsg_client.publish("ordesr", 7)
""",
            ["*NotFoundError*there is no such destination, and create=false*"],
        ),
        (
            """
async def test(unimsg_client):
    await unimsg_client.publish("orders.v1", 7)
""",
            ["*destination 'orders.v1' is not portable*"],
        ),
        (
            """
@pytest.mark.unimsg("orders", "receipts")
async def test(unimsg_run):
    await unimsg_run(router)
""",
            ["*destination 'dead' is not declared: add it to @pytest.mark.unimsg('dead')*"],
        ),
        (
            """
def test(unimsg_client):
    pass
""",
            ["*the fixtures of unimsg need a test that is `async def`*"],
        ),
    ],
    ids=[
        "left unhandled",
        "swallowed",
        "leaked",
        "undeclared",
        "unportable",
        "undeclared by a route",
        "sync",
    ],
)
def test_it_is_strict(suite: Suite, text: str, said: list[str]) -> None:
    result = suite.run(text)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(said)


@pytest.mark.parametrize(
    "text",
    [
        DECLARED
        + """
async def test(unimsg_client, unimsg_run, unimsg_clock):
    await unimsg_client.publish("orders", "wrong")
    run = await unimsg_run(router)
    assert [str(error) for error in run.errors] == ["no such card"] * 5
""",
        DECLARED
        + """
async def test(unimsg_client, unimsg_run):
    await unimsg_client.publish("orders", "poison", key="ann")
    run = await unimsg_run(router)
    (letter,) = run.dead_letters
    assert (letter.destination, letter.message.body, letter.info.reason) == ("dead", "poison", "poison")
    assert run.published == []
""",
        """
@pytest.mark.unimsg("orders", "receipts", "dead", errors=True, left=True)
async def test(unimsg_client, unimsg_run, unimsg_clock):
    await unimsg_client.publish("orders", "wrong")
    await unimsg_run(router)
    await unimsg_client.publish("orders", 7)
""",
        DECLARED
        + """
async def test(unimsg_client, unimsg_run, unimsg_clock):
    began = unimsg_clock.time()
    await asyncio.sleep(3600)
    assert unimsg_clock.time() - began > 3599
""",
        """
@pytest.mark.unimsg("orders")
async def test(unimsg_client):
    with pytest.raises(NotFoundError):
        await unimsg_client.publish("other", 7)
    await unimsg_client.publish("orders", 7)
""",
    ],
    ids=["errors looked at", "dead letters looked at", "allowed", "clock", "nobody asked for it"],
)
def test_what_passes(suite: Suite, text: str) -> None:
    suite.run(text).assert_outcomes(passed=1)


def test_destinations_can_be_declared_for_a_whole_suite(suite: Suite) -> None:
    suite.ini += "\nunimsg_destinations = orders receipts dead"
    suite.run(HANDLED.replace(DECLARED, "")).assert_outcomes(passed=1)


def test_a_test_that_fails_fails_for_its_own_reason(suite: Suite) -> None:
    result = suite.run(
        DECLARED
        + """
async def test(unimsg_client):
    await unimsg_client.publish("orders", 7)
    asyncio.create_task(asyncio.Event().wait())
    assert 1 == 2
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2*"])
    result.stdout.no_fnmatch_line("*left something behind*")


def test_two_tests_share_nothing(suite: Suite) -> None:
    suite.run(HANDLED + HANDLED.replace("test_billing", "test_again")).assert_outcomes(passed=2)


def test_a_suite_that_does_not_use_it_loads_none_of_it() -> None:
    """Only the plugin's own file and two package files: no backend, no loop, no codec, not even msgspec."""
    program = (
        "import sys, unimsg.testing.plugin; "
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in ('unimsg', 'msgspec', 'asyncio')))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.strip() == "['unimsg', 'unimsg.testing', 'unimsg.testing.plugin']"


def test_the_entry_point_is_declared() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\nunimsg = "unimsg.testing.plugin"' in text
