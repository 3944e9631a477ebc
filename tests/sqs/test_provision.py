"""What an operator does: queues, topics, what lets one write into the other, and which rights a program needs.

Law: looked at through boto3, not through us.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import boto3
import pytest

import unimsg
from tests.sqs.worlds import KEYS, REGION, url_of
from unimsg.errors import OptionError, UnroutableError
from unimsg.spi import Drift, Topology

ALL = pytest.mark.parametrize("scheme", ["sqs", "sqs+fifo", "sns", "sns+fifo"])
TOPICS = pytest.mark.parametrize("scheme", ["sns", "sns+fifo"])


def new(word: str = "p") -> str:
    """A name that nobody else uses."""
    return f"{word}-{os.urandom(5).hex()}"


def states(drifts: Sequence[Drift]) -> set[str]:
    """What became of everything."""
    return {drift.state for drift in drifts}


def statements(drifts: Sequence[Drift]) -> list[Mapping[str, Any]]:
    """The IAM statements that are told, as IAM would read them."""
    return [
        json.loads(found) for drift in drifts for found in re.findall(r"need (\{.*?\})(?:;|$)", drift.detail)
    ]


@ALL
async def test_what_is_there_stays_and_what_is_missing_is_said(endpoint: str, scheme: str) -> None:
    """Looking makes nothing; making twice changes nothing."""
    groups = ("g",) if scheme.startswith("sns") else ()
    topology = Topology(destination=new(), groups=groups, dead_letter=new("dead"))
    async with unimsg.connect(url_of(endpoint, scheme)) as client:
        assert states(await client.provision(topology, mode="existing")) == {"missing"}
        assert states(await client.provision(topology)) == {"created"}
        assert states(await client.provision(topology)) == {"present"}
        assert states(await client.provision(topology, mode="existing")) == {"present"}


@ALL
async def test_the_rights_that_a_program_needs_are_told(endpoint: str, scheme: str) -> None:
    """Each names one thing, by which it may be pasted into a policy."""
    topics = scheme.startswith("sns")
    topology = Topology(destination=new(), groups=("g",) if topics else (), dead_letter=new("dead"))
    async with unimsg.connect(url_of(endpoint, scheme)) as client:
        told = statements(await client.provision(topology))

    actions = {action for statement in told for action in statement["Action"]}
    assert {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"} <= actions
    assert ("sns:Publish" if topics else "sqs:SendMessage") in actions
    assert all(statement["Effect"] == "Allow" for statement in told)
    assert all(statement["Resource"].startswith("arn:aws:s") for statement in told)
    assert any(topology.dead_letter in statement["Resource"] for statement in told if topology.dead_letter)


@pytest.mark.parametrize("scheme", ["sqs", "sqs+fifo"])
async def test_a_setting_that_differs_is_told_and_then_changed(endpoint: str, scheme: str) -> None:
    """By its own name, and `max_receives` by ours."""
    name, dead = new(), new("dead")
    async with unimsg.connect(url_of(endpoint, scheme)) as client:
        await client.provision(Topology(destination=name, dead_letter=dead))
        wanted = Topology(
            destination=name, dead_letter=dead, settings={"VisibilityTimeout": "77", "max_receives": "50"}
        )
        differs, *_ = await client.provision(wanted, mode="existing")
        assert (differs.state, "VisibilityTimeout=30, wanted 77" in differs.detail) == ("differs", True)
        changed, *_ = await client.provision(wanted)
        assert changed.state == "changed"
        assert states(await client.provision(wanted)) == {"present"}
        with pytest.raises(OptionError, match="dead letter"):
            await client.provision(Topology(destination=name, settings={"max_receives": "50"}))

    sqs = boto3.client("sqs", endpoint_url=endpoint, region_name=REGION, **KEYS)
    full = name + (".fifo" if scheme == "sqs+fifo" else "")
    has = sqs.get_queue_attributes(
        QueueUrl=sqs.get_queue_url(QueueName=full)["QueueUrl"], AttributeNames=["All"]
    )["Attributes"]
    assert has["VisibilityTimeout"] == "77"
    assert json.loads(has["RedrivePolicy"])["maxReceiveCount"] == 50


@TOPICS
async def test_a_topic_may_write_into_the_queue_of_its_group_and_no_other_may(
    endpoint: str, scheme: str
) -> None:
    """The policy of the queue names it, the subscription is raw."""
    name, fifo = new(), ".fifo" if scheme == "sns+fifo" else ""
    async with unimsg.connect(url_of(endpoint, scheme)) as client:
        await client.provision(Topology(destination=name, groups=("g",)))

    sqs = boto3.client("sqs", endpoint_url=endpoint, region_name=REGION, **KEYS)
    sns = boto3.client("sns", endpoint_url=endpoint, region_name=REGION, **KEYS)
    queue = sqs.get_queue_url(QueueName=f"{name}-g{fifo}")["QueueUrl"]
    told = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])["Attributes"]["Policy"]
    (statement,) = json.loads(told)["Statement"]
    topic = statement["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert topic.endswith(f":{name}{fifo}")
    (subscription,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    attributes = sns.get_subscription_attributes(SubscriptionArn=subscription["SubscriptionArn"])[
        "Attributes"
    ]
    assert attributes["RawMessageDelivery"] == "true"


@TOPICS
async def test_a_filter_lets_through_what_it_says(endpoint: str, scheme: str) -> None:
    """By headers; the other group gets all."""
    name = new()
    settings = {"filter.orders": '{"kind": ["order"]}'}
    async with unimsg.connect(url_of(endpoint, scheme)) as client:
        await client.provision(Topology(destination=name, groups=("orders", "all"), settings=settings))
        for number, kind in enumerate(("order", "other", "order")):
            await client.publish(name, number, key="k", headers={"kind": kind})
        found: dict[str, list[Any]] = {"orders": [], "all": []}
        for group, bodies in found.items():

            async def handle(delivery: unimsg.Delivery[Any], bodies: list[Any] = bodies) -> None:
                bodies.append(delivery.body)

            await client.subscriber(name, group=group).run_until_idle(handle)

    assert {group: sorted(bodies) for group, bodies in found.items()} == {"orders": [0, 2], "all": [0, 1, 2]}


@TOPICS
async def test_what_nobody_has_subscribed_to_is_unroutable_until_somebody_has(
    endpoint: str, scheme: str
) -> None:
    """A topic confirms what nobody will ever get; promise 2."""
    name = new()
    async with unimsg.connect(url_of(endpoint, scheme)) as client:
        await client.provision(Topology(destination=name))
        with pytest.raises(UnroutableError, match="provision a group"):
            await client.publish(name, 1, key="k")
        await client.provision(Topology(destination=name, groups=("g",)))
        await client.publish(name, 2, key="k")
        found: list[Any] = []

        async def handle(delivery: unimsg.Delivery[Any]) -> None:
            found.append(delivery.body)

        await client.subscriber(name, group="g").run_until_idle(handle)

    assert found == [2]
