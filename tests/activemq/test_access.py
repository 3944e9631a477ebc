"""ActiveMQ, a real broker: TLS, who may do what, what is refused, and what there is.

Law: each mistake has an error of its own within five seconds, nothing is lost by it, and no secret shows.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import unimsg
import unimsg.backends.activemq
from tools.brokers.activemq import PASSWORD, READER, READER_PASSWORD, USER
from unimsg import codecs
from unimsg.errors import (
    CapabilityError,
    ConnectError,
    ConnectionLostError,
    MessageTooLargeError,
    NotFoundError,
    OptionError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RejectedError,
    TimedOutError,
    UnroutableError,
)
from unimsg.message import Message
from unimsg.spi import Topology


@pytest.fixture
def url(broker_url: Callable[..., str]) -> str:
    """The broker in plain text."""
    return broker_url("activemq")


@pytest.fixture
def place(url: str) -> str:
    """Its host and port."""
    return url.rpartition("@")[2]


@pytest.fixture
def tls(broker_url: Callable[..., str]) -> str:
    """Host and port of its TLS listener."""
    return broker_url("activemq", what="TLS")


@pytest.fixture
def authority(broker_url: Callable[..., str]) -> Path:
    """The file of the authority that vouches for the broker."""
    return Path(broker_url("activemq", what="CERTIFICATES")) / "ca.pem"


@pytest.fixture
async def client(url: str) -> AsyncIterator[unimsg.Client]:
    """One that may do anything."""
    async with unimsg.connect(url) as client:
        yield client


def name() -> str:
    return f"t-{os.urandom(6).hex()}"


async def provided(client: unimsg.Client) -> str:
    """Make a destination with the group `g`."""
    destination = name()
    await client.provision(Topology(destination=destination, groups=["g"]))
    return destination


async def gathered(client: unimsg.Client, destination: str) -> list[object]:
    """Read what there is."""
    found: list[object] = []

    async def note(delivery: unimsg.Delivery[object]) -> None:
        found.append(delivery.body)

    await client.subscriber(destination, group="g").run_until_idle(note)
    return found


async def ignore(_: unimsg.Delivery[object]) -> None:
    """Handle nothing."""


async def test_a_message_goes_over_tls(tls: str, authority: Path) -> None:
    """With the authority known, both ways."""
    async with unimsg.connect(f"activemq+ssl://{USER}:{PASSWORD}@{tls}?ca={authority}") as client:
        destination = await provided(client)
        await client.publish(destination, "hello")
        assert await gathered(client, destination) == ["hello"]


async def test_a_password_from_a_file(place: str, tmp_path: Path) -> None:
    """Its last line may end."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    async with unimsg.connect(f"activemq://{USER}@{place}?password_file={secret}") as client:
        await provided(client)


