"""The pytest plugin: a client that is strict, a clock that jumps, and a way to run a router until nothing is left.

Law: hooks and fixtures only, and no asynchronous fixture, so that it does not matter which plugin runs `async` tests:
what is opened is opened and closed inside the test, on its loop. Nothing of unimsg is loaded until a fixture is used.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from unimsg.client import Client
    from unimsg.testing.clock import ManualClock
    from unimsg.testing.strict import Runner, Strict

STRICT: pytest.StashKey[Strict] = pytest.StashKey()
DECLARED = "unimsg_destinations"


def pytest_addoption(parser: pytest.Parser) -> None:
    """See pytest's documentation of its hooks."""
    parser.addini(
        DECLARED, "destinations that exist for every test with unimsg_client", type="args", default=[]
    )


def pytest_configure(config: pytest.Config) -> None:
    """See pytest's documentation of its hooks."""
    config.addinivalue_line(
        "markers",
        "unimsg(*destinations, errors=False, left=False): destinations that exist for this test; whether handlers may "
        "fail and messages may be left without the test looking at them",
    )


@pytest.fixture
def _unimsg(request: pytest.FixtureRequest) -> Strict:
    from unimsg.testing.strict import Strict  # noqa: PLC0415 - suites that do not use it do not load it

    item = request.node
    destinations: list[str] = list(request.config.getini(DECLARED))
    allowed: dict[str, bool] = {}
    for marker in item.iter_markers("unimsg"):
        destinations += marker.args
        allowed = {**marker.kwargs, **allowed}
    strict = item.stash[STRICT] = Strict(*destinations, **allowed)
    return strict


@pytest.fixture
def unimsg_client(_unimsg: Strict) -> Client:
    """A client of a `memory://` of its own, with portable names and declared destinations only.

    It is closed when the test function returns. The test then fails if messages were left unhandled, if a handler's
    error was not looked at, or if a task still runs.
    """
    return _unimsg.client


@pytest.fixture
def unimsg_clock(_unimsg: Strict) -> ManualClock:
    """A `ManualClock` around the test function: time jumps whenever nothing else can run, so waiting costs nothing."""
    return _unimsg.stop_the_clock()


@pytest.fixture
def unimsg_run(_unimsg: Strict) -> Runner:
    """A coroutine function that runs a router on `unimsg_client` until nothing is left, and returns a `Run`."""
    return _unimsg.run


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Put the test function between opening and looking at what it left."""
    strict = item.stash.get(STRICT, None)
    if strict is None or not isinstance(item, pytest.Function):
        return (yield)
    test = item.obj
    if not inspect.iscoroutinefunction(test):
        pytest.fail("the fixtures of unimsg need a test that is `async def`", pytrace=False)

    @functools.wraps(test)
    async def between(*args: Any, **fixtures: Any) -> None:
        async with strict:
            await test(*args, **fixtures)

    item.obj = between
    try:
        return (yield)
    finally:
        item.obj = test
