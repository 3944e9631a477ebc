"""Dead letters go back as they were, and none is lost on the way (promises 3, 14, 25)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

import unimsg
from unimsg import Client, DeadLetter, Delivery, Message, Router, idempotent, store
from unimsg.codecs import BYTES
from unimsg.errors import CapabilityError, ConnectionLostError, NotFoundError, OptionError, RejectedError
from unimsg.headers import DEAD_LETTER, REDRIVE, redrive_of
from unimsg.message import Receipt, WireMessage
from unimsg.operations.redrive import READER, Letter, Redrive, settings
from unimsg.testing import ManualClock

BINARY = bytes(range(256))


@pytest.fixture(params=["memory", "sqlite"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/messages.db"
    async with unimsg.connect(url) as client:
        yield client


async def bury(client: Client, *, group: str = "billing", reason: str = "no such account") -> int:
    """Dead-letter everything that a group finds in `orders`; returns how many."""

    async def refuse(delivery: Delivery[Any]) -> None:
        raise DeadLetter(reason)

    subscriber = client.subscriber("orders", group=group, codec=BYTES, dead_letter="orders-dead")
    return (await subscriber.run_until_idle(refuse)).counters["dead_lettered"]


async def publish(client: Client, *bodies: bytes, key: str | None = None, start: int = 1) -> None:
    publisher = client.publisher("orders", codec=BYTES)
    for number, body in enumerate(bodies, start):
        await publisher.publish(body, key=key, headers={"n": str(number)}, id=f"id-{number}")


async def found(client: Client, destination: str, group: str) -> list[WireMessage]:
    """What a group gets of a destination now; it is acked."""
    messages: list[WireMessage] = []

    async def take(delivery: Delivery[Any]) -> None:
        messages.append(delivery.message)

    await client.subscriber(destination, group=group, codec=BYTES).run_until_idle(take)
    return messages


async def test_a_dead_letter_goes_back_byte_for_byte(client: Client) -> None:
    """Promise 3, 14: body, key, id and headers are those of the message it was, and one header says for whom."""
    await publish(client, BINARY, key="ann")
    await bury(client)

    report = await client.redrive("orders-dead", group="billing")
    (again,) = await found(client, "orders", "billing")

    assert (report.looked_at, report.redriven, report.left, report.complete) == (1, 1, 0, True)
    assert report.errors == {"DeadLetter": 1}
    assert (again.body, again.key, again.id) == (BINARY, "ann", "id-1")
    mark = redrive_of(again.headers)
    assert mark is not None
    assert (mark.number, mark.group) == (1, "billing")
    assert {name: text for name, text in again.headers.items() if name != REDRIVE} == {"n": "1"}
    assert await found(client, "orders-dead", READER) == []


async def test_it_can_die_and_come_back_again_within_the_dedup_window(client: Client) -> None:
    """Promise 3, 25: the id stays the same, the number rises, and no dedup window swallows either way."""
    await publish(client, b"1")
    numbers = []
    for _ in range(3):
        assert await bury(client) == 1
        report = await client.redrive("orders-dead", group="billing")
        assert report.redriven == 1
        numbers.append(report.redriven)
    (again,) = await found(client, "orders", "billing")

    mark = redrive_of(again.headers)
    assert mark is not None
    assert (again.id, mark.number) == ("id-1", 3)


async def test_two_groups_bury_the_same_message_and_each_gets_its_own_back(client: Client) -> None:
    """Promise 25: a dead letter of one group is not taken for that of another; the others ack it unhandled."""
    await publish(client, b"1")
    assert (await bury(client, group="billing"), await bury(client, group="audit")) == (1, 1)
    billing = await client.redrive("orders-dead", group="billing")
    audit_got = await found(client, "orders", "audit")
    audit = await client.redrive("orders-dead", group="audit")

    assert (billing.looked_at, billing.redriven, billing.left) == (2, 1, 1)
    assert (audit.looked_at, audit.redriven, audit.left) == (1, 1, 0)
    assert audit_got == []
    assert [m.body for m in await found(client, "orders", "audit")] == [b"1"]
    assert [m.body for m in await found(client, "orders", "billing")] == [b"1"]


async def test_another_group_acks_a_redriven_message_unhandled(client: Client) -> None:
    """Promise 25, also without an idempotent handler: received, acked, counted as a duplicate, never run."""
    await publish(client, b"1")
    await bury(client)
    await found(client, "orders", "audit")
    await client.redrive("orders-dead", group="billing")

    async def never(delivery: Delivery[Any]) -> None:
        raise AssertionError("it is not for this group")

    health = await client.subscriber("orders", group="audit", codec=BYTES).run_until_idle(never)

    assert {name: health.counters[name] for name in ("received", "acked", "duplicates", "failed")} == {
        "received": 1,
        "acked": 1,
        "duplicates": 1,
        "failed": 0,
    }


async def test_a_filter_leaves_the_others_where_they_are(client: Client) -> None:
    """What stays blocks nothing, is found by the next run, and has lost no attempt."""
    await publish(client, b"1", b"2", b"3", key="ann")
    await bury(client)

    def even(letter: Letter) -> bool:
        assert letter.info is not None
        assert letter.info.reason == "no such account"
        return letter.message.body == b"2"

    report = await client.redrive("orders-dead", group="billing", filter=even)
    again = await found(client, "orders", "billing")
    attempts: list[int] = []

    async def look(delivery: Delivery[Any]) -> None:
        attempts.append(delivery.attempt)

    await client.subscriber("orders-dead", group=READER, codec=BYTES).run_until_idle(look)

    assert (report.looked_at, report.redriven, report.left, report.complete) == (3, 1, 2, True)
    assert [message.body for message in again] == [b"2"]
    assert attempts == [1, 1]


async def test_many_that_stay_do_not_stop_the_run(client: Client) -> None:
    """More than a subscriber would have in hand at a time: the last one of all is still found."""
    bodies = [str(n).encode() for n in range(3_000)]
    await client.publisher("orders", codec=BYTES).publish_many(
        [Message(body=body, key="k") for body in bodies]
    )
    assert await bury(client) == 3_000

    report = await client.redrive("orders-dead", group="billing", filter=lambda d: d.message.body == b"2999")

    assert (report.looked_at, report.redriven, report.left) == (3_000, 1, 2_999)


async def test_a_dry_run_publishes_nothing(client: Client) -> None:
    """It counts, and everything is there afterwards."""
    await publish(client, b"1", b"2")
    await bury(client)

    report = await client.redrive("orders-dead", group="billing", dry_run=True)

    assert (report.redriven, report.dry_run) == (2, True)
    assert await found(client, "orders", "billing") == []
    assert len(await found(client, "orders-dead", READER)) == 2


async def test_a_limit_is_never_exceeded(client: Client) -> None:
    """The rest stays, and the report says that there may be more."""
    await publish(client, b"1", b"2", b"3", b"4")
    await bury(client)

    report = await client.redrive("orders-dead", group="billing", limit=2)

    assert (report.redriven, report.complete) == (2, False)
    assert len(await found(client, "orders", "billing")) == 2
    assert len(await found(client, "orders-dead", READER)) == 2


async def test_order_per_key_is_kept(client: Client) -> None:
    """Promise 4: what died in an order comes back in it."""
    bodies = [str(n).encode() for n in range(500)]
    await publish(client, *bodies, key="ann")
    await bury(client)

    await client.redrive("orders-dead", group="billing")

    assert [message.body for message in await found(client, "orders", "billing")] == bodies


async def test_a_dead_letter_of_another_program_needs_a_destination(client: Client) -> None:
    """It does not say where it came from: it stays until somebody else says so."""
    await client.publish("orders-dead", 1, id="foreign")

    nowhere = await client.redrive("orders-dead", group="billing")
    there = await client.redrive("orders-dead", "orders", group="billing")

    assert (nowhere.redriven, nowhere.left) == (0, 1)
    assert (there.redriven, there.left) == (1, 0)
    (message,) = await found(client, "orders", "billing")
    assert message.id == "foreign"
    assert DEAD_LETTER not in message.headers


def by_hand(client: Client, publish: Any, rate: float | None = None) -> Redrive:
    """A run whose way out is `publish`."""
    subscriber = client.subscriber("orders-dead", codec=BYTES, **settings(READER))
    return Redrive(
        subscriber,
        publish,
        destination=None,
        group="billing",
        filter=None,
        dry_run=False,
        rate=rate,
        limit=None,
    )


async def test_a_refused_one_stays_and_its_neighbours_go(client: Client) -> None:
    """Promise 15: what cannot be written stays where it was, and the report says why."""
    await publish(client, b"1", b"2", b"3")
    await bury(client)

    async def picky(destination: str, message: WireMessage) -> Receipt:
        if message.body == b"2":
            raise RejectedError("too blue", destination=destination)
        return await client._publish_wire(destination, message)

    report = await by_hand(client, picky).run()

    assert (report.redriven, report.failed) == (2, 1)
    assert report.failures == ("id-2: 'orders': too blue",)
    assert [message.body for message in await found(client, "orders-dead", READER)] == [b"2"]


async def test_a_crash_between_confirmation_and_ack_duplicates_at_most(client: Client) -> None:
    """Published, confirmed, and then the way back broke: it stays, and the second run is recognised by its number."""
    await publish(client, b"1")
    await bury(client)

    async def breaks(destination: str, message: WireMessage) -> Receipt:
        await client._publish_wire(destination, message)
        raise ConnectionLostError("it broke")

    with pytest.raises(ConnectionLostError):
        await by_hand(client, breaks).run()
    report = await client.redrive("orders-dead", group="billing")

    assert report.redriven == 1
    assert len(await found(client, "orders", "billing")) == 1
    assert await found(client, "orders-dead", READER) == []


async def test_nothing_is_acked_before_it_is_confirmed(client: Client) -> None:
    """A run that is cancelled twice while a publish is under way leaves the dead letter."""
    await publish(client, b"1")
    await bury(client)
    under_way = asyncio.Event()

    async def never(destination: str, message: WireMessage) -> Receipt:
        under_way.set()
        await asyncio.Event().wait()
        raise AssertionError("it is never confirmed")

    run = asyncio.create_task(by_hand(client, never).run())
    await under_way.wait()
    for _ in range(2):  # the first lets end what is under way, the second does not wait for it
        run.cancel()
        await asyncio.wait((run,), timeout=0.01)
    with pytest.raises(asyncio.CancelledError):
        await run

    assert len(await found(client, "orders-dead", READER)) == 1


async def test_rate_spaces_them() -> None:
    """At two a second the fifth goes two seconds after the first, by the loop's clock."""
    sent: list[float] = []
    async with ManualClock(auto=True) as clock, unimsg.connect("memory://") as client:
        await publish(client, b"1", b"2", b"3", b"4", b"5")
        await bury(client)

        async def note(destination: str, message: WireMessage) -> Receipt:
            sent.append(clock.time())
            return await client._publish_wire(destination, message)

        await by_hand(client, note, rate=2.0).run()

    assert [at - sent[0] for at in sent] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rate": 0}, "rate=0 is not accepted: give a number above 0, or leave it out"),
        ({"limit": -1}, "limit=-1 is not accepted: give a number above 0, or leave it out"),
        ({"native": True, "dry_run": True}, "native moves all of them"),
        ({"native": True, "filter": bool}, "native moves all of them"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    client: Client, arguments: dict[str, Any], sentence: str
) -> None:
    """Before anything is opened."""
    with pytest.raises(OptionError, match=sentence):
        await client.redrive("orders-dead", group="billing", **arguments)


