"""Amazon SQS, held to the catalogue: both kinds of queues, on MiniStack.

Law: by the lean transport, all of it; in the drills by botocore's too, what moves messages, and all of it once more on
ElasticMQ, which others have written. `tests/sqs` has both transports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.sqs.worlds import ELASTICMQ, MINISTACK, AwsWorld
from unimsg.testing.conformance import Catalogue
from unimsg.testing.conformance.c_failures import PublishFailures
from unimsg.testing.conformance.c_publish import Publish
from unimsg.testing.conformance.d_delivery import Deliver
from unimsg.testing.conformance.e_leases import Leases
from unimsg.testing.conformance.e_settlement import Settlements


class _Sqs:
    scheme = "sqs"
    options = ""

    @pytest.fixture
    async def world(self, broker_url: Callable[..., str]) -> AsyncIterator[AwsWorld]:
        async with AwsWorld(
            broker_url("ministack"),
            self.scheme,
            environment="MiniStack 1.5.33",
            deviations=MINISTACK,
            options=self.options,
        ) as world:
            yield world


@pytest.mark.timeout(300)  # a hundred clients read the description of the service a hundred times
class TestSqs(_Sqs, Catalogue):
    """Standard queues."""


@pytest.mark.timeout(300)  # as above
class TestSqsFifo(_Sqs, Catalogue):
    """FIFO queues."""

    scheme = "sqs+fifo"


class _ByBotocore(_Sqs, Publish, PublishFailures, Deliver, Settlements, Leases):
    options = "&transport=botocore"


@pytest.mark.drill
class TestSqsByBotocore(_ByBotocore):
    """Standard queues."""


@pytest.mark.drill
class TestSqsFifoByBotocore(_ByBotocore):
    """FIFO queues."""

    scheme = "sqs+fifo"


class _OnElasticMq(Catalogue):
    scheme = "sqs"

    @pytest.fixture
    async def world(self, broker_url: Callable[..., str]) -> AsyncIterator[AwsWorld]:
        async with AwsWorld(
            broker_url("elasticmq"), self.scheme, environment="ElasticMQ 1.7.1", deviations=ELASTICMQ
        ) as world:
            yield world


@pytest.mark.drill
@pytest.mark.timeout(300)  # as above
class TestSqsOnElasticMq(_OnElasticMq):
    """Standard queues."""


@pytest.mark.drill
@pytest.mark.timeout(300)  # as above
class TestSqsFifoOnElasticMq(_OnElasticMq):
    """FIFO queues."""

    scheme = "sqs+fifo"
