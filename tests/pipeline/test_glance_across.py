"""Tokens that words attend across to, chosen by that attention: masked oracle, labels, notes, and who is refused."""

import pytest
import torch

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.reference import logits_at, relative_error, run_reference
from foveate.errors import InputError, ModelError
from foveate.models import lookup
from foveate.models.cross import CrossAttention
from foveate.pipeline.question import NO_SHARED_SPACE
from foveate.runtime.turns import check_turns
from reference import Margin, trimmed_llama

pytestmark = pytest.mark.usefixtures("no_grad")

FAMILIES = [name for name in lookup.available() if isinstance(lookup.family(name), CrossAttention)]
ROWS = [(2, 5), (1, 9), (0, 4), (3, 3)]
METHOD = "trimmed_llama"


@pytest.fixture(params=FAMILIES)
def family(request):
    return lookup.family(request.param)


@pytest.fixture
def model(family):
    return make_tiny_model(family)


def choices(short):
    return [item.kept.tolist() for item in short.report.items]


def test_pruned_is_the_full_model_with_the_dropped_tokens_masked(model, family):
    inputs = make_batch(model, family, ROWS)
    short = foveate.prune_inputs(model, inputs, keep=0.4, method=METHOD)
    reference = run_reference(model, family, inputs, short)
    assert relative_error(logits_at(model(**short).logits, short["attention_mask"].bool()), reference) <= 1e-5
    assert choices(short) != choices(foveate.prune_inputs(model, inputs, keep=0.4))


def test_the_choice_is_the_references(model, family):
    inputs = make_batch(model, family, ROWS)
    whole = dict(foveate.prune_inputs(model, inputs, keep=1.0))
    weights = family.read_words(model, inputs, family.encode(model, inputs), whole, inputs["attention_mask"].bool())
    short = foveate.prune_inputs(model, inputs, keep=0.4, method=METHOD)
    for item, own in zip(short.report.items, weights, strict=True):
        expected = trimmed_llama([None] * item.total, [], len(item.kept), [], Margin(), own.tolist())
        assert item.kept.tolist() == sorted(expected)


def test_another_question_keeps_other_tokens(model, family):
    inputs = make_batch(model, family, [(1, 9)])
    kept = set()
    for word in range(10, 30):
        other = {**inputs, "input_ids": inputs["input_ids"].clone()}
        other["input_ids"][:, -6:] = word
        kept.add(str(choices(foveate.prune_inputs(model, other, keep=3, method=METHOD))))
    assert len(kept) > 1


def test_an_answer_with_labels_is_not_read(model, family):
    inputs = make_batch(model, family, [(1, 9)])
    short = foveate.prune_inputs(model, inputs, keep=3, method=METHOD)
    longer = {
        name: torch.cat([value, value[:, -4:]], 1) if value.shape[:2] == inputs["input_ids"].shape else value
        for name, value in inputs.items()
    }
    longer["labels"] = longer["input_ids"].clone()
    longer["labels"][:, :-4] = -100
    answered = foveate.prune_inputs(model, longer, keep=3, method=METHOD)
    assert choices(answered) == choices(short)


def test_generate_and_explain(model, family):
    inputs = make_batch(model, family, [(1, 9)])
    settings = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    short = foveate.prune_inputs(model, inputs, keep=0.5, method=METHOD, explain=True)
    expected = model.generate(**short, **settings)
    with foveate.pruning(model, keep=0.5, method=METHOD) as handle:
        assert torch.equal(model.generate(**inputs, **settings), expected)
    assert choices(handle) == choices(short)
    (item,) = short.report.items
    assert item.core.any()
    assert item.relevance[item.kept].min() >= item.relevance.sort(descending=True).values[len(item.kept) - 1]


def test_no_note_says_that_the_choice_ignores_the_question(model, family):
    inputs = make_batch(model, family, [(1, 9)])
    model.foveate_warned = {NO_SHARED_SPACE}
    assert NO_SHARED_SPACE not in foveate.prune_inputs(model, inputs, keep=0.5, method=METHOD).report.notes
    assert NO_SHARED_SPACE in foveate.prune_inputs(model, inputs, keep=0.5).report.notes


def test_nothing_is_read_where_everything_is_kept(model, family, monkeypatch):
    def refuse(*_):
        raise AssertionError("The layers ran.")

    inputs = make_batch(model, family, [(1, 9)])
    monkeypatch.setattr("foveate.models.cross.read_cross_attention", refuse)
    foveate.prune_inputs(model, inputs, keep=1.0, method=METHOD)
    with pytest.raises(AssertionError, match="The layers ran"):
        foveate.prune_inputs(model, inputs, keep=0.5, method=METHOD)


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl", "florence2", "blip-2"])
def test_models_that_do_not_attend_across_are_refused(model_type):
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    with pytest.raises(ModelError, match=rf"own, which {model_type} models lack: use one of .*foveate"):
        foveate.prune_inputs(model, make_batch(model, family, [(1, 5)]), keep=0.5, method=METHOD)


def test_what_is_chosen_of_the_picture_alone_is_refused():
    with pytest.raises(InputError, match='reads the question inside the model, and turns="picture" chooses without'):
        check_turns("picture", 0.5, METHOD, "original", None)


def test_glance_is_still_refused(model, family):
    with pytest.raises(ModelError, match=r"the two are not in one sequence: use one of .*trimmed_llama"):
        foveate.prune_inputs(model, make_batch(model, family, [(1, 5)]), keep=0.5, method="glance")
