"""`keep` as a list or a range, and what trainers count."""

import pytest
import torch
import transformers

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import FoveateError, InputError, KeepError
from foveate.models import family_of, lookup


@pytest.fixture
def inputs(llava):
    return make_batch(llava, family_of(llava), [(1, 5)])


def kept(model, handle, inputs, grad=True):
    with torch.set_grad_enabled(grad):
        model(**inputs)
    return len(handle.report.items[0].kept)


def draw(model, inputs, count=12, **options):
    model.train()
    with foveate.pruning(model, **options) as handle:
        return [kept(model, handle, inputs) for _ in range(count)]


def test_a_list_is_drawn_from_by_a_seed(llava, inputs):
    first = draw(llava, inputs, keep=[2, 4, 9])
    assert set(first) == {2, 4, 9}
    assert draw(llava, inputs, keep=[2, 4, 9]) == first
    assert draw(llava, inputs, keep=[2, 4, 9], seed=1) != first


def test_a_range_has_all_between_its_ends(llava, inputs):
    assert set(draw(llava, inputs, 40, keep=(2, 5))) == {2, 3, 4, 5}
    assert set(draw(llava, inputs, 40, keep=range(2, 5))) == {2, 3, 4}
    shares = draw(llava, inputs, 40, keep=(0.1, 0.5))
    assert min(shares) < 4 < max(shares) <= 8
    assert draw(llava, inputs, 3, keep=(4, 4)) == [4, 4, 4]


def test_only_a_gradient_in_training_draws(llava, inputs):
    """A reference model reads what was trained on, and evaluation is at the first budget."""
    with foveate.pruning(llava, keep=[3, 5, 7, 9], seed=2) as handle:
        llava.train()
        for _ in range(5):
            trained = kept(llava, handle, inputs)
            assert kept(llava, handle, inputs, grad=False) == trained
        llava.eval()
        assert [kept(llava, handle, inputs) for _ in range(3)] == [3, 3, 3]
        llava.generate(**inputs, max_new_tokens=1)
        assert len(handle.report.items[0].kept) == 3
        llava.train()
        with pytest.raises(InputError, match="generate needs one budget"):
            llava.generate(**inputs, max_new_tokens=1)


@pytest.mark.parametrize(
    ("keep", "match"),
    [
        ([], "keep is empty"), ((), "keep is empty"), ([2, 0], "keeps no token"), ([0.5, "2"], "is a str"),
        ((5, 2), "no range"),
        ((1, 2, 3), "no range"), ((0.1, 5), "no range"), ((0.1,), "no range"), (range(3), "keeps no token"),
        ([[1]], "is a list"), ([float("nan")], "not a share"),
    ],
)  # fmt: skip
def test_what_is_no_budget(llava, keep, match):
    with pytest.raises(KeepError, match=match):
        foveate.attach(llava, keep=keep)


@pytest.mark.parametrize("seed", ["0", 0.5, None, True])
def test_what_is_no_seed(llava, seed):
    with pytest.raises(InputError, match="is no int"):
        foveate.attach(llava, keep=[1, 2], seed=seed)


def test_other_entries_take_one_budget(llava, inputs):
    with pytest.raises(FoveateError, match="is a list"):
        foveate.prune_inputs(llava, inputs, keep=[1, 2])
    with pytest.raises(InputError, match="takes one budget"):
        foveate.attach(llava, keep=[1, 2], method="fastv")


# -- counts --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The labels cover")
def test_a_count_of_placeholders_is_refused(llava, inputs):
    labels = inputs["input_ids"]
    with foveate.pruning(llava, keep=4):
        with pytest.raises(InputError, match=r"labels hold placeholders .* a number that counts them"):
            llava(**inputs, labels=labels, num_items_in_batch=labels.numel() - 1)
        clean = labels.masked_fill(labels == llava.config.image_token_id, -100)
        count = int((clean[:, 1:] != -100).sum())
        by_count = llava(**inputs, labels=clean, num_items_in_batch=count).loss
        torch.testing.assert_close(by_count, llava(**inputs, labels=labels).loss)


def test_other_trainers_count_as_before(llava, inputs, tmp_path):
    args = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    labels = inputs["input_ids"]
    batch = {**inputs, "labels": labels}
    counts = {}
    for name, model in (("pruned", llava), ("other", make_tiny_model(lookup.family("llava")))):
        with foveate.pruning(llava, keep=4):
            trainer = transformers.Trainer(model, args)
            counts[name] = int(trainer._get_num_items_in_batch([dict(batch)], "cpu"))
    trainer = transformers.Trainer(torch.nn.Linear(1, 1), args)
    trainer.model_accepts_loss_kwargs = True
    assert int(trainer._get_num_items_in_batch([dict(batch)], "cpu")) >= labels.numel() - 1
    assert counts["other"] - counts["pruned"] == (labels == llava.config.image_token_id).sum()
    assert torch.equal(batch["labels"], labels)
