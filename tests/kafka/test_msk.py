"""Amazon MSK without an account: the lookup against the documented answers, the tokens against a real broker.

Law: the broker's IAM listener checks what MSK would (action, region, signature, expiry) and asks for a new token every
four seconds. That AWS answers as documented is shown by `tests/live/` only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
from aiobotocore.session import AioSession

import unimsg
from tests.kafka.conftest import MakeTopic
from tools.brokers.kafka import ACCESS_KEY, REAUTHENTICATE, SECRET_KEY
from unimsg.backends.kafka import Options, msk
from unimsg.errors import ConnectError, NotFoundError, OptionError, PermissionDeniedError, UnavailableError
from unimsg.testing.conformance.world import eventually

ARN = "arn:aws:kafka:eu-west-1:123456789012:cluster/orders/abc"
ANSWER = {
    "BootstrapBrokerString": "b-1:9092,b-2:9092",
    "BootstrapBrokerStringTls": "b-1:9094,b-2:9094",
    "BootstrapBrokerStringSaslScram": "b-1:9096,b-2:9096",
    "BootstrapBrokerStringSaslIam": "b-1:9098,b-2:9098",
}


def session(*, key: str = ACCESS_KEY, secret: str = SECRET_KEY) -> AioSession:
    """A session with credentials of its own."""
    made = AioSession()
    made.set_credentials(key, secret)
    return made


class Api:
    """The MSK API, as far as the lookup goes."""

    def __init__(self, clusters: list[dict[str, Any]], answer: dict[str, str]) -> None:
        self._clusters = clusters
        self._answer = answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is held."""

    def get_paginator(self, name: str) -> Api:
        assert name == "list_clusters_v2"
        return self

    async def paginate(self, ClusterNameFilter: str) -> AsyncIterator[dict[str, Any]]:  # noqa: N803 - AWS's
        for cluster in self._clusters:
            if cluster["ClusterName"].startswith(ClusterNameFilter):
                yield {"ClusterInfoList": [cluster]}

    async def get_bootstrap_brokers(self, ClusterArn: str) -> dict[str, str]:  # noqa: N803 - AWS's
        assert ClusterArn == ARN
        return self._answer


def answering(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, str], name: str = "orders", state: str = "ACTIVE"
) -> AioSession:
    """A session whose MSK API gives these answers."""
    found = session()
    others = {"ClusterName": "orders-2", "ClusterArn": "other", "State": "ACTIVE"}
    clusters = [
        others,
        {"ClusterName": name, "ClusterArn": ARN, "State": state, "ClusterType": "PROVISIONED"},
    ]
    monkeypatch.setattr(found, "create_client", lambda service, **_: Api(clusters, answer))
    return found


@pytest.mark.parametrize(
    ("auth", "given", "offered", "expected"),
    [
        ("auto", {}, ("SaslIam", "SaslScram", "Tls", ""), ("iam", "b-1:9098,b-2:9098")),
        ("auto", {"user": "a", "password": "b"}, ("SaslScram", "Tls"), ("scram", "b-1:9096,b-2:9096")),
        ("auto", {"cert": "c"}, ("Tls", ""), ("mtls", "b-1:9094,b-2:9094")),
        ("auto", {}, ("Tls", ""), ("none", "b-1:9092,b-2:9092")),
        (
            "scram-256",
            {"user": "a", "password": "b"},
            ("SaslIam", "SaslScram"),
            ("scram-256", "b-1:9096,b-2:9096"),
        ),
        ("iam", {}, ("SaslIam",), ("iam", "b-1:9098,b-2:9098")),
    ],
)
def test_what_the_cluster_offers_decides(
    auth: Any, given: dict[str, Any], offered: tuple[str, ...], expected: tuple[str, str]
) -> None:
    """The safest that can be used, unless the URL says which."""
    options = Options(scheme="msk", region="eu-west-1", cluster="orders", auth=auth, **given)
    answer = {field: ANSWER[field] for field in (f"BootstrapBrokerString{end}" for end in offered)}

    assert msk.choose(options, answer) == expected


