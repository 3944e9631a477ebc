"""The SNS backend: the topics of one account and region, and the queues of their groups.

Law: publishes to topics and reads through the receiver of SQS; what an operator does is in `provision`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from unimsg.backends._aws import trouble
from unimsg.backends._aws.account import Account
from unimsg.backends._aws.calls import Calls
from unimsg.backends.sns import wire
from unimsg.backends.sns.capabilities import LIMIT, declare
from unimsg.backends.sns.options import Options
from unimsg.backends.sns.provision import Place, topics
from unimsg.backends.sqs import entries
from unimsg.backends.sqs.backend import find
from unimsg.backends.sqs.names import native_name, queue_name
from unimsg.backends.sqs.receiver import SqsReceiver
from unimsg.backends.sqs.sender import published, send_limits
from unimsg.errors import CapabilityError, ClosedError, Error, NotFoundError, PermissionDeniedError
from unimsg.message import Receipt, WireMessage
from unimsg.options import check_name
from unimsg.spi import Drift, Events, Start, Topology


class SnsBackend:
    """The topics of one URL."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.capabilities = declare(options)
        self._account = Account(options, options.scheme)
        self._found: Place | None = None

    async def open(self) -> None:
        """Find region and credentials, and see that somebody answers: one attempt."""
        self._found = None
        try:
            await self._place()
        except BaseException:
            await self._account.release()
            raise

    async def _place(self) -> Place:
        if self._found is None:
            partition, number = await self._account.number()
            self._found = Place(partition, self._account.region, number, self.options)
        return self._found

    async def open_sender(self, destination: str, /) -> SnsSender:
        """Open the way into a topic."""
        native_name(destination, self.options)
        topic = (await self._place()).topic(destination)
        client = await self._account.client("sns")
        limit = LIMIT
        try:
            told = (await client.get_topic_attributes(TopicArn=topic)).get("Attributes", {})
            limit = int(told.get("MaximumMessageSize", LIMIT))
        except Exception as error:
            ours = self.translate(error)
            if isinstance(ours, NotFoundError):
                raise NotFoundError(
                    f"there is no topic {topic}: provision it",
                    backend=self.options.scheme,
                    destination=destination,
                ) from error
            if not isinstance(ours, PermissionDeniedError):
                raise
        return SnsSender(destination, topic, limit, await self._account.calls("sns"), self.options)

    async def open_receiver(
        self, destination: str, group: str | None, start: Start, events: Events, prefetch: int, /
    ) -> SqsReceiver:
        """Open the way out of the queue of a group."""
        options = self.options
        if group is None:
            raise CapabilityError(
                "a group is required here, it names the queue: give group=",
                missing=("groups",),
                backend=options.scheme,
                destination=destination,
            )
        check_name("destination", destination, names=options.names, backend=options.scheme)
        check_name("group", group, names=options.names, backend=options.scheme)
        name = queue_name(options.queue.format(destination=destination, group=group), options)
        queue = await find(self._account, name, destination, options.scheme)
        return SqsReceiver(
            destination,
            queue.url,
            await self._account.calls("sqs"),
            fifo=options.fifo,
            wait=options.wait,
            lease=options.lease,
            backend=options.scheme,
        )

    async def probe(self) -> None:
        """Ask who we are."""
        await self._account.number()

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]:
        """Make topics, queues, their policies and subscriptions, or say what differs; see `provision`."""
        for name in filter(None, (topology.destination, topology.dead_letter)):
            native_name(name, self.options)
        if mode == "assume":
            return []
        place = await self._place()
        sns, sqs = await self._account.client("sns"), await self._account.client("sqs")
        return await topics(sns, sqs, topology, place, make=mode == "ensure")

    def translate(self, error: Exception, /) -> Error | None:
        """Return our error for one of the libraries'."""
        return trouble.translate(error, backend=self.options.scheme)

    async def aclose(self) -> None:
        """Close clients and connections."""
        await self._account.aclose()


class SnsSender:
    """The way into one topic."""

    def __init__(self, name: str, topic: str, limit: int, calls: Calls, options: Options) -> None:
        self._name = name
        self._topic = topic
        self._calls = calls
        self._fifo = options.fifo
        self._backend = options.scheme
        self._closed = False
        self.limits = send_limits(limit, limit, options, delay=0, groups=False)

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Publish once; see `unimsg.spi.Sender`."""
        if self._closed:
            raise ClosedError("the sender is closed", backend=self._backend, destination=self._name)
        batch: list[dict[str, Any]] = [wire.encode(message, fifo=self._fifo) for message in messages]
        return await published(
            messages,
            lambda: self._calls(
                "PublishBatch",
                {"TopicArn": self._topic, "PublishBatchRequestEntries": entries.ids(batch)},
            ),
            self._backend,
        )

    async def aclose(self) -> None:
        """Nothing is kept open for one topic."""
        self._closed = True
