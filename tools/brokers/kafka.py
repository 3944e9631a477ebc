"""Apache Kafka in KRaft mode, from the jars on Maven Central alone: one broker for the tests, several for drills.

Law: a cluster is a folder; its brokers listen on 127.0.0.1 only. Listeners: PLAINTEXT; SASL_PLAINTEXT and SASL_SSL with
PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER (unsecured JWS); SSL with a client certificate; IAM, which takes the
tokens that Amazon MSK takes and asks for a new one every few seconds. User `alice`, password `alice-secret`.
"""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from tools.brokers import certificates, maven
from tools.brokers.process import Process, Running, await_answer, free_ports, spawn

VERSION = "4.4.0"
ARTEFACTS = (
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    "org.apache.kafka:kafka-tools:4.3.1!",  # the newest there is, 2026-11; its performance tools run on 4.4
    "org.slf4j:slf4j-simple:1.7.36",
)
CONSOLE = (
    "org.apache.kafka:kafka-tools:4.3.1!",
    "org.apache.kafka:kafka-tools-api:4.3.1",
    "org.apache.kafka:kafka-clients:4.3.1",
    "org.apache.kafka:kafka-server-common:4.3.1",
    "net.sf.jopt-simple:jopt-simple:5.0.4",
    "org.slf4j:slf4j-simple:1.7.36",
)
"""What Kafka's console tools need: they run on the version they were made with only."""
USER, PASSWORD = "alice", "alice-secret"
ACCESS_KEY, SECRET_KEY = "AKIDUNIMSGTESTS", "unimsg-tests-secret"
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
LISTENERS = ("PLAINTEXT", "CONTROLLER", "SASL_PLAINTEXT", "SASL_SSL", "SSL", "IAM")
SECURITY = {"CONTROLLER": "PLAINTEXT", "IAM": "SASL_SSL"}
MECHANISMS = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"
HEARTBEAT, HEARTBEATS = 0.5, 4
"""Seconds between two; after so many the controller has seen that a broker was away."""
REAUTHENTICATE = 4.0
"""Seconds after which the IAM listener asks for a new token."""


