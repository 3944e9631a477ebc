"""Trouble: what the services of AWS answer as errors of ours, in one table; what is certain, and what is not.

Law: pure but for the classes it looks at. A call that found no connection has certainly not run. After any other
broken connection it may have run: the class of the client library's error does not tell, its cause does.

Sources: API references of SQS and SNS, common errors (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/
APIReference/CommonErrors.html), read 2026-11; the codes that reach a client were seen through a fault proxy, 2026-11.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)

from unimsg.errors import (
    ConnectError,
    ConnectionLostError,
    Error,
    NotFoundError,
    OptionError,
    PermissionDeniedError,
    RejectedError,
    ThrottledError,
    TimedOutError,
    UnavailableError,
)

SERVER_ERROR = 500
"""From this status on the service failed; whether the call ran is not said."""

THROTTLED = frozenset(
    {
        "KMS.ThrottlingException",
        "KMSThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OverLimit",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
"""The credentials were good: newer ones may lie where these came from."""
DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "KMSAccessDeniedException",
        "KmsAccessDenied",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
MISSING = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "NotFound",
        "NotFoundException",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    }
)
FAILED = frozenset({"InternalError", "InternalErrorException", "InternalFailure", "ServiceUnavailable"})
"""What a service says of itself; as with a status of 500, the call may have run."""

BROKEN = (aiohttp.ClientError, EndpointConnectionError, HTTPClientError)


def answered(code: str, message: str, status: int, *, backend: str) -> Error:
    """Return what an error answer means."""
    code = code.rpartition("#")[2]
    said = f"{code}: {message}" if message else code
    if code in THROTTLED:
        return ThrottledError(f"too many requests: {said}", backend=backend)
    if code in EXPIRED:
        return PermissionDeniedError(f"the credentials have expired: {said}", backend=backend, retryable=True)
    if code in DENIED:
        return PermissionDeniedError(f"refused: {said}", backend=backend)
    if code in MISSING:
        return NotFoundError(f"there is no such thing in this region and account: {said}", backend=backend)
    if status >= SERVER_ERROR or code in FAILED:
        return UnavailableError(f"the service failed: {said or status}", backend=backend)
    return RejectedError(f"the service refused the request: {said}", backend=backend)


def translate(error: BaseException, *, backend: str) -> Error | None:  # noqa: PLR0911 - a table of classes
    """Return our error for one of botocore's or of the line below it; None: not one of theirs."""
    if isinstance(error, ClientError):
        told: Mapping[str, Any] = error.response
        status = told.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        what = told.get("Error", {})
        return answered(str(what.get("Code", "")), str(what.get("Message", "")), int(status), backend=backend)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return PermissionDeniedError(
            f"no AWS credentials were found: {error}; give profile=, or set them where botocore looks",
            backend=backend,
        )
    if isinstance(error, ProfileNotFound):
        return OptionError(str(error), backend=backend)
    if never_left(error):
        return ConnectError(f"nobody answers: {_said(error)}", backend=backend)
    if isinstance(error, (ReadTimeoutError, aiohttp.ServerTimeoutError)):
        return TimedOutError("no answer came in time", backend=backend)
    if isinstance(error, BROKEN):
        return ConnectionLostError(f"the connection broke: {_said(error)}", backend=backend)
    if isinstance(error, BotoCoreError):
        return OptionError(f"botocore refuses this: {error}", backend=backend)
    return None


def never_left(error: BaseException | None) -> bool:
    """Whether it is certain that nothing was sent: no connection came about.

    `EndpointConnectionError` alone proves nothing: botocore also says so of a connection that was reset after the call.
    """
    if isinstance(error, EndpointConnectionError):
        cause = error.__cause__ or error.__context__ or error.kwargs.get("error")
        return isinstance(cause, aiohttp.ClientConnectorError)
    return isinstance(
        error, (ConnectTimeoutError, aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
    )


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
