"""Placeholders are no labels of a pruned prompt, and the first token of a prompt is none either."""

import pytest
import torch

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.models import lookup

pytestmark = pytest.mark.filterwarnings("ignore:The labels cover", "ignore:This model's tokens")


def label_all(inputs):
    return inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl", "qwen3_vl", "idefics3", "gemma3", "internvl", "molmo2"])
@pytest.mark.parametrize("rows", [[(1, 5)], [(2, 5), (1, 7)], [(1, 4), (0, 6)]])
def test_placeholders_are_no_labels(model_type, rows):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, rows)
    before = inputs["input_ids"].clone()
    short = foveate.prune_inputs(model, {**inputs, "labels": label_all(inputs)}, keep=0.5)
    placeholders = family.placeholders(model.config, short)
    assert placeholders.any()
    assert (short["labels"][placeholders] == -100).all()
    is_text = ~family.placeholders(model.config, inputs) & inputs["attention_mask"].bool()
    is_text[:, 0] = False  # it is never predicted
    targets = short["labels"][:, 1:]
    assert targets[targets != -100].tolist() == before[is_text].tolist()


def test_keep_all_leaves_the_labels(model, family):
    inputs = make_batch(model, family, [(1, 5)])
    labels = label_all(inputs)
    assert torch.equal(foveate.prune_inputs(model, {**inputs, "labels": labels}, keep=1.0)["labels"], labels)
    short = foveate.prune_inputs(model, {**inputs, "labels": labels}, keep=0.999)
    assert (short["labels"] == -100).any()


def test_the_callers_labels_stay(model, family):
    inputs = make_batch(model, family, [(1, 5)])
    labels = label_all(inputs)
    copy = labels.clone()
    foveate.prune_inputs(model, {**inputs, "labels": labels}, keep=2)
    assert torch.equal(labels, copy)


def test_a_row_that_moved_to_the_right_has_no_label_more(model, family):
    """Rows that keep different numbers are padded on the left, and nothing predicts a token behind padding."""
    inputs = make_batch(model, family, [(3, 5), (1, 5)])
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    lengths = mask.sum(1)
    for row, length in enumerate(lengths.tolist()):  # padded on the right, as trainers do
        real = ids[row, mask[row].bool()]
        ids[row], mask[row] = 7, 0
        ids[row, :length], mask[row, :length] = real, 1
        for name in ("mm_token_type_ids",):
            if name in inputs:
                inputs[name] = family.token_types(model.config, inputs)
    labels = label_all(inputs)
    short = foveate.prune_inputs(model, {**inputs, "labels": labels}, keep=2)
    assert (short["attention_mask"][1] == 0).any()
    counted = (short["labels"][:, 1:] != -100).sum()
    is_text = (labels != -100) & ~family.placeholders(model.config, inputs)
    assert counted == is_text[:, 1:].sum()