class Cluster:
    """Brokers that form a cluster; numbered from 1."""

    def __init__(
        self,
        folder: Path,
        cache: Path,
        *,
        brokers: int = 1,
        heap: str = "512m",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.certificates = folder / "certificates"
        self.brokers = range(1, brokers + 1)
        self.processes: dict[int, Process] = {}
        self._cache = cache
        self._heap = heap
        self._settings = settings or {}
        numbers = iter(free_ports(brokers * len(LISTENERS)))
        self._ports = {(broker, name): next(numbers) for broker in self.brokers for name in LISTENERS}
        self._advertised = dict(self._ports)

    def port(self, broker: int, listener: str) -> int:
        """Where a broker listens."""
        return self._ports[broker, listener]

    def advertised(self, broker: int, listener: str) -> int:
        """Where clients are told to find it."""
        return self._advertised[broker, listener]

    def advertise(self, broker: int, listener: str, port: int) -> None:
        """Have a broker name another port than its own, that of a proxy; before `start`."""
        self._advertised[broker, listener] = port

    def bootstrap(self, listener: str = "PLAINTEXT") -> str:
        """Where the brokers listen, joined by commas."""
        return ",".join(f"127.0.0.1:{self._ports[broker, listener]}" for broker in self.brokers)

    def start(self) -> None:
        """Format and start all brokers; returns when each answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        certificates.make(self.certificates)
        formats = [self._format(broker) for broker in self.brokers]
        self._compile_validator()
        for format_ in formats:
            if format_.wait():
                raise RuntimeError(f"formatting failed, see {self.folder}")
        for broker in self.brokers:
            self._spawn(broker)
        for broker in self.brokers:
            self._await(broker)

    def kill(self, broker: int) -> None:
        """As a power cut does: nothing is flushed, nobody is told."""
        self.processes[broker].kill()

    def restart(self, broker: int) -> None:
        """Start a broker again on the log it had; returns when it answers."""
        self._spawn(broker)
        self._await(broker)

    def freeze(self, broker: int) -> None:
        """It holds its connections and answers nothing, until `thaw`."""
        self.processes[broker].signal(signal.SIGSTOP)

    def thaw(self, broker: int) -> None:
        """It goes on; returns when it has been one of the cluster for some heartbeats: it may be put out first."""
        self.processes[broker].signal(signal.SIGCONT)
        port, beats = self._ports[broker, "PLAINTEXT"], 0
        while beats < HEARTBEATS:
            self._await(broker)
            time.sleep(HEARTBEAT)
            beats = beats + 1 if serves(broker, port) else 0

    def stop(self) -> None:
        """End all brokers."""
        for process in self.processes.values():
            process.signal(signal.SIGCONT)
            process.kill()

    # ------------------------------------------------------------ inside

    def _log(self, broker: int) -> Path:
        return self.folder / f"broker-{broker}.log"

    def _spawn(self, broker: int) -> None:
        command = self._java("kafka.Kafka", str(self._properties(broker)), heap=self._heap)
        self.processes[broker] = spawn(f"kafka {broker}", command, folder=self.folder, log=self._log(broker))

    def _await(self, broker: int) -> None:
        port = self._ports[broker, "PLAINTEXT"]
        await_answer(lambda: serves(broker, port), self.processes[broker], self._log(broker))

    def _format(self, broker: int) -> subprocess.Popen[bytes]:
        users: list[str] = []
        for kind in ("256", "512"):
            users += ["--add-scram", f"SCRAM-SHA-{kind}=[name={USER},password={PASSWORD}]"]
        properties = str(self._properties(broker))
        tool = ("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", properties, *users)
        with self._log(broker).open("wb") as log:
            return subprocess.Popen(self._java(*tool, heap="128m"), stdout=log, stderr=log)

    def _java(self, *arguments: str, heap: str, log: str = "warn") -> Sequence[str]:
        path = f"{maven.class_path(ARTEFACTS, self._cache)}:{self.folder}"
        # The first compiler alone: a broker starts with two thirds of the work, and that is what tests wait for.
        quick = (
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-XX:-UsePerfData",
            "-Dlog4j2.StatusLogger.level=OFF",
        )
        level = f"-Dorg.slf4j.simpleLogger.defaultLogLevel={log}"
        return ("java", f"-Xmx{heap}", *quick, level, "-cp", path, *arguments)

    def _compile_validator(self) -> None:
        source = Path(__file__).with_name("MskIamValidator.java")
        path = maven.class_path(ARTEFACTS, self._cache)
        subprocess.run(
            ["javac", "-nowarn", "-d", str(self.folder), "-cp", path, str(source)],
            check=True,
            capture_output=True,
        )

    def _properties(self, broker: int) -> Path:
        path = self.folder / f"broker-{broker}.properties"
        if not path.exists():
            lines = {**self._network(broker), **self._topics(broker), **self._security(), **self._settings}
            path.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
        return path

    def _network(self, broker: int) -> dict[str, str]:
        listeners, advertised = (
            {name: f"{name}://127.0.0.1:{ports[broker, name]}" for name in LISTENERS}
            for ports in (self._ports, self._advertised)
        )
        return {
            "process.roles": "broker,controller",
            "node.id": str(broker),
            "controller.quorum.voters": ",".join(
                f"{other}@127.0.0.1:{self._ports[other, 'CONTROLLER']}" for other in self.brokers
            ),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(at for name, at in advertised.items() if name != "CONTROLLER"),
            "listener.security.protocol.map": ",".join(
                f"{name}:{SECURITY.get(name, name)}" for name in LISTENERS
            ),
            "num.network.threads": "2",
            "num.io.threads": "2",
            "broker.session.timeout.ms": "3000",  # a dead leader is replaced in three seconds, not nine
            "broker.heartbeat.interval.ms": str(int(HEARTBEAT * 1000)),
            "controller.quorum.election.timeout.ms": "500",
            "controller.quorum.fetch.timeout.ms": "1000",
        }

    def _topics(self, broker: int) -> dict[str, str]:
        copies = min(len(self.brokers), 3)
        enough = max(1, copies - 1)
        return {
            "log.dirs": str(self.folder / f"data-{broker}"),
            "auto.create.topics.enable": "false",
            "num.partitions": "4",
            "default.replication.factor": str(copies),
            "min.insync.replicas": str(enough),
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": str(copies),
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.replication.factor": str(copies),
            "transaction.state.log.min.isr": str(enough),
            "share.coordinator.state.topic.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": str(copies),
            "share.coordinator.state.topic.min.isr": str(enough),
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "log.segment.bytes": str(256 << 20),
        }

    def _security(self) -> dict[str, str]:
        module = "org.apache.kafka.common.security"
        bearer = (
            f'{module}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker"'
        )
        lines = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.certificates / "server.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.certificates / "ca.pem"),
            "listener.name.ssl.ssl.client.auth": "required",
            "listener.name.iam.sasl.enabled.mechanisms": "OAUTHBEARER",
            "listener.name.iam.oauthbearer.sasl.jaas.config": f'{bearer} key_{ACCESS_KEY}="{SECRET_KEY}";',
            "listener.name.iam.oauthbearer.sasl.server.callback.handler.class": "MskIamValidator",
            "listener.name.iam.connections.max.reauth.ms": str(int(REAUTHENTICATE * 1000)),
        }
        for listener in ("sasl_plaintext", "sasl_ssl"):
            at = f"listener.name.{listener}"
            lines[f"{at}.sasl.enabled.mechanisms"] = MECHANISMS
            lines[f"{at}.plain.sasl.jaas.config"] = (
                f'{module}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            )
            for kind in ("256", "512"):
                lines[f"{at}.scram-sha-{kind}.sasl.jaas.config"] = (
                    f"{module}.scram.ScramLoginModule required;"
                )
            # Without a callback handler a broker takes any token {"alg": "none"} that has `sub` and `exp`.
            lines[f"{at}.oauthbearer.sasl.jaas.config"] = f"{bearer};"
        return lines


def serves(broker: int, port: int) -> bool:
    """Whether a broker answers, and the cluster counts it in: one that was away too long is fenced for a moment.

    Asks for the metadata of no topic, version 5 (https://kafka.apache.org/protocol#The_Messages_Metadata).
    """
    ask = struct.pack(">hhih4sib", 3, 5, 1, 4, b"ping", 0, 0)
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as there, there.makefile("rb") as answer:
            there.sendall(struct.pack(">i", len(ask)) + ask)
            _, _, _, count = struct.unpack(">4i", answer.read(16))
            return any(_broker(answer) == broker for _ in range(count))
    except (OSError, struct.error):
        return False


def _broker(answer: BinaryIO) -> int:
    """Read a broker out of an answer, and return its number."""
    number, host = struct.unpack(">ih", answer.read(6))
    _, rack = struct.unpack(">ih", answer.read(host + 6)[host:])
    answer.read(max(rack, 0))
    return int(number)


def start(folder: Path, cache: Path) -> Running:
    """Start one broker for the tests."""
    cluster = Cluster(folder, cache)
    try:
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
    return Running(
        environment={
            "UNIMSG_TEST_KAFKA_URL": f"kafka://{cluster.bootstrap()}",
            "UNIMSG_TEST_KAFKA_SASL_PLAINTEXT": cluster.bootstrap("SASL_PLAINTEXT"),
            "UNIMSG_TEST_KAFKA_SASL_SSL": cluster.bootstrap("SASL_SSL"),
            "UNIMSG_TEST_KAFKA_MTLS": cluster.bootstrap("SSL"),
            "UNIMSG_TEST_KAFKA_IAM": cluster.bootstrap("IAM"),
            "UNIMSG_TEST_KAFKA_CERTIFICATES": str(cluster.certificates),
        },
        processes=tuple(cluster.processes.values()),
    )
