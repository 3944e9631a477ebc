"""The SNS backend: the topics of one account and region, and the queues of their groups.

Law: publishes to topics and reads through the receiver of SQS; what an operator does is in `provision`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
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
from unimsg.errors import (
    CapabilityError,
    ClosedError,
    Error,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    UnroutableError,
)
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
        told = await self._attributes(topic, destination)
        return SnsSender(
            destination,
            topic,
            int(told.get("MaximumMessageSize", LIMIT)),
            await self._account.calls("sns"),
            self.options,
            heard=told.get("SubscriptionsConfirmed") != "0",
            anybody=partial(self._anybody, topic),
        )

    async def _attributes(self, topic: str, destination: str) -> Mapping[str, str]:
        """Return what is set for a topic; where we may not ask, what is usual."""
        client = await self._account.client("sns")
        try:
            found: Mapping[str, str] = (await client.get_topic_attributes(TopicArn=topic)).get(
                "Attributes", {}
            )
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
            return {}
        return found

    async def _anybody(self, topic: str) -> bool:
        """Whether a topic has a subscription; where we may not ask, it has."""
        client = await self._account.client("sns")
        try:
            answer = await client.list_subscriptions_by_topic(TopicArn=topic)
        except Exception as error:
            ours = self.translate(error)
            if isinstance(ours, PermissionDeniedError):
                return True
            raise (ours or error) from error
        return bool(answer.get("Subscriptions"))

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
    """The way into one topic.

    Args:
        name: of the destination.
        topic: its name at length.
        limit: of a message, and of a call, in bytes.
        calls: how calls are made.
        options: of the backend.
        heard: whether the topic is known to have a subscription.
        anybody: finds out whether it has one by now.
    """

    def __init__(
        self,
        name: str,
        topic: str,
        limit: int,
        calls: Calls,
        options: Options,
        *,
        heard: bool,
        anybody: Callable[[], Awaitable[bool]],
    ) -> None:
        self._name = name
        self._topic = topic
        self._calls = calls
        self._fifo = options.fifo
        self._backend = options.scheme
        self._heard = heard
        self._anybody = anybody
        self._closed = False
        self.limits = send_limits(limit, limit, options, delay=0, groups=False)

    async def send_batch(
        self, messages: Sequence[WireMessage], deadline: float, /
    ) -> Sequence[Receipt | Error]:
        """Publish once; see `unimsg.spi.Sender`."""
        if self._closed:
            raise ClosedError("the sender is closed", backend=self._backend, destination=self._name)
        if not self._heard and (refusal := await self._unheard()) is not None:
            return [refusal] * len(messages)
        batch: list[dict[str, Any]] = [wire.encode(message, fifo=self._fifo) for message in messages]
        return await published(
            messages,
            lambda: self._calls(
                "PublishBatch",
                {"TopicArn": self._topic, "PublishBatchRequestEntries": entries.ids(batch)},
            ),
            self._backend,
            self._name,
        )

    async def _unheard(self) -> Error | None:
        """Return why nothing may be published: a topic confirms what nobody will ever get. None: somebody will."""
        try:
            self._heard = await self._anybody()
        except Error as error:
            return NotSentError(f"nothing was sent: {error.sentence}", backend=self._backend)
        if self._heard:
            return None
        return UnroutableError(
            f"nobody has subscribed to {self._topic}, and a topic keeps nothing: provision a group",
            backend=self._backend,
            destination=self._name,
        )

    async def aclose(self) -> None:
        """Nothing is kept open for one topic."""
        self._closed = True
