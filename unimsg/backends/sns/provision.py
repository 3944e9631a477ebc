"""Provision: makes topics, the queues of groups, what lets a topic write into them, and subscriptions.

Law: creates and changes what is asked for, deletes nothing. A setting is an attribute of the topic by its own name, or
one of ours: `filter.GROUP=` a filter policy as JSON, `filter_scope.GROUP=MessageBody`, and `undelivered=QUEUE`, where
SNS puts what it could not deliver to a queue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from unimsg.backends._aws import trouble
from unimsg.backends.sns.options import Options
from unimsg.backends.sqs.names import queue_name
from unimsg.backends.sqs.provision import CONSUME, detailed, queue, rights, same
from unimsg.errors import NotFoundError
from unimsg.spi import Drift, Topology

PUBLISH = ("sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:Publish")


class Place(NamedTuple):
    """What a name at length begins with."""

    partition: str
    region: str
    account: str
    options: Options

    def topic(self, name: str) -> str:
        """Return the name at length of a topic."""
        return f"arn:{self.partition}:sns:{self.region}:{self.account}:{queue_name(name, self.options, longest=256)}"

    def queue(self, name: str) -> str:
        """Return the name at length of a queue."""
        return f"arn:{self.partition}:sqs:{self.region}:{self.account}:{queue_name(name, self.options)}"

    def group(self, topic: str, group: str) -> str:
        """Return the name of the queue of a group, without what the scheme adds."""
        return self.options.queue.format(destination=topic, group=group)


async def topics(sns: Any, sqs: Any, topology: Topology, place: Place, *, make: bool) -> list[Drift]:  # noqa: ANN401 - aiobotocore's
    """Look at, or make, the topics of a topology and what their groups read from."""
    own = ("filter.", "filter_scope.", "undelivered")
    settings = {name: value for name, value in topology.settings.items() if not name.startswith(own)}
    drift = await _topic(sns, topology.destination, settings, place, make=make)
    arn = place.topic(topology.destination)
    if drift.state != "missing":
        drift = detailed(drift, rights("publishers", PUBLISH, arn))
    found = [drift]
    for group in topology.groups:
        found += await _group(sns, sqs, topology, group, place, make=make)
    if topology.dead_letter is not None:
        drift = await _topic(sns, topology.dead_letter, {}, place, make=make)
        if drift.state != "missing":
            drift = detailed(drift, rights("consumers", PUBLISH, place.topic(topology.dead_letter)))
        found.append(drift)
    return found


async def _topic(sns: Any, name: str, wanted: Mapping[str, str], place: Place, *, make: bool) -> Drift:  # noqa: ANN401 - as above
    arn, what = place.topic(name), f"destination {name}"
    has = await _attributes(sns, arn, place)
    if has is None:
        if make:
            fifo = {"FifoTopic": "true"} if place.options.fifo else {}
            await sns.create_topic(Name=arn.rpartition(":")[2], Attributes={**fifo, **wanted})
        return Drift(what=what, state="created" if make else "missing", detail=f"topic {arn}")
    differs = {name: value for name, value in wanted.items() if not same(has.get(name), value)}
    if not differs:
        return Drift(what=what, state="present", detail=f"topic {arn}")
    told = ", ".join(f"{name}={has.get(name)}, wanted {value}" for name, value in differs.items())
    if make:
        for attribute, value in differs.items():
            await sns.set_topic_attributes(TopicArn=arn, AttributeName=attribute, AttributeValue=value)
    return Drift(what=what, state="changed" if make else "differs", detail=told)


async def _attributes(sns: Any, arn: str, place: Place) -> Mapping[str, str] | None:  # noqa: ANN401 - as above
    try:
        answer = await sns.get_topic_attributes(TopicArn=arn)
    except Exception as error:
        if isinstance(trouble.translate(error, backend=place.options.scheme), NotFoundError):
            return None
        raise
    found: Mapping[str, str] = answer.get("Attributes", {})
    return found


async def _group(
    sns: Any,  # noqa: ANN401 - as above
    sqs: Any,  # noqa: ANN401 - as above
    topology: Topology,
    group: str,
    place: Place,
    *,
    make: bool,
) -> list[Drift]:
    """Look at, or make, the queue of a group, its policy and its subscription."""
    topic, name = place.topic(topology.destination), place.group(topology.destination, group)
    policy = json.dumps(_policy(place.queue(name), topic))
    drift, arn = await queue(sqs, name, {"Policy": policy}, place.options, make=make)
    drift = Drift(what=f"group {group}", state=drift.state, detail=drift.detail)
    if drift.state == "missing":
        return [drift]
    drift = detailed(drift, rights("consumers", CONSUME, arn))
    wanted = _subscription(topology, group, place)
    return [drift, await _subscribed(sns, topic, arn, wanted, f"subscription of {group}", place, make=make)]


def _policy(queue_arn: str, topic: str) -> dict[str, Any]:
    """Return what lets a topic, and nobody else's, write into a queue."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _subscription(topology: Topology, group: str, place: Place) -> dict[str, str]:
    settings, wanted = topology.settings, {"RawMessageDelivery": "true"}
    if policy := settings.get(f"filter.{group}"):
        wanted["FilterPolicyScope"] = settings.get(f"filter_scope.{group}", "MessageAttributes")
        wanted["FilterPolicy"] = policy
    if undelivered := settings.get("undelivered"):
        wanted["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": place.queue(undelivered)})
    return wanted


async def _subscribed(
    sns: Any,  # noqa: ANN401 - as above
    topic: str,
    endpoint: str,
    wanted: Mapping[str, str],
    what: str,
    place: Place,
    *,
    make: bool,
) -> Drift:
    known = await _known(sns, topic, endpoint, place)
    if known is None:
        if make:
            await sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=endpoint, Attributes=dict(wanted))
        return Drift(what=what, state="created" if make else "missing", detail=endpoint)
    has = (await sns.get_subscription_attributes(SubscriptionArn=known)).get("Attributes", {})
    differs = {name: value for name, value in wanted.items() if not same(has.get(name), value)}
    if not differs:
        return Drift(what=what, state="present", detail=endpoint)
    if make:
        for name, value in differs.items():
            await sns.set_subscription_attributes(
                SubscriptionArn=known, AttributeName=name, AttributeValue=value
            )
    told = ", ".join(f"{name}={has.get(name)}, wanted {value}" for name, value in differs.items())
    return Drift(what=what, state="changed" if make else "differs", detail=told)


async def _known(sns: Any, topic: str, endpoint: str, place: Place) -> str | None:  # noqa: ANN401 - as above
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    try:
        async for page in pages:
            for one in page.get("Subscriptions", ()):
                if one["Endpoint"] == endpoint:
                    return str(one["SubscriptionArn"])
    except Exception as error:
        if not isinstance(trouble.translate(error, backend=place.options.scheme), NotFoundError):
            raise
    return None
