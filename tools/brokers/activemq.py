"""Apache ActiveMQ Classic from the jars on Maven Central: one broker for the tests, an active and a standby for drills.

Law: a broker is a folder and listens on 127.0.0.1 only. Listeners: STOMP, STOMP over TLS. User `alice` may do anything,
`guest` may only read. Two brokers on one data folder are an active and its standby: the second opens its ports when
it has taken over.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.brokers import certificates, maven
from tools.brokers.process import Process, Running, await_answer, free_ports, spawn

VERSION = "5.19.1"
# Of 5.19 the modules for STOMP and the console are missing there, the whole broker in one jar is not (2026-11).
ARTEFACTS = (
    f"org.apache.activemq:activemq-osgi:{VERSION}!",
    "org.springframework:spring-context:5.3.39",
    "jakarta.jms:jakarta.jms-api:2.0.3",
    "org.apache.xbean:xbean-spring:4.26!",
    "org.slf4j:slf4j-jdk14:2.0.17",
    "com.thoughtworks.xstream:xstream:1.4.21",  # these two write advisories as JSON, as in the distribution
    "org.codehaus.jettison:jettison:1.5.4",
)
USER, PASSWORD = "alice", "alice-secret"
READER, READER_PASSWORD = "guest", "guest-secret"
STORE_PASSWORD = "unimsg-tests"  # noqa: S105 - of a key that is worth nothing
OPENS = ("lang", "util", "net", "io", "util.concurrent", "util.concurrent.atomic", "security")
MAX_FRAME = 1 << 20
"""Bytes of the largest frame that is taken: small, so that a test can go beyond it."""
IDLE = 30
"""Seconds after which the broker that all tests share forgets a destination without messages and consumers: a test asks
what there is, and each one that is told takes a few milliseconds."""

# No look for what has expired, though that is every 30 s by default: the look pages messages in beside the dispatch
# (`Queue.doBrowse`, 5.19.1), and a page of one may be given before an earlier one of the other. What has expired is not
# given in any case.
CONFIGURATION = """\
<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans
  http://www.springframework.org/schema/beans/spring-beans.xsd
  http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" useJmx="false" brokerName="unimsg" dataDirectory="{data}"
          schedulerSupport="true" persistent="true" useShutdownHook="true" start="true"
          schedulePeriodForDestinationPurge="{tidy}">
    <destinationInterceptors><virtualDestinationInterceptor><virtualDestinations>
      <virtualTopic name="VirtualTopic.&gt;" prefix="Consumer.*." selectorAware="false"/>
    </virtualDestinations></virtualDestinationInterceptor></destinationInterceptors>
    <destinationPolicy><policyMap><policyEntries>
      <policyEntry topic="&gt;" gcInactiveDestinations="true" inactiveTimeoutBeforeGC="{idle}"/>
      <policyEntry queue="&gt;" prioritizedMessages="true" producerFlowControl="true" expireMessagesPeriod="0"
                   gcInactiveDestinations="true" inactiveTimeoutBeforeGC="{idle}">
        <deadLetterStrategy>
          <individualDeadLetterStrategy queuePrefix="DLQ." useQueueForQueueMessages="true"/>
        </deadLetterStrategy>
      </policyEntry>
    </policyEntries></policyMap></destinationPolicy>
    <plugins>
      <simpleAuthenticationPlugin anonymousAccessAllowed="false"><users>
        <authenticationUser username="{user}" password="{password}" groups="all"/>
        <authenticationUser username="{reader}" password="{reader_password}" groups="readers"/>
      </users></simpleAuthenticationPlugin>
      <authorizationPlugin><map><authorizationMap><authorizationEntries>
        <authorizationEntry queue="&gt;" read="all,readers" write="all" admin="all"/>
        <authorizationEntry topic="&gt;" read="all,readers" write="all" admin="all"/>
        <authorizationEntry topic="ActiveMQ.Advisory.&gt;" read="all,readers" write="all,readers"
                            admin="all,readers"/>
      </authorizationEntries></authorizationMap></map></authorizationPlugin>
    </plugins>
    <persistenceAdapter><kahaDB directory="{data}/kahadb" lockKeepAlivePeriod="2000">
      <locker><shared-file-locker lockAcquireSleepInterval="500"/></locker>
    </kahaDB></persistenceAdapter>
    <sslContext>
      <sslContext keyStore="file:{keystore}" keyStoreType="PKCS12" keyStorePassword="{store_password}"/>
    </sslContext>
    <systemUsage><systemUsage>
      <memoryUsage><memoryUsage limit="128 mb"/></memoryUsage>
      <storeUsage><storeUsage limit="4 gb"/></storeUsage>
      <tempUsage><tempUsage limit="512 mb"/></tempUsage>
    </systemUsage></systemUsage>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp+nio://127.0.0.1:{plain}?{transport}"/>
      <transportConnector name="tls" uri="stomp+nio+ssl://127.0.0.1:{tls}?{transport}"/>
    </transportConnectors>
  </broker>
