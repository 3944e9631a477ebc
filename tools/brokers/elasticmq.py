"""ElasticMQ: SQS in one JVM, from Maven Central; a second opinion beside MiniStack.

Law: listens on 127.0.0.1 only and keeps nothing; any credentials are good, and no signature is looked at. Its limits
are those of SQS where it knows them.
"""

from __future__ import annotations

from pathlib import Path

from tools.brokers import maven
from tools.brokers.ministack import answers
from tools.brokers.process import Running, await_answer, free_ports, spawn

VERSION = "1.7.1"
ARTEFACTS = (f"org.elasticmq:elasticmq-server_2.13:{VERSION}",)
CONFIGURATION = """\
node-address {{ protocol = http, host = 127.0.0.1, port = {port}, context-path = "" }}
generate-node-address = false
rest-sqs {{ enabled = true, bind-hostname = "127.0.0.1", bind-port = {port}, sqs-limits = strict }}
rest-stats {{ enabled = false, bind-hostname = "127.0.0.1", bind-port = {stats} }}
queues-storage {{ enabled = false }}
messages-storage {{ enabled = false }}
aws {{ region = us-east-1, accountId = 000000000000 }}
"""


def start(folder: Path, cache: Path) -> Running:
    """Start it; returns when it answers."""
    port, stats = free_ports(2)
    log, configuration = folder / "elasticmq.log", folder / "elasticmq.conf"
    configuration.write_text(CONFIGURATION.format(port=port, stats=stats), encoding="utf-8")
    command = (
        "java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
        f"-Dconfig.file={configuration}", "-cp", maven.class_path(ARTEFACTS, cache), "org.elasticmq.server.Main",
    )  # fmt: skip
    process = spawn("elasticmq", command, folder=folder, log=log)
    url = f"http://127.0.0.1:{port}"
    await_answer(lambda: answers(url), process, log)
    return Running(environment={"UNIMSG_TEST_ELASTICMQ_URL": url}, processes=(process,))
