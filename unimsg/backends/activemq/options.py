"""Options of `activemq://user:password@host:port,host:port` and the same with `activemq+ssl://`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from unimsg.backends._broker.place import pairs, parse
from unimsg.errors import OptionError
from unimsg.options import NotInURL, Range, Seconds, SecretStr
from unimsg.options import Options as BaseOptions

PORTS: Mapping[str, int] = {"activemq": 61613, "activemq+ssl": 61614}


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(BaseOptions):
    """What a URL of this backend can say; durations in seconds.

    Attributes:
        hosts: the STOMP ports of an active broker and its standbys, `host:port` joined by commas; each attempt to
            connect takes the next one.
        user, password: also as `user:password@` before the hosts.
        password_file: holds the password; read anew at each connection, so that it can be changed.
        tls: `insecure` checks no certificate; TLS is on with `activemq+ssl://`.
        ca: file of the authority that vouches for the brokers; the system's unless given.
        cert, key: files of the client's certificate and its key; one file may hold both.
        ssl_context: instead of `ca`, `cert` and `key`.
        ordering: `key` sends messages of one key to one consumer (message groups); `none` lets consumers share.
        priority: higher priorities overtake; the broker's policy must say `prioritizedMessages`.
        scheduler: whether the broker has `schedulerSupport`; without, retries wait in memory and nothing is delayed.
        create: whether destinations come into being on first use, as the broker lets them; without, it is asked what
            there is when a publisher or subscriber opens, which costs it about a millisecond for each destination.
        selector: a condition in SQL 92 over headers; only what fits is received.
        heartbeat: a peer that is not heard of for about twice so long is dead.
        wait: the longest that one receive waits.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"hosts"})

    scheme: str = "activemq"
    hosts: str = f"localhost:{PORTS['activemq']}"
    user: str | None = None
    password: SecretStr | None = None
    password_file: str | None = None
    tls: Literal["on", "insecure"] = "on"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    ssl_context: Annotated[Any, NotInURL()] = None
    ordering: Literal["none", "key"] = "key"
    priority: bool = False
    scheduler: bool = True
    create: bool = False
    selector: str | None = None
    heartbeat: Annotated[Seconds, Range(1, 600)] = 10.0
    wait: Annotated[Seconds, Range(0.001, 3600)] = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for problem in self._problems():
            raise OptionError(problem)

    def _problems(self) -> list[str]:
        problems = list[str]()
        if self.password is not None and self.password_file is not None:
            problems.append("password and password_file are given: give one")
        if not self.is_tls and (self.ca or self.cert or self.ssl_context or self.tls != "on"):
            problems.append(
                "ca, cert, ssl_context and tls are of no use without TLS: connect to activemq+ssl://"
            )
        if self.key and not self.cert:
            problems.append("key is of no use without cert")
        return problems

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "activemq+ssl"

    @property
    def is_ordered(self) -> bool:
        """Whether messages of one key keep their order."""
        return self.ordering == "key" and not self.priority

    @property
    def endpoints(self) -> list[tuple[str, int]]:
        """The hosts with their ports."""
        return pairs(self.hosts)

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        """Return hosts and who asks."""
        found = parse(where.removesuffix("/"), PORTS[scheme], host="localhost")
        return {"hosts": found.hosts, **found.who}

    def where(self, *, secrets: bool) -> str:
        """Return the hosts."""
        return self.hosts