</beans>
"""
LOGGING = """\
handlers=java.util.logging.ConsoleHandler
.level=WARNING
java.util.logging.SimpleFormatter.format=%1$tT.%1$tL %4$s %3$s %5$s %6$s%n
"""


class Broker:
    """One broker."""

    def __init__(
        self,
        folder: Path,
        cache: Path,
        *,
        data: Path | None = None,
        max_frame: int = MAX_FRAME,
        tidy: bool = False,
    ) -> None:
        self.folder = folder
        self.data = data if data is not None else folder / "data"
        self.certificates = folder / "certificates"
        self.log = folder / "activemq.log"
        self.port, self.tls_port = free_ports(2)
        self.process: Process | None = None
        self._cache = cache
        self._max_frame = max_frame
        self._tidy = tidy

    @property
    def url(self) -> str:
        """What `connect` takes."""
        return f"activemq://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self, *, standby: bool = False) -> None:
        """Start it on what its data folder has; returns when it answers, a standby at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._configure()
        self.process = spawn("activemq", self._command(), folder=self.folder, log=self.log)
        if not standby:
            self.await_answer()

    def await_answer(self) -> None:
        """Return when it answers, for a standby: when it has taken over."""
        if self.process is not None:
            await_answer(lambda: answers(self.port), self.process, self.log)

    def kill(self) -> None:
        """As a power cut does."""
        if self.process is not None:
            self.process.kill()

    def freeze(self) -> None:
        """It holds its connections and answers nothing, until `thaw`."""
        if self.process is not None:
            self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        if self.process is not None:
            self.process.signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.stop()

    # ------------------------------------------------------------ inside

    def _configure(self) -> None:
        certificates.make(self.certificates)
        keystore = self.certificates / "server.p12"
        if not keystore.exists():
            subprocess.run(
                [
                    "openssl",
                    "pkcs12",
                    "-export",
                    "-in",
                    self.certificates / "server.pem",
                    "-out",
                    keystore,
                    "-passout",
                    f"pass:{STORE_PASSWORD}",
                ],
                check=True,
                capture_output=True,
            )
        transport = f"transport.hbGracePeriodMultiplier=1.5&amp;wireFormat.maxFrameSize={self._max_frame}"
        configuration = CONFIGURATION.format(
            data=self.data,
            tidy=5000 if self._tidy else 0,
            idle=IDLE * 1000,
            user=USER,
            password=PASSWORD,
            reader=READER,
            reader_password=READER_PASSWORD,
            keystore=keystore,
            store_password=STORE_PASSWORD,
            plain=self.port,
            tls=self.tls_port,
            transport=transport,
        )
        (self.folder / "activemq.xml").write_text(configuration, encoding="utf-8")
        (self.folder / "logging.properties").write_text(LOGGING, encoding="utf-8")

    def _command(self) -> Sequence[str]:
        opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENS]
        places = [f"-Dactivemq.{what}={self.folder}" for what in ("home", "base", "conf")]
        return (
            "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", *opens, *places,
            f"-Dactivemq.data={self.data}", f"-Djava.util.logging.config.file={self.folder}/logging.properties",
            "-cp", maven.class_path(ARTEFACTS, self._cache), "org.apache.activemq.console.command.ShellCommand",
            "start", f"xbean:file:{self.folder}/activemq.xml",
        )  # fmt: skip


def answers(port: int) -> bool:
    """Whether a broker answers CONNECT: the port opens a little earlier."""
    connect = f"CONNECT\naccept-version:1.2\nhost:localhost\nlogin:{USER}\npasscode:{PASSWORD}\n\n\0"
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as connection:
            connection.settimeout(2.0)
            connection.sendall(connect.encode())
            return connection.recv(256).startswith(b"CONNECTED")
    except OSError:
        return False


def start(folder: Path, cache: Path) -> Running:
    """Start one broker for the tests."""
    broker = Broker(folder, cache, tidy=True)
    try:
        broker.start()
    except BaseException:
        broker.stop()
        raise
    return Running(
        environment={
            "UNIMSG_TEST_ACTIVEMQ_URL": broker.url,
            "UNIMSG_TEST_ACTIVEMQ_TLS": f"127.0.0.1:{broker.tls_port}",
            "UNIMSG_TEST_ACTIVEMQ_CERTIFICATES": str(broker.certificates),
        },
        processes=[broker.process] if broker.process is not None else [],
    )
