"""Amazon SQS and SNS themselves, held to the catalogue. Run by a person with an account.

    UNIMSG_TEST_AWS_URL=sqs://eu-west-1?profile=tests python -m pytest tests/live/test_aws.py -m live

Law: what is made has a prefix that nobody else uses, and is deleted after each test; nothing else is touched. The same
URL serves all four schemes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import boto3
import pytest

from unimsg.backends._aws.options import AwsOptions
from unimsg.testing.conformance import Catalogue, World

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

PREFIX = "unimsg-live-"


class Aws(World):
    """One account in one region; polls as long as the URL says."""

    idle_requests = 60.0

    def __init__(self, url: str, scheme: str) -> None:
        where = url.partition("://")[2]
        mine = f"prefix={PREFIX}{os.urandom(4).hex()}-"
        super().__init__(
            f"{scheme}://{where}{'&' if '?' in where else '?'}{mine}", environment="AWS", tick=1.0, lease=6.0
        )

    async def __aexit__(self, *raised: object) -> None:
        try:
            await super().__aexit__(*raised)
        finally:
            await asyncio.to_thread(self._delete)

    def _delete(self) -> None:
        """Delete what begins with the prefix of this world."""
        options = self.options
        assert isinstance(options, AwsOptions)
        session = boto3.Session(
            region_name=options.region or None,
            profile_name=options.profile,
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            aws_session_token=options.session_token,
        )
        sqs = session.client("sqs", endpoint_url=options.endpoint_url)
        for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=options.prefix):
            for queue in page.get("QueueUrls", ()):
                sqs.delete_queue(QueueUrl=queue)
        if not options.scheme.startswith("sns"):
            return
        sns = session.client("sns", endpoint_url=options.endpoint_url)
        for page in sns.get_paginator("list_topics").paginate():
            for topic in page.get("Topics", ()):
                if topic["TopicArn"].rpartition(":")[2].startswith(options.prefix):
                    self._delete_topic(sns, topic["TopicArn"])

    def _delete_topic(self, sns: Any, topic: str) -> None:
        for page in sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic):
            for one in page.get("Subscriptions", ()):
                sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])
        sns.delete_topic(TopicArn=topic)


class _Live(Catalogue):
    scheme = "sqs"

    @pytest.fixture
    async def world(self, broker_url: Callable[..., str]) -> AsyncIterator[Aws]:
        async with Aws(broker_url("aws"), self.scheme) as world:
            yield world


class TestSqs(_Live):
    """Standard queues."""


class TestSqsFifo(_Live):
    """FIFO queues."""

    scheme = "sqs+fifo"


class TestSns(_Live):
    """Standard topics."""

    scheme = "sns"


class TestSnsFifo(_Live):
    """FIFO topics."""

    scheme = "sns+fifo"
