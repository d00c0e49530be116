"""One family of each kind, for tests on which all families of a kind depend in the same way.

Two families are of one kind where `prune_inputs` treats them alike: equal facts (`Traits`, but for versions and names),
and the same way to encode a part of an image, if there is one. `make test` runs a test that is parametrized by
`by_kind` on the first family of each kind, `make test-all` on every family.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from foveate.models import lookup
from foveate.models.patch_encoder import PatchEncoder
from foveate.models.tile_encoder import TileEncoder

# Counted positions, M-RoPE, DeepStack: always run. tests/conformance/test_laws.py runs the laws on every family.
KINDS = ("llava", "qwen2_5_vl", "qwen3_vl")


@cache
def read_kind(model_type: str) -> tuple[str, bool, bool]:
    """What families of one kind have in common."""
    family = lookup.family(model_type)
    facts = replace(family.traits, versions="", note="", main_inputs={}, aliases={}, type_ids={})
    return str(facts), isinstance(family, TileEncoder), isinstance(family, PatchEncoder)


def by_kind(
    model_types: Iterable[str], mark: Any = pytest.mark.wide, read_kind: Callable[[str], Hashable] = read_kind
) -> list[Any]:
    """The families as parameters of a test; all but KINDS and the first of each other kind get the mark."""
    names = list(model_types)
    seen = {read_kind(name) for name in KINDS if name in names}
    parameters = []
    for name in names:
        is_first = read_kind(name) not in seen
        seen.add(read_kind(name))
        parameters.append(pytest.param(name, marks=() if is_first or name in KINDS else mark))
    return parameters
