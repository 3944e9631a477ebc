"""Options of `kafka://host:port,host:port` and `msk://region/cluster`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote, unquote

from unimsg.backends._broker.place import parse
from unimsg.errors import OptionError
from unimsg.options import NotInURL, Range, Seconds, SecretStr, Size
from unimsg.options import Options as BaseOptions

PORT = 9092
WITH_PASSWORD = frozenset({"plain", "scram", "scram-256"})


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(BaseOptions):
    """What a URL of this backend can say; durations in seconds, sizes in bytes.

    Attributes:
        servers: where to ask first, `host:port` joined by commas; all brokers are learned from any of them.
        region: of an MSK cluster.
        cluster: the name of an MSK cluster; its brokers are looked up.
        auth: how to show who one is; `scram` is SCRAM-SHA-512. `auto`: on MSK what the cluster offers, IAM first; else
            `mtls` with `cert`, `oauth` with a token, `none` with neither.
        user, password: for `plain` and `scram`; also as `user:password@` before the servers.
        password_file: holds the password; read anew at each connection, so that it can be changed.
        token_file: holds the token for `oauth`; read anew at each connection.
        token: an async function that returns the token for `oauth`.
        tls: `auto` is on with any `auth`, so that no secret travels in the clear; `insecure` checks no certificate.
        ca: file of the authority that vouches for the brokers; the system's unless given.
        cert, key: files of the client's certificate and its key, for `mtls`; one file may hold both.
        ssl_context: instead of `ca`, `cert` and `key`.
        acks: who must have a message before it is confirmed: `all` in-sync replicas, the leader (`1`), nobody (`0`).
        compression: of batches; `lz4`, `snappy` and `zstd` need the package cramjam.
        batch: a batch is sent alone when it reaches this; one message may be larger.
        request_timeout: the longest that one request waits for its answer.
        isolation: `committed` never shows messages of transactions that are open or were aborted.
        instance_id: of a static member: a restart within `session` moves no partition. Each member needs its own.
        session: a member that is not heard of for so long is put out.
        poll_interval: one that lives and does not ask for messages for so long is put out.
        handover: how long running handlers may go on when partitions are taken away; the group waits for them.
        wait: the longest that one receive waits.
        fetch: the most that is fetched from one partition at once.
        rack: where this client is, to read from the nearest replica.
        client_id: shown in the broker's logs and quotas.
        endpoint_url: of the MSK API, for emulators.
        boto: an `aiobotocore.session.AioSession` with the credentials for MSK; the usual chain unless given.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"servers", "region", "cluster"})

    scheme: str = "kafka"
    servers: str = f"localhost:{PORT}"
    region: str = ""
    cluster: str = ""
    auth: Literal["auto", "none", "plain", "scram", "scram-256", "mtls", "oauth", "iam"] = "auto"
    user: str | None = None
    password: SecretStr | None = None
    password_file: str | None = None
    token_file: str | None = None
    token: Annotated[Any, NotInURL()] = None
    tls: Literal["auto", "on", "off", "insecure"] = "auto"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    ssl_context: Annotated[Any, NotInURL()] = None
    acks: Literal["all", "1", "0"] = "all"
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    batch: Annotated[Size, Range(1024, 1 << 28)] = 128 * 1024
    request_timeout: Annotated[Seconds, Range(0.1, 600)] = 10.0
    isolation: Literal["committed", "uncommitted"] = "committed"
    instance_id: str | None = None
    session: Annotated[Seconds, Range(1, 1800)] = 10.0
    poll_interval: Annotated[Seconds, Range(1, 86400)] = 300.0
    handover: Annotated[Seconds, Range(0, 3600)] = 5.0
    wait: Annotated[Seconds, Range(0.001, 3600)] = 20.0
    fetch: Annotated[Size, Range(1024, 1 << 28)] = 1024 * 1024
    rack: str | None = None
    client_id: str = "unimsg"
    endpoint_url: str | None = None
    boto: Annotated[Any, NotInURL()] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for problem in self._problems():
            raise OptionError(problem)

    def _problems(self) -> list[str]:
        auth, problems = self.method, list[str]()
        has_password = self.password is not None or self.password_file is not None
        if self.password is not None and self.password_file is not None:
            problems.append("password and password_file are given: give one")
        if auth in WITH_PASSWORD and not (self.user and has_password):
            problems.append(f"auth={auth} needs user, and password or password_file")
        if (self.user or has_password) and auth not in WITH_PASSWORD and not self.is_msk:
            problems.append(
                f"user and password are of no use with auth={auth}: give auth=scram or auth=plain"
            )
        if auth == "oauth" and self.token is None and self.token_file is None:
            problems.append("auth=oauth needs token_file, or token= in Options")
        if auth == "iam" and not self.is_msk:
            problems.append("auth=iam is of Amazon MSK: connect to msk://region/cluster")
        if auth == "mtls" and not (self.cert or self.ssl_context):
            problems.append("auth=mtls needs cert, and key unless cert holds it too")
        if auth in ("mtls", "iam") and self.tls == "off":
            problems.append(f"auth={auth} works over TLS only: leave tls=off out")
        if self.is_msk and not self.region and self.cluster:
            problems.append("an MSK cluster needs its region: msk://region/cluster")
        return problems

    @property
    def is_msk(self) -> bool:
        """Whether the brokers are looked up."""
        return self.scheme == "msk"

    @property
    def method(self) -> str:
        """The way of authentication that was meant; `auto` where a cluster must be asked."""
        if self.auth != "auto" or self.is_msk:
            return self.auth
        if self.token is not None or self.token_file is not None:
            return "oauth"
        return "mtls" if self.cert else "none"

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        """Return servers and who asks, or region and cluster."""
        if scheme == "msk":
            region, slash, cluster = where.removesuffix("/").partition("/")
            if not (region and slash and cluster) or "/" in cluster:
                raise OptionError("msk:// takes region and cluster name, as in msk://eu-west-1/orders")
            return {"region": unquote(region), "cluster": unquote(cluster)}
        place = parse(where.removesuffix("/"), PORT)
        return {"servers": place.hosts, **place.who}

    def where(self, *, secrets: bool) -> str:
        """Return the servers, or region and cluster."""
        if self.is_msk:
            return f"{quote(self.region, safe='')}/{quote(self.cluster, safe='')}"
        return self.servers
