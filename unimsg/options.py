"""Options: a URL <-> one frozen dataclass per backend; and the one redactor.

Law: pure, no I/O but reading a `password_file` when asked. Field name = query name, field type = parser. What is
unknown, repeated, empty, malformed or out of range is refused, with what would be right.

A backend subclasses `Options`, annotates its fields with the types below, and says what stands between `://` and `?`
in `from_where` and `where`.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)
from urllib.parse import parse_qsl, quote, unquote

from unimsg.errors import ConfigError, OptionError
from unimsg.units import DIGITS, Duration, parse_duration, parse_size, seconds, show_duration, show_size

AddressT = TypeVar("AddressT", bound="Address")

MASK = "***"
PORTABLE = re.compile(r"[A-Za-z0-9_-]{1,60}", re.ASCII)
"""Names that every backend can have."""


@dataclass(frozen=True)
class Unit:
    """How a value with a unit is written: a duration in seconds, or a size in bytes."""

    name: Literal["duration", "size"]
    parse: Callable[[str], float]
    show: Callable[[Any], str]
    pattern: str


@dataclass(frozen=True)
class Range:
    """The least and the most that a number may be."""

    least: float = float("-inf")
    most: float = float("inf")


class Secret:
    """Never shown, logged or rendered unless asked for."""


class NotInURL:
    """An object that no URL can hold: it is given to the dataclass."""


Seconds: TypeAlias = Annotated[
    float, Unit("duration", parse_duration, show_duration, r"^\d+(\.\d+)?(ms|s|m|h|d)$|^0+(\.0+)?$")
]
Size: TypeAlias = Annotated[int, Unit("size", parse_size, show_size, r"^\d+(\.\d+)?(B|[KMG]i?B)?$")]
SecretStr: TypeAlias = Annotated[str, Secret()]


@dataclass(frozen=True, kw_only=True, repr=False)
class Address:
    """What a URL says: a scheme, where, and options, which a subclass adds; a backend takes `Options`, a store this.

    Attributes:
        scheme: which of those that the subclass serves.
    """

    IN_WHERE: ClassVar[frozenset[str]] = frozenset()
    """The fields that stand there, and so are no query names."""

    scheme: str

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(
                self, field.name, _kinds(type(self))[field.name].checked(getattr(self, field.name))
            )

    def __repr__(self) -> str:
        return f"<Options {render(self)}>"

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        """Return the fields that stand between `://` and `?`, percent-encoded as it came."""
        if where.strip("/"):
            raise OptionError(f"nothing is expected between {scheme}:// and ?, found {redact(where)!r}")
        return {}

    def where(self, *, secrets: bool) -> str:  # noqa: ARG002 - for those who have some
        """Return what stands between `://` and `?`."""
        return ""


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(Address):
    """What every backend can be told; a backend adds its own.

    Attributes:
        open: `lazy` leaves connecting to the first use, `eager` does it when the client is entered.
        open_timeout: the longest that one attempt to open anything may take, and to close the connection.
        names: `any` allows destination and group names that other backends could not have.
        max_body: bodies beyond this are refused both ways.
    """

    open: Literal["eager", "lazy"] = "eager"
    open_timeout: Annotated[Seconds, Range(0.001, 3600)] = 10.0
    names: Literal["portable", "any"] = "portable"
    max_body: Annotated[Size, Range(1)] = 16 * 1024 * 1024

    @property
    def only_group(self) -> str | None:
        """What the one group of each destination is called, where a service has no groups; None: it has no name."""
        return None


@dataclass(frozen=True)
class Kind:
    """How one field is parsed, checked, shown and described."""

    name: str
    base: Any
    optional: bool = False
    unit: Unit | None = None
    range: Range | None = None
    secret: bool = False
    in_url: bool = True

    @classmethod
    def of(cls, name: str, hint: Any) -> Kind:  # noqa: ANN401 - a type
        """Take an annotation apart."""
        marks: list[Any] = []
        optional = False
        while True:
            if get_origin(hint) is Annotated:
                hint, *more = get_args(hint)
                marks += more
            elif get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
                optional = True
                (hint,) = [part for part in get_args(hint) if part is not type(None)]
            else:
                break
        return cls(
            name=name,
            base=hint,
            optional=optional,
            unit=next((mark for mark in marks if isinstance(mark, Unit)), None),
            range=next((mark for mark in marks if isinstance(mark, Range)), None),
            secret=any(isinstance(mark, Secret) for mark in marks),
            in_url=not any(isinstance(mark, NotInURL) for mark in marks),
        )

    def parsed(self, text: str) -> Any:  # noqa: ANN401 - by kind
        """Return the value of a query."""
        if not text:
            raise self.refused("", "a value, or leave the option out")
        if self.unit is not None:
            try:
                return self.unit.parse(text)
            except ConfigError as error:
                raise OptionError(f"{self.name}: {error}") from None
        if get_origin(self.base) is Literal:
            return next((value for value in get_args(self.base) if str(value) == text), text)
        if self.base is bool:
            if text not in ("true", "false"):
                raise self.refused(text, "true or false")
            return text == "true"
        if self.base in (int, float):
            if not re.fullmatch(r"-?\d+" if self.base is int else r"-?\d+(\.\d+)?", text, re.ASCII):
                raise self.refused(text, "a whole number" if self.base is int else "a number")
            if len(text) > DIGITS:
                raise self.refused(f"{text[:DIGITS]}…", f"at most {DIGITS} digits")
            return self.base(text)
        return text

    def checked(self, value: Any) -> Any:  # noqa: ANN401 - by kind
        """Return the value in its own form, or refuse it."""
        if not self.in_url or (value is None and self.optional):
            return value
        if get_origin(self.base) is Literal:
            if value not in get_args(self.base):
                near = difflib.get_close_matches(str(value), map(str, get_args(self.base)), 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise self.refused(value, "one of " + ", ".join(map(str, get_args(self.base))) + hint)
            return value
        if self.unit is not None and self.unit.name == "duration":
            try:
                value = seconds(cast("Duration", value))
            except ConfigError as error:
                raise OptionError(f"{self.name}: {error}") from None
        elif self.base is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.base) or (isinstance(value, bool) and self.base is not bool):
            raise self.refused(value, f"a value of type {self.base.__name__}")
        number: Any = value
        if self.range is not None and not self.range.least <= number <= self.range.most:
            raise self.refused(self.shown(value), self._accepted(self.range))
        return value

    def _accepted(self, allowed: Range) -> str:
        least = self.shown(self.base(allowed.least)) if allowed.least > float("-inf") else None
        most = self.shown(self.base(allowed.most)) if allowed.most < float("inf") else None
        if least is None:
            return f"at most {most}"
        return f"{least} at least" if most is None else f"from {least} to {most}"

    def shown(self, value: Any) -> str:  # noqa: ANN401 - by kind
        """Return the text that parses to a value."""
        if self.unit is not None:
            return self.unit.show(value)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def refused(self, value: object, accepted: str) -> OptionError:
        """Return the error that names the option, what came (unless secret) and what is right."""
        came = MASK if self.secret else redact(str(value))
        return OptionError(f"option {self.name}={came} is not accepted: give {accepted}")

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of this field."""
        if self.unit is not None:
            return {"type": "string", "format": self.unit.name, "pattern": self.unit.pattern}
        if get_origin(self.base) is Literal:
            return {"enum": list(get_args(self.base))}
        schema: dict[str, Any] = {
            "type": {bool: "boolean", int: "integer", float: "number"}.get(self.base, "string")
        }
        if self.range is not None:
            schema |= {"minimum": self.range.least} if self.range.least > float("-inf") else {}
            schema |= {"maximum": self.range.most} if self.range.most < float("inf") else {}
        return schema | ({"writeOnly": True} if self.secret else {})