def test_what_the_cluster_does_not_offer_is_refused() -> None:
    """With what it does offer."""
    options = Options(scheme="msk", region="eu-west-1", cluster="orders", auth="iam")

    with pytest.raises(OptionError, match="offers auth=mtls"):
        msk.choose(options, {"BootstrapBrokerStringTls": "b-1:9094"})


async def test_the_brokers_are_found_by_the_name_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """By exactly this name: the API filters by the beginning of it."""
    found = answering(monkeypatch, ANSWER)

    access = await msk.find(Options(scheme="msk", region="eu-west-1", cluster="orders", boto=found))

    assert access.servers == ("b-1:9098", "b-2:9098")
    assert access.settings["security_protocol"] == "SASL_SSL"
    assert access.settings["sasl_mechanism"] == "OAUTHBEARER"


async def test_a_cluster_that_is_not_there_or_not_ready_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first for good, the second for now."""
    options: Any = {"scheme": "msk", "region": "eu-west-1", "cluster": "orders"}

    with pytest.raises(NotFoundError, match="no MSK cluster 'orders' in eu-west-1"):
        await msk.find(Options(**options, boto=answering(monkeypatch, ANSWER, name="orders-3")))
    with pytest.raises(UnavailableError, match="CREATING"):
        await msk.find(Options(**options, boto=answering(monkeypatch, ANSWER, state="CREATING")))


async def test_an_api_that_is_not_there_is_told() -> None:
    """As a matter of the network."""
    options = Options(
        scheme="msk", region="eu-west-1", cluster="o", boto=session(), endpoint_url="http://127.0.0.1:1"
    )

    with pytest.raises(ConnectError, match="MSK API in eu-west-1"):
        async with unimsg.connect(options):
            pass


@asynccontextmanager
async def by_iam(
    monkeypatch: pytest.MonkeyPatch, servers: str, ca: str, credentials: AioSession
) -> AsyncIterator[unimsg.Client]:
    """A client of the IAM listener."""
    answer = {"BootstrapBrokerStringSaslIam": servers}
    clusters = [{"ClusterName": "orders", "ClusterArn": ARN, "State": "ACTIVE"}]
    monkeypatch.setattr(credentials, "create_client", lambda service, **_: Api(clusters, answer))
    options = Options(scheme="msk", region="eu-west-1", cluster="orders", boto=credentials, ca=ca)
    async with unimsg.connect(options) as client:
        yield client


async def test_tokens_are_signed_and_renewed(
    monkeypatch: pytest.MonkeyPatch, listener: Callable[[str], str], topic: MakeTopic, group: str
) -> None:
    """The broker ends each connection whose token is over; nobody who publishes or consumes notices."""
    ca, name = f"{listener('CERTIFICATES')}/ca.pem", await topic()
    got: list[int] = []

    async def note(delivery: unimsg.Delivery[int]) -> None:
        got.append(delivery.body)

    async with by_iam(monkeypatch, listener("IAM"), ca, session()) as client:
        subscriber = client.subscriber(name, group=group)
        running = asyncio.create_task(subscriber.run(note))
        ends = asyncio.get_running_loop().time() + 2.5 * REAUTHENTICATE
        sent = 0
        while asyncio.get_running_loop().time() < ends:
            await client.publish(name, sent)
            sent += 1
            await asyncio.sleep(0.02)  # the pace of the messages, through two ends of tokens
        await eventually(lambda: len(set(got)) == sent, "all are handled")
        await subscriber.aclose()
        await running
    assert set(got) == set(range(sent))


@pytest.mark.parametrize("credentials", [{"key": "AKIDNOBODY"}, {"secret": "wrong"}])
async def test_credentials_that_are_refused_are_told(
    monkeypatch: pytest.MonkeyPatch, listener: Callable[[str], str], credentials: dict[str, str]
) -> None:
    """Permanent at the first open."""
    ca = f"{listener('CERTIFICATES')}/ca.pem"

    with pytest.raises(PermissionDeniedError, match="token"):
        async with by_iam(monkeypatch, listener("IAM"), ca, session(**credentials)):
            pass
