"""STOMP 1.2 without I/O: bytes in, frames out; frames in, bytes out.

Law: pure. A frame that comes in pieces costs time in proportion to its length, whatever the pieces. What is no STOMP is
a `ProtocolError`, and then the connection is over. Source: https://stomp.github.io/stomp-specification-1.2.html.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

HEAD_LIMIT = 1 << 20
"""Bytes of a command and its headers."""
UNESCAPED = frozenset({"CONNECT", "CONNECTED"})
"""Frames whose headers are taken as they are, so that a client of 1.0 can connect."""
BEAT = b"\n"

_MEANINGS = {"\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\c": ":"}
_SPECIAL = re.compile(r"[\\\n\r:]")
_ESCAPED = re.compile(r"\\.?", re.DOTALL)


class ProtocolError(Exception):
    """The peer does not speak STOMP 1.2, or goes beyond a limit."""


class Frame(Struct, gc=False):
    """One frame; of a header that is there twice, the first counts."""

    command: str
    headers: dict[str, str]
    body: bytes = b""


def escape(text: str) -> str:
    """Return a header's name or value as it travels."""
    if not _SPECIAL.search(text):
        return text
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace(":", "\\c")


def unescape(text: str) -> str:
    """Return what was meant; an escape that is not defined ends the connection, as the standard wants."""
    if "\\" not in text:
        return text
    if "\\\\" not in text:  # then each one begins an escape; in the ids of ActiveMQ it is always this one
        text = text.replace("\\c", ":")
    return _ESCAPED.sub(_meant, text) if "\\" in text else text


def _meant(found: re.Match[str]) -> str:
    try:
        return _MEANINGS[found[0]]
    except KeyError:
        raise ProtocolError(f"undefined escape {found[0]!r} in a header") from None


def encode(command: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """Return a frame as bytes; with a body, also an empty one, it says how long that is."""
    plain = command in UNESCAPED
    lines = [command]
    for name, value in headers.items():
        lines.append(f"{name}:{value}" if plain else f"{escape(name)}:{escape(value)}")
    if body is None:
        lines.append("\n\0")
        return "\n".join(lines).encode("utf-8", "surrogateescape")
    lines.append(f"content-length:{len(body)}\n\n")
    return b"".join((_head(lines), body, b"\0"))


def _head(lines: list[str]) -> bytes:
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def beats(ours: tuple[int, int], theirs: str) -> tuple[int, int]:
    """Return how often we must send and how often we may expect something, in milliseconds; 0: never.

    Args:
        ours: what CONNECT said: how often we can send, how often we want to receive.
        theirs: the header `heart-beat` of CONNECTED.
    """
    try:
        can, wants = (int(part) for part in theirs.split(","))
    except ValueError:
        raise ProtocolError(f"heart-beat {theirs!r} is no pair of numbers") from None
    send = max(ours[0], wants) if ours[0] and wants else 0
    receive = max(ours[1], can) if ours[1] and can else 0
    return send, receive


class Parser:
    """Takes bytes as they come and gives the frames that are complete.

    Args:
        limit: the most bytes that a body may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._seen = 0
        """Up to here the buffer was searched for the end of what is awaited."""
        self._begun: tuple[Frame, int] | None = None
        """A frame whose body is awaited, and the length of that; -1: it ends with a NUL."""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes.

        Raises:
            ProtocolError: this is no STOMP; nothing more can be made of the connection.
        """
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        at, seen = 0, self._seen
        while True:
            if self._begun is None:
                found = self._head(at, seen)
                if found is None:
                    at, seen = self._after_beats(at), max(seen, len(buffer) - 2)
                    break
                at = seen = found
            end = self._body_end(at, seen)
            if end is None:
                seen = len(buffer)
                break
            frame, _ = self._begun  # type: ignore[misc]  # a head was found
            frame.body = bytes(memoryview(buffer)[at:end])
            frames.append(frame)
            self._begun = None
            at = seen = end + 1
        if at:
            del buffer[:at]
        self._seen = max(0, seen - at)
        return frames

    def _after_beats(self, at: int) -> int:
        buffer, end = self._buffer, len(self._buffer)
        while at < end and buffer[at] in b"\r\n":
            at += 1
        return at

    def _head(self, at: int, seen: int) -> int | None:
        """Read the head that begins at `at`; return where the body begins, None: it is not complete."""
        buffer = self._buffer
        at = self._after_beats(at)
        seen = max(seen, at)
        end = buffer.find(b"\n\n", seen)
        width = 2
        if buffer.find(b"\r", seen, end if end >= 0 else len(buffer)) >= 0:
            returned = buffer.find(b"\n\r\n", seen, end + 1 if end >= 0 else len(buffer))
            if returned >= 0:
                end, width = returned, 3
        if end < 0 and len(buffer) - at <= HEAD_LIMIT:
            return None
        if end < 0 or end - at > HEAD_LIMIT:
            raise ProtocolError(f"a head has more than {HEAD_LIMIT} bytes")
        head = buffer[at:end].decode("utf-8", "surrogateescape")
        self._begin(head)
        return end + width

    def _begin(self, head: str) -> None:
        lines = (
            head.replace("\r\n", "\n").removesuffix("\r").split("\n") if "\r" in head else head.split("\n")
        )
        command = lines.pop(0)
        escaped = "\\" in head and command not in UNESCAPED
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise ProtocolError(f"a header has no colon: {head[:80]!r}")
            if escaped and "\\" in line:
                name, value = unescape(name), unescape(value)
            headers.setdefault(name, value)
        self._begun = Frame(command, headers), self._length(headers)

    def _length(self, headers: Mapping[str, str]) -> int:
        told = headers.get("content-length")
        if told is None:
            return -1
        if not (told.isascii() and told.isdecimal()):
            raise ProtocolError(f"content-length {told[:40]!r} is no number")
        length = int(told) if len(told) < 20 else self._limit + 1  # noqa: PLR2004 - digits of any 64-bit number
        if length > self._limit:
            raise ProtocolError(f"a frame of {told[:40]} bytes is over the limit of {self._limit}")
        return length

    def _body_end(self, at: int, seen: int) -> int | None:
        """Return where the body that begins at `at` ends; None: it is not complete."""
        buffer, length = self._buffer, self._begun[1] if self._begun is not None else 0
        if length >= 0:
            end = at + length
            if len(buffer) <= end:
                return None
            if buffer[end]:
                raise ProtocolError("a body is longer than its content-length")
            return end
        end = buffer.find(b"\0", max(at, seen))
        if (end if end >= 0 else len(buffer)) - at > self._limit:
            raise ProtocolError(f"a frame is over the limit of {self._limit} bytes")
        return end if end >= 0 else None
