"""Each tiny configuration is the published one with smaller numbers; `published.json` lists what differs, and why.

`source` says where the configuration is from. "defaults" are those of the class in transformers, whose documentation
says that they are like those of `checkpoint`.
"""

import json
from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING

from conformance.structure import compare_structures, read_structure
from foveate.conformance import tiny_config
from foveate.conformance.families.timm_towers import TOWERS
from foveate.conformance.registry import to_tiny_family
from foveate.models import lookup

PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text())


def make_tiny_config(model_type):
    """The tiny configuration, with the tower of timm's whether timm is installed or not."""
    if model_type not in TOWERS:
        return to_tiny_family(lookup.family(model_type)).make_config()
    overrides = tiny_config.read_overrides(model_type) or {}
    return tiny_config.make_config(model_type, {**overrides, "vision_config": TOWERS[model_type]})


@pytest.mark.parametrize("model_type", lookup.available())
def test_only_what_is_listed_differs(model_type):
    entry = PUBLISHED[model_type]
    published = CONFIG_MAPPING[model_type](**entry.get("config", {}))
    intended = [path for paths in entry.get("intended", {}).values() for path in paths]
    differences = compare_structures(published, make_tiny_config(model_type))
    assert sorted(differences) == sorted(intended), differences


def test_every_difference_has_a_reason_and_every_configuration_a_source():
    assert set(PUBLISHED) == set(lookup.available())
    for entry in PUBLISHED.values():
        assert entry["checkpoint"].count("/") == 1
        assert entry["source"] == "defaults" or "config" in entry
        assert all(len(reason) > 20 and paths for reason, paths in entry.get("intended", {}).items())


@pytest.mark.parametrize(
    "changes",
    [
        {"vision_feature_select_strategy": "full"},
        {"multimodal_projector_bias": False},
        {"projector_hidden_act": "relu"},
        {"text_config": {"model_type": "qwen2"}},
        {"vision_feature_layer": [-2, -1]},
    ],
)
def test_a_switch_that_differs_is_noticed(changes):
    tiny = to_tiny_family(lookup.family("llava"))
    assert compare_structures(tiny.make_config(), tiny.make_config(**changes))
    assert not compare_structures(tiny.make_config(), tiny.make_config())


def test_numbers_are_no_structure():
    tiny = to_tiny_family(lookup.family("qwen3_vl")).make_config()
    other = to_tiny_family(lookup.family("qwen3_vl")).make_config()
    other.text_config.hidden_size, other.vision_config.depth = 128, 6
    assert read_structure(tiny) == read_structure(other)
