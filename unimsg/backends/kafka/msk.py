"""Amazon MSK: the brokers of a cluster by its name, and tokens for IAM.

Law: the only file here that loads a client library of AWS. A lookup is one attempt; what the cluster offers decides the
way of authentication unless the URL does. Not run against AWS: `tests/live/` is for who has an account.

Sources: GetBootstrapBrokers and ListClustersV2 in botocore 1.43, 2026-11; ports and limits in `capabilities`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
from botocore.credentials import CredentialProvider, Credentials
from botocore.exceptions import BotoCoreError, ClientError

from unimsg.backends.kafka.connecting import Access, access
from unimsg.backends.kafka.options import Options
from unimsg.backends.kafka.trouble import NAME
from unimsg.errors import (
    ConnectError,
    Error,
    NotFoundError,
    OptionError,
    PermissionDeniedError,
    UnavailableError,
)

WAYS: Mapping[str, str] = {
    "iam": "BootstrapBrokerStringSaslIam",
    "scram": "BootstrapBrokerStringSaslScram",
    "mtls": "BootstrapBrokerStringTls",
    "none": "BootstrapBrokerString",
}
"""What each way of authentication is called in the answer, the safest first."""
DENIED = frozenset(
    {"AccessDeniedException", "ForbiddenException", "UnauthorizedException", "ExpiredTokenException"}
)
READY = frozenset({"ACTIVE", "UPDATING", "MAINTENANCE", "HEALING", "REBOOTING_BROKER"})


ONCE = AioConfig(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5)


class Cluster(NamedTuple):
    """What is known of a cluster."""

    arn: str
    kind: str
    state: str


class _Given(CredentialProvider):  # type: ignore[misc]  # botocore is not seen by the checker
    """Hands over credentials that were resolved already; the signer asks for a provider."""

    METHOD = "unimsg"

    def __init__(self, frozen: Any) -> None:  # noqa: ANN401 - botocore's frozen credentials
        super().__init__()
        self._frozen = frozen

    def load(self) -> Credentials:  # pyright: ignore[reportIncompatibleMethodOverride]  # theirs has no types
        """Return them."""
        return Credentials(self._frozen.access_key, self._frozen.secret_key, self._frozen.token)


async def find(options: Options) -> Access:
    """Look up the brokers of a cluster and how to reach them.

    Raises:
        NotFoundError: there is no such cluster in this region and account.
        PermissionDeniedError: the credentials may not look it up, or there are none.
        OptionError: the cluster does not offer what the URL asks for.
    """
    session: Any = options.boto or get_session()
    try:
        client = session.create_client(
            "kafka", region_name=options.region, endpoint_url=options.endpoint_url, config=ONCE
        )
        async with client as api:
            cluster = await _cluster(api, options)
            answer = await api.get_bootstrap_brokers(ClusterArn=cluster.arn)
    except (BotoCoreError, ClientError, OSError) as error:
        raise _translated(error, options) from error
    auth, servers = choose(options, answer)
    return access(options, servers, auth, token=_tokens(options, session) if auth == "iam" else None)


async def _cluster(api: Any, options: Options) -> Cluster:  # noqa: ANN401 - made from a service description
    """Return the cluster of exactly this name."""
    pages = api.get_paginator("list_clusters_v2").paginate(ClusterNameFilter=options.cluster)
    async for page in pages:
        for found in page.get("ClusterInfoList", ()):
            if found["ClusterName"] == options.cluster:
                cluster = Cluster(found["ClusterArn"], found.get("ClusterType", ""), found.get("State", ""))
                if cluster.state and cluster.state not in READY:
                    raise UnavailableError(f"cluster {options.cluster!r} is {cluster.state}", backend=NAME)
                return cluster
    raise NotFoundError(
        f"there is no MSK cluster {options.cluster!r} in {options.region} for these credentials", backend=NAME
    )


def choose(options: Options, answer: Mapping[str, Any]) -> tuple[str, str]:
    """Return the way of authentication and the brokers that offer it.

    Raises:
        OptionError: the cluster offers nothing that these options can use.
    """
    offered = {way: str(answer[field]) for way, field in WAYS.items() if answer.get(field)}
    has = {
        "iam": True,
        "scram": options.user is not None,
        "mtls": options.cert is not None or options.ssl_context is not None,
        "none": options.tls in ("auto", "off"),
    }
    asked = "scram" if options.auth == "scram-256" else options.auth
    for way, servers in offered.items():
        if way == asked or (asked == "auto" and has[way]):
            return options.auth if asked != "auto" else way, servers
    raise OptionError(
        f"cluster {options.cluster!r} offers auth={', '.join(offered) or 'nothing yet'}; {options.auth} does not fit: "
        "give auth=, and user or cert where it needs them",
        backend=NAME,
    )


def _tokens(options: Options, session: AioSession) -> Callable[[], Awaitable[str]]:
    """Return what signs a token, good for 15 minutes; asked for at each connection."""

    async def sign() -> str:
        found = await session.get_credentials()
        if found is None:
            raise PermissionDeniedError("no AWS credentials were found", backend=NAME)
        frozen = await found.get_frozen_credentials()
        # The signer computes for some milliseconds and knows no other way than to block.
        token, _ = await asyncio.to_thread(
            MSKAuthTokenProvider.generate_auth_token_from_credentials_provider, options.region, _Given(frozen)
        )
        return str(token)

    return sign


def _translated(error: Exception, options: Options) -> Error:
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
    if code in DENIED or type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return PermissionDeniedError(
            f"cluster {options.cluster!r} could not be looked up: {error}", backend=NAME
        )
    if code in ("NotFoundException", "BadRequestException"):
        return NotFoundError(f"cluster {options.cluster!r} could not be looked up: {error}", backend=NAME)
    return ConnectError(f"the MSK API in {options.region} could not be asked: {error}", backend=NAME)
