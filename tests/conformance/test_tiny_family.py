"""The tiny halves of the adapters: each is registered for a family, and plug-ins get theirs too."""

import ast
import json
from importlib.resources import files
from pathlib import Path

import pytest

import foveate.models
from foveate.conformance.families.patches import TinyTimestamped
from foveate.conformance.families.timm_towers import has_timm
from foveate.conformance.registry import BUILTIN, PLUGINS, to_tiny_family
from foveate.conformance.tiny_config import read_overrides
from foveate.conformance.tiny_family import TinyFamily
from foveate.models import Family
from foveate.models.qwen_vl import Qwen3VL
from foveate.models.registry import FAMILIES


@pytest.mark.parametrize("name", BUILTIN)
def test_every_tiny_half_belongs_to_an_adapter(name):
    adapters = {cls for model_type in FAMILIES.names() for cls in FAMILIES.load(model_type).__mro__}
    tiny = {
        cls.__name__ for adapter in adapters if adapter.__name__ == name for cls in type(make_tiny(adapter)).__mro__
    }
    assert f"Tiny{name}" in tiny


def make_tiny(adapter):
    return to_tiny_family(adapter("mine"))


def test_a_plug_in_brings_its_own_tiny_half(monkeypatch):
    class Mine(TinyFamily):
        pass

    monkeypatch.setattr(PLUGINS, "names", lambda: ["mine"])
    monkeypatch.setattr(PLUGINS, "load", {"mine": Mine}.__getitem__)
    assert type(to_tiny_family(Qwen3VL("mine"))) is Mine
    assert type(to_tiny_family(Qwen3VL("qwen3_vl"))) is TinyTimestamped


def test_an_adapter_of_the_same_name_elsewhere_is_another():
    assert type(to_tiny_family(type("Aria", (Family,), {})("mine"))) is TinyFamily


def test_a_family_of_the_shared_conventions_needs_no_tiny_half():
    assert type(to_tiny_family(Family("mine"))) is TinyFamily


def test_a_plug_in_has_the_tiny_half_of_the_adapter_it_derives_from():
    class Mine(Qwen3VL):
        pass

    assert type(to_tiny_family(Mine("mine"))) is TinyTimestamped


def test_overrides_are_those_of_families():
    table = json.loads((files("foveate.conformance") / "configs.json").read_text())
    assert set(table) <= set(FAMILIES.names())
    assert all(isinstance(table[name], dict) for name in table.values() if isinstance(name, str))


def test_a_name_in_the_overrides_stands_for_those_of_that_model_type():
    assert read_overrides("qwen3_vl_moe") == read_overrides("qwen3_vl")
    assert read_overrides("mine") is None


def test_changes_replace_overrides():
    tiny = to_tiny_family(FAMILIES.load("llava")("llava"))
    assert tiny.make_config().vision_feature_layer == -2
    assert tiny.make_config(vision_feature_layer=-1).vision_feature_layer == -1


def test_adapters_import_nothing_of_the_laws():
    for path in Path(foveate.models.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("foveate.conformance"), path


@pytest.mark.parametrize("model_type", ["gemma3n", "fast_vlm", "perception_lm"])
def test_towers_of_timm_are_those_of_the_checkpoints(model_type):
    """Where timm is missing another tower stands in; `make test-towers` has timm."""
    tower = to_tiny_family(FAMILIES.load(model_type)(model_type)).make_config().vision_config
    assert hasattr(tower, "architecture") == has_timm()
