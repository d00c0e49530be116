"""What can be asked for, and how it travels. Nothing here needs vLLM."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from foveate.errors import FoveateError, InputError, KeepError, ModelError, UnknownMethodError
from foveate.integrations.vllm import ARCHITECTURES, engine, overrides, serve
from foveate.integrations.vllm.engine import Check
from foveate.integrations.vllm.settings import Order, Settings


def test_overrides():
    assert overrides("bundled", keep=0.1) == {
        "architectures": ["FoveateLlavaForConditionalGeneration"],
        "foveate": {"keep": 0.1, "method": "foveate", "positions": "original", "turn": "last"},
    }
    asked = {"keep": 64, "method": "divprune", "positions": "compact", "turn": "own"}
    found = overrides("bundled-qwen", **asked)
    assert found == {"architectures": ["FoveateQwen2_5_VLForConditionalGeneration"], "foveate": asked}


def test_every_architecture_has_a_family():
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as names

    from foveate.models.registry import FAMILIES

    types = {architecture: model_type for model_type, architecture in names.items()}
    assert {types[architecture] for architecture in ARCHITECTURES} <= set(FAMILIES.names())


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"keep": 0}, KeepError),
        ({"keep": float("nan")}, KeepError),
        ({"keep": "many"}, KeepError),
        ({"keep": True}, KeepError),
        ({"keep": 0.1, "method": "clever"}, UnknownMethodError),
        ({"keep": 0.1, "method": "visionzip"}, InputError),
        ({"keep": 0.1, "method": "fastv"}, InputError),
        ({"keep": 0.1, "positions": "none"}, InputError),
        ({"keep": 0.1, "turn": "first"}, InputError),
    ],
)
def test_bad_settings(asked, error):
    with pytest.raises(error):
        overrides("bundled", **asked)
    with pytest.raises(error):
        Settings(0.5).changed(asked)


def test_unsupported_architecture(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"model_type": "idefics3", "architectures": ["Idefics3ForConditionalGeneration"]}'
    )
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="does not prune Idefics3ForConditionalGeneration inside vLLM: it knows Llava"):
        overrides(str(tmp_path), keep=0.1)


def test_changes():
    settings = Settings(0.5, "grid")
    assert settings.changed(None) is settings
    assert settings.changed({"keep": 3}) == Settings(3, "grid")
    with pytest.raises(InputError, match="'kep' is no setting"):
        settings.changed({"kep": 3})
    with pytest.raises(InputError, match="give an object"):
        settings.changed([0.1])


@pytest.mark.parametrize("given", [None, {}, {"method": "grid"}, 0.1])
def test_no_keep(given):
    with pytest.raises(InputError, match="without a keep"):
        Settings.read(given)


def test_counts():
    assert [Settings(keep).count(576) for keep in (0.1, 64, 1000, 0.0001, 1.0)] == [58, 64, 576, 1, 576]
    assert [Settings(keep).whole for keep in (1.0, 1, 0.9999)] == [True, False, False]


def test_orders_travel():
    order = Order(58, 576, "foveate", "original", (5, 70000, 3))
    assert Order.unpack(order.pack()) == order


def test_command():
    found = serve.command("bundled", ["--port", "8001"], keep=0.2)
    assert found[:2] == ["vllm", "serve"]
    assert found[-4:] == ["--served-model-name", "bundled", "--port", "8001"]
    assert '"keep": 0.2' in found[found.index("--hf-overrides") + 1]
    assert "'{" in serve.shown(found)
    named = serve.command("bundled", ["--served-model-name", "mine"], keep=0.2)
    assert named.count("--served-model-name") == 1
    with pytest.raises(InputError, match="writes --hf-overrides itself"):
        serve.command("bundled", ["--hf-overrides={}"], keep=0.2)


def test_no_vllm(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'foveate\[vllm\]'"):
        serve.run(["vllm", "serve"])


def running(**changes):
    """An engine's configuration."""
    parts = {
        "parallel": {"pipeline_parallel_size": 1, "prefill_context_parallel_size": 1, "enable_dbo": False},
        "lora": {"enable_tower_connector_lora": False},
        "multimodal": {"mm_processor_kwargs": None, "is_multimodal_pruning_enabled": lambda: False},
        "engine": {"speculative_config": None},
    }
    for name, value in changes.items():
        next(part for part in parts.values() if name in part)[name] = value
    model = SimpleNamespace(multimodal_config=SimpleNamespace(**parts["multimodal"]))
    lora = SimpleNamespace(**parts["lora"])
    parallel = SimpleNamespace(**parts["parallel"])
    return SimpleNamespace(model_config=model, lora_config=lora, parallel_config=parallel, **parts["engine"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pipeline_parallel_size": 2}, "pipeline parallelism"),
        ({"prefill_context_parallel_size": 2}, "context parallelism"),
        ({"enable_dbo": True}, "dual batch overlap"),
        ({"speculative_config": object()}, "speculative decoding"),
        ({"enable_tower_connector_lora": True}, "LoRA on the vision tower"),
        ({"is_multimodal_pruning_enabled": lambda: True}, "own pruning of clips"),
        ({"mm_processor_kwargs": {"foveate": {}}}, "in --mm-processor-kwargs"),
    ],
)
def test_ways_to_run_that_are_refused(changes, words):
    Check.verify_and_update_config(running())
    with pytest.raises(FoveateError, match=words):
        Check.verify_and_update_config(running(**changes))
