"""Amazon SNS, held to the catalogue: both kinds of topics, read through queues of SQS, on MiniStack."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.sqs.worlds import MINISTACK, AwsWorld
from unimsg.testing.conformance import Catalogue


class _Sns(Catalogue):
    scheme = "sns"

    @pytest.fixture
    async def world(self, broker_url: Callable[..., str]) -> AsyncIterator[AwsWorld]:
        async with AwsWorld(
            broker_url("ministack"), self.scheme, environment="MiniStack 1.5.33", deviations=MINISTACK
        ) as world:
            yield world


@pytest.mark.timeout(300)  # a hundred clients read the description of the service a hundred times
class TestSns(_Sns):
    """Standard topics."""


@pytest.mark.timeout(300)  # as above
class TestSnsFifo(_Sns):
    """FIFO topics."""

    scheme = "sns+fifo"
