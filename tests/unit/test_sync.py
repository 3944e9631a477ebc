"""The blocking client keeps the promises of the async one, for threads, forks and interrupts (promises 2, 4)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import unimsg
from unimsg import Delivery, Message, sync
from unimsg.client import Client
from unimsg.codecs import BYTES
from unimsg.errors import (
    CapabilityError,
    ClosedError,
    ConfigError,
    NotFoundError,
    NotSentError,
    OptionError,
    OutcomeUnknownError,
    PublishManyError,
    RejectedError,
)
from unimsg.testing import faults

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/messages.db"


@pytest.fixture
def client(url: str) -> Iterator[sync.Client]:
    with sync.connect(url) as client:
        yield client


def found(url: str, destination: str = "orders") -> list[Any]:
    """The bodies that lie at a destination."""
    bodies: list[Any] = []

    async def take(delivery: Delivery[Any]) -> None:
        bodies.append(delivery.body)

    async def read() -> None:
        async with unimsg.connect(url) as client:
            await client.subscriber(destination, group="test").run_until_idle(take)

    asyncio.run(read())
    return bodies


def test_publish_returns_when_it_is_confirmed(client: sync.Client, url: str) -> None:
    """Promise 2: a receipt says that it is there; the same id is the same message."""
    receipt = client.publish("orders", {"id": 7}, key="ann", headers={"n": "1"}, id="id-7")
    again = client.publish("orders", {"id": 7}, id="id-7")
    publisher = client.publisher("orders")

    assert receipt.id == "id-7"
    assert again.duplicate
    assert publisher.publish({"id": 8}).position is not None
    assert publisher.destination == "orders"
    assert client.capabilities.ordering == "key"
    assert found(url) == [{"id": 7}, {"id": 8}]


def test_threads_share_batches(client: sync.Client, url: str) -> None:
    """Fifty threads that publish at once need fewer calls than messages, and each gets its own end."""
    publisher = client.publisher("orders")
    publisher.publish(0)
    together = threading.Barrier(50)

    def work(number: int) -> str | None:
        together.wait(10)
        return publisher.publish(number, id=f"id-{number}").id

    with ThreadPoolExecutor(50) as threads:
        ids = list(threads.map(work, range(1, 51)))

    assert ids == [f"id-{number}" for number in range(1, 51)]
    assert publisher.stats.confirmed == 51
    assert publisher.stats.batches < 51
    assert sorted(found(url)) == list(range(51))


def test_many_from_a_generator_that_runs_in_its_own_thread(client: sync.Client, url: str) -> None:
    """Promise 4: in order, a thousand ahead at most; what the generator does blocks nobody else."""
    threads = set()

    def messages() -> Iterator[Message[int]]:
        for number in range(2_500):
            threads.add(threading.current_thread())
            yield Message(body=number, key="ann")

    receipts = client.publisher("orders").publish_many(messages())

    assert len(receipts) == 2_500
    assert threads == {threading.current_thread()}
    assert found(url) == list(range(2_500))


def test_many_tells_the_end_of_each(client: sync.Client, url: str) -> None:
    """What cannot be published is told in its place, the others are there."""
    publisher = client.publisher("orders", codec=BYTES)
    messages = [Message[Any](body=b"1"), Message[Any](body="no bytes"), Message[Any](body=b"3")]

    with pytest.raises(PublishManyError, match="1 of 3") as caught:
        publisher.publish_many(messages)

    assert [isinstance(result, Exception) for result in caught.value.results] == [False, True, False]


def test_a_key_is_held_back_over_thousands(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Promise 4: after a failure in one chunk nothing of that key goes out in a later one; other keys go on."""
    with sync.connect(url) as client:
        publisher = client.publisher("orders")
        publisher.publish("open")
        real = publisher._publisher.publish_many
        calls: list[list[Any]] = []

        async def publish_many(messages: list[Message[Any]], **options: Any) -> list[Any]:
            calls.append([message.body for message in messages])
            if len(calls) > 1:
                return await real(messages, **options)
            results: list[Any] = [NotSentError("too late") if m.body == 5 else "receipt" for m in messages]
            raise PublishManyError("1 failed", results=results)

        monkeypatch.setattr(publisher._publisher, "publish_many", publish_many)
        many = [Message[Any](body=n, key="ann" if n % 5 == 0 else "bob") for n in range(1_010)]
        with pytest.raises(PublishManyError) as caught:
            publisher.publish_many(many)

    assert calls[1] == [1001, 1002, 1003, 1004, 1006, 1007, 1008, 1009]
    failed = [n for n, result in enumerate(caught.value.results) if isinstance(result, NotSentError)]
    assert failed == [5, 1000, 1005]


