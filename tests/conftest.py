"""What every test shares: how hypothesis searches, and what a missing broker means.

Law: no product code is wrapped here; a fixture that only one folder needs lives in that folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import HealthCheck, settings

from tools.brokers import activemq, rabbitmq
from tools.brokers.kafka import Cluster
from tools.brokers.process import free_ports
from tools.brokers.services import HOME, found

# No deadline: a slow machine is no bug. CI repeats itself, a developer's machine searches.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeat", settings.get_profile("search"), derandomize=True, print_blob=True)
settings.load_profile("repeat" if os.environ.get("CI") else "search")


def url_of(backend: str, environ: Mapping[str, str] = os.environ, what: str = "URL") -> str:
    """The URL of a running broker, or something else that its recipe tells.

    Looked for in the environment, then among what `make brokers` started; without one the test is skipped, in CI it
    fails.
    """
    name = f"UNIMSG_TEST_{backend.upper()}_{what}"
    if url := environ.get(name):
        return url
    if environ is os.environ and (running := found(backend)) is not None and name in running.environment:
        return running.environment[name]
    if environ.get("CI"):
        pytest.fail(f"no {backend} broker: in CI that is a failure; set {name}", pytrace=False)
    pytest.skip(f"no {backend} broker: set {name}")


@pytest.fixture(scope="session")
def broker_url() -> Callable[..., str]:
    """Give what finds a broker by the name of its backend."""
    return url_of


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let `xdist_group` be in effect with pytest 9.2, of which xdist 3.8 knows nothing (pytest-xdist #1386).

    A worker tells the group of a test by the end of its id, which xdist writes where pytest does not look any more.
    """
    if getattr(config.option, "loadgroup", False):
        for item in items:
            groups = "_".join(sorted({mark.args[0] for mark in item.iter_markers("xdist_group")}))
            if groups and not item.nodeid.endswith(f"@{groups}"):
                item._id = type(item._id).parse(f"{item.nodeid}@{groups}")


@pytest.fixture(scope="session")
def frail_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a Kafka broker that tests may kill, freeze and cut off, if they are of the xdist group `frail-kafka`.

    Its SASL_PLAINTEXT listener names a free port for its own: whoever goes that way puts a proxy there.
    """
    cluster = Cluster(tmp_path_factory.mktemp("kafka"), HOME / "cache", heap="300m")
    cluster.advertise(1, "SASL_PLAINTEXT", free_ports(1)[0])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def frail_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rabbitmq.Broker]:
    """Give a RabbitMQ that tests of the xdist group `frail-rabbitmq` may hurt, and leave as it was."""
    broker = rabbitmq.Broker(tmp_path_factory.mktemp("rabbitmq") / "broker", HOME / "cache")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def frail_activemq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[activemq.Broker]:
    """Give an ActiveMQ that tests of the xdist group `frail-activemq` may hurt, and leave as it was."""
    broker = activemq.Broker(tmp_path_factory.mktemp("activemq") / "broker", HOME / "cache")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
