"""PEFT adapters, made and saved by PEFT itself."""

import json
import warnings

import peft
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import foveate
from foveate.errors import InputError, ModelError
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import BUNDLED, load
from tiny import tiny_folder

TEXT = r".*language_model.*(q_proj|v_proj|down_proj)"
TOWER = r".*(q_proj|qkv|fc1|o_proj|linear_1)"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: str(tiny_folder(name, tmp_path_factory.mktemp(name))) for name in ("llava", "qwen2_5_vl")}


def save_adapter(folder, out, config):
    torch.manual_seed(1)
    wrapped = wrap(peft.get_peft_model, load(folder).model, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    wrap(wrapped.save_pretrained, out)
    return str(out)


def wrap(call, *arguments):
    """PEFT uses names of transformers that are deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return call(*arguments)


def answer(loaded):
    inputs = make_inputs(loaded, [Image.radial_gradient("L").resize((56, 56)).convert("RGB")], ["what color is it?"])
    with torch.no_grad():
        short = foveate.prune_inputs(loaded.model, inputs, keep=4)
        return loaded.model(**short).logits[:, -1], generate_answers(loaded, short, 6)


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl"])
@pytest.mark.parametrize("modules", [TEXT, TOWER])
def test_a_lora_answers_as_weights_merged_by_hand(folders, tmp_path, model_type, modules):
    adapter = save_adapter(folders[model_type], tmp_path, peft.LoraConfig(r=3, lora_alpha=6, target_modules=modules))
    loaded, merged, plain = (
        load(folders[model_type], adapter=adapter),
        load(folders[model_type]),
        load(folders[model_type]),
    )
    assert type(loaded.model) is type(plain.model)
    assert not loaded.model.training
    weights = load_file(tmp_path / "adapter_model.safetensors")
    names = [name.removesuffix(".lora_A.weight") for name in weights if name.endswith(".lora_A.weight")]
    assert names
    with torch.no_grad():
        for name in names:
            change = weights[f"{name}.lora_B.weight"] @ weights[f"{name}.lora_A.weight"] * 6 / 3
            merged.model.get_submodule(name.removeprefix("base_model.model.")).weight += change
    logits, text = answer(loaded)
    expected, expected_text = answer(merged)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert text == expected_text
    assert (logits - answer(plain)[0]).abs().max() > 0.01


@pytest.mark.parametrize("config", [peft.IA3Config(target_modules=TEXT, feedforward_modules=r".*down_proj"),
                                    peft.LoHaConfig(r=2, target_modules=TEXT)])  # fmt: skip
def test_other_kinds_of_adapters(folders, tmp_path, config):
    adapter = save_adapter(folders["llava"], tmp_path, config)
    loaded, plain = load(folders["llava"], adapter=adapter), load(folders["llava"])
    logits, _ = answer(loaded)
    assert (logits - answer(plain)[0]).abs().max() > 1e-4
    merged = wrap(peft.PeftModel.from_pretrained, plain.model, adapter).merge_and_unload()
    expected, _ = answer(foveate.LoadedModel(merged, loaded.processor, (), "merged"))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_beside_other_options(folders, tmp_path):
    adapter = save_adapter(folders["llava"], tmp_path, peft.LoraConfig(r=3, target_modules=TEXT))
    plain = answer(load(folders["llava"], adapter=adapter))[0]
    mapped = load(folders["llava"], adapter=adapter, device_map="auto", attention="eager")
    torch.testing.assert_close(answer(mapped)[0], plain, rtol=1e-4, atol=1e-4)
    half = load(folders["llava"], adapter=adapter, dtype="bfloat16")
    assert half.model.lm_head.weight.dtype == torch.bfloat16
    torch.testing.assert_close(answer(half)[0].float(), plain, rtol=0.1, atol=0.1)


def test_no_adapter(folders, tmp_path):
    with pytest.raises(ModelError, match=r"holds no adapter_config\.json: give the folder that PEFT's save_pretrained"):
        load(folders["llava"], adapter=folders["llava"])
    with pytest.raises(ModelError, match=r"adapter .* cannot be read"):
        load(folders["llava"], adapter=str(tmp_path / "nothing"))
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"adapter .* cannot be read"):
        load(folders["llava"], adapter=str(tmp_path))


def test_an_adapter_without_weights(folders, tmp_path):
    adapter = save_adapter(folders["llava"], tmp_path, peft.LoraConfig(r=3, target_modules=TEXT))
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"does not fit this model"):
        load(folders["llava"], adapter=adapter)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"does not fit this model"):
        load(folders["llava"], adapter=adapter)


def test_the_adapter_of_another_model(folders, tmp_path):
    other = save_adapter(folders["qwen2_5_vl"], tmp_path / "qwen", peft.LoraConfig(r=3, target_modules=r".*qkv"))
    with pytest.raises(ModelError, match=r"does not fit this model .*qkv"):
        load(folders["llava"], adapter=other)
    adapter = save_adapter(folders["llava"], tmp_path / "own", peft.LoraConfig(r=3, target_modules=TEXT))
    path = tmp_path / "own" / "adapter_model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    save_file({**weights, name.replace("layers.0", "layers.7"): weights[name].clone()}, path)
    with pytest.raises(ModelError, match=r"is another model's: 1 of its tensors .*layers\.7"):
        load(folders["llava"], adapter=adapter)
    save_file({each: value for each, value in weights.items() if each != name}, path)
    with pytest.raises(ModelError, match=r"does not fit this model .*missing adapter keys"):
        load(folders["llava"], adapter=adapter)
    save_file({**weights, name: weights[name][:, :-1].clone()}, path)
    with pytest.raises(ModelError, match=r"does not fit this model"):
        load(folders["llava"], adapter=adapter)


@pytest.mark.parametrize(
    "config",
    [
        {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4, "task_type": "CAUSAL_LM"},
        {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4, "task_type": "CAUSAL_LM"},
        {"peft_type": "ADAPTION_PROMPT", "task_type": "CAUSAL_LM"},
        {"peft_type": "XLORA", "hidden_size": 4, "adapters": {}},
        {"peft_type": "POLY", "target_modules": ["q_proj"]},
    ],
)
def test_adapters_outside_the_layers_are_refused(folders, tmp_path, config):
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"kind {config['peft_type']} works outside the model's layers"):
        load(folders["llava"], adapter=str(tmp_path))


def test_an_activated_lora_is_refused(folders, tmp_path):
    config = peft.LoraConfig(r=3, target_modules=TEXT, alora_invocation_tokens=[1, 2], task_type="CAUSAL_LM")
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"activated LoRA"):
        load(folders["llava"], adapter=str(tmp_path))


def test_an_adapter_is_no_model(folders, tmp_path):
    adapter = save_adapter(folders["llava"], tmp_path / "own", peft.LoraConfig(r=3, target_modules=TEXT))
    with pytest.raises(ModelError, match=r"it is an adapter: give its base model, and this folder as adapter"):
        load(adapter)


def test_names_of_older_transformers(folders, tmp_path):
    """PEFT renames what transformers 4 called otherwise."""
    adapter = save_adapter(folders["llava"], tmp_path, peft.LoraConfig(r=3, target_modules=TEXT))
    expected = answer(load(folders["llava"], adapter=adapter))[0]
    path = tmp_path / "adapter_model.safetensors"
    new, old = "model.language_model.", "language_model.model."
    save_file({name.replace(new, old): value for name, value in load_file(path).items()}, path)
    torch.testing.assert_close(answer(load(folders["llava"], adapter=adapter))[0], expected)


@torch.no_grad()
def test_the_merged_adapter_of_bundled_clips_is_that_of_peft():
    merged, stock = load("bundled-clips"), load("bundled-qwen")
    adapted = load("bundled-qwen", adapter=str(BUNDLED["bundled-clips"]))
    inputs = make_inputs(merged, [Image.new("RGB", (96, 96), "red")], ["what color is the object?"])
    own, other, before = (each.model(**inputs).logits[0, -1] for each in (merged, adapted, stock))
    assert torch.allclose(own, other, atol=1e-4)
    assert not torch.allclose(own, before, atol=0.1)
    with pytest.raises(InputError, match="leave quantize and device_map out"):
        load("bundled-clips", device_map="cpu")
