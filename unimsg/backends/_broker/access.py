"""Access: secrets in files and TLS, and what went wrong with TLS.

Law: reads files, opens no socket. A peer that is not trusted, or that does not trust us, is an error for good; a
handshake that only broke off is none, it is tried again like any connection.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Protocol

from unimsg.errors import Error, OptionError, PermissionDeniedError

NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})
"""What OpenSSL calls an answer in plain text, by its version."""


class Secured(Protocol):
    """The options of TLS, of any backend."""

    @property
    def tls(self) -> str: ...
    @property
    def ca(self) -> str | None: ...
    @property
    def cert(self) -> str | None: ...
    @property
    def key(self) -> str | None: ...
    @property
    def ssl_context(self) -> ssl.SSLContext | None: ...


def read_secret(path: str, option: str, *, backend: str) -> str:
    """Return what a file holds, without the end of its last line.

    Raises:
        OptionError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{option} cannot be read: {error}", backend=backend) from error


def tls_context(options: Secured, *, backend: str) -> ssl.SSLContext:
    """Return how the broker is known and how we show who we are; reads files.

    Raises:
        OptionError: a file cannot be read, or holds nothing usable.
    """
    if options.ssl_context is not None:
        return options.ssl_context
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.cert:
            context.load_cert_chain(options.cert, options.key)
    except (OSError, ssl.SSLError) as error:
        raise OptionError(f"ca, cert or key cannot be read: {error}", backend=backend) from error
    if options.tls == "insecure":
        logging.getLogger(f"unimsg.backends.{backend}").warning(
            "tls=insecure: anybody can pretend to be this broker"
        )
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def tls_trouble(error: BaseException | None, *, backend: str, plain: str) -> Error | None:
    """Return our error where TLS is what went wrong for good, here or in what caused it; None: it did not.

    Args:
        error: what a client library or a socket raised.
        backend: who tells.
        plain: what to write in a URL for plain text.
    """
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return OptionError(
                f"the broker's certificate is not trusted: {error.verify_message}; give the authority's file as ca=",
                backend=backend,
            )
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return PermissionDeniedError(
                f"the broker refused the client's certificate: {error.reason}; give cert= and key=",
                backend=backend,
            )
        if isinstance(error, ssl.SSLError) and error.reason in NO_TLS:
            return OptionError(f"the port does not speak TLS: give the TLS port, or {plain}", backend=backend)
        error = error.__cause__
    return None
