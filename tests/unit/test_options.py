"""Options: a URL and back, what is refused and how that is said, the JSON Schema, and secrets that never show."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl, quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimsg.client import options_schema
from unimsg.errors import OptionError
from unimsg.options import (
    MASK,
    NotInURL,
    Options,
    Range,
    Seconds,
    SecretStr,
    Size,
    check_name,
    json_schema,
    parse,
    render,
)
from unimsg.registry import BACKENDS, options_of

PASSWORD = "p@ss:w/o?r&d=1 %ü"  # noqa: S105 - what must never show
SHOWN_AS = re.compile("p@ss|p%40ss|w/o|w%2Fo", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, repr=False)
class Vault(Options):
    """Options with one field of each kind, and secrets in two places."""

    IN_WHERE: ClassVar[frozenset[str]] = frozenset({"user", "password", "host"})

    scheme: str = "vault"
    host: str = "localhost"
    user: str = ""
    password: SecretStr = ""
    token: SecretStr | None = None
    wait: Annotated[Seconds, Range(0.001, 60)] = 20.0
    chunk: Annotated[Size, Range(1, 1 << 30)] = 65536
    version: Literal[4, 5, "any"] = "any"
    mode: Literal["fast", "safe"] = "safe"
    prefetch: Annotated[int, Range(1, 1000)] = 100
    share: Annotated[float, Range(0, 1)] = 0.5
    offset: int = 0
    strict: bool = False
    label: str = ""
    retention: Annotated[Seconds, Range(0.001)] | None = None
    session: Annotated[object, NotInURL()] = None

    @classmethod
    def from_where(cls, scheme: str, where: str) -> Mapping[str, Any]:
        user, at, host = where.rpartition("@")
        name, _, password = user.partition(":")
        given = {"host": unquote(host) or "localhost"}
        return given | ({"user": unquote(name), "password": unquote(password)} if at else {})

    def where(self, *, secrets: bool) -> str:
        if not self.user and not self.password:
            return quote(self.host, safe="")
        password = quote(self.password, safe="") if secrets else "***"
        return f"{quote(self.user, safe='')}:{password}@{quote(self.host, safe='')}"


def vault(text: str) -> Vault:
    return parse(text, Vault)


# ---------------------------------------------------------------- there and back

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ANY: st.SearchStrategy[Vault] = st.builds(
    Vault,
    open=st.sampled_from(["eager", "lazy"]),
    open_timeout=st.floats(0.001, 3600),
    names=st.sampled_from(["portable", "any"]),
    max_body=st.integers(1, 1 << 40),
    host=TEXT,
    user=TEXT,
    password=TEXT,
    token=st.none() | TEXT,
    wait=st.floats(0.001, 60),
    chunk=st.integers(1, 1 << 30),
    version=st.sampled_from([4, 5, "any"]),
    mode=st.sampled_from(["fast", "safe"]),
    prefetch=st.integers(1, 1000),
    share=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    offset=st.integers(-(10**9), 10**9),
    strict=st.booleans(),
    label=TEXT,
    retention=st.none() | st.floats(0.001, 1e9),
)


@given(ANY)
def test_what_is_rendered_parses_to_the_same(options: Vault) -> None:
    assert vault(render(options, secrets=True)) == options


@given(ANY)
def test_without_secrets_a_rendering_still_parses_and_differs_in_them_only(options: Vault) -> None:
    again = vault(render(options))
    assert again.label == options.label
    assert again.password == MASK


@pytest.mark.parametrize("scheme", BACKENDS)
def test_the_defaults_of_each_backend_come_back(scheme: str) -> None:
    cls: Any = options_of(scheme)
    options = cls()
    assert parse(render(options), cls) == options


@pytest.mark.parametrize(
    ("url", "field", "value"),
    [
        ("vault://h?wait=250ms", "wait", 0.25),
        ("vault://h?chunk=1MiB", "chunk", 1 << 20),
        ("vault://h?version=5", "version", 5),
        ("vault://h?strict=true", "strict", True),
        ("vault://h?offset=-5", "offset", -5),
        ("vault://h?share=1", "share", 1.0),
        ("vault://h?mode=fast", "mode", "fast"),
        ("vault://h?label=a%26b%3Dc", "label", "a&b=c"),
        ("vault://h?label=a+b", "label", "a b"),
        ("vault://app:s%40fe@h", "password", "s@fe"),
        ("vault://", "host", "localhost"),
    ],
)
def test_a_field_is_a_query_name(url: str, field: str, value: object) -> None:
    assert getattr(vault(url), field) == value


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("vault", "is no URL: give scheme://where?option=value"),
        ("vault://h?wiat=1s", "'wiat' is no option of vault://; did you mean wait?"),
        ("vault://h?zzz=1", "known are chunk, label, max_body"),
        ("vault://h?session=1", "'session' is no option"),
        ("vault://h?scheme=x", "'scheme' is no option"),
        ("vault://h?host=x", "'host' is no option"),
        ("vault://h?wait=1s&wait=2s", "option wait is given twice: give it once"),
        ("vault://h?wait=", "option wait= is not accepted: give a value, or leave the option out"),
        ("vault://h?wait", "the query is malformed: give option=value, joined by &"),
        ("vault://h?&", "the query is malformed"),
        ("vault://h?label=%FF", "the query is malformed"),
        ("vault://%FF", "percent-encoded bytes that are no UTF-8"),
        ("vault://h?label=a b", "holds a space or #: percent-encode it"),
        ("vault://h#top", "holds a space or #"),
        ("vault://h?wait=20", "wait: '20' is not a duration: give a unit"),
        ("vault://h?wait=61s", "option wait=61s is not accepted: give from 1ms to 1m"),
        ("vault://h?wait=0s", "give from 1ms to 1m"),
        ("vault://h?chunk=0", "option chunk=0 is not accepted: give from 1 to 1GiB"),
        ("vault://h?prefetch=1001", "option prefetch=1001 is not accepted: give from 1 to 1000"),
        ("vault://h?prefetch=1.5", "give a whole number"),
        ("vault://h?prefetch=" + "9" * 5000, "give at most 20 digits"),
        ("vault://h?prefetch=0x10", "give a whole number"),
        ("vault://h?share=nan", "give a number"),
        ("vault://h?share=1.5", "option share=1.5 is not accepted: give from 0.0 to 1.0"),
        ("vault://h?strict=yes", "option strict=yes is not accepted: give true or false"),
        ("vault://h?strict=True", "give true or false"),
        ("vault://h?mode=fats", "give one of fast, safe; did you mean fast?"),
        ("vault://h?mode=zzz", "give one of fast, safe"),
        ("vault://h?max_body=0", "option max_body=0 is not accepted: give 1 at least"),
        ("vault://h?open_timeout=2h", "give from 1ms to 1h"),
        ("vault://h?names=all", "give one of portable, any"),
    ],
)
def test_what_is_refused_says_what_is_right(url: str, sentence: str) -> None:
    with pytest.raises(OptionError) as raised:
        vault(url)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("wait", "20s", "is not a duration: give seconds or a timedelta"),
        ("wait", -1, "must be finite and not negative"),
        ("prefetch", "5", "give a value of type int"),
        ("prefetch", True, "give a value of type int"),
        ("prefetch", 1.0, "give a value of type int"),
        ("strict", 1, "give a value of type bool"),
        ("label", None, "give a value of type str"),
        ("label", b"x", "give a value of type str"),
        ("share", float("nan"), "give from 0.0 to 1.0"),
        ("mode", None, "give one of fast, safe"),
        ("password", 7, "option password=*** is not accepted"),
    ],
)
def test_a_field_given_in_code_is_checked_alike(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(OptionError) as raised:
        Vault(**{field: value})
    assert sentence in str(raised.value)


def test_an_object_that_no_url_can_hold_is_taken_and_never_rendered() -> None:
    options = Vault(session=object())
    assert render(options, secrets=True) == "vault://localhost"


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ä", "x" * 61, "a/b", None, 7])
def test_a_name_that_other_backends_could_not_have_is_refused(name: Any) -> None:
    with pytest.raises(OptionError, match="use 1 to 60 of"):
        check_name("destination", name, names="portable", backend="vault")


def test_any_name_but_none_is_welcome_when_asked_for() -> None:
    check_name("destination", "a.b ä", names="any", backend="vault")
    with pytest.raises(OptionError):
        check_name("destination", "", names="any", backend="vault")


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    "options", [Vault(user="app", password=PASSWORD, token=PASSWORD), Vault(password=PASSWORD)]
)
def test_secrets_do_not_show(options: Vault) -> None:
    for text in (repr(options), str(options), render(options), f"{options}", repr([options])):
        assert not SHOWN_AS.search(text)
        assert "***" in text
    assert vault(render(options, secrets=True)) == options


@pytest.mark.parametrize(
    "query", ["wait=1", "wiat=1s", "wait=1s&wait=1s", "wait=", "prefetch=x", "mode=x", "&", "label=%FF"]
)
@pytest.mark.parametrize("where", ["app:{}@h", "{}", ":{}@h"], ids=["userinfo", "query", "no-user"])
@pytest.mark.parametrize(
    "form", [PASSWORD.replace(" ", ""), quote(PASSWORD, safe="")], ids=["plain", "encoded"]
)
def test_no_error_shows_a_secret(query: str, where: str, form: str) -> None:
    """In whatever place of the URL it stands, also where the URL is malformed by it; causes included."""
    url = f"vault://h?token={form}&{query}" if where == "{}" else f"vault://{where.format(form)}?{query}"
    with pytest.raises(OptionError) as raised:
        vault(url)
    error: BaseException | None = raised.value
    while error is not None:
        assert not SHOWN_AS.search(str(error)), str(error)
        assert not SHOWN_AS.search(repr(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# ---------------------------------------------------------------- the schema


def in_json(url: str, cls: type[Options]) -> dict[str, Any]:
    """What a URL says, as the JSON that its schema describes."""
    scheme, _, rest = url.partition("://")
    where, _, query = rest.partition("?")
    properties = json_schema(cls)["properties"]
    found: dict[str, Any] = dict(cls.from_where(scheme, where))
    for name, text in parse_qsl(query):
        plain = properties[name].get("type") in ("boolean", "integer", "number")
        plain |= name == "version" and text.isdigit()
        found[name] = json.loads(text) if plain else text
    return found


TYPES: Mapping[str, Any] = {"string": str, "integer": int, "boolean": bool, "number": (int, float)}


def faults(schema: Mapping[str, Any], value: Mapping[str, Any]) -> list[str]:
    """As much of JSON Schema as ours use."""
    properties = schema["properties"]
    found = [name for name in value if name not in properties]
    found += [name for name in schema["required"] if name not in value]
    for name in value.keys() & properties.keys():
        rule, given_value = properties[name], value[name]
        if "enum" in rule:
            fits = given_value in rule["enum"]
        else:
            fits = isinstance(given_value, TYPES[rule["type"]])
            fits = fits and ("pattern" not in rule or bool(re.search(rule["pattern"], given_value, re.ASCII)))
            fits = fits and given_value >= rule.get("minimum", given_value)
            fits = fits and given_value <= rule.get("maximum", given_value)
        found += [] if fits else [name]
    return found


@given(ANY)
def test_the_schema_validates_what_parses(options: Vault) -> None:
    url = render(options, secrets=True)
    assert faults(json_schema(Vault), in_json(url, Vault)) == []


@pytest.mark.parametrize(
    "url", ["vault://h?wait=20", "vault://h?prefetch=0", "vault://h?mode=zzz", "vault://h?chunk=1TB"]
)
def test_the_schema_refuses_what_does_not_parse(url: str) -> None:
    with pytest.raises(OptionError):
        vault(url)
    assert faults(json_schema(Vault), in_json(url, Vault)) != []


def test_a_secret_is_write_only_and_an_object_is_no_property() -> None:
    properties = json_schema(Vault)["properties"]
    assert properties["password"]["writeOnly"]
    assert "session" not in properties
    assert properties["wait"]["default"] == "20s"


@pytest.mark.parametrize("scheme", BACKENDS)
def test_each_backend_has_a_schema_that_is_json(scheme: str) -> None:
    schema = options_schema(scheme)
    assert json.loads(json.dumps(schema)) == schema
    assert schema["additionalProperties"] is False
    assert "max_body" in schema["properties"]
