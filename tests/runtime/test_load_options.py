"""The options of `load` on tiny checkpoints: what transformers, accelerate and PEFT do with them, and refusals."""

import json
import pickle
import shutil

import huggingface_hub.constants
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import foveate
from foveate.errors import InputError, ModelError
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load, quiet
from foveate.runtime.load_options import LoadOptions
from tiny import tiny_folder

MODEL_TYPES = ("llava", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: str(tiny_folder(name, tmp_path_factory.mktemp(name))) for name in MODEL_TYPES}


@pytest.fixture
def folder(folders):
    return folders["llava"]


def answer(loaded, keep=4):
    """The pruned logits, and an answer."""
    image = Image.radial_gradient("L").resize((56, 56)).convert("RGB")
    inputs = make_inputs(loaded, [image], ["what color is it?"])
    with torch.no_grad(), quiet():
        short = foveate.prune_inputs(loaded.model, inputs, keep=keep)
        return loaded.model(**short).logits[:, -1].float(), generate_answers(loaded, short, 4)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("device_map", ["auto", "balanced", "sequential", "cpu", {"": "cpu"}, torch.device("cpu")])
def test_a_device_map_changes_no_answer(folders, model_type, device_map):
    expected, mapped = load(folders[model_type], device_map="cpu"), load(folders[model_type], device_map=device_map)
    torch.testing.assert_close(answer(mapped)[0].cpu(), answer(expected)[0], rtol=1e-4, atol=1e-4)
    assert not mapped.model.training


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("on_disk", ["model.vis", "language_model", "lm_head"])
def test_weights_on_disk(folders, model_type, on_disk, tmp_path):
    """Accelerate's hooks read them when they are needed; `model.device` is "meta" where the first ones are there."""
    whole = load(folders[model_type], device_map="cpu")
    names = [*(f"model.{name}" for name, _ in whole.model.model.named_children()), "lm_head"]
    device_map = {name: "disk" if on_disk in name else "cpu" for name in names}
    assert "disk" in device_map.values()
    mapped = load(folders[model_type], device_map=device_map, offload_folder=str(tmp_path))
    assert any(parameter.device.type == "meta" for parameter in mapped.model.parameters())
    assert mapped.model.hf_device_map == device_map
    torch.testing.assert_close(answer(mapped)[0], answer(whole)[0], rtol=1e-4, atol=1e-4)
    assert answer(mapped)[1] == answer(whole)[1]


def test_weights_that_modules_share_stay_together(tmp_path):
    """The embeddings of the bundled models are their lm_head too."""
    apart = {"model.vision_tower": "disk", "model.multi_modal_projector": "cpu", "model.language_model": "disk"}
    with pytest.raises(ModelError, match=r"cannot be spread by this device_map .*share weights on one device"):
        load("bundled", device_map={**apart, "lm_head": "cpu"}, offload_folder=str(tmp_path / "one"))
    together = {**apart, "model.language_model": "cpu", "lm_head": "cpu"}
    mapped = load("bundled", device_map=together, offload_folder=str(tmp_path / "two"), dtype="float32")
    torch.testing.assert_close(answer(mapped)[0], answer(load("bundled", device_map="cpu"))[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", torch.bfloat16, "auto"])
def test_dtype(folder, dtype):
    expected = torch.float32 if dtype == "auto" else getattr(torch, str(dtype).removeprefix("torch."))
    loaded = load(folder, dtype=dtype)
    assert {p.dtype for p in loaded.model.parameters()} == {expected}
    assert torch.isfinite(answer(loaded)[0]).all()


@pytest.mark.parametrize("name", ["bundled", "bundled-qwen"])
def test_the_dtype_of_a_bundled_model(name):
    assert load(name, dtype="bfloat16").model.dtype == torch.bfloat16
    assert load(name, dtype="auto").model.dtype == torch.float16


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention(folders, model_type, attention):
    loaded = load(folders[model_type], attention=attention)
    assert loaded.model.config._attn_implementation == attention
    assert loaded.model.config.vision_config._attn_implementation == attention
    torch.testing.assert_close(answer(loaded)[0], answer(load(folders[model_type]))[0], rtol=1e-4, atol=1e-4)


def test_further_arguments_of_transformers(folder):
    assert load(folder, attn_implementation="eager").model.config._attn_implementation == "eager"
    assert load(folder, device_map="auto", max_memory={"cpu": "1GB"}).model.device.type == "cpu"
    with pytest.raises(InputError, match=r"attn_implementation is set by another option"):
        load(folder, attention="sdpa", attn_implementation="eager")
    with pytest.raises(ModelError, match=r"cannot be loaded with state_dict: "):
        load(folder, state_dict={})
    with pytest.raises(InputError, match=r"torch_dtype is an older name: give dtype"):
        load(folder, torch_dtype="bfloat16")
    with pytest.raises(ModelError, match=r"cannot be loaded with these options: .*unexpected keyword argument 'kep'"):
        load(folder, kep=3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"device_map": "automatic"}, "'automatic' is no device of this machine: give auto"),
        ({"device_map": {"": "cuda:99"}}, "'cuda:99' is no device of this machine"),
        ({"device_map": {"": None}}, "None is no device"),
        ({"device_map": "disk"}, "'disk' is no device"),
        ({"device_map": "meta"}, "'meta' is no device"),
        ({"device_map": ["cpu"]}, "is no device"),
        ({"device_map": {}}, "device_map is empty"),
        ({"device_map": {"model.visoin": "cpu", "": "cpu"}}, r"do not match any submodules.*model\.visoin"),
        ({"device_map": {"model.vision_tower": "cpu"}}, "does not give any device for .*lm_head|does not give any"),
        ({"dtype": "bf16"}, "dtype 'bf16' is no floating-point type: give auto"),
        ({"dtype": "int8"}, "no floating-point type"),
        ({"dtype": "nn"}, "no floating-point type"),
        ({"dtype": 16}, "no floating-point type"),
        ({"attention": "fast"}, "attention 'fast' cannot be used: .*not supported"),
        ({"attention": ""}, "attention '' cannot be used"),
        ({"quantize": "2bit"}, "quantize '2bit' is unknown: give 4bit or 8bit"),
        ({"revision": "main"}, "revision is for models of the hub, and .* is a folder: leave it out"),
        ({"adapter": "x", "device_map": {"": "disk"}}, "An adapter does not work with weights on disk"),
    ],
)
def test_refusals_before_the_weights_are_read(folder, tmp_path, options, text):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(InputError, match=text) as refused:
        load(str(copy), **options)
    assert str(refused.value).count(". ") <= 1


