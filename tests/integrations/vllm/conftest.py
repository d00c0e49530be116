"""One engine per family, and transformers beside it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from integrations.vllm.models import FAMILIES, read_kind, save_model
from integrations.vllm.sides import Engine, Engines, Reference
from kinds import by_kind


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests on one family's engine together, so that it starts once; those that start others come last.

    These stand by name, so that the same settings follow each other.
    """
    places = [place for place, item in enumerate(items) if "engines" in getattr(item, "fixturenames", ())]
    on_engines = [items[place] for place in places]
    families = list(dict.fromkeys(filter(None, map(read_family, on_engines))))
    on_engines.sort(key=lambda item: (
        [*families, ""].index(read_family(item)), starts_another(item), "" if read_family(item) else item.name
    ))  # fmt: skip
    for place, item in zip(places, on_engines, strict=True):
        items[place] = item


def read_family(item: pytest.Item) -> str:
    """The family on whose engine a test runs; empty where it starts its own alone."""
    return item.callspec.params.get("engine", "") if hasattr(item, "callspec") else ""


def starts_another(item: pytest.Item) -> bool:
    return "engines" in inspect.signature(item.function).parameters


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    made: dict[str, Any] = {}

    def folder(family: str) -> Any:
        if family not in made:
            made[family] = save_model(family, tmp_path_factory.mktemp("engine") / family)
        return made[family]

    return folder


@pytest.fixture(scope="session")
def references(folders):
    made: dict[str, Reference] = {}

    def reference(family: str) -> Reference:
        if family not in made:
            made[family] = Reference(folders(family))
        return made[family]

    return reference


@pytest.fixture(scope="session")
def engines(folders, references):
    """Starts engines, one at a time."""
    engines = Engines(folders, references)
    yield engines
    engines.stop()


@pytest.fixture(params=by_kind(FAMILIES, read_kind=read_kind))
def engine(request, engines) -> Engine:
    """The engine of a family, with keep=0.3 unless a request sets another value, and empty caches."""
    engine = engines.start(request.param)
    engine.clear_caches()
    engine.features.clear()
    return engine
