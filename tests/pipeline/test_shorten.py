"""Which logits of the shorter sequence are those that the caller wants."""

import numpy as np
import pytest
import torch

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError
from foveate.models import lookup
from foveate.models.sequence import lay_out
from foveate.models.visual_input import make_visual_input
from foveate.pipeline.shorten import map_logits, protect_last_tokens

# One row of six columns, of which columns 2 and 3 are dropped.
LAYOUT = lay_out(torch.ones(1, 6).long(), torch.tensor([[True, True, False, False, True, True]]))


@pytest.mark.parametrize("keep", [0, 1, 2, 6, 9])
def test_a_number_counts_from_the_end(keep):
    assert map_logits(keep, LAYOUT) == keep


@pytest.mark.parametrize("keep", [3, 5])
def test_a_number_that_reaches_dropped_columns_is_refused(keep):
    with pytest.raises(InputError, match="asks for columns of dropped visual tokens"):
        map_logits(keep, LAYOUT)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (torch.tensor([1, 4, 5]), [1, 2, 3]), (slice(4, 6), [2, 3]), ([0, 5], [0, 3]), ((5,), [3]), ((0, 5), [0, 3]),
        (range(4, 6), [2, 3]), (np.array([5, 0]), [3, 0]), (np.arange(6)[::-5], [3, 0]), (np.arange(6) > 3, [2, 3]),
    ],
)  # fmt: skip
def test_an_index_of_any_kind_selects_columns(keep, expected):
    assert map_logits(keep, LAYOUT).tolist() == expected


@pytest.mark.parametrize("keep", [(27,), range(26, 28), np.array([27]), np.arange(28) == 27])
def test_prompts_take_an_index_of_any_kind(keep):
    family = lookup.family("qwen2_5_vl")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(2, 6), (1, 4)])
    with torch.no_grad():
        short = foveate.prune_inputs(model, {**inputs, "logits_to_keep": keep}, keep=0.5)
        logits = model(**short).logits
    assert short["logits_to_keep"].tolist() == map_logits(keep, short.layout).tolist()
    assert logits.shape[1] == len(np.arange(28)[np.asarray(keep)])


def test_an_image_of_one_token_that_ends_the_prompt_keeps_it():
    one, two = (make_visual_input("image", 0, torch.tensor(at), 0, torch.ones(len(at), 2)) for at in ([5], [3, 4]))
    mask = torch.ones(1, 6).long()
    ended, other = protect_last_tokens([one, two], mask)
    assert ended.protected.tolist() == [True]
    assert other.protected is None


def test_the_range_of_words_is_named():
    family = lookup.family("qwen2_5_vl")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 4)])
    size = model.get_input_embeddings().num_embeddings
    inputs["input_ids"][0, -1] = size
    with pytest.raises(InputError, match=f"hold {size}, and this model's vocabulary is 0 to {size - 1}:"):
        foveate.prune_inputs(model, inputs, keep=0.5)