def test_flash_attention_where_it_is_not_installed(folder):
    with pytest.raises(InputError, match=r"'flash_attention_2' cannot be used: .*installed"):
        load(folder, attention="flash_attention_2")


@pytest.mark.parametrize(
    ("missing", "options", "text"),
    [
        ("accelerate", {"device_map": "auto"}, r"needs accelerate: pip install 'foveate\[load\]'"),
        ("peft", {"adapter": "x"}, "adapter needs peft: pip install"),
        ("bitsandbytes torchao", {"quantize": "8bit"}, "8bit needs bitsandbytes or torchao: pip install bitsandbytes"),
        ("bitsandbytes", {"quantize": "4bit"}, "4bit needs bitsandbytes: pip install"),
    ],
)
def test_a_package_that_is_not_installed(folder, monkeypatch, missing, options, text):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing.split() else real(name))
    with pytest.raises(InputError, match=text):
        load(folder, **options)


def test_weights_that_are_quantized_already(folder, tmp_path, monkeypatch):
    import importlib.util

    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (copy / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())  # whether or not bitsandbytes is here
    with pytest.raises(InputError, match=r"quantized already: leave quantize out"):
        load(str(copy), quantize="4bit")


def test_a_revision_of_the_hub(folder, tmp_path, monkeypatch):
    """Two revisions of one repository, in the cache that the hub's client keeps."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--tiny"
    (repository / "refs").mkdir(parents=True)
    for number, revision in enumerate(("main", "v2")):
        commit = str(number) * 40
        snapshot = shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs" / revision).write_text(commit)
        weights = load_file(snapshot / "model.safetensors")
        scaled = {name: value * (1 + number) for name, value in weights.items()}
        save_file(scaled, snapshot / "model.safetensors", metadata={"format": "pt"})
    first, second = (load("someone/tiny", **options).model.lm_head.weight for options in ({}, {"revision": "v2"}))
    torch.testing.assert_close(second, 2 * first)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(ModelError, match=r"no model 'someone/tiny' came from the hub"):
        load("someone/tiny")
    torch.testing.assert_close(load("someone/tiny", cache_dir=str(tmp_path)).model.lm_head.weight, first)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"of revision 'v3' came from the hub"):
        load("someone/tiny", revision="v3")


def test_options_travel():
    options = LoadOptions(device_map={"": "cpu"}, dtype="bfloat16")
    assert pickle.loads(pickle.dumps(options)) == options
    assert json.loads(json.dumps(options.to_record())) == {"device_map": {"": "cpu"}, "dtype": "bfloat16"}


def test_relative_adapters_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    assert LoadOptions(adapter="own").make_absolute().adapter == str(tmp_path / "own")
    assert LoadOptions(adapter="someone/lora").make_absolute().adapter == "someone/lora"
    assert LoadOptions().make_absolute() == LoadOptions()