async def test_native_is_refused_where_there_is_none(client: Client) -> None:
    """A flag that the service does not have refuses."""
    with pytest.raises(CapabilityError, match="moves no dead letters itself"):
        await client.redrive("orders-dead", "orders", group=None, native=True)


async def test_a_missing_destination_is_said(tmp_path: Path) -> None:
    """Nothing is created unasked."""
    async with unimsg.connect("memory://?create=false") as client:
        with pytest.raises(NotFoundError):
            await client.redrive("orders-dead", group="billing")


async def test_a_filter_that_raises_loses_nothing(client: Client) -> None:
    """Its error comes out at once, and every dead letter stays."""
    await publish(client, b"1", b"2")
    await bury(client)

    def wrong(letter: Letter) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await client.redrive("orders-dead", group="billing", filter=wrong)

    assert len(await found(client, "orders-dead", READER)) == 2


async def test_an_idempotent_handler_runs_what_it_gave_up_and_not_what_it_did(client: Client) -> None:
    """Promise 25: a failed key is claimed again by the redrive's higher number, each time; a completed one is acked."""
    runs: list[bytes] = []
    well = False
    router = Router()

    @router.on("orders", group="billing", codec=BYTES, dead_letter="orders-dead")
    @idempotent(store("memory://"))
    async def bill(delivery: Delivery[bytes]) -> None:
        runs.append(delivery.body)
        if not well:
            raise DeadLetter("no such account")

    await publish(client, b"1")
    for _ in range(2):
        await router.run_until_idle(client)
        await client.redrive("orders-dead", group="billing")
    well = True
    await router.run_until_idle(client)
    await client._publish_wire("orders", WireMessage(body=b"1", id="id-1", headers={REDRIVE: '{"number":2}'}))
    await router.run_until_idle(client)

    assert runs == [b"1", b"1", b"1"]


class Letters:
    """A subscriber that gives one dead letter a turn, and whose acks are immediate."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def until_idle(self) -> AsyncIterator[Any]:
        """Yield them."""
        for number in range(self._count):
            await asyncio.sleep(0)
            yield SimpleNamespace(
                message=Message(body=b"1", id=f"id-{number}"), headers={}, ack=AsyncMock(return_value=None)
            )

    def set_aside(self, _delivery: object) -> None:
        """Leave it."""


async def test_a_limit_counts_each_once_while_it_ends() -> None:
    """One that has just been given back is not also under way: as many go as were asked for."""
    letters: Any = Letters(10)
    run = Redrive(
        letters,
        AsyncMock(return_value=Receipt(id="r")),
        destination="orders",
        group=None,
        filter=None,
        dry_run=False,
        rate=None,
        limit=5,
    )

    report = await run.run()

    assert (report.redriven, report.complete) == (5, False)
