"""A prompt that ends in an image keeps its last token: `generate` goes on from there."""

import pytest
import torch

import foveate
from foveate.conformance import laws
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.models import lookup
from foveate.pipeline import locate

pytestmark = pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning")


def end_in_image(model, rows=((1, 1),)):
    """A batch without the text after the last image of its first row, padded on the left."""
    inputs = make_batch(model, lookup.family("llava"), list(rows))
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    cut = ids.shape[1] - int((ids[0] == model.config.image_token_id).nonzero()[-1]) - 1
    for tensor, fill in ((ids, 0), (mask, 0)):
        tensor[0] = torch.cat([torch.full((cut,), fill), tensor[0, : ids.shape[1] - cut]])
    return inputs


@torch.no_grad()
def test_the_first_answer_is_that_of_the_masked_full_model(llava):
    inputs = end_in_image(llava)
    settings = {"max_new_tokens": 1, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    with foveate.pruning(llava, keep=3) as handle:
        answer = llava.generate(**inputs, **settings)
    (item,) = handle.report.items
    mask = inputs["attention_mask"].clone()
    mask[0, item.columns] = 0
    mask[0, item.columns[item.kept]] = 1
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    full = llava(**{**inputs, "attention_mask": mask}, position_ids=positions).logits[0, -1]
    assert (answer.logits[0][0] - full).abs().max() < 1e-5


def test_the_last_token_stays_beside_those_that_keep_counts(llava):
    (item,) = foveate.prune_inputs(llava, end_in_image(llava), keep=3).report.items
    assert len(item.kept) == 4
    assert item.kept[-1] == item.total - 1
    assert item.protected.nonzero().squeeze(1).tolist() == [item.total - 1]


def test_other_rows_have_no_protected_token(llava):
    first, second = foveate.prune_inputs(llava, end_in_image(llava, [(1, 1), (1, 6)]), keep=3).report.items
    assert [len(first.kept), len(second.kept)] == [4, 3]
    assert second.protected is None


def test_padding_behind_an_image_is_no_text(llava):
    inputs = end_in_image(llava)
    for name in ("input_ids", "attention_mask"):
        inputs[name] = torch.nn.functional.pad(inputs[name], (0, 2))
    (item,) = foveate.prune_inputs(llava, inputs, keep=3).report.items
    assert item.kept[-1] == item.total - 1


@pytest.mark.parametrize("per", ["image", "frame", "prompt"])
@pytest.mark.parametrize("method", ["foveate", "divprune", "prumerge"])
def test_with_every_budget_and_merged_tokens(llava, method, per):
    report = foveate.prune_inputs(llava, end_in_image(llava, [(2, 1)]), keep=0.25, method=method, per=per).report
    assert report.items[-1].kept[-1] == report.items[-1].total - 1
    assert report.items[0].protected is None


@torch.no_grad()
def test_a_law_notices_where_it_is_dropped(monkeypatch):
    family = lookup.family("llava")
    model = make_tiny_model(family)
    assert laws.compare_image_last(model, family) <= 1e-5
    monkeypatch.setattr(locate, "protect_last_tokens", lambda items, mask: items)
    assert laws.compare_image_last(model, family) >= 1
