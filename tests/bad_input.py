"""The table of bad input: what is done, the error it gets, what the error says.

Law: data, and what a row needs to be done; `tests/test_bad_input.py` does each, `docs/reference/refusals.md` is written
from it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import unimsg
from unimsg.capabilities import Needs
from unimsg.client import Client, connect, options_schema
from unimsg.consuming.delivery import Delivery
from unimsg.errors import (
    CapabilityError,
    ClosedError,
    ConfigError,
    EncodeError,
    MessageTooLargeError,
    NotFoundError,
    OptionError,
    PublishManyError,
    RejectedError,
    UnknownSchemeError,
)
from unimsg.message import Message, Position
from unimsg.policies.retry import RetryPolicy
from unimsg.router import Router

SECRET = "hunter2"  # noqa: S105 - stands in the rows with passwords, and must never show


@dataclass(frozen=True)
class Row:
    """One thing that is wrong.

    Attributes:
        what: as a person would write it, for the page.
        do: does it, with a client of an empty `memory://`.
        error: the class, exactly.
        says: a part of the sentence: what happened, and what to do.
    """

    what: str
    do: Callable[[Client], Any] = field(repr=False)
    error: type[Exception]
    says: str


async def handle(delivery: Delivery[Any]) -> None:
    """A handler as it should be."""


def blocking(delivery: Delivery[Any]) -> None:
    """A handler that would block the loop."""


async def generating(delivery: Delivery[Any]) -> Any:
    """A handler that yields."""
    yield


async def of_two(delivery: Delivery[Any], other: object) -> None:
    """A handler that wants more than a delivery."""


def url(text: str, error: type[Exception], says: str) -> Row:
    """A URL that cannot be."""
    return Row(f"connect({text!r})", lambda _: connect(text), error, says)


def entering(text: str, error: type[Exception], says: str) -> Row:
    """A URL that can be, for something that is not there."""

    async def enter(_: Client) -> None:
        async with connect(text):
            pass

    return Row(f"async with connect({text!r})", enter, error, says)


def seen(text: str, error: type[Exception], says: str) -> Row:
    """A store that cannot be."""
    return Row(f"store({text!r})", lambda _: unimsg.store(text), error, says)


def shown(arguments: Mapping[str, Any]) -> str:
    """Arguments as they are written, long ones cut."""
    return ", ".join(f"{name}={cut(repr(value))}" for name, value in arguments.items())


def cut(text: str) -> str:
    """At most so much of it."""
    return text if len(text) <= 40 else f"{text[:24]}…"


def needing(error: type[Exception], says: str, **needs: Any) -> Row:
    """Needs that are none, or that memory does not meet."""
    return Row(
        f"connect('memory://', needs=Needs({shown(needs)}))",
        lambda _: connect("memory://", needs=Needs(**needs)),
        error,
        says,
    )


def publishing(error: type[Exception], says: str, body: Any = 1, to: Any = "orders", **more: Any) -> Row:
    """A message that cannot be published."""
    arguments = f"{to!r}, {cut(repr(body))}" + (f", {shown(more)}" if more else "")
    return Row(f"client.publish({arguments})", lambda client: client.publish(to, body, **more), error, says)


def subscribing(error: type[Exception], says: str, **settings: Any) -> Row:
    """Settings that cannot be."""
    given = {"group": "g", **settings}
    return Row(
        f"client.subscriber('orders', {shown(given)})",
        lambda client: client.subscriber("orders", **given),
        error,
        says,
    )


def running(error: type[Exception], says: str, **settings: Any) -> Row:
    """Settings that only the open backend can refuse."""
    return Row(
        f"client.subscriber('orders'{', ' if settings else ''}{shown(settings)}).run(handler)",
        lambda client: client.subscriber("orders", **settings).run(handle),
        error,
        says,
    )


def handler(what: str, function: Any, says: str) -> Row:
    """A function that is no handler."""
    return Row(
        f"router.on('orders', group='g')({what})",
        lambda _: Router().on("orders", group="g")(function),
        ConfigError,
        says,
    )


def retrying(error: type[Exception], says: str, **given: Any) -> Row:
    """A policy that cannot be."""
    return Row(f"RetryPolicy({shown(given)})", lambda _: RetryPolicy(**given), error, says)


# ---------------------------------------------------------------- what a few rows do


def registered(first: str = "orders", second: str = "orders") -> Router:
    router = Router()
    router.on(first, group="g")(handle)
    router.on(second, group="g")(handle)
    return router


def included(_: Client) -> None:
    router, other = Router(), Router()
    router.on("orders", group="g")(handle)
    other.on("orders", group="g")(handle)
    router.include(other)


def included_with_a_lifespan(_: Client) -> None:
    Router().include(Router(lifespan=lambda _: None))  # type: ignore[arg-type, return-value]  # never entered


async def used_after_closing(client: Client) -> None:
    await client.aclose()
    await client.publish("orders", 1)


async def subscribed_after_closing(client: Client) -> None:
    await client.aclose()
    client.subscriber("orders", group="g")


async def iterated_in_batches(client: Client) -> None:
    async for _ in client.subscriber("orders", group="g", batch=5):
        pass


async def run_twice(client: Client) -> None:
    subscriber = client.subscriber("orders", group="g")
    first = asyncio.ensure_future(subscriber.run(handle))
    try:
        await subscriber.opened.wait()
        await subscriber.run(handle)
    finally:
        await subscriber.aclose()
        await first


async def sought(client: Client) -> None:
    await client.subscriber("orders", group="g").seek("yesterday")  # type: ignore[arg-type]  # what is refused


def options_of_another(_: Client) -> None:
    connect(object())  # type: ignore[arg-type]  # what is refused


async def strict(_: Client) -> None:
    async with connect("memory://?create=false") as client:
        await client.publish("ordesr", 1)


TABLE: Mapping[str, list[Row]] = {
    "URLs": [
        url("memory", OptionError, "'memory' is no URL: give scheme://where?option=value, as in memory://"),
        url("", OptionError, "'' is no URL"),
        url("memry://", UnknownSchemeError, "no backend is known for 'memry'; did you mean memory://?"),
        url("kafak://b1", UnknownSchemeError, "no backend is known for 'kafak'; "),
        url("MEMORY://", UnknownSchemeError, "no backend is known for 'MEMORY'"),
        url("memory://a/b", OptionError, "takes one name without / or @, as in memory://tests"),
        url("memory://a b", OptionError, "holds a space or #: percent-encode it"),
        url("memory://a#b", OptionError, "holds a space or #: percent-encode it"),
        url("memory://%FF", OptionError, "percent-encoded bytes that are no UTF-8"),
        url("sqlite://orders.db", OptionError, "needs a file after a third slash: sqlite:///relative.db"),
        url("sqlite:///", OptionError, "needs a file after a third slash"),
        url("sqlite:///data/", OptionError, "needs a file after a third slash"),
        url("sqlite:///:memory:", OptionError, "for a broker in memory use memory://"),
        Row(
            "connect(None)",
            lambda _: connect(None),  # type: ignore[arg-type]  # what is refused
            ConfigError,
            "connect takes a URL or Options, not NoneType",
        ),
        Row(
            "connect(object())", options_of_another, ConfigError, "connect takes a URL or Options, not object"
        ),
        Row(
            "options_schema('memry')",
            lambda _: options_schema("memry"),
            UnknownSchemeError,
            "did you mean memory",
        ),
        entering("sqlite:///no/such/folder.db", NotFoundError, "does not exist: make it first"),
        entering(
            "sqlite:///orders.db?create=false", NotFoundError, "there is no file orders.db, and create=false"
        ),
    ],
    "Options": [
        url("memory://?leese=20s", OptionError, "'leese' is no option of memory://; did you mean lease?"),
        url("memory://?zzz=1", OptionError, "'zzz' is no option of memory://; known are chaos, create,"),
        url("memory://?lease=20s&lease=30s", OptionError, "option lease is given twice: give it once"),
        url(
            "memory://?lease=",
            OptionError,
            "option lease= is not accepted: give a value, or leave the option out",
        ),
        url("memory://?lease", OptionError, "the query is malformed: give option=value, joined by &"),
        url(
            "memory://?lease=20", OptionError, "lease: '20' is not a duration: give a unit of ms, s, m, h, d"
        ),
        url("memory://?lease=0s", OptionError, "option lease=0s is not accepted: give from 10ms to 12h"),
        url("memory://?lease=1e3s", OptionError, "give a duration with its unit"),
        url("memory://?max_body=16MegaByte", OptionError, "give a unit of B, KB, MB, GB, KiB, MiB, GiB"),
        url("memory://?max_body=0", OptionError, "option max_body=0 is not accepted: give 1 at least"),
        url("memory://?create=no", OptionError, "option create=no is not accepted: give true or false"),
        url("memory://?ordering=kye", OptionError, "give one of key, none; did you mean key?"),
        url("memory://?history=-1", OptionError, "option history=-1 is not accepted: give 0 at least"),
        url("memory://?history=1.5", OptionError, "give a whole number"),
        url("memory://?fail=1", OptionError, "option fail=1.0 is not accepted: give from 0.0 to 0.9"),
        url("sqlite:///a.db?synchronous=off", OptionError, "give one of FULL, NORMAL, OFF"),
    ],
    "Needs": [
        needing(CapabilityError, "ordering=total is needed, ordering=key is what there is", ordering="total"),
        needing(CapabilityError, "priority=True is needed, priority=False is what there is", priority=True),
        needing(
            CapabilityError,
            "durability=disk is needed, durability=memory is what there is; available with sqlite",
            durability="disk",
        ),
        needing(
            CapabilityError,
            "need ordering='sometimes' is unknown: one of 'none', 'key'",
            ordering="sometimes",
        ),
        needing(CapabilityError, "need groups='yes' is not accepted: give True or False", groups="yes"),
        needing(
            CapabilityError, "need lease='30s' is not accepted: give True, False or a number", lease="30s"
        ),
        needing(CapabilityError, "need retention=-1 is not accepted: give a number of seconds", retention=-1),
        Row(
            "connect('memory://', needs='ordering')",
            lambda _: connect("memory://", needs="ordering"),  # type: ignore[arg-type]  # what is refused
            ConfigError,
            "needs='ordering' is not accepted: give a Needs, as in Needs(ordering='key')",
        ),
        Row(
            "connect('memory://?ordering=none', needs=Needs(ordering='key'))",
            lambda _: connect("memory://?ordering=none", needs=Needs(ordering="key")),
            CapabilityError,
            "(taken by option ordering=none); available with memory, sqlite",
        ),
    ],
    "Messages": [
        publishing(OptionError, "destination='' is not accepted: give a name", to=""),
        publishing(OptionError, "destination=None is not accepted: give a name", to=None),
        publishing(
            OptionError, "destination 'a b' is not portable: use 1 to 60 of A-Z a-z 0-9 _ -", to="a b"
        ),
        publishing(OptionError, "or open with names=any", to="orders.v1"),
        publishing(EncodeError, "cannot be written as JSON", body=Row),
        publishing(EncodeError, "the body is a str, codecs.BYTES takes bytes", body="text", codec=bytes),
        publishing(EncodeError, "the body is a dict, this publisher takes Message", body={}, codec=Message),
        publishing(OptionError, "give codecs.JSON, BYTES or TEXT", codec={}),
        publishing(
            MessageTooLargeError, "the limit is 16777216: send a reference instead", body="x" * (1 << 24)
        ),
        publishing(RejectedError, "key must be text or None, not int", key=7),
        publishing(RejectedError, "key holds a lone surrogate, which UTF-8 cannot: replace it", key="\ud800"),
        publishing(RejectedError, "id must be text that is not empty", id=""),
        publishing(RejectedError, "delay must be 0 or more seconds, not -1", delay=-1),
        publishing(RejectedError, "delay must be seconds or a timedelta, not '5s'", delay="5s"),
        publishing(RejectedError, "ttl must be more than 0 seconds, not 0", ttl=0),
        publishing(RejectedError, "ttl must be more than 0 seconds", ttl=timedelta(0)),
        publishing(RejectedError, "priority must be a whole number from 0 to 9, not 10", priority=10),
        publishing(CapabilityError, "priority=True is needed, priority=False is what there is", priority=5),
        publishing(RejectedError, "timeout must be more than 0 seconds, not 0", timeout=0),
        publishing(RejectedError, "content_type must be text or None, not int", content_type=1),
        Row(
            "… publishing after `client.aclose()`",
            used_after_closing,
            ClosedError,
            "the client is closed: connect again",
        ),
        Row(
            "… publishing to `ordesr` on memory://?create=false",
            strict,
            NotFoundError,
            "there is no such destination, and create=false: provision it",
        ),
        Row(
            "publisher.publish_many([b'bare'])",
            lambda client: client.publisher("orders").publish_many([b"bare"]),  # type: ignore[list-item]  # refused
            ConfigError,
            "publish_many takes messages, not bytes: Message(body=…, key=…)",
        ),
        Row(
            "publisher.publish_many(None)",
            lambda client: client.publisher("orders").publish_many(None),  # type: ignore[arg-type]  # refused
            ConfigError,
            "publish_many takes messages, not NoneType",
        ),
        Row(
            "publisher.publish_many([Message(body=object())])",
            lambda client: client.publisher("orders").publish_many([Message(body=object())]),
            PublishManyError,
            "1 of 1 messages were not confirmed, see results; the first: ",
        ),
    ],
    "Headers": [
        publishing(RejectedError, "headers must map text to text, not be list", headers=[("a", "b")]),
        publishing(
            RejectedError, "header 'a': name and value must be text, not str and int", headers={"a": 1}
        ),
        publishing(RejectedError, "header 1: name and value must be text, not int and str", headers={1: "a"}),
        publishing(RejectedError, "a header has no name", headers={"": "a"}),
        publishing(RejectedError, "names that begin with 'unimsg-' are reserved", headers={"unimsg-x": "a"}),
        publishing(RejectedError, "holds a lone surrogate, which UTF-8 cannot", headers={"a": "\ud800"}),
        publishing(
            RejectedError,
            "the message has 129 headers, at most 128 are allowed: put them into the body",
            headers={str(number): "" for number in range(129)},
        ),
    ],
    "Handlers and routers": [
        handler(
            "sync_function", blocking, "is not `async def`: it would block every other message; make it async"
        ),
        handler("lambda delivery: None", lambda delivery: None, "is not `async def`"),
        handler("generator", generating, "contains `yield`: a handler is `async def` and returns None"),
        handler(
            "of_two_arguments", of_two, "cannot be called with one delivery: missing a required argument"
        ),
        handler("dict", dict, "a handler must be an async function of one delivery, not type"),
        handler("None", None, "a handler must be an async function of one delivery, not NoneType"),
        Row(
            "router.on(handler)",
            lambda _: Router().on(handle),  # type: ignore[arg-type]  # the parentheses were forgotten
            ConfigError,
            "give the name of a destination, as in @router.on('orders')",
        ),
        Row(
            "… two handlers for one group",
            lambda _: registered(),
            ConfigError,
            "give each its own group, or call both",
        ),
        Row("router.include(other), both with 'orders'", included, ConfigError, "has a handler already"),
        Row(
            "router.include(other), which has a lifespan",
            included_with_a_lifespan,
            ConfigError,
            "enter it in the lifespan",
        ),
        Row(
            "router.include(None)",
            lambda _: Router().include(None),  # type: ignore[arg-type]  # what is refused
            ConfigError,
            "include takes a Router, not NoneType",
        ),
        Row(
            "Router(lifespan=5)",
            lambda _: Router(lifespan=5),  # type: ignore[arg-type]  # what is refused
            ConfigError,
            "give an async context manager function of the client",
        ),
        Row(
            "Router().run(client)",
            lambda client: Router().run(client),
            ConfigError,
            "decorate one with @router.on(",
        ),
        Row(
            "router.run(None)",
            lambda _: registered(second="other").run(None),  # type: ignore[arg-type]  # what is refused
            ConfigError,
            "a router runs on a Client, not NoneType: connect(url) makes one",
        ),
        Row(
            "subscriber.run(sync_function)",
            lambda client: client.subscriber("orders", group="g").run(blocking),  # type: ignore[arg-type]  # refused
            ConfigError,
            "is not `async def`",
        ),
    ],
    "Settings of a subscriber": [
        subscribing(
            OptionError, "'workers' is no setting of a subscriber; known are batch, batch_wait", workers=5
        ),
        subscribing(
            OptionError, "concurrency=0 is not accepted: give a whole number from 1 on", concurrency=0
        ),
        subscribing(OptionError, "concurrency='4' is not accepted", concurrency="4"),
        subscribing(OptionError, "group=7 is not accepted: give a name", group=7),
        subscribing(OptionError, "timeout='soon' is not accepted: 'soon' is not a duration", timeout="soon"),
        subscribing(
            OptionError, "timeout=-1 is not accepted: -1 is not a duration: it must be finite", timeout=-1
        ),
        subscribing(OptionError, "timeout=0.0 is not accepted: give a duration above 0", timeout=0),
        subscribing(OptionError, "order='sorted' is not accepted: give one of 'none', 'key'", order="sorted"),
        subscribing(
            CapabilityError, "ordering=total is needed, ordering=key is what there is", order="total"
        ),
        subscribing(OptionError, "a Position or a datetime with a time zone", start=datetime(2026, 1, 1)),  # noqa: DTZ001 - refused
        subscribing(
            OptionError, 'start=\'yesterday\' is not accepted: give "oldest", "newest"', start="yesterday"
        ),
        subscribing(
            OptionError, "rate=inf is not accepted: give messages a second, more than 0", rate=float("inf")
        ),
        subscribing(OptionError, "prefetch=0 is not accepted: give a whole number from 1 on", prefetch=0),
        subscribing(
            OptionError,
            "batch=5 is not accepted: give at most prefetch=2, or raise that",
            batch=5,
            prefetch=2,
        ),
        subscribing(OptionError, "retry=5 is not accepted: give a RetryPolicy", retry=5),
        subscribing(OptionError, "give another destination than the one consumed", dead_letter="orders"),
        subscribing(OptionError, "needs={} is not accepted: give a Needs", needs={}),
        subscribing(OptionError, "codec='json' is not accepted: give codecs.JSON", codec="json"),
        running(CapabilityError, "a group is required here: give group="),
        running(OptionError, "group 'a b' is not portable", group="a b"),
        running(OptionError, "is no position in this destination", group="g", start=Position("other", 1)),
        Row(
            "async for … in subscriber, with batch=5",
            iterated_in_batches,
            ConfigError,
            "batch= is for run(handler)",
        ),
        Row(
            "subscriber.run(handler), twice at once",
            run_twice,
            ConfigError,
            "make another for the same group",
        ),
        Row("subscriber.seek('yesterday')", sought, OptionError, "start='yesterday' is not accepted"),
        Row("… subscribing after `client.aclose()`", subscribed_after_closing, ClosedError, "connect again"),
        retrying(
            OptionError,
            "RetryPolicy(max_attempts=0) is not accepted: give a whole number from 1 on",
            max_attempts=0,
        ),
        retrying(OptionError, "give at least as long a delay as initial", initial=10, max=5),
        retrying(OptionError, 'give "equal", "full" or "none"', jitter="some"),
        retrying(OptionError, "give an exception class or a tuple of them", retry_on="ValueError"),
    ],
    "Stores": [
        seen("seen.db", ConfigError, "'seen.db' is no URL: give scheme://where, as in sqlite:///seen.db"),
        seen(
            "sqlit:///seen.db", UnknownSchemeError, "no store is known for 'sqlit'; did you mean sqlite://?"
        ),
        seen("memory://?ttl=5", OptionError, "is no option of memory://"),
        Row(
            "store(None)",
            lambda _: unimsg.store(None),  # type: ignore[arg-type]  # what is refused
            ConfigError,
            "store takes a URL, not NoneType: store('sqlite:///seen.db')",
        ),
    ],
    "Passwords, wherever they stand": [
        url(f"app:{SECRET}@host", OptionError, "'app:***@host' is no URL"),
        url(f"amqq://app:{SECRET}@host", UnknownSchemeError, "no backend is known for 'amqq'"),
        url(f"memory://app:{SECRET}@host", OptionError, "takes one name without / or @"),
        url(f"memory://app:{SECRET}@host/x?lease=1", OptionError, "takes one name without / or @"),
        url(f"memory://?password={SECRET}", OptionError, "'password' is no option of memory://"),
        url(f"memory://?token={SECRET}&lease=20", OptionError, "'token' is no option of memory://"),
        url(f"memory://?app:{SECRET}@host", OptionError, "the query is malformed"),
        url(f"memory://?app:{SECRET}@host=1", OptionError, "is no option of memory://"),
        url(f"memory://?name=app%3A{SECRET}%40host", OptionError, "'name' is no option of memory://"),
        url(f"memory://app%3A{SECRET}%40host/x", OptionError, "takes one name without / or @"),
        url(f"memory://?names=amqp%3A%2F%2Fapp%3A{SECRET}%40host", OptionError, "names=amqp://app:***@host"),
        url(f"memory://?names=password%3D{SECRET}", OptionError, "names=password=***"),
        url(f"memory://app:{SECRET} 2@host", OptionError, "holds a space or #"),
        url(f"memory://app:a#{SECRET}@host", OptionError, "holds a space or #"),
        url(f"sqlite://app:{SECRET}@host/orders.db", OptionError, "needs a file after a third slash"),
        url(f"sqlite:///orders.db?key={SECRET}", OptionError, "'key' is no option of sqlite://"),
        url(f"sqlite:///orders.db?app%3A{SECRET}%40host=1", OptionError, "is no option of sqlite://"),
        url(f"memory://?%FF={SECRET}", OptionError, "the query is malformed"),
        seen(f"postgresq://app:{SECRET}@host/db", UnknownSchemeError, "no store is known for 'postgresq'"),
        seen(f"app:{SECRET}@host", ConfigError, "'app:***@host' is no URL"),
        seen(f"memory://app:{SECRET}@host", OptionError, "takes one name without / or @"),
    ],
}
ROWS = [row for rows in TABLE.values() for row in rows]


@contextmanager
def empty_folder() -> Iterator[Path]:
    """Work in a folder of its own."""
    before = Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


async def refusal(row: Row, client: Client) -> Exception:
    """Do what is wrong and return the error."""
    try:
        result = row.do(client)
        if inspect.isawaitable(result):
            await asyncio.wait_for(result, 10)
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return error
    raise AssertionError(f"accepted: {row.what}")


async def sentences(rows: list[Row]) -> list[str]:
    """What each row says, for the page."""
    found = []
    with empty_folder():
        for row in rows:
            async with connect("memory://") as client:
                error = await refusal(row, client)
                found.append(getattr(error, "sentence", str(error)))
    return found
