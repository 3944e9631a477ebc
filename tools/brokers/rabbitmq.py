"""RabbitMQ 4 on a machine whose own release is older: Debian 13's packages, unpacked into a folder.

Law: a broker is a folder and listens on 127.0.0.1 only: AMQP, AMQP over TLS. Nothing of the system is touched: apt has
a state of its own, Erlang is started through the unpacked C library. User `alice` may do anything,
`guest` may only read what exists.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tools.brokers import certificates
from tools.brokers.process import Process, Running, await_answer, birth, free_ports, spawn

RELEASE = "trixie"
PACKAGES = (
    "rabbitmq-server",
    "erlang-base",
    "erlang-asn1",
    "erlang-crypto",
    "erlang-eldap",
    "erlang-inets",
    "erlang-mnesia",
    "erlang-os-mon",
    "erlang-parsetools",
    "erlang-public-key",
    "erlang-runtime-tools",
    "erlang-ssl",
    "erlang-syntax-tools",
    "erlang-tools",
    "erlang-xmerl",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "libtinfo6",
    "zlib1g",
    "libssl3t64",
    "libzstd1",
    "libsystemd0",
    "libcap2",
)
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
USER, PASSWORD = "alice", "alice-secret"
READER, READER_PASSWORD = "guest", "guest-secret"


WRAPPER = '#!/bin/sh\nexec {library}/ld-linux-x86-64.so.2 --library-path {library} {program}.elf "$@"\n'
QUIET = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
"""Loopback only, and no busy waiting of its schedulers."""
AGED = 2.0
"""Seconds after which a quorum queue survives a kill: its node notes it a little later than it answers."""


class Broker:
    """One broker."""

    def __init__(self, folder: Path, cache: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.log = folder / "rabbitmq.log"
        self.certificates = folder / "certificates"
        self.port, self.tls_port, self._distribution, self._mapper = free_ports(4)
        self.processes: list[Process] = []
        self._tree = cache / f"rabbitmq-{RELEASE}"
        self._settings = settings or {}

    @property
    def url(self) -> str:
        """What `connect` takes."""
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it on what its folder has; returns when it answers and knows its users."""
        unpack(self._tree)
        fresh = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        certificates.make(self.certificates)
        self._configure()
        command = ["env", "-i", *self._environment(), str(self._script("rabbitmq-server"))]
        script = spawn("rabbitmq", command, folder=self.folder, log=self.log)
        self.processes = [script]
        await_answer(lambda: answers(self.port), script, self.log)
        self.processes = [*self._found(), script]
        if fresh:
            self.control("add_user", READER, READER_PASSWORD)
            self.control("set_permissions", READER, "^$", "^$", ".*")

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl` and return what it printed."""
        command = ["env", "-i", *self._environment(), str(self._script("rabbitmqctl")), "--quiet", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def kill(self) -> None:
        """As a power cut does: nothing is flushed, nobody is told."""
        for process in self.processes:
            process.kill()

    def freeze(self) -> None:
        """It holds its connections and answers nothing, until `thaw`."""
        for process in self.processes:
            process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        for process in self.processes:
            process.signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        for process in self.processes:
            process.stop()

    # ------------------------------------------------------------ inside

    def _found(self) -> list[Process]:
        """The node and its port mapper: the only ones with its folder as their home."""
        home = f"HOME={self.folder}".encode()
        found: list[Process] = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                name = (entry / "comm").read_text().strip()
                mine = home in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            pid = int(entry.name)
            if mine and name != "sh" and os.getsid(pid) != os.getsid(0):
                found.append(Process(name, pid, birth(pid)))
        return found

    def _configure(self) -> None:
        lines = {
            "listeners.tcp.local": f"127.0.0.1:{self.port}",
            "listeners.ssl.local": f"127.0.0.1:{self.tls_port}",
            "ssl_options.cacertfile": str(self.certificates / "ca.pem"),
            "ssl_options.certfile": str(self.certificates / "server.crt"),
            "ssl_options.keyfile": str(self.certificates / "server.key"),
            "ssl_options.verify": "verify_peer",
            "ssl_options.fail_if_no_peer_cert": "false",
            "default_user": USER,
            "default_pass": PASSWORD,
            "vm_memory_high_watermark.absolute": "2GB",
            "disk_free_limit.absolute": "200MB",
            "log.console.level": "warning",
            **self._settings,
        }
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (self.folder / "rabbitmq.conf").write_text(text, encoding="utf-8")
        (self.folder / "enabled_plugins").write_text("[].", encoding="utf-8")

    def _script(self, name: str) -> Path:
        (script,) = self._tree.glob(f"usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/{name}")
        return script

    def _environment(self) -> list[str]:
        programs = self._tree / "usr/lib/erlang/bin"
        return [
            f"HOME={self.folder}",
            f"PATH={programs}:/usr/bin:/bin",
            "LANG=C.UTF-8",
            f"ERL_DIR={programs}/",
            f"ERL_EPMD_PORT={self._mapper}",
            "ERL_EPMD_ADDRESS=127.0.0.1",
            f"RABBITMQ_HOME={self._script('rabbitmqctl').parents[1]}",
            "RABBITMQ_NODENAME=unimsg@localhost",
            f"RABBITMQ_CONFIG_FILE={self.folder}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE=/dev/null",
            f"RABBITMQ_MNESIA_BASE={self.folder}/data",
            f"RABBITMQ_LOG_BASE={self.folder}/log",
            f"RABBITMQ_ENABLED_PLUGINS_FILE={self.folder}/enabled_plugins",
            f"RABBITMQ_DIST_PORT={self._distribution}",
            f"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS={QUIET}",
        ]


def unpack(tree: Path) -> None:
    """Fetch the packages and unpack them into a folder, once; the folder must stay where it is."""
    if (tree / ".done").exists():
        return
    shutil.rmtree(tree, ignore_errors=True)
    state = tree.with_name(f"{tree.name}-apt")
    for folder in (tree, state / "lists/partial", state / "archives/partial"):
        folder.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    source = f"deb [signed-by={KEYRING}] {_mirror()} {RELEASE} main\n"
    (state / "sources.list").write_text(source, encoding="utf-8")
    options = {
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache::archives": state / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *PACKAGES], check=True, cwd=state / "archives")
    for package in (state / "archives").glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, tree], check=True)
    shutil.rmtree(state)
    _wrap(tree)
    (tree / ".done").touch()


def _mirror() -> str:
    """The mirror that this machine uses already, only another release of it."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    mirrors = [line for line in sorted(set(targets.split())) if line.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise RuntimeError(
            "no Debian mirror is configured here: set UNIMSG_TEST_RABBITMQ_URL to your own broker"
        )
    return mirrors[0]


def _wrap(tree: Path) -> None:
    """Let every Erlang program start through the unpacked loader, and its scripts find the unpacked tree."""
    (library,) = (path.parent for path in tree.glob("usr/lib/*/ld-linux-x86-64.so.2"))
    erlang = tree / "usr/lib/erlang"
    for program in [*erlang.glob("erts-*/bin/*"), *erlang.glob("lib/*/priv/bin/*")]:
        if program.is_symlink() or not program.is_file():
            continue
        if program.read_bytes()[:4] == b"\x7fELF":
            program.rename(program.with_name(f"{program.name}.elf"))
            program.write_text(WRAPPER.format(library=library, program=program), encoding="utf-8")
            program.chmod(0o755)
    for script in [erlang / "bin/erl", *erlang.glob("erts-*/bin/erl")]:
        if not script.is_symlink():
            text = script.read_text(encoding="utf-8").replace("ROOTDIR=/usr/lib/erlang", f"ROOTDIR={erlang}")
            text = re.sub("(?m)^dyn_erl_path=.*", "dyn_erl_path=/nonexistent", text)
            script.write_text(text, encoding="utf-8")


def answers(port: int) -> bool:
    """Whether a broker answers the AMQP header with Connection.Start."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as connection:
            connection.settimeout(3.0)
            connection.sendall(b"AMQP\0\0\x09\x01")
            return connection.recv(8)[:1] == b"\x01"
    except OSError:
        return False


def start(folder: Path, cache: Path) -> Running:
    """Start one broker for the tests."""
    folder.rmdir()  # a folder that is there was started before
    broker = Broker(folder, cache)
    try:
        broker.start()
    except BaseException:
        broker.stop()
        raise
    return Running(
        environment={
            "UNIMSG_TEST_RABBITMQ_URL": broker.url,
            "UNIMSG_TEST_RABBITMQ_TLS": f"127.0.0.1:{broker.tls_port}",
            "UNIMSG_TEST_RABBITMQ_CERTIFICATES": str(broker.certificates),
        },
        processes=broker.processes,
    )
