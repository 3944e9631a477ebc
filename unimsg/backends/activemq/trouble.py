"""Trouble: what ActiveMQ, TLS and sockets say, as our errors.

Law: pure. The broker has no codes, only sentences of Java's exceptions; those that matter are read here, once.
"""

from __future__ import annotations

from unimsg.backends._broker.access import tls_trouble
from unimsg.backends.activemq.stomp import Frame, ProtocolError
from unimsg.errors import (
    ConnectError,
    ConnectionLostError,
    Error,
    OptionError,
    PermissionDeniedError,
    RejectedError,
    TimedOutError,
    UnavailableError,
)

NAME = "activemq"
DENIED = (
    "not authorized",
    "User name [",
    "password is invalid",
    "SecurityException",
    "authentication failed",
)


def said(frame: Frame) -> str:
    """Return what an ERROR frame says, in one line."""
    message = frame.headers.get("message", "").strip()
    first = frame.body[:500].decode("utf-8", "replace").strip().partition("\n")[0].strip()
    return message or first or "no reason given"


def refusal(frame: Frame) -> Error:
    """Return our error for an ERROR frame that answers one frame of ours."""
    text = said(frame)
    everything = text + frame.body[:2000].decode("utf-8", "replace")
    if any(sign in everything for sign in DENIED):
        return PermissionDeniedError(f"the broker refused: {text}", backend=NAME)
    if "InvalidSelector" in everything or "selector" in text.lower():
        return OptionError(f"the broker does not take this selector: {text}", backend=NAME)
    if "InvalidDestination" in everything:
        return OptionError(f"the broker does not take this name: {text}", backend=NAME)
    if "ResourceAllocation" in everything or "limit" in text.lower():
        return UnavailableError(f"the broker has no room: {text}", backend=NAME)
    return RejectedError(f"the broker refused: {text}", backend=NAME)


def translate(error: BaseException) -> Error | None:
    """Return our error for one of STOMP or TLS; None: not one of theirs."""
    if (tls := tls_trouble(error, backend=NAME, plain="activemq://")) is not None:
        return tls
    if isinstance(error, ProtocolError):
        return ConnectionLostError(f"the peer does not speak STOMP 1.2: {error}", backend=NAME)
    if isinstance(error, TimeoutError):
        return TimedOutError("no answer came in time", backend=NAME)
    return None


def unreachable(error: BaseException) -> Error | None:
    """Return our error for what went wrong while connecting; None: not one of a socket, TLS or STOMP."""
    ours = translate(error)
    if ours is None and isinstance(error, OSError):
        return ConnectError(f"no broker could be reached: {str(error) or type(error).__name__}", backend=NAME)
    return ours
