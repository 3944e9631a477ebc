"""A queue of SQS in the test's own hand: what it answers, and when, by the clock of the loop.

Law: knows visibility and long polls, nothing else of SQS; under a `ManualClock` an hour passes at once. It stands in
for the calls of `unimsg.backends._aws.account`, so everything above that is the real thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest

from unimsg.backends._aws.account import Account

STEP = 0.1
"""Seconds after which a poll looks again."""


class Asked(NamedTuple):
    """One call, and when it was made and answered."""

    operation: str
    parameters: Mapping[str, Any]
    began: float
    ended: float


class Message:
    """One that is in the queue."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.receipts = 0
        self.visible_at = 0.0

    @property
    def handle(self) -> str:
        """What settles the latest receipt."""
        return f"{self.number}-{self.receipts}"

    def told(self) -> Mapping[str, Any]:
        """What `ReceiveMessage` says of it."""
        system = {"ApproximateReceiveCount": str(self.receipts), "MessageGroupId": f"k{self.number}"}
        return {
            "MessageId": str(self.number),
            "ReceiptHandle": self.handle,
            "Body": str(self.number),
            "Attributes": system,
        }


class Service:
    """All of SQS, with one queue, and as much of SNS and STS as is asked at open."""

    def __init__(self, patch: pytest.MonkeyPatch, numbers: Iterable[int] = ()) -> None:
        self.asked: list[Asked] = []
        self.messages = {number: Message(number) for number in numbers}

        async def here(_account: Account, _service: str) -> Service:
            return self

        patch.setattr(Account, "calls", here)
        patch.setattr(Account, "client", here)

    def calls(self, operation: str) -> list[Asked]:
        """Those of one kind."""
        return [one for one in self.asked if one.operation == operation]

    async def __call__(self, operation: str, parameters: Mapping[str, Any], wait: float = 0.0) -> Any:
        """Answer a frequent call."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if operation == "ReceiveMessage":
            answer = await self._poll(parameters, began + parameters["WaitTimeSeconds"])
        else:
            answer = self._settled(operation, parameters["Entries"], began)
        self.asked.append(Asked(operation, parameters, began, loop.time()))
        return answer

    async def _poll(self, asked: Mapping[str, Any], end: float) -> Mapping[str, Any]:
        loop = asyncio.get_running_loop()
        while True:
            found = self._take(asked, loop.time())
            if found or loop.time() >= end:
                return {"Messages": [message.told() for message in found]}
            await asyncio.sleep(STEP)  # by the clock in hand: it takes no time

    def _take(self, asked: Mapping[str, Any], now: float) -> list[Message]:
        visible = [message for message in self.messages.values() if message.visible_at <= now]
        for message in (taken := visible[: asked["MaxNumberOfMessages"]]):
            message.receipts += 1
            message.visible_at = now + asked["VisibilityTimeout"]
        return taken

    def _settled(self, operation: str, entries: Sequence[Mapping[str, Any]], now: float) -> Mapping[str, Any]:
        for entry in entries:
            number = int(entry["ReceiptHandle"].partition("-")[0])
            assert self.messages[number].handle == entry["ReceiptHandle"], "an older receipt settles nothing"
            if operation == "DeleteMessageBatch":
                del self.messages[number]
            else:
                self.messages[number].visible_at = now + entry["VisibilityTimeout"]
        return {"Successful": [{"Id": entry["Id"]} for entry in entries]}

    def __getattr__(self, operation: str) -> Any:
        """Answer what is asked seldom, by the names of the client library."""
        if operation not in SELDOM:
            raise AttributeError(operation)

        async def answer(**parameters: Any) -> Mapping[str, Any]:
            now = asyncio.get_running_loop().time()
            self.asked.append(Asked(operation, parameters, now, now))
            return SELDOM[operation]

        return answer


SELDOM: Mapping[str, Mapping[str, Any]] = {
    "get_caller_identity": {"Arn": "arn:aws:iam::1:user/test", "Account": "1"},
    "get_queue_attributes": {"Attributes": {}},
    "get_queue_url": {"QueueUrl": "https://sqs.invalid/1/orders"},
    "list_queues": {},
}
