"""The laws of in-decoder pruning, on every family."""

import copy

import pytest
import torch
from transformers import DynamicCache

import foveate
from caches import with_cache
from compare import close
from decoder_reference import deep_model, eager_twin, slow
from foveate import FastV, PyramidDrop, SparseVLM
from foveate.conformance.batches import make_batch, take_row
from foveate.models.cache import cache_of

METHODS = [FastV(layer=1), FastV(), PyramidDrop(), SparseVLM()]
every_method = pytest.mark.parametrize("method", METHODS, ids=["fastv1", "fastv", "pyramiddrop", "sparsevlm"])
ROWS = [(2, 5), (1, 9), (0, 4), (3, 3)]
STEPS = 4
NEW = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False, "return_dict_in_generate": True}
pytestmark = [pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning"), pytest.mark.usefixtures("no_grad")]


@pytest.fixture(params=["sdpa", "eager"])
def model(family, request):
    return deep_model(family, attention=request.param)


def stage_lists(report):
    return {stage.layer: [kept.tolist() for kept in stage.kept] for stage in report.stages}


@every_method
def test_keep_all_is_the_untouched_model(model, family, method):
    inputs = make_batch(model, family, ROWS)
    stock, real = model(**inputs).logits, inputs["attention_mask"].bool()
    with foveate.pruning(model, keep=1.0, method=method) as handle:
        close(model(**inputs).logits[real], stock[real])
    assert set(handle.report.visual_tokens) == {handle.report.total_count}
    assert handle.report.mean_share == 1.0


@every_method
@pytest.mark.parametrize("keep", [0.3, 2])
def test_pruned_is_the_reference(model, family, method, keep):
    """The same choice, and the same logits as the stock layers run one by one with the dropped tokens masked."""
    inputs = make_batch(model, family, ROWS)
    expected, stages, stays = slow(eager_twin(model, family), family, method, inputs, keep)
    with foveate.pruning(model, keep=keep, method=method) as handle:
        found = model(**inputs).logits
    assert stage_lists(handle.report) == stages
    assert found.shape == expected.shape
    close(found[stays], expected[stays])
    assert [len(item.kept) for item in handle.report.items] == [
        foveate.method.budget.to_budget(keep, n) for n in (item.total for item in handle.report.items)
    ]


@every_method
def test_one_row_without_mask_and_without_cache(model, family, method):
    inputs = make_batch(model, family, [(2, 6)])
    expected, stages, stays = slow(eager_twin(model, family), family, method, inputs, 0.4)
    del inputs["attention_mask"]
    with foveate.pruning(model, keep=0.4, method=method) as handle:
        for use in (True, False):
            close(model(**inputs, use_cache=use).logits[stays], expected[stays])
    assert stage_lists(handle.report) == stages


@every_method
def test_a_right_padded_batch_is_each_row_alone(model, family, method):
    left = make_batch(model, family, [(2, 5), (1, 9)])
    shift = [int((row == 0).sum()) for row in left["attention_mask"]]
    names = [n for n in left if left[n].shape[:2] == left["input_ids"].shape]
    right = {**left, **{n: torch.stack([r.roll(-s) for r, s in zip(left[n], shift, strict=True)]) for n in names}}
    with foveate.pruning(model, keep=0.3, method=method) as handle:
        one, two = model(**left).logits, model(**right).logits
        stays = slow_stays(model, family, left, handle.report)
    for row, by in enumerate(shift):
        close(two[row].roll(by, 0)[stays[row]], one[row][stays[row]])


def slow_stays(model, family, inputs, report):
    stays, kept = inputs["attention_mask"].bool().clone(), iter((item.kept, item.total) for item in report.items)
    for row, ids in enumerate(inputs["input_ids"]):
        places = (ids == family.token_id(model.config)).nonzero().squeeze(1)
        while len(places):
            indices, total = next(kept)
            stays[row, places[:total]] = False
            stays[row, places[:total][indices]] = True
            places = places[total:]
    return stays


@every_method
def test_a_ragged_batch_is_each_row_alone(model, family, method):
    rows = [(2, 5), (1, 11), (1, 2), (0, 3)]
    inputs, shown = make_batch(model, family, rows), 0
    with foveate.pruning(model, keep=0.3, method=method) as handle:
        together = model.generate(**inputs, **NEW, output_logits=True)
        report = handle.report
        for row, (count, _) in enumerate(rows[:3]):
            mine = range(shown, shown + count)
            shown += count
            alone = model.generate(**take_row(model, family, inputs, row, mine), **NEW, output_logits=True)
            assert torch.equal(together.sequences[row, -STEPS:], alone.sequences[0, -STEPS:])
            for one, other in zip(together.logits, alone.logits, strict=True):
                close(one[row], other[0])
            for n, item in zip(mine, handle.report.items, strict=True):
                assert report.items[n].kept.tolist() == item.kept.tolist()


def recomputed(model, family, method, inputs, sequences, stages):
    """Logits of the generated tokens, without a cache, with the tokens dropped that `stages` say."""
    new = sequences[:, inputs["input_ids"].shape[1] : -1]
    whole = {**inputs, "input_ids": sequences[:, :-1]}
    whole["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(new)], dim=1)
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        whole["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(new).to(kinds)], dim=1)
    logits, _, _ = slow(eager_twin(model, family), family, method, whole, stages=stages)
    return logits[:, inputs["input_ids"].shape[1] - 1 :]


@every_method
@pytest.mark.parametrize("rows", [[(1, 5)], [(2, 5), (1, 3)]], ids=["one row", "batch"])
@pytest.mark.parametrize("sample", [False, True], ids=["greedy", "sampled"])
def test_cached_decoding_is_recomputation(model, family, method, rows, sample):
    inputs = make_batch(model, family, rows)
    given = inputs if len(rows) > 1 else {k: v for k, v in inputs.items() if k != "attention_mask"}
    torch.manual_seed(0)
    with foveate.pruning(model, keep=0.3, method=method) as handle:
        out = model.generate(**given, **{**NEW, "do_sample": sample}, output_logits=True)
    stages = {stage.layer: stage.kept for stage in handle.report.stages}
    expected = recomputed(model, family, method, inputs, out.sequences, stages)
    close(torch.stack(out.logits, 1), expected)
    assert torch.equal(out.sequences[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])


@every_method
def test_beams_score_what_recomputation_scores(model, family, method):
    """The cache is reordered among beams; each returned sequence must have the score it has alone."""
    inputs = make_batch(model, family, [(2, 5), (1, 3)])
    settings = {**NEW, "num_beams": 3, "num_return_sequences": 2, "output_scores": True, "length_penalty": 0.0}
    with foveate.pruning(model, keep=0.3, method=method) as handle:
        out = model.generate(**inputs, **settings)
    stages = handle.report.stages
    first = [0, 1, 6]  # three beams of row 0 with two images each, then three of row 1
    kept = {stage.layer: [stage.kept[n] for n in first] for stage in stages}
    for pick in range(2):
        sequences = out.sequences[pick::2]
        logits = recomputed(model, family, method, inputs, sequences, kept)
        new = sequences[:, -STEPS:, None]
        scores = logits.log_softmax(-1)
        scores = torch.where(torch.arange(scores.shape[-1]) == eos(model), -torch.inf, scores)
        close(scores.gather(2, new).sum((1, 2)), out.sequences_scores[pick::2])


def eos(model):
    return model.generation_config.eos_token_id


@every_method
@pytest.mark.parametrize("how", ["lookup", "assistant"])
def test_assisted_decoding_says_what_greedy_decoding_says(model, family, method, how):
    inputs = make_batch(model, family, [(1, 5)])
    inputs["input_ids"][0, -1] = inputs["input_ids"][0, -4]  # something to look up at once
    extra = {"prompt_lookup_num_tokens": 2} if how == "lookup" else {"assistant_model": copy.deepcopy(model)}
    settings = {**NEW, "max_new_tokens": 8, "min_new_tokens": 8}
    with foveate.pruning(model, keep=0.3, method=method) as handle:
        plain = model.generate(**inputs, **settings).sequences
        kept = stage_lists(handle.report)
        assert torch.equal(model.generate(**inputs, **settings, **extra).sequences, plain)
        assert stage_lists(handle.report) == kept


@every_method
def test_caches_are_as_long_as_reported(model, family, method):
    inputs = make_batch(model, family, [(2, 6)])
    text = inputs["input_ids"].shape[1] - sum(n for n in sizes(model, family, inputs))
    with foveate.pruning(model, keep=0.3, method=method) as handle:
        cache = cache_of(model(**inputs, use_cache=True))
    lengths = [layer.keys.shape[-2] for layer in cache.layers]
    assert lengths == [text + n for n in handle.report.visual_tokens]
    assert lengths[0] > lengths[-1]
    assert handle.report.mean_visual_tokens == sum(handle.report.visual_tokens) / len(lengths)


def sizes(model, family, inputs):
    return [len(f) for f in family.features(family.encode(model, inputs))]


def next_positions(model, family, inputs, count):
    """The stock model's own, where it goes on from a cache; several at once it cannot number by itself."""
    full = family.positions(model, inputs, inputs["attention_mask"])
    if full.ndim == 2:  # a plain forward call counts the padding
        return torch.arange(full.shape[1], full.shape[1] + count).expand(len(full), -1)
    return full[1:].amax((0, 2))[None, :, None].expand(3, -1, 1) + 1 + torch.arange(count)


@every_method
def test_several_tokens_at_once_after_the_prompt(model, family, method):
    """A turn of text behind a cached, pruned prompt, one token at a time or all at once."""
    inputs = make_batch(model, family, [(2, 5), (1, 3)])
    new = torch.randint(10, 200, (2, 3), generator=torch.Generator().manual_seed(1))
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(new)], 1)
    with foveate.pruning(model, keep=0.3, method=method) as handle:
        cache = cache_of(model(**inputs, use_cache=True))
        at = next_positions(model, family, inputs, 3)
        at_once = model(input_ids=new, attention_mask=mask, **with_cache(model, cache), position_ids=at).logits
        cache, single = cache_of(model(**inputs, use_cache=True)), []
        for step in range(3):
            seen = mask[:, : inputs["input_ids"].shape[1] + step + 1]
            one = {"input_ids": new[:, step : step + 1], "position_ids": at[..., step : step + 1]}
            single.append(model(**one, attention_mask=seen, **with_cache(model, cache)).logits)
        kept = {stage.layer: stage.kept for stage in handle.report.stages}
    close(at_once, torch.cat(single, 1))
    sequences = torch.cat([inputs["input_ids"], new, new[:, :1]], 1)
    close(at_once, recomputed(model, family, method, inputs, sequences, kept)[:, 1:])


@every_method
def test_scoring_an_answer_leaves_the_choice_to_the_prompt(model, family, method):
    inputs = make_batch(model, family, [(1, 8)])
    prompt = {k: v[:, :-2] if v.shape == inputs["input_ids"].shape else v for k, v in inputs.items()}
    with foveate.pruning(model, keep=0.3, method=method) as handle:
        first = model(**prompt).logits
        kept = stage_lists(handle.report)
        scored = model(**inputs, logits_to_keep=3).logits
        assert stage_lists(handle.report) == kept
    close(scored[:, 0], first[:, -1])


def test_text_only_is_untouched(model, family):
    inputs = make_batch(model, family, [(0, 6), (0, 3)])
    stock = model.generate(**inputs, **NEW, output_logits=True)
    with foveate.pruning(model, keep=0.3, method="fastv") as handle:
        out = model.generate(**inputs, **NEW, output_logits=True)
        assert handle.last_report is None
        cache = cache_of(model(**inputs, use_cache=True))
        model(input_ids=inputs["input_ids"][:, :1], **with_cache(model, cache))
    assert torch.equal(torch.stack(out.logits), torch.stack(stock.logits))


def test_a_cache_that_was_reset_is_a_new_one(model, family):
    images, text = make_batch(model, family, [(1, 6)]), make_batch(model, family, [(0, 6)])
    stock, cache = model(**text).logits, DynamicCache(config=model.config.get_text_config())
    with foveate.pruning(model, keep=0.3, method="pyramiddrop"):
        model(**images, **with_cache(model, cache))
        cache.reset()
        close(model(**text, **with_cache(model, cache)).logits, stock)
        model(input_ids=text["input_ids"][:, :1], **with_cache(model, cache))


@every_method
def test_half_precision(model, family, method):
    inputs = make_batch(model.to(torch.bfloat16), family, [(2, 5), (1, 3)])
    with foveate.pruning(model, keep=0.3, method=method):
        assert torch.isfinite(model(**inputs).logits).all()
        model.generate(**inputs, **NEW)


@every_method
def test_gradients_flow(model, family, method):
    inputs = make_batch(model, family, [(1, 5)])
    with torch.enable_grad(), foveate.pruning(model, keep=0.3, method=method):
        model(**inputs).logits[:, -1].square().sum().backward()
    grads = [p.grad for p in model.base_model.language_model.layers.parameters()]
    assert all(torch.isfinite(g).all() and bool(g.any()) for g in grads if g is not None)


def test_pruned_inputs_may_be_pruned_further(model, family):
    """`prune_inputs` first, and what it left goes on under an in-decoder method."""
    inputs = make_batch(model, family, [(2, 5), (1, 9)])
    short = foveate.prune_inputs(model, inputs, keep=0.6)
    stock = model(**short).logits
    real = short["attention_mask"].bool()
    with foveate.pruning(model, keep=1.0, method="fastv"):
        close(model(**short).logits[real], stock[real])
    with foveate.pruning(model, keep=2, method="fastv") as handle:
        model.generate(**short, **NEW)
    assert [len(item.kept) for item in handle.report.items] == [2, 2]
