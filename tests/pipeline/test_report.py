"""Pruned inputs go wherever the inputs of a processor go: the oracle is transformers' own `BatchFeature`."""

import copy
import pickle
from base64 import b64decode
from io import BytesIO
from xml.etree.ElementTree import fromstring

import pytest
import torch
from accelerate.utils import send_to_device
from PIL import Image
from transformers import BatchFeature, Trainer, TrainingArguments

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError
from foveate.models import lookup
from foveate.pipeline.report import PrunedInputs, Report


def list_tensors(value):
    """All tensors in a value, whatever holds them."""
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if hasattr(value, "values") else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in list_tensors(part)]


@torch.no_grad()
def make_short(name="llava"):
    family = lookup.family(name)
    model = make_tiny_model(family)
    return model, foveate.prune_inputs(model, make_batch(model, family, [(2, 5), (1, 7)]), keep=3)


def make_features(short):
    """The same values in transformers' own class."""
    return BatchFeature({name: value for name, value in short.items() if isinstance(value, torch.Tensor)})


@pytest.mark.parametrize("target", [("meta",), (torch.bfloat16,), ("meta", torch.float16), (torch.device("cpu"),)])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "florence2"])
def test_inputs_are_moved_and_cast_as_those_of_a_processor(name, target):
    _, short = make_short(name)
    features, before = make_features(short).to(*target), len(list_tensors(short.data))
    report = short.report
    assert short.to(*target) is short
    assert short.report is report
    for name, value in features.items():
        assert (short[name].device, short[name].dtype) == (value.device, value.dtype)
    tensors = list_tensors(short.data)
    assert len(tensors) == before > len(features)
    assert len({tensor.device.type for tensor in tensors}) == 1
    assert len({tensor.dtype for tensor in tensors if tensor.is_floating_point()}) == 1


def test_moved_inputs_still_answer():
    model, short = make_short()
    alone = model(**short).logits
    again = model.to(torch.float64)(**short.to(dtype=torch.float64)).logits
    assert again.dtype == torch.float64
    assert (again - alone).abs().max() < 1e-4


def test_ids_are_not_cast():
    _, short = make_short()
    with pytest.raises(InputError, match=r"torch.int32 is no data type of floating point"):
        short.to(torch.int32)


def test_values_are_attributes():
    _, short = make_short()
    assert short.input_ids is short["input_ids"]
    assert getattr(short, "nothing", None) is None
    with pytest.raises(AttributeError, match="'PrunedInputs' object has no attribute 'nothing'"):
        _ = short.nothing


def test_inputs_are_joined_with_others():
    _, short = make_short()
    labels = torch.ones(2, 2)
    for joined in (short | {"labels": labels}, {"labels": labels} | short, short | BatchFeature({"labels": labels})):
        assert isinstance(joined, PrunedInputs)
        assert joined.labels is labels
        assert joined.input_ids is short.input_ids
        assert joined.report is short.report
        assert joined.layout is short.layout
        assert "labels" not in short
    assert (short | {"input_ids": labels}).input_ids is labels
    assert ({"input_ids": labels} | short).input_ids is short.input_ids
    joined = short
    joined |= {"labels": labels}
    assert joined is short
    assert short.labels is labels
    with pytest.raises(TypeError):
        short | 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda short: pickle.loads(pickle.dumps(short))])
def test_copies_answer_alike(copied):
    model, short = make_short()
    again = copied(short)
    assert isinstance(again, PrunedInputs)
    assert again is not short
    assert str(again.report) == str(short.report)
    assert torch.equal(model(**again).logits, model(**short).logits)


def test_accelerate_and_trainers_move_inputs(tmp_path):
    model, short = make_short()
    alone = model(**short).logits
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    moved = Trainer(model, arguments)._prepare_inputs(short)
    assert isinstance(moved, PrunedInputs)
    assert torch.equal(model(**moved).logits, alone)
    assert moved.report.notes == ("These inputs were rebuilt from a mapping, without their report.",)
    assert send_to_device(short, "cpu").report is short.report


def test_whatever_a_family_hands_to_its_model_is_moved(model, family):
    short = foveate.prune_inputs(model, make_batch(model, family, [(2, 5), (1, 7)]), keep=3)
    assert {tensor.device.type for tensor in list_tensors(short.to("meta").data)} == {"meta"}


def test_a_report_is_short_to_print_and_a_picture_in_a_notebook():
    _, short = make_short()
    report = short.report
    assert repr(report) == f"<Report {report}>"
    assert "in row 1: 3 of 16 tokens kept>" in repr(report.items[-1])
    assert repr(short).startswith("<PrunedInputs input_ids (2, ")
    assert max(len(repr(each)) for each in (report, short, *report.items)) < 300
    with Image.open(BytesIO(report._repr_png_())) as picture:
        colors = {color: count for count, color in picture.convert("RGB").getcolors()}
    cells = {color: count // 49 for color, count in colors.items() if color != (255, 255, 255)}  # of 7 x 7 pixels
    assert sorted(cells.values()) == [report.kept_count, report.total_count - report.kept_count]
    page = fromstring(report._repr_html_())
    assert [cell.text for cell in page.iter("b")][1:3] == ["9 of 48", "18.8%"]
    assert b64decode(page.find("img").get("src").split(",")[1]) == report._repr_png_()


def test_notes_are_text_in_a_notebook():
    report = Report((), "grid", 0.5, ("a <b>note</b>",))
    assert report._repr_png_() is None
    page = fromstring(report._repr_html_())
    assert [line.text for line in page.iter("p")][-1] == "a <b>note</b>"
    assert page.find("img") is None


@pytest.mark.parametrize("method", ["grid", foveate.FastV(layer=1)])
def test_a_handle_shows_the_report_of_the_last_call(method):
    family = lookup.family("llava")
    model = make_tiny_model(family)
    with foveate.pruning(model, keep=3, method=method) as handle:
        assert repr(handle) == f"<{type(handle).__name__}: no call yet>"
        assert handle.last_report is None
        with pytest.raises(InputError, match="No call was pruned yet"):
            _ = handle.report
        assert handle._repr_html_() is None is handle._repr_png_()
        model.generate(**make_batch(model, family, [(1, 5)]), max_new_tokens=1)
        assert repr(handle) == f"<{type(handle).__name__}: {handle.report}>"
        assert handle._repr_html_() == handle.report._repr_html_()
        assert handle._repr_png_() == handle.report._repr_png_() is not None
