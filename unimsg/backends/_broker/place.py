"""Place: `user:password@host:port,host:port`, as the URLs of several backends have it.

Law: pure; what is no host is refused here, without showing what may be a part of a password.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from unimsg.errors import OptionError
from unimsg.options import redact

ILLEGAL = frozenset(":/?#[]@% ")


class Place(NamedTuple):
    """Where, and who asks.

    Attributes:
        hosts: `host:port`, joined by commas.
        who: the fields `user` and `password`, as far as they are given.
    """

    hosts: str
    who: dict[str, str]


def parse(text: str, port: int, *, host: str = "") -> Place:
    """Return the hosts, with their ports, and who asks.

    Args:
        text: of a URL.
        port: of hosts that name none.
        host: where the URL names no host; empty: that is refused.

    Raises:
        OptionError: a host is none.
    """
    userinfo, at, hosts = text.rpartition("@")
    who: dict[str, str] = {}
    if at:
        user, colon, password = userinfo.partition(":")
        who["user"] = unquote(user)
        if colon:
            who["password"] = unquote(password)
    return Place(",".join(_complete(each, port) for each in (hosts or host).split(",")), who)


def pairs(hosts: str) -> list[tuple[str, int]]:
    """Return the hosts of a `Place` with their ports."""
    found = (host.rpartition(":") for host in hosts.split(","))
    return [(name.strip("[]"), int(port)) for name, _, port in found]


def _complete(host: str, default: int) -> str:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, str(default)
    six = name.startswith("[") and name.endswith("]")
    legal = not (set(name[1:-1]) - {":"} if six else set(name)) & ILLEGAL
    if not name or not legal or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise OptionError(f"{redact(host)!r} is no host: give host:port, several joined by commas")
    return f"{name}:{port}"
