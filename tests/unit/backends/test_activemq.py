"""The ActiveMQ backend against a broker that is played by the test: what is sent, in which order, and when it ends.

Law: the played broker answers only what a test tells it to, so that nothing depends on time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from unimsg.backends.activemq.backend import ActiveMQBackend
from unimsg.backends.activemq.connection import Endpoints
from unimsg.backends.activemq.options import Options
from unimsg.backends.activemq.receiver import ActiveMQReceiver
from unimsg.backends.activemq.stomp import Frame, Parser, encode
from unimsg.errors import (
    AssignmentLostError,
    ClosedError,
    ConnectionLostError,
    Error,
    OptionError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RejectedError,
    TimedOutError,
)
from unimsg.message import Message, Receipt
from unimsg.options import parse, render
from unimsg.spi import Assignment, Settlement

FAR = 1e9


class Peer:
    """One connection as the played broker sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.parser, self.frames = Parser(1 << 20), list[Frame]()
        self.seen: list[Frame] = []

    async def next(self) -> Frame:
        """The next frame of the client."""
        while not self.frames:
            data = await self.reader.read(1 << 16)
            assert data, "the client has gone"
            self.frames += self.parser.feed(data)
        frame = self.frames.pop(0)
        self.seen.append(frame)
        return frame

    def say(self, command: str, body: bytes | None = None, **headers: str) -> None:
        """Send a frame."""
        self.writer.write(encode(command, {k.replace("_", "-"): v for k, v in headers.items()}, body))

    def receipt(self, frame: Frame) -> None:
        """Say that it is done."""
        self.say("RECEIPT", receipt_id=frame.headers["receipt"])


class Played:
    """The played broker: connections in the order in which they came, each past its CONNECT."""

    def __init__(self) -> None:
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.all: list[Peer] = []
        self.port = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client comes."""
        peer = Peer(reader, writer)
        self.all.append(peer)
        assert (await peer.next()).command == "CONNECT"
        peer.say("CONNECTED", version="1.2", heart_beat="0,0")
        self.peers.put_nowait(peer)


@pytest.fixture
async def played() -> AsyncIterator[Played]:
    """One that listens."""
    broker = Played()
    server = await asyncio.start_server(broker.take, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    yield broker
    server.close()
    for peer in broker.all:
        peer.writer.close()
        await asyncio.gather(peer.writer.wait_closed(), return_exceptions=True)
    await server.wait_closed()


@pytest.fixture
async def backend(played: Played) -> ActiveMQBackend:
    """A client of it, without order, so that a retry goes to the broker."""
    return ActiveMQBackend(Options(hosts=f"127.0.0.1:{played.port}", ordering="none", create=True))


class Told:
    """What a receiver tells."""

    def __init__(self) -> None:
        self.gone: list[Assignment] = []

    def assigned(self, assignments: Sequence[Assignment], /) -> None:
        """Nothing is done with them."""

    async def revoked(self, assignments: Sequence[Assignment], deadline: float, /) -> None:
        """A queue never takes back."""

    def lost(self, assignments: Sequence[Assignment], /) -> None:
        """Note it."""
        assert not any(assignment.live for assignment in assignments)
        self.gone += assignments

    def wake(self) -> None:
        """Nobody sleeps."""


async def subscribed(backend: ActiveMQBackend, played: Played, told: Told) -> tuple[ActiveMQReceiver, Peer]:
    """A receiver, and its connection at the broker."""
    opening = asyncio.create_task(backend.open_receiver("d", "g", "oldest", told, 10))
    peer = await played.peers.get()
    peer.receipt(await peer.next())
    return await opening, peer


def push(peer: Peer, number: int) -> None:
    """Deliver a message."""
    peer.say(
        "MESSAGE", b"x", ack=f"a:{number}", message_id=str(number), destination="/queue/q", subscription="0"
    )


async def test_a_retry_is_a_confirmed_copy_and_then_an_ack(backend: ActiveMQBackend, played: Played) -> None:
    """Never a NACK, never in a transaction, and no ack before the copy's receipt; promise 9."""
    receiver, peer = await subscribed(backend, played, Told())
    assert peer.seen[-1].headers["activemq.prefetchSize"] == "10"
    push(peer, 1)
    (received,) = await receiver.receive_batch(10, 5)
    settling = asyncio.create_task(
        receiver.settle_batch([Settlement("retry", received.token, received.assignment, 3.0, 1, 1.5)])
    )
    copy = await peer.next()
    assert (copy.command, copy.headers.get("AMQ_SCHEDULED_DELAY")) == ("SEND", "3000")
    assert copy.headers["unimsg-attempts"] == "1"
    assert copy.headers["unimsg-first-failed"] == "1500"
    assert "transaction" not in copy.headers
    receiver._connection.write_now(b"\n\n\nBARRIER\n\n\0")  # type: ignore[union-attr]  # it is open
    assert (await peer.next()).command == "BARRIER", "nothing was written before the receipt"
    peer.receipt(copy)
    ack = await peer.next()
    assert (ack.command, ack.headers["id"]) == ("ACK", "a:1")
    peer.receipt(ack)
    assert list(await settling) == [None]
    await receiver.aclose(abort=True)


