"""What trainers ask of a pruned model, without a trainer: a fused head's scores, and labels that are counted before."""

import dataclasses

import pytest
import torch
from transformers.models.llava.modeling_llava import LlavaCausalLMOutputWithPast

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError
from foveate.models import family_of, lookup


@dataclasses.dataclass
class ScoredOutput(LlavaCausalLMOutputWithPast):
    """What a trainer's own head returns beside the logits."""

    log_probs: torch.Tensor | None = None


@pytest.fixture
def model():
    return make_tiny_model(lookup.family("llava"))


@pytest.fixture
def inputs(model):
    batch = dict(make_batch(model, family_of(model), [(1, 6), (1, 4)]))
    left = batch["attention_mask"].flip(1).cumsum(1).flip(1)  # real tokens from here to the end
    is_answer = (left <= 3) & (batch["attention_mask"] == 1)
    return {**batch, "labels": torch.where(is_answer, batch["input_ids"], -100)}


def label_placeholders(model, inputs):
    """The same with labels on the placeholders too."""
    is_image = inputs["input_ids"] == model.config.image_token_id
    return {**inputs, "labels": torch.where(is_image, inputs["input_ids"], inputs["labels"])}


def score(logits, ids):
    """(b, L - 1): the log-probability of each next token."""
    return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def add_fused_head(model):
    """Let `fused_lm_head=True` add the scores of the sequence that the model reads, as a trainer's patch does."""
    stock = model.forward

    def forward(input_ids=None, fused_lm_head=False, **kwargs):
        output = stock(input_ids=input_ids, **kwargs)
        return ScoredOutput(**output, log_probs=score(output.logits, input_ids) if fused_lm_head else None)

    model.forward = forward


def test_scores_of_a_fused_head_stand_in_the_callers_columns(model, inputs):
    width, prompt = inputs["input_ids"].shape[1], {n: v for n, v in inputs.items() if n != "labels"}
    short = foveate.prune_inputs(model, inputs, keep=0.5)
    with torch.no_grad():
        expected = score(model(**short).logits, short["input_ids"])
        add_fused_head(model)
        with foveate.pruning(model, keep=0.5):
            scores = model(**inputs, fused_lm_head=True).log_probs
            plain = model(**inputs)
        stock = model(**prompt, fused_lm_head=True).log_probs
    assert scores.shape == stock.shape == (2, width - 1)
    for row, index in enumerate(short.layout.index):
        kept = index[1:] - 1
        assert torch.allclose(scores[row, kept], expected[row], atol=1e-5)
        assert not scores[row, ~torch.isin(torch.arange(width - 1), kept)].any()
    assert plain.log_probs is None
    assert plain.logits.shape[1] == short["input_ids"].shape[1]


@pytest.mark.parametrize("more", [{"num_items_in_batch": torch.tensor(6)}, {"fused_lm_head": True}])
def test_a_count_of_labels_with_placeholders_is_refused(model, inputs, more):
    model.train()
    add_fused_head(model)
    counted = {**label_placeholders(model, inputs), **more}
    with foveate.pruning(model, keep=0.5), pytest.raises(InputError, match="hold placeholders of images"):
        model(**counted)
    with foveate.pruning(model, keep=1.0):
        model(**counted)


def test_a_count_of_labels_without_placeholders_is_right(model, inputs):
    model.train()
    count = torch.tensor(6)
    with foveate.pruning(model, keep=0.5):
        loss = model(**inputs, num_items_in_batch=count).loss
        mean = model(**inputs).loss
    assert torch.allclose(loss, mean)


def test_a_fused_head_counts_nothing_outside_of_training(model, inputs):
    add_fused_head(model)
    with torch.no_grad(), foveate.pruning(model, keep=0.5):
        model(**label_placeholders(model, inputs), fused_lm_head=True)
