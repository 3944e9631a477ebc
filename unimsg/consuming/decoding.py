"""Decoding: a message becomes a body, unless there is too much of it.

Law: pure. Size and headers are looked at before the codec sees a byte; what is refused is a `DecodeError` as any other,
so its message goes where undecodable ones go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unimsg.codecs import Codec
from unimsg.errors import DecodeError
from unimsg.message import MOST_HEADERS, OWN_HEADERS, WireMessage

HEADERS = MOST_HEADERS + OWN_HEADERS
"""What a foreign producer may send; a dead letter has one header more than its message had."""


def decoder(codec: Codec[Any], max_body: int) -> Callable[[WireMessage], Any]:
    """Return the function that decodes a message, or raises DecodeError.

    Args:
        codec: what bodies are decoded with.
        max_body: the most bytes that one may have.
    """
    decode = codec.decode

    def bounded(message: WireMessage) -> Any:  # noqa: ANN401 - by codec
        body = message.body
        if body is not None and len(body) > max_body:
            raise DecodeError(
                f"the body has {len(body)} bytes, at most {max_body} are decoded: raise max_body=", raw=body
            )
        if len(message.headers) > HEADERS:
            raise DecodeError(
                f"the message has {len(message.headers)} headers, at most {HEADERS} are looked at", raw=body
            )
        return decode(body)

    return bounded
