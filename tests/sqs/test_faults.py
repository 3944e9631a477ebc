"""What the service and the line do to calls: each publish has its one true end, and nothing that was taken is lost.

Every test runs by both transports, on both kinds of queues, signatures verified.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import EndpointConnectionError

import unimsg
from tests.sqs.aws_faults import FaultProxy, Rule, kinds
from unimsg.backends._aws import trouble
from unimsg.errors import (
    ConnectError,
    ConnectionLostError,
    Error,
    OutcomeUnknownError,
    PermissionDeniedError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)
from unimsg.message import Message, Receipt
from unimsg.spi import Received, Settlement
from unimsg.testing.conformance.world import eventually

LATER = 1e9


def messages(count: int) -> list[Message[bytes | None]]:
    return [Message(body=b"%d" % number, id=f"m{number}", key=f"k{number}") for number in range(count)]


async def ends(url: str, queue: str, count: int = 1) -> list[Receipt | Error]:
    """Send one batch, past the core, and return what became of it."""
    async with unimsg.connect(url) as client:
        sender = await client.backend.open_sender(queue)
        return list(await sender.send_batch(messages(count), LATER))


async def stored(url: str, queue: str) -> list[Any]:
    found: list[Any] = []

    async def handle(delivery: unimsg.Delivery[Any]) -> None:
        found.append(delivery.body)

    async with unimsg.connect(url) as client:
        await client.subscriber(queue).run_until_idle(handle)
    return sorted(found)


@pytest.mark.parametrize(
    ("rule", "end", "ran"),
    [
        (Rule("error", code="RequestThrottled"), ThrottledError, False),
        (Rule("error", code="AccessDeniedException"), PermissionDeniedError, False),
        (Rule("error", code="ExpiredTokenException"), PermissionDeniedError, False),
        (Rule("error", code="InvalidMessageContents"), RejectedError, False),
        (Rule("error", code="InternalFailure", status=500), OutcomeUnknownError, False),
        (Rule("after"), OutcomeUnknownError, True),
        (Rule("garbage"), OutcomeUnknownError, False),
        (Rule("drop", when="before"), OutcomeUnknownError, False),
        (Rule("drop", when="after"), OutcomeUnknownError, True),
        (Rule("drop", when="mid"), OutcomeUnknownError, True),
        (Rule("drop", when="before", reset=True), OutcomeUnknownError, False),
        (Rule("drop", when="after", reset=True), OutcomeUnknownError, True),
        (Rule("hang", when="after"), OutcomeUnknownError, True),
        (Rule("partial", rate=1.0, code="RequestThrottled"), ThrottledError, False),
        (Rule("partial", rate=1.0, code="InternalError", ghost=True), OutcomeUnknownError, True),
    ],
    ids=lambda value: f"{value.kind}-{value.when}-{value.code}" if isinstance(value, Rule) else None,
)
async def test_each_end_is_the_true_one(
    url: str, queue: str, proxy: FaultProxy, rule: Rule, end: type[Error], ran: bool
) -> None:
    """Unknown is never called failed, and what certainly did not run is never called unknown; promise 2."""
    rule.op = "SendMessageBatch"
    proxy.rules = [rule]
    if "botocore" in url and rule.kind == "hang":
        pytest.skip("the client waits for an answer as long as a poll may take: 22 s")

    (told,) = await ends(url, queue)
    calls = proxy.passed.calls["SendMessageBatch"]
    proxy.rules = []

    assert type(told) is end
    assert calls == 1, "an unknown outcome was sent again by the client library"
    assert await stored(url, queue) == ([0] if ran else [])


async def test_a_part_that_failed_is_told_entry_by_entry(url: str, queue: str, proxy: FaultProxy) -> None:
    """By its id, not its place: the others are confirmed, and only it is sent again; promise 2."""
    proxy.rules = [Rule("partial", op="SendMessageBatch", rate=0.5, times=1)]
    told = await ends(url, queue, 10)
    failed = [at for at, end in enumerate(told) if not isinstance(end, Receipt)]

    assert 0 < len(failed) < 10
    assert [end.id for end in told if isinstance(end, Receipt)] == [
        f"m{at}" for at in range(10) if at not in failed
    ]
    assert await stored(url, queue) == [at for at in range(10) if at not in failed]


async def test_all_is_published_though_a_third_of_all_entries_fails(
    url: str, queue: str, proxy: FaultProxy
) -> None:
    """Each once: an entry that failed is sent again alone, never its batch; promises 2, 4."""
    proxy.rules = [
        Rule("error", op="SendMessageBatch", p=0.1),
        Rule("partial", op="SendMessageBatch", rate=0.3, code="RequestThrottled"),
    ]
    async with unimsg.connect(url) as client:
        await asyncio.gather(*(client.publish(queue, number, key=f"k{number % 7}") for number in range(100)))
    proxy.rules = []

    assert kinds(proxy.log)["partial"] > 0
    assert await stored(url, queue) == list(range(100))


async def test_settling_names_the_entry_that_failed(url: str, queue: str, proxy: FaultProxy) -> None:
    """The others are gone, this one is tried again; promise 5."""
    async with unimsg.connect(url) as client:
        sender = await client.backend.open_sender(queue)
        await sender.send_batch(messages(5), LATER)
        receiver = await client.backend.open_receiver(queue, None, "oldest", NoEvents(), 10)
        batch: list[Received] = []
        while len(batch) < 5:
            batch += await receiver.receive_batch(10, 1.0)
        proxy.rules = [Rule("partial", op="DeleteMessageBatch", rate=0.5, code="InternalError", times=1)]
        settlements = [Settlement("ack", received.token) for received in batch]
        told = await receiver.settle_batch(settlements)
        failed = [at for at, error in enumerate(told) if error is not None]
        assert failed
        assert all(isinstance(told[at], UnavailableError) for at in failed)
        back = [Settlement("release", batch[at].token) for at in failed]
        assert list(await receiver.settle_batch(back)) == [None] * len(back)

    assert await stored(url, queue) == sorted(int(batch[at].message.body or b"") for at in failed)


async def test_nothing_is_lost_and_nothing_doubled_when_settling_is_hard(
    url: str, queue: str, proxy: FaultProxy
) -> None:
    """Throttles and failures of every settling call: each message is handled once and is gone; promise 21."""
    async with unimsg.connect(url) as client:
        await asyncio.gather(*(client.publish(queue, number) for number in range(60)))
        proxy.rules = [
            Rule("error", op="DeleteMessageBatch", p=0.2),
            Rule("partial", op="DeleteMessageBatch", rate=0.2, code="InternalError"),
        ]
        seen: list[int] = []

        async def handle(delivery: unimsg.Delivery[Any]) -> None:
            seen.append(delivery.body)

        await client.subscriber(queue).run_until_idle(handle)
    proxy.rules = []

    assert sorted(seen) == list(range(60))
    assert await stored(url, queue) == []


async def test_a_receive_that_breaks_keeps_what_is_in_hand(url: str, queue: str, proxy: FaultProxy) -> None:
    """A connection is nothing to SQS: what was received before stays ours, and is acked; promise 8."""
    handled = asyncio.Event()
    async with unimsg.connect(url) as client:
        await client.publish(queue, "m")

        async def handle(delivery: unimsg.Delivery[Any]) -> None:
            proxy.rules = [Rule("drop", op="ReceiveMessage", reset=True, times=2)]
            await eventually(lambda: proxy.log, "a poll breaks")
            assert not delivery.lease_lost
            handled.set()

        subscriber = client.subscriber(queue)
        running = asyncio.create_task(subscriber.run(handle))
        async with asyncio.timeout(30):
            await handled.wait()
        await subscriber.aclose()
        await running
        assert subscriber.health().counters["lost"] == 0

    assert await stored(url, queue) == []


async def test_a_wrong_secret_is_refused_by_who_verifies(url: str, queue: str) -> None:
    """At open, as what it is; the signature of every other test here was right."""
    with pytest.raises(PermissionDeniedError):
        await ends(url.replace("secret_key=test", "secret_key=wrong"), queue)


async def test_credentials_that_expire_are_looked_for_anew(
    url: str, queue: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the environment, after the service has said so; the publish that met it goes through."""
    proxy._keys = {"old": "s1", "new": "s2"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s1")
    bare = url.replace("&access_key=test&secret_key=test", "")
    async with unimsg.connect(bare) as client:
        await client.publish(queue, 1)
        proxy.expired.add("old")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s2")
        await client.publish(queue, 2)
    proxy._keys = {"test": "test"}

    assert await stored(url, queue) == [1, 2]


class NoEvents:
    """Nobody who would listen: a queue assigns nothing."""

    def assigned(self, assignments: Any, /) -> None: ...
    async def revoked(self, assignments: Any, deadline: float, /) -> None: ...
    def lost(self, assignments: Any, /) -> None: ...
    def wake(self) -> None: ...


def test_a_connection_that_broke_is_no_connection_that_was_refused() -> None:
    """The class that botocore gives says the same of both; its cause does not."""
    broken = EndpointConnectionError(endpoint_url="http://x", error=aiohttp.ClientOSError(104, "reset"))
    assert isinstance(trouble.translate(broken, backend="sqs"), ConnectionLostError)
    refused = EndpointConnectionError(
        endpoint_url="http://x",
        error=aiohttp.ClientConnectorError(None, OSError(111, "refused")),  # type: ignore[arg-type]  # not looked at
    )
    assert isinstance(trouble.translate(refused, backend="sqs"), ConnectError)
