"""Amazon SNS, held to the catalogue: both kinds of topics, read through queues of SQS, on MiniStack.

Law: what waits until leases have ended is played in the drills only. It is the receiver of SQS that keeps and loses
them, and `test_sqs` shows it with every test run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import ClassVar

import pytest

from tests.sqs.worlds import MINISTACK, AwsWorld
from unimsg.testing.conformance import Catalogue

OUTLIVE_A_LEASE = (
    "test_acking_after_the_lease_is_lost_is_reported",
    "test_a_lease_is_kept_while_a_handler_runs",
    "test_a_lease_is_not_extended_when_its_message_is_finished",
    "test_a_lease_is_not_extended_when_it_is_lost",
    "test_a_lease_is_not_extended_when_its_message_is_a_duplicate",
    "test_the_end_of_a_lease_wakes_a_receive_that_waits",
)


class _Sns(Catalogue):
    scheme = "sns"
    MARKED: ClassVar[Mapping[str, Sequence[pytest.MarkDecorator]]] = dict.fromkeys(
        OUTLIVE_A_LEASE, (pytest.mark.drill,)
    )

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
