"""Quantized weights, with the packages that quantize: `make test-load`."""

import importlib.util

import peft
import pytest
import torch
from PIL import Image

import foveate
from foveate.errors import ModelError
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load, quiet

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: make test-load")
pytest.importorskip("torchao", reason="torchao is not installed: make test-load")
MODELS = ("bundled", "bundled-qwen")


def answer(loaded, keep=0.3):
    inputs = make_inputs(loaded, [Image.radial_gradient("L").resize((160, 160)).convert("RGB")], ["what color is it?"])
    with torch.no_grad(), quiet():
        short = foveate.prune_inputs(loaded.model, inputs, keep=keep)
        return loaded.model(**short).logits[:, -1].float(), generate_answers(loaded, short, 4)


@pytest.fixture
def without_bitsandbytes(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else real(name))


def count_bytes(loaded):
    return sum(p.numel() * p.element_size() for p in loaded.model.model.language_model.layers.parameters())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("quantize", "smaller", "error"), [("8bit", 3.5, 0.05), ("4bit", 6.5, 0.5)])
def test_bitsandbytes(name, quantize, smaller, error):
    loaded, plain = load(name, quantize=quantize), load(name)
    layer = loaded.model.model.language_model.layers[0].mlp.up_proj
    assert type(layer).__module__.startswith("bitsandbytes")
    assert count_bytes(plain) > smaller * count_bytes(loaded)
    (logits, answers), (expected, _) = answer(loaded), answer(plain)
    assert ((logits - expected).norm() / expected.norm()).item() < error
    assert all(answers)


@pytest.mark.parametrize("name", MODELS)
def test_torchao(name, without_bitsandbytes):
    loaded, plain = load(name, quantize="8bit"), load(name)
    assert type(loaded.model.model.language_model.layers[0].mlp.up_proj.weight).__module__.startswith("torchao")
    (logits, answers), (expected, _) = answer(loaded), answer(plain)
    assert ((logits - expected).norm() / expected.norm()).item() < 0.05
    assert all(answers)


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
@pytest.mark.parametrize("options", [{"device_map": "auto"}, {"device_map": {"": "cpu"}}, {"dtype": "bfloat16"}])
def test_beside_other_options(quantize, options):
    loaded = load("bundled", quantize=quantize, **options)
    assert loaded.model.is_quantized
    assert loaded.model.dtype == (torch.bfloat16 if "dtype" in options else torch.float32)
    assert torch.isfinite(answer(loaded)[0]).all()


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_attach_to_a_quantized_model(quantize):
    loaded = load("bundled", quantize=quantize)
    expected = answer(loaded)[1]
    inputs = make_inputs(loaded, [Image.radial_gradient("L").resize((160, 160)).convert("RGB")], ["what color is it?"])
    with foveate.pruning(loaded.model, keep=0.3):
        assert generate_answers(loaded, inputs, 4) == expected


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_an_adapter_on_quantized_weights(quantize, tmp_path):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, target_modules=r".*language_model.*(q_proj|down_proj)", init_lora_weights=False)
    wrapped = peft.get_peft_model(load("bundled").model, config)
    wrapped.save_pretrained(tmp_path)
    quantized = load("bundled", quantize=quantize, adapter=str(tmp_path))
    by_peft = peft.PeftModel.from_pretrained(load("bundled", quantize=quantize).model, str(tmp_path))
    ids = torch.arange(5, 25)[None]
    with torch.no_grad(), quiet():
        logits, expected, exact = (
            each(input_ids=ids).logits
            for each in (quantized.model, by_peft, load("bundled", adapter=str(tmp_path)).model)
        )
    torch.testing.assert_close(logits, expected)
    assert (logits - exact).norm() / exact.norm() < (0.05 if quantize == "8bit" else 0.5)
    assert all(answer(quantized)[1])


def test_a_saved_quantized_model(tmp_path):
    """It says itself that it is quantized; a second time is refused."""
    loaded = load("bundled", quantize="8bit")
    loaded.model.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    again = load(str(tmp_path))
    assert again.model.is_quantized
    torch.testing.assert_close(answer(again)[0], answer(loaded)[0], rtol=1e-2, atol=1e-2)


def test_a_quantizer_that_fails_here(monkeypatch):
    """torchao's four bits need an accelerator; transformers says so with a report, and the error is a sentence."""
    import torchao.quantization
    import transformers

    four_bits = transformers.TorchAoConfig(torchao.quantization.Int4WeightOnlyConfig(group_size=32))
    if torch.cuda.is_available():
        assert load("bundled", quantization_config=four_bits, dtype="bfloat16").model.is_quantized
        return
    with quiet(), pytest.raises(ModelError, match=r"cannot be quantized here: "):
        load("bundled", quantization_config=four_bits, dtype="bfloat16")