@pytest.mark.parametrize(
    ("address", "error", "says"),
    [
        (f"activemq://{USER}:wrong@{{place}}", PermissionDeniedError, "password is invalid"),
        (f"activemq://nobody:{PASSWORD}@{{place}}", PermissionDeniedError, "password is invalid"),
        ("activemq://{place}", PermissionDeniedError, "password is invalid"),
        ("activemq://127.0.0.1:1", ConnectError, "reached"),
        (f"activemq+ssl://{USER}:{PASSWORD}@{{tls}}", OptionError, "ca="),
        (
            f"activemq+ssl://{USER}:{PASSWORD}@{{place}}?tls=insecure&open_timeout=2s",
            TimedOutError,
            "open_timeout",
        ),
    ],
)
async def test_each_mistake_has_an_error_of_its_own(
    place: str, tls: str, address: str, error: type[Exception], says: str
) -> None:
    """At the first open, as what it is and not as something to be tried again."""
    async with asyncio.timeout(5):
        with pytest.raises(error, match=says) as raised:
            async with unimsg.connect(address.format(place=place, tls=tls)):
                pass
    assert type(raised.value) is error
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"CONNECTED\nversion:1.1\n\n\0", OptionError),
        (b"CONNECTED\nserver:old\n\n\0", OptionError),
        (b"ERROR\nmessage:Supported protocol versions are 1.0\n\n\0", ConnectionLostError),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ConnectionLostError),
        (b"", ConnectionLostError),
    ],
)
async def test_a_broker_of_an_unknown_version_is_none(answer: bytes, error: type[Exception]) -> None:
    """It speaks STOMP 1.2 or nothing is tried."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\0")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(5):
        with pytest.raises(error):
            async with unimsg.connect(f"activemq://127.0.0.1:{port}"):
                pass


async def test_who_may_only_read_cannot_publish(client: unimsg.Client, place: str) -> None:
    """Each publish ends with the reason, one and several together, and nothing is stored."""
    destination = await provided(client)
    async with unimsg.connect(f"activemq://{READER}:{READER_PASSWORD}@{place}") as reader:
        async with asyncio.timeout(5):
            with pytest.raises(RejectedError, match="not authorized"):
                await reader.publish(destination, "one")
            with pytest.raises(unimsg.PublishError):
                await reader.publisher(destination).publish_many([Message(body="two"), Message(body="three")])
    assert await gathered(client, destination) == []


async def test_who_may_not_make_a_queue_is_told(place: str) -> None:
    """Provisioning is refused by name."""
    async with unimsg.connect(f"activemq://{READER}:{READER_PASSWORD}@{place}") as reader:
        with pytest.raises(PermissionDeniedError, match="not authorized to create"):
            await reader.provision(Topology(destination=name(), groups=["g"]))


async def test_what_is_not_there_is_not_found(client: unimsg.Client) -> None:
    """A topic, or the queue of a group; nothing is made unasked; principle 6."""
    destination = await provided(client)
    async with asyncio.timeout(5):
        with pytest.raises(NotFoundError):
            await client.publish(name(), "x")
        with pytest.raises(NotFoundError, match="'other' has no queue"):
            await client.subscriber(destination, group="other").run_until_idle(ignore)
    drifts = await client.provision(Topology(destination=destination, groups=["g", "other"]), mode="existing")
    assert [drift.state for drift in drifts] == ["present", "present", "missing"]


async def test_what_nobody_can_receive_is_not_confirmed(client: unimsg.Client) -> None:
    """Promise 2: the broker alone confirms it and keeps nothing; a group that comes later makes it possible."""
    destination = name()
    await client.provision(Topology(destination=destination))
    with pytest.raises(UnroutableError, match="provision a group"):
        await client.publish(destination, "lost")
    await client.provision(Topology(destination=destination, groups=["g"]))
    await client.publish(destination, "kept")
    assert await gathered(client, destination) == ["kept"]


async def test_a_user_who_may_not_look_is_not_stopped(client: unimsg.Client, url: str) -> None:
    """Where a broker does not tell what it has, the drift report says so, and messages flow."""
    destination = await provided(client)
    async with unimsg.connect(url) as blind:
        blind.backend._directory._tells = False  # type: ignore[attr-defined]  # as after the first refusal
        with pytest.raises(CapabilityError, match=r"ActiveMQ\.Advisory"):
            await blind.provision(Topology(destination=destination), mode="existing")
        (drift, _) = await blind.provision(Topology(destination=destination, groups=["g"]))
        assert "does not tell" in drift.detail
        await blind.publish(destination, "hello")
        assert await gathered(blind, destination) == ["hello"]


async def test_a_frame_that_is_too_large_for_the_broker_ends_unknown(client: unimsg.Client) -> None:
    """`max_body` above the listener's own limit: the connection ends, the next message goes on a new one."""
    destination = await provided(client)
    publisher = client.publisher(destination, codec=codecs.BYTES)
    async with asyncio.timeout(5):
        with pytest.raises(OutcomeUnknownError, match="maximum frame size"):
            await publisher.publish(b"x" * (3 << 20), timeout=4)
        await publisher.publish(b"small")


async def test_what_a_broker_would_refuse_is_refused_before(client: unimsg.Client, url: str) -> None:
    """Promise 19: size, header and priority, each with the reason; a neighbour is not touched."""
    destination = await provided(client)
    async with unimsg.connect(f"{url}?max_body=1KiB") as small:
        with pytest.raises(MessageTooLargeError, match="maxFrameSize"):
            await small.publish(destination, "x" * 2000)
    with pytest.raises(RejectedError, match="no name"):
        await client.publish(destination, "x", headers={"": "x"})
    for priority in (-1, 10):
        with pytest.raises((RejectedError, CapabilityError), match="priority"):
            await client.publish(destination, "x", priority=priority)
    with pytest.raises(OptionError, match="prefetch"):
        await client.subscriber(destination, group="g", prefetch=0).run_until_idle(ignore)
    await client.publish(destination, "neighbour")
    assert await gathered(client, destination) == ["neighbour"]


async def test_a_selector_chooses(client: unimsg.Client, url: str) -> None:
    """Only what fits is received, and a selector that is none is refused by name."""
    destination = await provided(client)
    for colour in ("blue", "red"):
        await client.publish(destination, colour, headers={"colour": colour})
    async with unimsg.connect(f"{url}?selector=colour%20%3D%20'red'") as choosing:
        assert await gathered(choosing, destination) == ["red"]
    async with unimsg.connect(f"{url}?selector=colour%20%3D") as wrong:
        with pytest.raises(OptionError, match="selector"):
            await gathered(wrong, destination)
