"""Worlds of SQS and SNS: an emulator by its URL, what it cannot show, and boto3 as the plain client.

Law: a deviation is a fact about an emulator, with its reason; a test that is named here is for real AWS.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any
from urllib.parse import quote

import boto3

from unimsg.client import Client
from unimsg.spi import Topology
from unimsg.testing.conformance import World
from unimsg.testing.conformance.world import Foreign

REGION = "us-east-1"
ACCOUNT = "000000000000"
"""Of the emulators."""
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}

MINISTACK: Mapping[str, str] = {}
"""MiniStack 1.5.33, 2026-11."""
ELASTICMQ: Mapping[str, str] = {}
"""ElasticMQ 1.7.1, 2026-11."""


def url_of(endpoint: str, scheme: str, options: str = "") -> str:
    """Return the URL of a backend at an emulator, with polls of a second."""
    at = quote(endpoint, safe=":/")
    return f"{scheme}://{REGION}?endpoint_url={at}&access_key=test&secret_key=test&wait=1s{options}"


class Boto3:
    """The plain clients of SQS and SNS, as people use them; a group reads from the queue that has its name."""

    def __init__(self, endpoint: str, scheme: str) -> None:
        self._endpoint = endpoint
        self._topics = scheme.startswith("sns")
        self._fifo = scheme.endswith("+fifo")

    @cached_property
    def _sqs(self) -> Any:
        return boto3.client("sqs", region_name=REGION, endpoint_url=self._endpoint, **KEYS)

    @cached_property
    def _sns(self) -> Any:
        return boto3.client("sns", region_name=REGION, endpoint_url=self._endpoint, **KEYS)

    def _full(self, name: str) -> str:
        return name + (".fifo" if self._fifo else "")

    async def publish(self, destination: str, message: Foreign, /) -> None:
        """Send; a body that is no text travels as base64, as the pages of these backends say."""
        await asyncio.to_thread(self._publish, destination, message)

    def _publish(self, destination: str, message: Foreign) -> None:
        attributes = {
            name: {"DataType": "String", "StringValue": value}
            for name, value in (message.headers or {}).items()
        }
        try:
            text = message.body.decode()
        except UnicodeDecodeError:
            text = b64encode(message.body).decode()
            attributes["unimsg"] = {"DataType": "String", "StringValue": '{"body":"base64"}'}
        more = {"MessageGroupId": "g", "MessageDeduplicationId": "d"} if self._fifo else {}
        if self._topics:
            arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:{self._full(destination)}"
            self._sns.publish(TopicArn=arn, Message=text, MessageAttributes=attributes, **more)
        else:
            queue = self._queue(destination)
            self._sqs.send_message(QueueUrl=queue, MessageBody=text, MessageAttributes=attributes, **more)

    def _queue(self, name: str) -> str:
        return str(self._sqs.get_queue_url(QueueName=self._full(name))["QueueUrl"])

    async def receive(self, destination: str, group: str | None, count: int, /) -> Sequence[Foreign]:
        """Receive and delete."""
        name = f"{destination}-{group}" if self._topics else destination
        return await asyncio.to_thread(self._receive, self._queue(name), count)

    def _receive(self, queue: str, count: int) -> list[Foreign]:
        found: list[Foreign] = []
        while len(found) < count:
            answer = self._sqs.receive_message(
                QueueUrl=queue,
                WaitTimeSeconds=1,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            for message in answer.get("Messages", ()):
                headers = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
                key = message["Attributes"].get("MessageGroupId")
                found.append(Foreign(message["Body"].encode(), key, headers))
                self._sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return found


class AwsWorld(World):
    """Queues and topics that nobody else uses, at an emulator that all tests share."""

    idle_requests = 330.0  # polls of a fifth of a second here, of twenty seconds in production

    def __init__(
        self,
        endpoint: str,
        scheme: str,
        *,
        environment: str,
        deviations: Mapping[str, str],
        options: str = "",
    ) -> None:
        super().__init__(
            url_of(endpoint, scheme, options),
            environment=environment,
            tick=0.2,
            lease=3.0,
            deviations=deviations,
            interop=Boto3(endpoint, scheme),
            nowhere=url_of("http://127.0.0.1:9", scheme),
        )
        self._operator: Client | None = None

    async def provision(self, topology: Topology) -> None:
        """Make what a test needs, with one client: each reads the descriptions of services anew."""
        if self._operator is None:
            self._operator = await self.client()
        await self._operator.provision(topology)

    async def restart(self) -> None:
        """Nobody can kill SQS."""
        self.cannot(
            "no process of ours is the service, and the emulator forgets all when it ends: real AWS only"
        )

    @asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """Calls are broken one by one in `tests/sqs`, and by chance in `tests/chaos`."""
        self.cannot("calls are broken one by one here, by a proxy of their own: tests/sqs, tests/chaos")
        yield
