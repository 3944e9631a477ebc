"""Kafka's own console tools and ours, both ways: what a shell or a Java service writes we read, and the reverse.

Law: promise 20; the tools are those that `make brokers` has fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import unimsg
from tests.kafka.conftest import MakeTopic
from tools.brokers import maven
from tools.brokers.kafka import CONSOLE
from tools.brokers.services import HOME
from unimsg import codecs
from unimsg.message import Message
from unimsg.testing.conformance.world import gather


async def java(tool: str, arguments: Sequence[str], text: str = "") -> str:
    """Run a console tool; returns what it printed."""
    classes = await asyncio.to_thread(maven.class_path, CONSOLE, HOME / "cache")
    process = await asyncio.create_subprocess_exec(
        *("java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classes),
        *(f"org.apache.kafka.tools.{tool}", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(100):
        out, error = await process.communicate(text.encode())
    assert process.returncode == 0, error.decode()[-2000:]
    return out.decode()


async def test_we_read_what_the_console_producer_writes(url: str, topic: MakeTopic, group: str) -> None:
    """A foreign record has no id, and its headers are headers."""
    name, server = await topic(), url.removeprefix("kafka://")
    lines = "".join(f"trace:t{n}\tcustomer-{n}\tbody {n}\n" for n in range(3))
    shape = ["parse.headers=true", "parse.key=true"]
    await java(
        "ConsoleProducer",
        ["--bootstrap-server", server, "--topic", name, *(f"--property={each}" for each in shape)],
        lines,
    )
    async with unimsg.connect(url) as client:
        got = await gather(client, name, 3, group=group, codec=codecs.TEXT)

    found = {(d.key, d.body, d.headers["trace"], d.id) for d in got.deliveries}
    assert found == {(f"customer-{n}", f"body {n}", f"t{n}", None) for n in range(3)}


async def test_the_console_consumer_reads_what_we_write_and_finds_it_where_java_would_put_it(
    url: str, topic: MakeTopic
) -> None:
    """Body, key and headers as they are; and a key that Java sends goes to the partition that we chose for it."""
    name, server = await topic(), url.removeprefix("kafka://")
    keys = [f"customer-{n}" for n in range(8)]
    async with unimsg.connect(url) as client:
        publisher = client.publisher(name, codec=codecs.TEXT)
        await publisher.publish_many(Message(body="ours", key=key, headers={"trace": "t"}) for key in keys)
    await java(
        "ConsoleProducer",
        ["--bootstrap-server", server, "--topic", name, "--property=parse.key=true"],
        "".join(f"{key}\ttheirs\n" for key in keys),
    )
    show = ["print.key=true", "print.headers=true", "print.partition=true"]
    printed = await java(
        "consumer.ConsoleConsumer",
        ["--bootstrap-server", server, "--topic", name, "--from-beginning", "--max-messages", "16"]
        + [f"--property={each}" for each in show],
    )

    lines = [line.split("\t") for line in printed.splitlines() if line.startswith("Partition:")]
    where = {(key, body): partition for partition, _, key, body in lines}
    assert {key: where[key, "ours"] for key in keys} == {key: where[key, "theirs"] for key in keys}
    assert all("trace:t" in headers for _, headers, _, body in lines if body == "ours")
