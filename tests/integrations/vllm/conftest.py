"""One engine per family, and transformers beside it."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.vllm.models import FAMILIES, save_model
from integrations.vllm.sides import Engine, Reference


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
        return made.setdefault(family, Reference(folders(family)))

    return reference


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request, folders, references) -> Engine:
    """One engine per family, with keep=0.3 unless a request sets another value."""
    return Engine(folders(request.param), reference=references(request.param))
