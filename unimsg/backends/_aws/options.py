"""Options that every backend of AWS takes: which account, which region, by which way; and how queues are read.

Law: data. Credentials are found as botocore finds them (environment, profile, role, container, single sign-on) unless
the options hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote, unquote, urlsplit

from unimsg.errors import OptionError
from unimsg.options import NotInURL, Options, Range, Seconds, SecretStr, redact


@dataclass(frozen=True, kw_only=True, repr=False)
class AwsOptions(Options):
    """What a URL of a backend of AWS can say beside the service's own; durations in seconds.

    Attributes:
        region: as in `eu-west-1`; that of the profile or the environment unless given.
        prefix: stands before every name at the service, as in `prefix=prod-`.
        endpoint_url: of an emulator or a private endpoint.
        profile: of the AWS configuration files.
        access_key, secret_key, session_token: credentials; the usual chain unless given.
        transport: how the frequent calls are made: `lean` signs and sends JSON itself, `botocore` leaves it to that.
        connect_timeout: the longest that connecting may take.
        request_timeout: the longest that one call waits for its answer; a poll waits `wait` more.
        session: an `aiobotocore.session.AioSession` with credentials.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"region"})

    region: str = ""
    prefix: str = ""
    endpoint_url: str | None = None
    profile: str | None = None
    access_key: str | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    transport: Literal["lean", "botocore"] = "lean"
    connect_timeout: Annotated[Seconds, Range(0.01, 600)] = 5.0
    request_timeout: Annotated[Seconds, Range(0.01, 600)] = 10.0
    session: Annotated[Any, NotInURL()] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.access_key is None) != (self.secret_key is None):
            raise OptionError("access_key and secret_key belong together: give both or neither")
        if self.endpoint_url is not None:
            parts = urlsplit(self.endpoint_url)
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise OptionError(
                    f"endpoint_url={redact(self.endpoint_url)!r} is no URL: give https://host, as in https://vpce-1"
                )

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        """Return the region."""
        region = unquote(where.removesuffix("/"))
        if not region.replace("-", "").isalnum() and region:
            raise OptionError(
                f"{scheme}:// takes a region, as in {scheme}://eu-west-1; {redact(region)!r} is none"
            )
        return {"region": region}

    def where(self, *, secrets: bool) -> str:
        """Return the region."""
        return quote(self.region, safe="")


@dataclass(frozen=True, kw_only=True, repr=False)
class QueueOptions(AwsOptions):
    """What a URL can say of the queues that are read; durations in seconds.

    Attributes:
        wait: how long a poll waits for a message, rounded up to whole seconds.
        lease: the visibility timeout of what is received, in whole seconds; it is extended while a handler runs.
        strict_order: FIFO: one message of a group in a call, so that one that fails is not overtaken by the next.
    """

    wait: Annotated[Seconds, Range(0.001, 20)] = 20.0
    lease: Annotated[Seconds, Range(1, 43200)] = 30.0
    strict_order: bool = True

    @property
    def fifo(self) -> bool:
        """Whether what the scheme names is FIFO."""
        return self.scheme.endswith("+fifo")
