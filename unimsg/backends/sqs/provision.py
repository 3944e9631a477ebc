"""Provision: makes queues, says what differs from what is wanted, and which rights the program needs.

Law: creates and changes what is asked for, deletes nothing. A setting is an attribute of the queue by its own name
(`VisibilityTimeout=60`), or one of ours: `high_throughput=true`, and `max_receives=50`, which makes SQS itself move to
the dead letter queue what was received more often.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from unimsg.backends._aws import trouble
from unimsg.backends.sqs.names import queue_name
from unimsg.backends.sqs.options import Options
from unimsg.errors import NotFoundError, OptionError
from unimsg.spi import Drift, Topology

HIGH_THROUGHPUT = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
PUBLISH = ("sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:SendMessage")
CONSUME = (
    "sqs:GetQueueUrl",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
)
OURS = ("high_throughput", "max_receives")


class RedrivePolicy(NamedTuple):
    """After how many receipts SQS moves a message, and where to."""

    target: str
    receives: int


def redrive_of(attributes: Mapping[str, str]) -> RedrivePolicy | None:
    """Return the redrive policy of a queue, if it has one."""
    raw = attributes.get("RedrivePolicy")
    if not raw:
        return None
    told = json.loads(raw)
    return RedrivePolicy(str(told.get("deadLetterTargetArn", "")), int(told.get("maxReceiveCount", 10)))


async def queues(client: Any, topology: Topology, options: Options, *, make: bool) -> list[Drift]:  # noqa: ANN401 - aiobotocore's
    """Look at, or make, the queues of a topology; the dead letter queue first, since a policy names it."""
    settings = dict(topology.settings)
    receives = settings.pop("max_receives", None)
    if settings.pop("high_throughput", "false") == "true":
        settings |= HIGH_THROUGHPUT
    found: list[Drift] = []
    if topology.dead_letter is not None:
        drift, arn = await queue(client, topology.dead_letter, {}, options, make=make)
        found.append(detailed(drift, rights("consumers", PUBLISH, arn)) if arn else drift)
        if receives is not None:
            settings["RedrivePolicy"] = json.dumps(
                {"deadLetterTargetArn": arn, "maxReceiveCount": int(receives)}
            )
    elif receives is not None:
        raise OptionError("max_receives needs a dead letter destination", backend=options.scheme)
    drift, arn = await queue(client, topology.destination, settings, options, make=make)
    if arn:
        drift = detailed(drift, rights("publishers", PUBLISH, arn), rights("consumers", CONSUME, arn))
    return [drift, *found]


async def queue(
    client: Any,  # noqa: ANN401 - aiobotocore's
    name: str,
    wanted: Mapping[str, str],
    options: Any,  # noqa: ANN401 - the options of SQS or SNS
    *,
    make: bool,
) -> tuple[Drift, str]:
    """Look at, or make, one queue; return what was found and its name at length."""
    native, what = queue_name(name, options), f"destination {name}"
    fifo = {"FifoQueue": "true"} if options.fifo else {}
    try:
        url = (await client.get_queue_url(QueueName=native))["QueueUrl"]
    except Exception as error:
        if not isinstance(trouble.translate(error, backend=options.scheme), NotFoundError):
            raise
        if not make:
            return Drift(what=what, state="missing", detail=f"queue {native}"), ""
        url = (await client.create_queue(QueueName=native, Attributes={**fifo, **wanted}))["QueueUrl"]
        return Drift(what=what, state="created", detail=f"queue {native}"), await arn_of(client, url)
    answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    has: Mapping[str, str] = answer.get("Attributes", {})
    differs = {name: value for name, value in wanted.items() if not same(has.get(name), value)}
    arn = str(has["QueueArn"])
    if not differs:
        return Drift(what=what, state="present", detail=f"queue {native}"), arn
    told = ", ".join(f"{name}={has.get(name)}, wanted {value}" for name, value in differs.items())
    if not make:
        return Drift(what=what, state="differs", detail=told), arn
    await client.set_queue_attributes(QueueUrl=url, Attributes=differs)
    return Drift(what=what, state="changed", detail=told), arn


async def arn_of(client: Any, url: str) -> str:  # noqa: ANN401 - aiobotocore's
    """Return the name at length of a queue."""
    answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


def same(has: str | None, wanted: str) -> bool:
    """Whether an attribute is as it is wanted; JSON is compared by what it says."""
    if has == wanted:
        return True
    try:
        return has is not None and bool(_normal(json.loads(has)) == _normal(json.loads(wanted)))
    except ValueError:
        return False


def _normal(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Numbers as text: a redrive policy comes back with either."""
    if isinstance(value, dict):
        return {name: _normal(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def rights(who: str, actions: tuple[str, ...], arn: str) -> str:
    """Return the IAM statement that those who use a thing need, as a sentence."""
    return f"{who} need {json.dumps({'Effect': 'Allow', 'Action': list(actions), 'Resource': arn})}"


def detailed(drift: Drift, *details: str) -> Drift:
    """Return a drift that says more."""
    return Drift(what=drift.what, state=drift.state, detail="; ".join((drift.detail, *details)))
