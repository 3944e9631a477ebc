"""Options of `amqp://user:password@host:port,host:port/vhost` and the same with `amqps://`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote, unquote

from unimsg.backends._broker.place import pairs, parse
from unimsg.errors import OptionError
from unimsg.options import NotInURL, Range, Seconds, SecretStr, redact
from unimsg.options import Options as BaseOptions

PORTS: Mapping[str, int] = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(BaseOptions):
    """What a URL of this backend can say; durations in seconds.

    Attributes:
        hosts: the nodes, `host:port` joined by commas; each attempt to connect begins with the next one.
        vhost: the virtual host; `/` unless given.
        auth: `plain` with user and password, `external` with the client's certificate.
        user, password: also as `user:password@` before the hosts; `guest` unless given.
        password_file: holds the password; read anew at each connection, so that it can be changed.
        tls: `insecure` checks no certificate; TLS is on with `amqps://`.
        ca: file of the authority that vouches for the nodes; the system's unless given.
        cert, key: files of the client's certificate and its key; one file may hold both.
        ssl_context: instead of `ca`, `cert` and `key`.
        ordering: `key` needs queues with a single active consumer, and makes them so; `none` lets consumers share.
        queues: which kind is made; `quorum` is replicated where there are several nodes. `auto`: that, unless
            `priority` is asked for, which it cannot do: it only interleaves two classes.
        priority: queues are made with priorities; higher ones overtake, which costs the order.
        heartbeat: a peer that is not heard of for about twice so long is dead.
        wait: the longest that one receive waits.
        name: of this client's connections, shown by the management tools.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"hosts", "vhost"})

    scheme: str = "amqp"
    hosts: str = "localhost:5672"
    vhost: str = "/"
    auth: Literal["plain", "external"] = "plain"
    user: str | None = None
    password: SecretStr | None = None
    password_file: str | None = None
    tls: Literal["on", "insecure"] = "on"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    ssl_context: Annotated[Any, NotInURL()] = None
    ordering: Literal["none", "key"] = "none"
    queues: Literal["auto", "quorum", "classic"] = "auto"
    priority: bool = False
    heartbeat: Annotated[Seconds, Range(1, 600)] = 15.0
    wait: Annotated[Seconds, Range(0.001, 3600)] = 20.0
    name: str = "unimsg"

    def __post_init__(self) -> None:
        super().__post_init__()
        for problem in self._problems():
            raise OptionError(problem)

    def _problems(self) -> list[str]:
        problems = list[str]()
        if self.password is not None and self.password_file is not None:
            problems.append("password and password_file are given: give one")
        if self.auth == "external" and not (self.cert or self.ssl_context):
            problems.append("auth=external needs cert, and key unless cert holds it too")
        if self.scheme == "amqp" and (self.ca or self.cert or self.ssl_context or self.tls != "on"):
            problems.append("ca, cert, ssl_context and tls are of no use without TLS: connect to amqps://")
        if self.priority and self.queues == "quorum":
            problems.append("priority=true needs queues=classic: a quorum queue only interleaves two classes")
        return problems

    @property
    def kind(self) -> str:
        """Which kind of queues is made."""
        return ("classic" if self.priority else "quorum") if self.queues == "auto" else self.queues

    @property
    def keeps_order(self) -> bool:
        """Whether queues have a single active consumer, and messages their order."""
        return self.ordering == "key" and not self.priority

    @property
    def nodes(self) -> list[tuple[str, int]]:
        """The hosts with their ports."""
        return pairs(self.hosts)

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        """Return hosts, virtual host and who asks."""
        place, _, vhost = where.partition("/") if "@" not in where else _split_after_user(where)
        if "/" in vhost:
            raise OptionError(f"a virtual host with / in its name is written with %2F: {redact(vhost)!r}")
        found = parse(place, PORTS[scheme], host="localhost")
        return {"hosts": found.hosts, "vhost": unquote(vhost) or "/", **found.who}

    def where(self, *, secrets: bool) -> str:
        """Return hosts and virtual host."""
        return self.hosts if self.vhost == "/" else f"{self.hosts}/{quote(self.vhost, safe='')}"


def _split_after_user(where: str) -> tuple[str, str, str]:
    """Part a place from its virtual host at the first / behind the last @: a password may hold one."""
    userinfo, _, rest = where.rpartition("@")
    hosts, slash, vhost = rest.partition("/")
    return f"{userinfo}@{hosts}", slash, vhost