async def test_a_copy_that_is_confirmed_late_is_not_sent_again(
    backend: ActiveMQBackend, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks again waits for the copy that is on its way; promise 9."""
    monkeypatch.setattr("unimsg.backends.activemq.receiver.SETTLING", 0.05)
    receiver, peer = await subscribed(backend, played, Told())
    push(peer, 1)
    (received,) = await receiver.receive_batch(10, 5)
    retry = [Settlement("retry", received.token, received.assignment, 3.0, 1, 1.5)]
    assert isinstance((await receiver.settle_batch(retry))[0], TimedOutError)
    peer.receipt(await peer.next())
    monkeypatch.setattr("unimsg.backends.activemq.receiver.SETTLING", 5.0)
    settling = asyncio.create_task(receiver.settle_batch(retry))
    ack = await peer.next()
    assert (ack.command, ack.headers["id"]) == ("ACK", "a:1")
    peer.receipt(ack)
    assert list(await settling) == [None]
    await receiver.aclose(abort=True)


async def test_a_copy_that_is_refused_leaves_the_original(backend: ActiveMQBackend, played: Played) -> None:
    """It is not acked, the failure is said, and the connection is over; promise 9."""
    told = Told()
    receiver, peer = await subscribed(backend, played, told)
    push(peer, 1)
    (received,) = await receiver.receive_batch(10, 5)
    settling = asyncio.create_task(
        receiver.settle_batch([Settlement("retry", received.token, received.assignment)])
    )
    copy = await peer.next()
    peer.say("ERROR", b"", message="no room", receipt_id=copy.headers["receipt"])
    (error,) = await settling
    assert isinstance(error, RejectedError)
    assert [frame.command for frame in peer.seen] == ["CONNECT", "SUBSCRIBE", "SEND"]
    assert len(told.gone) == 1
    await receiver.aclose(abort=True)


async def test_nothing_is_acked_on_another_connection(backend: ActiveMQBackend, played: Played) -> None:
    """What one connection delivered is lost with it: on the next it is refused, and nothing is sent; promise 8."""
    told = Told()
    first, peer = await subscribed(backend, played, told)
    push(peer, 1)
    (old,) = await first.receive_batch(10, 5)
    peer.writer.close()
    with pytest.raises(ConnectionLostError):
        await first.receive_batch(10, 5)
    assert told.gone == [old.assignment]
    second, other = await subscribed(backend, played, told)
    for receiver in (first, second):
        (error,) = await receiver.settle_batch([Settlement("ack", old.token, old.assignment)])
        assert isinstance(error, AssignmentLostError)
    assert [frame.command for frame in other.seen] == ["CONNECT", "SUBSCRIBE"]
    await first.aclose(abort=True)
    await second.aclose(abort=True)


async def test_an_ack_is_sent_once(backend: ActiveMQBackend, played: Played) -> None:
    """A second one is an error of ours, where the broker would end the connection."""
    receiver, peer = await subscribed(backend, played, Told())
    push(peer, 1)
    (received,) = await receiver.receive_batch(10, 5)
    settlement = Settlement("ack", received.token, received.assignment)
    settling = asyncio.create_task(receiver.settle_batch([settlement]))
    peer.receipt(await peer.next())
    assert list(await settling) == [None]
    assert all(await receiver.settle_batch([settlement]))
    await receiver.aclose(abort=True)


Sending = tuple[Any, Peer]


@pytest.fixture
async def sending(backend: ActiveMQBackend, played: Played) -> AsyncIterator[Sending]:
    """A sender, and its connection at the broker."""
    sender = await backend.open_sender("d")
    yield sender, await played.peers.get()
    for peer in played.all:
        peer.writer.close()
    await sender.aclose()


def delayed(count: int) -> list[Message[bytes | None]]:
    """Messages that go one by one."""
    return [Message[bytes | None](body=b"x", delay=1.0) for _ in range(count)]


async def test_a_receipt_counts_once_and_for_its_own_message(sending: Sending) -> None:
    """Said twice it confirms one message, and the other's end is unknown; promise 2."""
    sender, peer = sending
    sent = asyncio.create_task(sender.send_batch(delayed(2), FAR))
    first, second = await peer.next(), await peer.next()
    assert first.headers["receipt"] != second.headers["receipt"]
    peer.receipt(second)
    peer.receipt(second)
    peer.say("RECEIPT", receipt_id="of another")
    peer.writer.close()
    results = await sent
    assert [type(result) for result in results] == [OutcomeUnknownError, Receipt]


async def test_an_error_fails_the_send_that_it_names(sending: Sending) -> None:
    """Its end is known, the others' are not, what was confirmed stays so; promise 2."""
    sender, peer = sending
    sent = asyncio.create_task(sender.send_batch(delayed(3), FAR))
    frames = [await peer.next() for _ in range(3)]
    peer.receipt(frames[0])
    peer.say("ERROR", b"", message="no such thing", receipt_id=frames[1].headers["receipt"])
    assert [type(result) for result in await sent] == [Receipt, RejectedError, OutcomeUnknownError]


async def test_several_messages_are_one_transaction(sending: Sending) -> None:
    """None is confirmed before its COMMIT is; promise 2."""
    sender, peer = sending
    messages = [Message[bytes | None](body=b"%d" % number) for number in range(3)]
    sent = asyncio.create_task(sender.send_batch(messages, FAR))
    frames = [await peer.next() for _ in range(5)]
    assert [frame.command for frame in frames] == ["BEGIN", "SEND", "SEND", "SEND", "COMMIT"]
    assert len({frame.headers["transaction"] for frame in frames}) == 1
    assert not sent.done()
    peer.receipt(frames[-1])
    assert [result.id for result in await sent] == [message.id for message in messages]


async def test_a_transaction_that_is_cut_is_unknown_and_the_next_call_connects_again(
    sending: Sending, played: Played
) -> None:
    """A receipt of the first connection confirms nothing on the second; promise 2."""
    sender, peer = sending
    sent = asyncio.create_task(sender.send_batch([Message(body=b"x"), Message(body=b"y")], FAR))
    commit = [await peer.next() for _ in range(4)][-1]
    peer.writer.close()
    assert [type(result) for result in await sent] == [OutcomeUnknownError] * 2
    again = asyncio.create_task(sender.send_batch([Message(body=b"z")], FAR))
    other = await played.peers.get()
    frame = await other.next()
    other.say("RECEIPT", receipt_id=commit.headers["receipt"])
    other.receipt(frame)
    assert [type(result) for result in await again] == [Receipt]


async def test_a_deadline_that_passes_leaves_the_end_unknown(sending: Sending) -> None:
    """It was written, and no answer came; promise 2."""
    sender, _ = sending
    (result,) = await sender.send_batch([Message(body=b"x")], asyncio.get_running_loop().time())
    assert isinstance(result, Error)
    assert result.retryable


async def test_each_attempt_takes_the_next_endpoint(played: Played) -> None:
    """Of an active and a standby only one answers, and a reconnect finds it."""
    backend = ActiveMQBackend(Options(hosts=f"127.0.0.1:1,127.0.0.1:{played.port}"))
    with pytest.raises(Error):
        await backend.open()
    opening = asyncio.create_task(backend.open())
    peer = await played.peers.get()
    await opening
    peer.writer.close()
    await backend.aclose()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("activemq://a:b@h1,h2:7/x", "no host"),
        ("activemq://h:0", "no host"),
        ("activemq://h?ca=x", "without TLS"),
        ("activemq+ssl://h?key=x", "without cert"),
        ("activemq://h?password=a&password_file=b", "give one"),
        ("activemq://h?heartbeat=1ms", "heartbeat"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, says: str) -> None:
    """Before any I/O, with the option named."""
    with pytest.raises(OptionError, match=says):
        parse(url, Options)


def test_a_url_is_read_and_shown() -> None:
    """A password with any sign in it; ports by scheme; no secret is shown."""
    options = parse("activemq+ssl://al:p%40ss@b-1.mq:61614,b-2.mq?ordering=none", Options)
    assert (options.user, options.password) == ("al", "p@ss")
    assert options.endpoints == [("b-1.mq", 61614), ("b-2.mq", 61614)]
    assert "p@ss" not in render(options, secrets=False)
    assert parse(render(options, secrets=True), Options) == options


async def test_prefetch_0_and_names_with_a_meaning_are_refused(backend: ActiveMQBackend) -> None:
    """Each would be silent at the broker: nothing ever comes, or another queue is read."""
    with pytest.raises(OptionError, match="prefetch"):
        await backend.open_receiver("d", "g", "oldest", Told(), 0)
    any_names = ActiveMQBackend(Options(names="any"))
    for name in ("a.b", "a>", "a*", "a,b", "a?b", "/queue/a", "a\nb"):
        with pytest.raises(OptionError):
            await any_names.open_sender(name)


async def test_who_is_refused_is_told_so(sending: Sending) -> None:
    """No right to write is certain, also for a batch whose answer names nothing."""
    sender, peer = sending
    sent = asyncio.create_task(sender.send_batch([Message(body=b"x"), Message(body=b"y")], FAR))
    await peer.next()
    peer.say("ERROR", b"", message="User guest is not authorized to write to: topic://VirtualTopic.d")
    assert [type(result) for result in await sent] == [PermissionDeniedError] * 2


async def test_what_nobody_closed_is_let_go_with_the_backend(
    backend: ActiveMQBackend, played: Played
) -> None:
    """A sender or receiver whose close was given up leaves no socket behind; promise 17."""
    told = Told()
    receiver, peer = await subscribed(backend, played, told)
    sender = await backend.open_sender("d")
    await played.peers.get()
    await backend.aclose()
    assert await peer.reader.read() == b""
    with pytest.raises(ClosedError):
        await backend.open_sender("d")
    assert len(told.gone) == 0, "who closes loses nothing"
    await sender.aclose()
    await receiver.aclose()


async def test_a_broker_that_hangs_up_without_a_word_is_asked_once_more() -> None:
    """A wrong password may end like that, before the ERROR is written; twice is an answer; issue 6, bad input."""
    came = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        await reader.readuntil(b"\0")
        if came == 2:
            writer.write(encode("ERROR", {"message": "User name [x] or password is invalid."}))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    endpoints = Endpoints(Options(hosts=f"127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    async with server:
        with pytest.raises(PermissionDeniedError, match="password is invalid"):
            await endpoints.connect()
        with pytest.raises(ConnectionLostError, match="closed the connection"):
            await endpoints.connect()

    assert came == 4
