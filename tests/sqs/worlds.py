"""Worlds of SQS and SNS: an emulator by its URL, what it cannot show, and boto3 as the plain client.

Law: a deviation is a fact about an emulator, with its reason; a test that is named here is for real AWS.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import boto3

from unimsg.testing.conformance import World
from unimsg.testing.conformance.world import Foreign

REGION = "us-east-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}

MINISTACK: Mapping[str, str] = {}
"""MiniStack 1.5.33, 2026-11."""


def url_of(endpoint: str, scheme: str, options: str = "") -> str:
    """Return the URL of a backend at an emulator, with polls of a second."""
    at = quote(endpoint, safe=":/")
    return f"{scheme}://{REGION}?endpoint_url={at}&access_key=test&secret_key=test&wait=1s{options}"


class Boto3:
    """The plain client of SQS, as people use it."""

    def __init__(self, endpoint: str, *, fifo: bool) -> None:
        self._client: Any = boto3.client("sqs", region_name=REGION, endpoint_url=endpoint, **KEYS)
        self._fifo = fifo

    def _queue(self, name: str) -> str:
        full = name + (".fifo" if self._fifo else "")
        return str(self._client.get_queue_url(QueueName=full)["QueueUrl"])

    async def publish(self, destination: str, message: Foreign, /) -> None:
        """Send; a body that is no text travels as base64, as the page of this backend says."""
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
        self._client.send_message(
            QueueUrl=self._queue(destination), MessageBody=text, MessageAttributes=attributes, **more
        )

    async def receive(self, destination: str, group: str | None, count: int, /) -> Sequence[Foreign]:
        """Receive and delete."""
        return await asyncio.to_thread(self._receive, destination, count)

    def _receive(self, destination: str, count: int) -> list[Foreign]:
        queue, found = self._queue(destination), list[Foreign]()
        while len(found) < count:
            answer = self._client.receive_message(
                QueueUrl=queue,
                WaitTimeSeconds=1,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            for message in answer.get("Messages", ()):
                headers = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
                key = message["Attributes"].get("MessageGroupId")
                found.append(Foreign(message["Body"].encode(), key, headers))
                self._client.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
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
    ) -> None:
        super().__init__(
            url_of(endpoint, scheme),
            environment=environment,
            tick=0.2,
            lease=3.0,
            deviations=deviations,
            interop=Boto3(endpoint, fifo=scheme == "sqs+fifo") if scheme.startswith("sqs") else None,
            nowhere=url_of("http://127.0.0.1:9", scheme),
        )
