"""The SQS backend: the queues of one account and region behind the contract of `unimsg.spi`.

Law: opens what the others use, and closes it. The way out is in `sender`, the way in is in `receiver`, what an
operator does is in `provision`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from unimsg.backends._aws import trouble
from unimsg.backends._aws.account import Account
from unimsg.backends.sqs import provision as provisioning
from unimsg.backends.sqs.capabilities import LIMIT, declare
from unimsg.backends.sqs.names import native_name, queue_name
from unimsg.backends.sqs.options import Options
from unimsg.backends.sqs.receiver import SqsReceiver
from unimsg.backends.sqs.sender import SqsSender
from unimsg.errors import CapabilityError, ConfigError, Error, NotFoundError, PermissionDeniedError
from unimsg.spi import Drift, Events, Start, Topology

log = logging.getLogger("unimsg.backends.sqs")

ASKED = ["MaximumMessageSize", "RedrivePolicy", "ContentBasedDeduplication"]


class Queue(NamedTuple):
    """What is known of a queue."""

    url: str
    attributes: Mapping[str, str]

    @property
    def limit(self) -> int:
        """The most that one message may have, in bytes."""
        return int(self.attributes.get("MaximumMessageSize", LIMIT))


class SqsBackend:
    """The queues of one URL."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.capabilities = declare(options)
        self._account = Account(options, options.scheme)

    async def open(self) -> None:
        """Find region and credentials, and see that somebody answers: one attempt."""
        try:
            await self.probe()
        except BaseException:
            await self._account.release()
            raise

    async def open_sender(self, destination: str, /) -> SqsSender:
        """Open the way into a queue."""
        queue = await self._queue(destination)
        if self.options.dedup_by == "content" and queue.attributes.get("ContentBasedDeduplication") != "true":
            raise ConfigError(
                "dedup_by=content needs a queue with ContentBasedDeduplication: set it, or leave dedup_by out",
                backend=self.options.scheme,
                destination=destination,
            )
        calls = await self._account.calls("sqs")
        return SqsSender(destination, queue.url, queue.limit, calls, self.options)

    async def open_receiver(
        self, destination: str, group: str | None, start: Start, events: Events, prefetch: int, /
    ) -> SqsReceiver:
        """Open the way out of a queue, for its one group."""
        options = self.options
        if group is not None and group != options.group:
            raise CapabilityError(
                f"a queue has one group, and the URL calls it {options.group!r}: leave group= out, or name it in the "
                "URL as ?group=; for several groups use sns://, which has a queue for each",
                missing=("groups",),
                backend=options.scheme,
                destination=destination,
            )
        queue = await self._queue(destination)
        self._warn(destination, queue)
        return SqsReceiver(
            destination,
            queue.url,
            await self._account.calls("sqs"),
            fifo=options.fifo,
            wait=options.wait,
            lease=options.lease,
            backend=options.scheme,
        )

    def _warn(self, destination: str, queue: Queue) -> None:
        policy = provisioning.redrive_of(queue.attributes)
        if policy is not None and policy.receives <= LOW_COUNT:
            log.warning(
                "%r: its own redrive policy moves a message after %d receipts, and every receipt counts, a stop and a "
                "lost lease too: let it be more than 3 times max_attempts",
                destination,
                policy.receives,
            )

    async def _queue(self, destination: str) -> Queue:
        name = native_name(destination, self.options)
        return await find(self._account, name, destination, self.options.scheme)

    async def probe(self) -> None:
        """Ask for the names of no more than one queue."""
        client = await self._account.client("sqs")
        try:
            await client.list_queues(MaxResults=1, QueueNamePrefix=self.options.prefix or "unimsg")
        except Exception as error:
            ours = self.translate(error)
            if isinstance(ours, PermissionDeniedError) and "AccessDenied" in str(error):
                return  # it is there, and knows us: that we may not list says nothing of what we may
            raise

    async def provision(
        self, topology: Topology, mode: Literal["existing", "assume", "ensure"], /
    ) -> Sequence[Drift]:
        """Make queues, or say what differs; settings are attributes of the queue, see `provision`."""
        for name in filter(None, (topology.destination, topology.dead_letter)):
            queue_name(name, self.options)
        if mode == "assume":
            return []
        client = await self._account.client("sqs")
        return await provisioning.queues(client, topology, self.options, make=mode == "ensure")

    def translate(self, error: Exception, /) -> Error | None:
        """Return our error for one of the libraries'."""
        return trouble.translate(error, backend=self.options.scheme)

    async def aclose(self) -> None:
        """Close clients and connections."""
        await self._account.aclose()


LOW_COUNT = 5
"""Receipts after which a redrive policy surely acts before we do: `max_attempts` unless it is given."""


async def find(account: Account, name: str, destination: str, backend: str) -> Queue:
    """Return a queue by its name at the service.

    Raises:
        NotFoundError: there is none.
    """
    client = await account.client("sqs")
    try:
        url = (await client.get_queue_url(QueueName=name))["QueueUrl"]
    except Exception as error:
        ours = trouble.translate(error, backend=backend)
        if isinstance(ours, NotFoundError):
            raise NotFoundError(
                f"there is no queue {name!r} in {account.region} for these credentials: provision it",
                backend=backend,
                destination=destination,
            ) from error
        raise
    return Queue(str(url), await _attributes(client, str(url), backend))


async def _attributes(client: Any, url: str, backend: str) -> Mapping[str, str]:  # noqa: ANN401 - aiobotocore's
    """Return what is set for a queue; where we may not ask, what is usual."""
    try:
        answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    except Exception as error:
        ours = trouble.translate(error, backend=backend)
        if not isinstance(ours, PermissionDeniedError):
            raise
        log.warning("%s: sqs:GetQueueAttributes is denied: limits are taken as usual", url)
        return {}
    found: Mapping[str, str] = answer.get("Attributes", {})
    return found