def test_errors_are_those_of_the_async_client(url: str) -> None:
    """One tree: refused before any I/O, not found, closed."""
    with pytest.raises(OptionError, match="did you mean"):
        sync.connect("memory://?leese=1s")
    with pytest.raises(CapabilityError):
        sync.connect("memory://", needs=unimsg.Needs(durability="disk"))
    with sync.connect("memory://?create=false") as client, pytest.raises(NotFoundError):
        client.publish("orders", 1)
    with pytest.raises(ClosedError, match="connect again"):
        client.publish("orders", 1)
    with pytest.raises(ClosedError):
        client.publisher("orders")
    with sync.connect(url) as client, pytest.raises(RejectedError):
        client.publish("orders", 1, headers={"unimsg-mine": "no"})


def test_unknown_is_not_called_failed(url: str) -> None:
    """Promise 2: it left, and no answer came in time."""
    asynchronous = unimsg.connect(url)
    script = faults.inject(asynchronous)
    with sync.Client(asynchronous) as client:
        client.publish("orders", 1)
        script.next("send", faults.Hang())
        with pytest.raises(OutcomeUnknownError):
            client.publish("orders", 2, timeout=0.05)


def test_closing_ends_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is left waiting for a loop that has ended."""
    client = sync.connect("memory://")
    client.publish("orders", 1)
    under_way = threading.Event()

    async def never(self: Client, *_: Any, **__: Any) -> Any:
        under_way.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Client, "publish", never)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.publish, "orders", 2)
        assert under_way.wait(10)
        client.close()
        with pytest.raises(ClosedError, match="meanwhile"):
            waiting.result(10)
    client.close()


def test_without_use_there_is_no_thread() -> None:
    """Connecting does no I/O, and closing what was never used is nothing."""
    before = threading.active_count()
    client = sync.connect("memory://")
    assert threading.active_count() == before
    client.close()
    assert "memory://" in repr(client)


def test_the_thread_ends_with_the_client(client: sync.Client) -> None:
    client.publish("orders", 1)
    thread = client._thread
    assert thread is not None
    client.close()
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_is_refused(url: str, tmp_path: Path) -> None:
    """It would share a connection with its parent; the parent goes on, and a client unused so far is the child's."""
    own = f"sqlite:///{tmp_path}/own.db"
    program = """
import os, sys, unimsg.sync
from unimsg.errors import ConfigError
unused = unimsg.sync.connect(sys.argv[2])
client = unimsg.sync.connect(sys.argv[1])
client.publish("orders", "parent")
pid = os.fork()
if not pid:
    try:
        client.publish("orders", "child")
    except ConfigError as error:
        print(error, flush=True)
    client.close()
    with unused:
        unused.publish("orders", "child of its own")
    os._exit(0)
_, status = os.waitpid(pid, 0)
client.publish("orders", "parent again")
client.close()
sys.exit(status)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, url, own],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "belongs to the process that used it first: connect after the fork" in done.stdout
    assert found(url) == ["parent", "parent again"]
    assert found(own) == ["child of its own"]


def test_an_interrupt_ends_the_call_that_waits(url: str) -> None:
    """Ctrl-C comes out as KeyboardInterrupt, the client can still be used and closes in order."""
    program = """
import os, signal, sys, threading, unimsg, unimsg.sync
from unimsg.testing import faults
asynchronous = unimsg.connect(sys.argv[1])
script = faults.inject(asynchronous)
def interrupt():
    while len(script.sent) < 2:
        pass
    os.kill(os.getpid(), signal.SIGINT)
with unimsg.sync.Client(asynchronous) as client:
    client.publish("orders", 1)
    script.next("send", faults.Hang())
    threading.Thread(target=interrupt).start()
    try:
        client.publish("orders", 2)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    client.publish("orders", 3)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
    assert 3 in found(url)


def test_a_call_on_its_own_loop_is_refused(client: sync.Client) -> None:
    """It would wait for itself."""

    async def wrong() -> None:
        client.publish("orders", 1)

    with pytest.raises(ConfigError, match="wait for itself"):
        client._run(wrong)
