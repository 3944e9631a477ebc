"""Signing: Signature Version 4 of one kind of request, JSON posted to a service.

Law: pure but for the clock. botocore's signer takes any request and a third of all CPU; this one knows its headers
beforehand. It is held to botocore's by tests, and by a proxy that verifies every call of the others with that.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, read 2026-11.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Protocol
from urllib.parse import quote, urlsplit

from botocore.utils import normalize_url_path

ALGORITHM = "AWS4-HMAC-SHA256"
CONTENT = "application/x-amz-json-1.0"
DEFAULT_PORTS = {"http": 80, "https": 443}


class Secrets(Protocol):
    """What a signature is made with: botocore's credentials, at one moment."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


class Signer:
    """Gives the headers of calls to one service.

    Args:
        url: where the calls go.
        service: its name, as signatures have it.
        region: as in `eu-west-1`.
        target: what stands before the operation in `X-Amz-Target`.
    """

    def __init__(self, url: str, *, service: str, region: str, target: str) -> None:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port not in (None, DEFAULT_PORTS.get(parts.scheme)) else ""
        self._host = (
            f"{parts.hostname}{port}" if ":" not in (parts.hostname or "") else f"[{parts.hostname}]{port}"
        )
        self._path = quote(normalize_url_path(parts.path), safe="/~")
        self._scope = (region, service, "aws4_request")
        self._target = target
        self._key_of: tuple[str, str] = ("", "")
        self._key = b""

    def headers(
        self, operation: str, body: bytes, credentials: Secrets, now: float | None = None
    ) -> dict[str, str]:
        """Return the headers of a call, with its signature."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        signed = {
            "content-type": CONTENT,
            "host": self._host,
            "x-amz-date": stamp,
            "x-amz-security-token": credentials.token or "",
            "x-amz-target": f"{self._target}.{operation}",
            "x-amzn-query-mode": "true",
        }
        if not credentials.token:
            del signed["x-amz-security-token"]
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        request = f"POST\n{self._path}\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = "/".join((stamp[:8], *self._scope))
        text = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = _hmac(self._signing_key(stamp[:8], credentials.secret_key), text).hex()
        signed["authorization"] = (
            f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return signed

    def _signing_key(self, day: str, secret: str) -> bytes:
        """Return the key of a day."""
        if self._key_of != (day, secret):
            key = _hmac(f"AWS4{secret}".encode(), day)
            for part in self._scope:
                key = _hmac(key, part)
            self._key_of, self._key = (day, secret), key
        return self._key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
