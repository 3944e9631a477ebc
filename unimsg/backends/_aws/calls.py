"""Calls: how the frequent calls of a service are made; two ways, one contract.

Law: one attempt, never a second: after an answer that did not come the call may have run, and a resend would be a
duplicate. What comes back is the service's own answer as a dict, or an error of ours. `bytes` are bytes both ways in;
on the way out they may be base64 text, which `unimsg.backends.sqs.wire` takes as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO
from typing import Any, Protocol

import aiohttp
import msgspec
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

from unimsg.backends._aws import trouble
from unimsg.backends._aws.signing import Signer
from unimsg.errors import ConnectionLostError, Error, TimedOutError, UnavailableError

Answer = Mapping[str, Any]
FOREIGN = (BotoCoreError, ClientError, aiohttp.ClientError, OSError, TimeoutError)
OK = 200
LARGE = 1 << 20
"""Bytes from which on aiohttp wants to send in pieces."""


class Calls(Protocol):
    """A way to make calls."""

    async def __call__(self, operation: str, parameters: Mapping[str, Any], wait: float = 0.0) -> Answer:
        """Make one call, of `wait` seconds more than others may take."""
        ...


class ByBotocore:
    """Calls of aiobotocore's client."""

    def __init__(self, client: Callable[[], Awaitable[Any]], backend: str) -> None:
        self._client = client
        self._backend = backend

    async def __call__(self, operation: str, parameters: Mapping[str, Any], wait: float = 0.0) -> Answer:
        """Make one call."""
        try:
            client = await self._client()
            answer: Answer = await getattr(client, xform_name(operation))(**parameters)
        except FOREIGN as error:
            raise _ours(error, self._backend) from error
        return answer


class Lean:
    """JSON signed here and sent by aiohttp: half of the CPU (`benchmarks/sqs.py`).

    Args:
        http: connections.
        endpoint: the URL of the service.
        target: what stands before the operation in `X-Amz-Target`.
        signing: the service's name and region, as signatures have them.
        credentials: gives the credentials of now.
        timeouts: for connecting, and for an answer, in seconds.
        backend: for errors.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        endpoint: str,
        target: str,
        *,
        signing: tuple[str, str],
        credentials: Callable[[], Awaitable[Any]],
        timeouts: tuple[float, float],
        backend: str,
    ) -> None:
        self._http = http
        self._url = endpoint if endpoint.endswith("/") else f"{endpoint}/"
        service, region = signing
        self._signer = Signer(self._url, service=service, region=region, target=target)
        self._credentials = credentials
        self._connect, self._request = timeouts
        self._timeout = aiohttp.ClientTimeout(total=self._request, sock_connect=self._connect)
        self._backend = backend

    async def __call__(self, operation: str, parameters: Mapping[str, Any], wait: float = 0.0) -> Answer:
        """Make one call."""
        body = msgspec.json.encode(parameters)
        try:
            headers = self._signer.headers(operation, body, await self._credentials())
            timeout = self._timeout
            if wait:
                timeout = aiohttp.ClientTimeout(total=self._request + wait, sock_connect=self._connect)
            data = body if len(body) < LARGE else BytesIO(body)
            async with self._http.post(self._url, data=data, headers=headers, timeout=timeout) as response:
                status, raw = response.status, await response.read()
                if status != OK:
                    raise self._refused(status, raw, response.headers)
        except FOREIGN as error:
            raise _ours(error, self._backend) from error
        try:
            answer: Answer = msgspec.json.decode(raw) if raw else {}
        except msgspec.DecodeError as error:
            raise UnavailableError("the answer is no JSON", backend=self._backend) from error
        return answer

    def _refused(self, status: int, raw: bytes, headers: Mapping[str, str]) -> Error:
        try:
            told = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            told = None
        if not isinstance(told, dict):  # a load balancer's page
            return trouble.answered(str(status), "", status, backend=self._backend)
        code = str(headers.get("x-amzn-query-error", "")).partition(";")[0] or str(told.get("__type", status))
        message = str(told.get("message") or told.get("Message") or "")
        return trouble.answered(code, message, status, backend=self._backend)


def _ours(error: BaseException, backend: str) -> Error:
    if (ours := trouble.translate(error, backend=backend)) is not None:
        return ours
    if isinstance(error, TimeoutError):
        return TimedOutError("no answer came in time", backend=backend)
    return ConnectionLostError(f"the connection broke: {type(error).__name__}: {error}", backend=backend)


async def all_of(calls: list[Awaitable[Any]]) -> list[Any]:
    """Await calls that are made at the same time; what one raises stands in its place."""
    if len(calls) == 1:
        try:
            return [await calls[0]]
        except Error as error:
            return [error]
    return list(await asyncio.gather(*calls, return_exceptions=True))
