"""Every misuse of the decorator and of `store(url)` is refused at once, with a sentence that says what to do."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

import unimsg
from unimsg.errors import ConfigError, OptionError, UnknownSchemeError
from unimsg.idempotency import Store

STORE = unimsg.store("memory://")


async def good(delivery: Any) -> None: ...


def sync(delivery: Any) -> None: ...


async def generator(delivery: Any) -> AsyncIterator[int]:
    yield 1


class Opaque:
    """Nothing that could be kept."""


async def opaque(delivery: Any) -> Opaque:
    return Opaque()


def above_the_router() -> Callable[..., Any]:
    router = unimsg.Router()
    return router.on("orders", group="billing")(good_again)


async def good_again(delivery: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (sync, "sync is not `async def`: @idempotent awaits what it runs; make it async"),
        (functools.partial(sync, 1), "is not `async def`"),
        (generator, "generator contains `yield`: @idempotent takes `async def` that returns"),
        (Opaque, "decorates an async function, not type"),
        (7, "decorates an async function, not int"),
        (
            opaque,
            "opaque returns Opaque, which cannot be kept for duplicates: return None, or what JSON can hold",
        ),
        (unimsg.idempotent(STORE)(good), "good is idempotent already: decorate it once"),
    ],
)
def test_what_cannot_be_decorated(function: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        unimsg.idempotent(STORE)(function)


def test_above_the_router() -> None:
    """It would silently do nothing: the router holds the function without it."""
    held = above_the_router()
    with pytest.raises(ConfigError, match=r"stands above @router.on for .*good_again: .* put it below"):
        unimsg.idempotent(STORE)(held)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"key": "id"}, "key='id'.* is not accepted: give a function of what the handler is called with"),
        ({"fingerprint": True}, "fingerprint=True.* give a function"),
        ({"scope": ""}, "scope=''.* give a name"),
        ({"scope": 7}, "scope=7.* give a name"),
        ({"ttl": 0}, "ttl=0.* give from 1 s to"),
        ({"ttl": -1}, "ttl=-1.* give seconds or a timedelta"),
        ({"ttl": "7d"}, "ttl='7d'.* give seconds or a timedelta"),
        ({"ttl": True}, "ttl=True.* give seconds or a timedelta"),
        ({"ttl": float("inf")}, "ttl=inf.* give seconds or a timedelta"),
        ({"lock": 0}, "lock=0.* give from 0.01 s to 43200 s"),
        ({"lock": timedelta(days=2)}, "lock=.* give from 0.01 s to 43200 s"),
        ({"lock": 60, "ttl": 60}, "ttl=60.* give longer than the lock of 60 s"),
        ({"on_missing_key": "ignore"}, "on_missing_key='ignore'.* give 'error' or 'run'"),
        ({"on_store_error": "error"}, "on_store_error='error'.* give 'defer' or 'run'"),
        ({"on_store_error": None}, "on_store_error=None.* give 'defer' or 'run'"),
    ],
)
def test_settings_out_of_range(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        unimsg.idempotent(STORE, **given)


@pytest.mark.parametrize("given", ["sqlite:///seen.db", None, good, Opaque()])
def test_no_store(given: Any) -> None:
    with pytest.raises(ConfigError, match="@idempotent takes a store first, not "):
        unimsg.idempotent(given)


def test_a_lock_as_long_as_the_lease() -> None:
    """Promise 24: found when a loop opens it, since only then the lease is known."""
    decorated: Any = unimsg.idempotent(STORE, lock=60)(good)
    with pytest.raises(ConfigError, match=r"lock=60 s is not shorter than the broker's lease of 30 s"):
        decorated.guard(destination="d", group="g", lease=30.0, retention=None).send(None)


@pytest.mark.parametrize(
    ("url", "error", "sentence"),
    [
        ("memory", ConfigError, "is no URL"),
        (7, ConfigError, "store takes a URL, not int"),
        (
            "redsi://localhost",
            UnknownSchemeError,
            "no store is known for 'redsi'; known are memory://, sqlite://",
        ),
        ("memroy://", UnknownSchemeError, "did you mean memory://"),
        ("memory://a/b", OptionError, "takes one name without /"),
        ("memory://?keys=0", OptionError, "keys=0 is not accepted: give 1 at least"),
        ("memory://?open=lazy", OptionError, "'open' is no option of memory://"),
        ("sqlite://seen.db", OptionError, "needs a file after a third slash"),
        ("sqlite:///:memory:", OptionError, "is no file: for rows in memory use memory://"),
        ("sqlite:///seen.db?synchronous=MAYBE", OptionError, "one of FULL, NORMAL, OFF"),
        ("sqlite:///seen.db?lease=3s", OptionError, "'lease' is no option of sqlite://"),
    ],
)
def test_urls(url: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        unimsg.store(url)


def test_repr_tells_them_apart() -> None:
    assert repr(unimsg.store("memory://")) == "<MemoryStore>"
    assert repr(unimsg.store("memory://x")) == "<MemoryStore x>"
    assert repr(unimsg.store("sqlite:///seen.db")) == "<SqliteStore seen.db>"
    assert isinstance(STORE, Store)
    assert "good" in repr(unimsg.idempotent(STORE)(good))
