"""The registry: schemes of ours and of third parties, what is said of others, what is loaded when."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unimsg import registry
from unimsg.client import connect
from unimsg.errors import ConfigError, MissingExtraError, UnknownSchemeError

BACKEND = """
from unimsg.backends.memory import SCHEMES, FACTS, build
from unimsg.backends.memory import declare as _declare
from dataclasses import dataclass
from unimsg.backends.memory.options import Options as _Options

@dataclass(frozen=True, kw_only=True, repr=False)
class Options(_Options):
    scheme: str = "parcel"

def declare(options):
    return _declare(options)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a distribution of a third party, as pip would lay it out."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def installed(scheme: str, value: str, **modules: str) -> None:
        info = tmp_path / f"{scheme}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {scheme}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{scheme} = {value}\n")
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
        made.extend(modules)
        registry._third_parties.cache_clear()

    yield installed
    for name in made:
        sys.modules.pop(name, None)
    registry._third_parties.cache_clear()


@pytest.mark.parametrize(
    ("scheme", "sentence"),
    [
        ("memry", "no backend is known for 'memry'; did you mean memory://?"),
        ("sqllite", "did you mean sqlite://?"),
        ("pulsar", "no backend is known for 'pulsar'; known are memory://, sqlite://"),
        ("", "no backend is known for ''"),
        ("MEMORY", "no backend is known for 'MEMORY'"),
    ],
)
def test_an_unknown_scheme(scheme: str, sentence: str) -> None:
    with pytest.raises(UnknownSchemeError) as raised:
        registry.plugin(scheme)
    assert sentence in str(raised.value)


def test_an_unknown_store_names_stores() -> None:
    with pytest.raises(UnknownSchemeError, match="no store is known for 'sqlit'; did you mean sqlite://"):
        registry.store_module("sqlit")


async def test_a_third_party_is_found_by_its_entry_point(install: Callable[..., None]) -> None:
    install("parcel", "parcel_backend", parcel_backend=BACKEND)
    assert registry.schemes()[-1] == "parcel"
    assert "parcel" in registry.declared()
    async with connect("parcel://") as client:
        receipt = await client.publish("orders", 1)
    assert receipt.id is not None


def test_ours_cannot_be_replaced(install: Callable[..., None]) -> None:
    install("memory", "impostor", impostor="raise SystemExit('loaded')")
    plugin = registry.plugin("memory")
    assert getattr(plugin, "__name__", "") == "unimsg.backends.memory"


@pytest.mark.parametrize(
    ("module", "value", "kind", "sentence"),
    [
        ("x = 1", "broken", ConfigError, "is no backend: broken must be a unimsg.spi.Plugin"),
        ("x = 1", "broken:nothing", ConfigError, "is no backend: there is no broken:nothing"),
        ("import not_there_at_all", "broken", MissingExtraError, "No module named 'not_there_at_all'"),
    ],
)
def test_a_third_party_that_is_none(
    install: Callable[..., None], module: str, value: str, kind: type[Exception], sentence: str
) -> None:
    install("parcel", value, broken=module)
    with pytest.raises(kind) as raised:
        registry.plugin("parcel")
    assert sentence in str(raised.value)


def test_one_that_cannot_be_loaded_does_not_spoil_the_refusal_of_another(
    install: Callable[..., None],
) -> None:
    install("parcel", "broken", broken="raise RuntimeError('at import')")
    assert {"memory", "sqlite"} <= set(registry.declared())


def test_a_missing_extra_gives_the_line_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parcels.py").write_text("import aioparcel_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "BACKENDS", {**registry.BACKENDS, "parcels": "parcels"})
    with pytest.raises(MissingExtraError) as raised:
        connect("parcels://")
    assert str(raised.value) == (
        "parcels:// needs aioparcel_not_there, which is not installed: pip install 'unimsg[parcels]'"
    )
    assert isinstance(raised.value, ImportError)