_cached: dict[Any, Mapping[str, Kind]] = {}


def _kinds(cls: type[Address]) -> Mapping[str, Kind]:
    if cls not in _cached:
        hints = get_type_hints(cls, include_extras=True)
        _cached[cls] = {field.name: Kind.of(field.name, hints[field.name]) for field in fields(cls)}
    return _cached[cls]


def parse(url: str, cls: type[AddressT]) -> AddressT:
    """Return the options that a URL says.

    Raises:
        OptionError: an option is unknown, repeated, empty, malformed or out of range; the sentence says what is right.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        raise OptionError(f"{redact(url)!r} is no URL: give scheme://where?option=value, as in memory://")
    if any(sign.isspace() for sign in url) or "#" in url:
        raise OptionError(f"the {scheme}:// URL holds a space or #: percent-encode it, as %20 or %23")
    where, _, query = rest.partition("?")
    _check_encoding(where, scheme)
    values: dict[str, Any] = dict(cls.from_where(scheme, where))
    kinds = _kinds(cls)
    known = {
        name for name, kind in kinds.items() if kind.in_url and name != "scheme" and name not in cls.IN_WHERE
    }
    for name, text in _pairs(query):
        if name not in known:
            raise OptionError(_unknown(name, known, scheme))
        if name in values:
            raise OptionError(f"option {name} is given twice: give it once")
        values[name] = kinds[name].parsed(text)
    return cls(scheme=scheme, **values)


def _check_encoding(where: str, scheme: str) -> None:
    try:
        unquote(where, errors="strict")
    except UnicodeDecodeError:
        raise OptionError(f"the {scheme}:// URL holds percent-encoded bytes that are no UTF-8") from None


def _pairs(query: str) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise OptionError("the query is malformed: give option=value, joined by &") from None


def _unknown(name: str, known: set[str], scheme: str) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
    return f"{redact(name)!r} is no option of {scheme}://; {hint}"


def render(options: Address, *, secrets: bool = False) -> str:
    """Return the URL of options, without defaults; it parses to the same options when `secrets` are asked for."""
    cls = type(options)
    kinds = _kinds(cls)
    pairs: list[str] = []
    for field in fields(options):
        kind, value = kinds[field.name], getattr(options, field.name)
        if field.name == "scheme" or field.name in cls.IN_WHERE or value == _default(field) or value is None:
            continue
        if kind.in_url:
            text = MASK if kind.secret and not secrets else quote(kind.shown(value), safe="/:,*{}-._~")
            pairs.append(f"{field.name}={text}")
    query = "?" + "&".join(pairs) if pairs else ""
    return f"{options.scheme}://{options.where(secrets=secrets)}{query}"


def _default(field: Field[Any]) -> Any:  # noqa: ANN401 - by field
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else MISSING


def json_schema(cls: type[Options]) -> dict[str, Any]:
    """Return the JSON Schema of a backend's options."""
    kinds = _kinds(cls)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in fields(cls):
        kind, default = kinds[field.name], _default(field)
        if not kind.in_url or field.name == "scheme":
            continue
        properties[field.name] = kind.schema()
        if default is MISSING:
            required.append(field.name)
        elif default is not None:
            properties[field.name]["default"] = kind.shown(default) if kind.unit else default
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{cls.__module__}.{cls.__name__}",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def check_name(kind: str, name: str, *, names: str, backend: str) -> None:
    """Refuse a name that other backends could not have, unless any are welcome.

    Raises:
        OptionError: it is not portable and `names` is not `any`, or it is empty.
    """
    if not isinstance(name, str) or not name or (names != "any" and not PORTABLE.fullmatch(name)):
        raise OptionError(
            f"{kind} {name!r} is not portable: use 1 to 60 of A-Z a-z 0-9 _ -, or open with names=any",
            backend=backend,
        )


_SECRETS = (
    # userinfo ends at the last @: a password may hold any sign
    (re.compile(r"(://[^\s/@:?]*?)(?::|%3A)\S*@", re.IGNORECASE), rf"\1:{MASK}@"),
    (re.compile(r"(?<![\w/%])([^\s:/@'\"=]+):(?!//)[^\s@]+@"), rf"\1:{MASK}@"),
    (re.compile(r"(%3A%2F%2F[^\s/@:?]*?)(?::|%3A)[^\s/@]*?(@|%40)", re.IGNORECASE), rf"\1:{MASK}\2"),
    (
        re.compile(
            r"(?i)\b([\w.-]*(?:password|passwd|pwd|passphrase|secret|token|signature|credential"
            r"|api_?key|access_?key|private_?key)[\w.-]*)([\"']?\s*[=:]\s*|%3D)(\"[^\"]*\"|'[^']*'|[^\s&]+)"
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
)


def redact(text: str) -> str:
    """Return a text without the secrets that URLs, queries and headers carry."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
