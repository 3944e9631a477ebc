"""Account: credentials, region, clients and connections of one URL.

Law: opens lazily what is asked for and closes all of it. One attempt for every call: the portable layer tries again.
After the service said that the credentials have expired they are looked for anew.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import AsyncExitStack
from copy import copy
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.hooks import AioHierarchicalEmitter
from aiobotocore.session import AioSession
from botocore.utils import get_environ_proxies

from unimsg.backends._aws.calls import Answer, ByBotocore, Calls, Lean
from unimsg.backends._aws.options import AwsOptions
from unimsg.errors import ClosedError, OptionError, PermissionDeniedError

log = logging.getLogger("unimsg.backends.aws")

CONNECTIONS = 256
"""At most at once: polls, and what is sent and settled beside them."""
LONGEST_WAIT = 20.0
"""Seconds that a service lets a call wait for something to come."""
LEAN = {"sqs": "AmazonSQS"}
"""Services that speak JSON, and what they are called there; SNS speaks forms and XML, so botocore calls it."""


class Account:
    """The way to the services of one account in one region."""

    def __init__(self, options: AwsOptions, backend: str) -> None:
        self._options = options
        self._backend = backend
        self._session: Any = None
        self._found: Any = None
        self._clients: dict[str, Any] = {}
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()
        self._closed = False
        self.region = options.region

    async def client(self, service: str) -> Any:  # noqa: ANN401 - made from a service description
        """Return aiobotocore's client of a service."""
        if self._closed:
            raise ClosedError("the backend is closed", backend=self._backend)
        async with self._lock:
            if service not in self._clients:
                self._clients[service] = await self._made(service)
            return self._clients[service]

    async def _made(self, service: str) -> Any:  # noqa: ANN401 - as above
        options = self._options
        session = self._session_now()
        region = options.region or session.get_config_variable("region")
        if not region:
            raise OptionError(
                f"no region is known: give it, as in {options.scheme}://eu-west-1", backend=self._backend
            )
        self.region = str(region)
        secret = {"aws_access_key_id": options.access_key, "aws_secret_access_key": options.secret_key}
        return await self._stack.enter_async_context(
            session.create_client(
                service,
                region_name=self.region,
                endpoint_url=options.endpoint_url,
                verify=False if _in_the_clear(options.endpoint_url) else None,
                config=AioConfig(
                    retries={"total_max_attempts": 1},
                    connect_timeout=options.connect_timeout,
                    read_timeout=options.request_timeout + LONGEST_WAIT,
                    max_pool_connections=CONNECTIONS,
                ),
                aws_session_token=options.session_token,
                **secret,
            )
        )

    def _session_now(self) -> Any:  # noqa: ANN401 - aiobotocore's, or the user's own
        if self._session is None:
            self._session = self._options.session or _new_session(self._options.profile)
        return self._session

    async def credentials(self) -> Any:  # noqa: ANN401 - botocore's frozen credentials
        """Return the credentials of now; a role's are renewed before they end."""
        options = self._options
        if self._found is None:
            session = self._session_now()
            if options.access_key is not None:
                session.set_credentials(options.access_key, options.secret_key, options.session_token)
            self._found = await session.get_credentials()
            if self._found is None:
                raise PermissionDeniedError(
                    "no AWS credentials were found: give profile=, or set them where botocore looks",
                    backend=self._backend,
                )
        return await self._found.get_frozen_credentials()

    async def calls(self, service: str) -> Calls:
        """Return the way to make a service's frequent calls."""
        client = await self.client(service)
        if self._options.transport == "botocore" or service not in LEAN:
            return Renewing(self, ByBotocore(lambda: self.client(service), self._backend))
        endpoint = client.meta.endpoint_url
        lean = Lean(
            await self._connections(endpoint),
            endpoint,
            LEAN[service],
            signing=(client.meta.service_model.signing_name, self.region),
            credentials=self.credentials,
            timeouts=(self._options.connect_timeout, self._options.request_timeout),
            backend=self._backend,
        )
        return Renewing(self, lean)

    async def _connections(self, endpoint: str) -> aiohttp.ClientSession:
        """Return connections of the lean transport, through the proxy and with the certificates that botocore takes.

        Found out once: aiohttp's own way (`trust_env`) looks for both in two threads at every call.
        """
        if self._http is None:
            scheme = urlsplit(endpoint).scheme
            bundle = self._session_now().get_config_variable("ca_bundle") if scheme == "https" else None
            self._http = await self._stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=_trust(bundle) if bundle else True),
                    proxy=get_environ_proxies(endpoint).get(scheme),
                    auto_decompress=False,
                )
            )
        return self._http

    async def number(self) -> tuple[str, str]:
        """Return the partition of AWS and the account's number, which every name at length begins with."""
        told = await (await self.client("sts")).get_caller_identity()
        return str(told["Arn"]).split(":")[1], str(told["Account"])

    def forget(self) -> None:
        """The credentials are no good any more: look for them anew, unless the options hold them."""
        if self._options.session is None and self._options.access_key is None:
            log.warning("%s: the credentials have expired: they are looked for anew", self._backend)
            self._session = self._found = None
            self._clients.clear()  # the old ones are closed with the account

    async def aclose(self) -> None:
        """Close clients and connections."""
        self._closed = True
        await self.release()

    async def release(self) -> None:
        """Close what is open; the next call opens anew."""
        stack, self._stack = self._stack, AsyncExitStack()
        self._clients.clear()
        self._http = None
        await stack.aclose()


@cache
def _loader() -> Any:  # noqa: ANN401 - botocore's
    """Return what reads the descriptions of services: a fifth of a second, so once for all clients."""
    return AioSession().get_component("data_loader")


@cache
def _handlers() -> AioHierarchicalEmitter:
    """Return what botocore registers with each session, which takes 15 ms: done once, sessions get copies."""
    handlers = AioHierarchicalEmitter()
    AioSession(event_hooks=handlers)
    return handlers


@cache
def _trust(bundle: str) -> ssl.SSLContext:
    """Return what trusts a file of certificates: reading one takes a tenth of a second."""
    return ssl.create_default_context(cafile=bundle)


def _in_the_clear(endpoint: str | None) -> bool:
    """Whether no certificate will ever be seen: then none is read, which takes each client a twentieth of a second."""
    return (
        endpoint is not None
        and urlsplit(endpoint).scheme == "http"
        and "http" not in get_environ_proxies(endpoint)
    )


def _new_session(profile: str | None) -> Any:  # noqa: ANN401 - aiobotocore's
    session = AioSession(profile=profile, event_hooks=copy(_handlers()), include_builtin_handlers=False)
    session.register_component("data_loader", _loader())
    return session


class Renewing:
    """Calls after whose expired credentials new ones are looked for."""

    def __init__(self, account: Account, calls: Calls) -> None:
        self._account = account
        self._calls = calls

    async def __call__(self, operation: str, parameters: Any, wait: float = 0.0) -> Answer:  # noqa: ANN401 - by operation
        """Make one call."""
        try:
            return await self._calls(operation, parameters, wait)
        except PermissionDeniedError as error:
            if error.retryable:
                self._account.forget()
            raise
