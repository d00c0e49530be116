"""The laws every method keeps, run over whatever is registered."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from extras import make_tokens, map_tensors
from foveate.errors import InputError
from foveate.method import Method, methods, resolve
from foveate.method.blind import make_blind
from foveate.method.registry import METHODS
from foveate.method.tokens import VisualTokens

WEIGHTS = ("cls_attention", "attention", "cross_attention")
NAMES = [row.name for row in methods() if row.prunes == "input"]
every_method = pytest.mark.parametrize("method", [resolve(name) for name in NAMES], ids=NAMES)


def tokens_of(n=40, d=24, m=5, seed=0, grid=None):
    generator = torch.Generator().manual_seed(seed)
    return make_tokens(torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator), grid)


def assert_sane(chosen, n, k):
    assert chosen.shape == (k,)
    assert chosen.dtype == torch.long
    assert not chosen.requires_grad
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert min(chosen) >= 0
    assert max(chosen) < n


@every_method
def test_exactly_k_distinct_ascending_deterministic(method):
    for seed, (n, k) in enumerate([(1, 1), (2, 1), (7, 3), (40, 1), (40, 13), (40, 40), (300, 30)]):
        chosen = method.select(tokens_of(n, seed=seed), k)
        assert_sane(chosen, n, k)
        assert method.select(tokens_of(n, seed=seed), k).tolist() == chosen.tolist()
        assert resolve(method.name).select(tokens_of(n, seed=seed), k).tolist() == chosen.tolist()


@every_method
def test_with_a_grid(method):
    for grid in [(1, 5, 8), (4, 5, 2), (1, 1, 40)]:
        assert_sane(method.select(tokens_of(grid=grid), 11), 40, 11)


@every_method
def test_permutation_equivariant_unless_spatial(method):
    if method.spatial:
        pytest.skip("declares itself spatial")
    for seed in range(20):
        tokens = tokens_of(seed=seed)
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        shuffled = method.select(make_tokens(tokens.embeds[order], tokens.question), 13)
        assert sorted(order[shuffled].tolist()) == method.select(tokens, 13).tolist()


@every_method
def test_permutation_of_the_question_changes_nothing(method):
    tokens = tokens_of()
    flipped = make_tokens(tokens.embeds, tokens.question.flip(0))
    assert method.select(flipped, 13).tolist() == method.select(tokens, 13).tolist()


@every_method
def test_the_question_matters_iff_prompt_aware(method):
    choices = set()
    for seed in range(10):
        question = tokens_of(seed=seed + 1).question
        choices.add(tuple(method.select(make_tokens(tokens_of().embeds, question), 13).tolist()))
    assert (len(choices) > 1) == method.prompt_aware


@every_method
@pytest.mark.parametrize("kind", ["same", "two", "zeros", "one zero", "narrow"])
def test_duplicate_and_degenerate_tokens(method, kind):
    tokens = tokens_of()
    rows = {
        "same": tokens.embeds[:1].repeat(40, 1),  # a blank page
        "two": tokens.embeds[:2].repeat(20, 1),
        "zeros": torch.zeros(40, 24),
        "one zero": torch.cat([torch.zeros(1, 24), tokens.embeds[1:]]),
        "narrow": tokens.embeds * (torch.arange(24) < 2),  # rank 2
    }[kind]
    for k in (1, 2, 3, 13, 39, 40):
        assert_sane(method.select(make_tokens(rows, tokens.question), k), 40, k)
        assert_sane(method.select(make_tokens(rows, tokens.question[:0]), k), 40, k)


@every_method
def test_a_second_copy_comes_after_every_new_direction(method):
    if method.spatial:
        pytest.skip("declares itself spatial")
    rows = torch.eye(24)[:10].repeat(3, 1)
    chosen = method.select(make_tokens(rows, torch.zeros(0, 24)), 10)
    assert chosen.tolist() == list(range(10))  # ties go to the lowest index


@every_method
def test_empty_and_flat_questions(method):
    tokens = tokens_of()
    for question in (tokens.question[:0], torch.zeros(3, 24)):
        for k in (1, 13, 40):
            assert_sane(method.select(make_tokens(tokens.embeds, question), k), 40, k)


@every_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_in_is_float32_inside(method, dtype):
    rounded = map_tensors(tokens_of(), lambda x: x.to(dtype))
    exact = map_tensors(rounded, torch.Tensor.float)
    assert method.select(rounded, 13).tolist() == method.select(exact, 13).tolist()


@every_method
def test_large_half_precision_values_do_not_overflow(method):
    tokens = tokens_of()
    shares = {name: getattr(tokens, name).half() for name in WEIGHTS}
    large = dataclasses.replace(map_tensors(tokens, lambda x: (x * 1e4).clamp(-6e4, 6e4).half()), **shares)
    assert_sane(method.select(large, 13), 40, 13)


@every_method
def test_scale_changes_nothing(method):
    tokens = tokens_of()
    large = map_tensors(tokens, lambda x: x * 64)
    shares = {name: getattr(tokens, name) for name in WEIGHTS}
    scaled = dataclasses.replace(large, question=tokens.question / 32, **shares)
    assert method.select(scaled, 13).tolist() == method.select(tokens, 13).tolist()


@every_method
def test_selected_is_never_returned(method):
    tokens = tokens_of()
    for selected in ([0], [3, 17, 39, 8], list(range(39, 9, -1))):
        for k in (1, 10 if len(selected) > 5 else 36):
            chosen = method.select(tokens, k, selected=selected)
            assert_sane(chosen, 40, k)
            assert not set(chosen.tolist()) & set(selected)
            assert method.select(tokens, k, selected=torch.tensor(selected)).tolist() == chosen.tolist()
            assert method.select(tokens, k, selected=sorted(selected)).tolist() == chosen.tolist()


@every_method
def test_selected_counts(method):
    if method.spatial or method.name == "lrcp" or method.needs == {"cross_attention"}:
        pytest.skip("knows no contents, or scores each token by itself")
    rows = torch.eye(24)[[0, 0, 1, 1, 2, 2]]
    chosen = method.select(make_tokens(rows, torch.zeros(0, 24)), 1, selected=[0, 2])
    assert chosen.tolist() == [4]


@every_method
def test_autocast_and_gradients_leave_the_choice_alone(method):
    tokens = tokens_of(300, 64)
    expected = method.select(tokens, 100).tolist()
    live = map_tensors(tokens, lambda x: x.clone().requires_grad_())
    with torch.autocast("cpu", torch.bfloat16):
        chosen = method.select(live, 100)
    assert_sane(chosen, 300, 100)
    assert chosen.tolist() == expected


@every_method
def test_the_default_device_does_not_matter(method):
    tokens = tokens_of(grid=(1, 5, 8))
    expected = method.select(tokens, 13).tolist()
    with torch.device("meta"):  # what is not made on the device of the inputs has no values
        kept = method.select(tokens, 13)
        weights, core = method.merge_weights(tokens, kept), method.core_mask(tokens, kept)
    assert kept.tolist() == expected
    assert weights is None or weights.device.type == "cpu"
    assert core.device.type == "cpu"


@every_method
def test_inputs_stay_as_they_are(method):
    tokens = tokens_of()
    before = map_tensors(tokens, torch.Tensor.clone)
    selected = torch.tensor([5, 2])
    method.merge_weights(tokens, method.select(tokens, 13, selected=selected))
    for name in ("embeds", "question", "encoder", "keys", *WEIGHTS):
        assert torch.equal(getattr(tokens, name), getattr(before, name))
    assert selected.tolist() == [5, 2]


@every_method
def test_reads_the_extras_that_it_needs_and_no_others(method):
    tokens = tokens_of()
    expected = method.select(tokens, 13)
    needed = {name: getattr(tokens, name) for name in method.needs}
    bare = VisualTokens(tokens.embeds, tokens.question)
    assert torch.equal(method.select(dataclasses.replace(bare, **needed), 13), expected)
    for name in method.needs:
        lacking = dataclasses.replace(bare, **{**needed, name: None})
        with pytest.raises(InputError, match=f"without {name}: give it"):
            method.select(lacking, 13)
        with pytest.raises(InputError, match=f"without {name}: give it"):
            method.merge_weights(lacking, expected)


@every_method
def test_the_attention_of_the_tower_may_say_nothing(method):
    tokens = tokens_of()
    for attention in (torch.zeros(40), torch.full((40,), 1 / 40), torch.eye(40)[7]):
        for k in (1, 13, 40):
            heads = torch.stack([attention, attention.flip(0)], 1)
            flat = dataclasses.replace(tokens, cls_attention=attention, attention=attention, cross_attention=heads)
            assert_sane(method.select(flat, k), 40, k)


@every_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_kept_tokens_are_means_of_themselves_and_of_dropped_ones(method, dtype):
    tokens = map_tensors(tokens_of(), lambda x: x.to(dtype))
    for k in (1, 2, 7, 13, 39, 40):
        kept = method.select(tokens, k)
        with torch.autocast("cpu", torch.bfloat16):
            weights = method.merge_weights(tokens, kept)
        if weights is None:
            continue
        assert weights.shape == (k, 40)
        assert weights.dtype == torch.float32
        assert weights.min() >= 0
        torch.testing.assert_close(weights.sum(1), torch.ones(k))
        assert torch.equal(weights[:, kept] > 0, torch.eye(k, dtype=torch.bool))
        assert k < 40 or torch.equal(weights, torch.eye(40))
        assert torch.equal(method.merge_weights(tokens, kept), weights)


@every_method
def test_is_a_value(method):
    assert isinstance(method, Method)
    assert method == type(method)()
    assert hash(method) == hash(type(method)())
    assert method.name in NAMES
    assert METHODS.load(method.name) is type(method)
    with pytest.raises(AttributeError):
        method.core = 1  # frozen


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_method
def test_same_choice_on_a_gpu(method):
    for seed in range(20):
        tokens = tokens_of(300, 64, seed=seed)
        there = map_tensors(tokens, torch.Tensor.cuda)
        chosen = method.select(there, 60, selected=[7, 1])
        assert chosen.device.type == "cuda"
        assert chosen.tolist() == method.select(tokens, 60, selected=[7, 1]).tolist()


def test_methods_do_not_import_transformers():
    code = (
        "import sys, foveate.method as m; m.methods(); "
        "sys.exit(any(name.split('.')[0] == 'transformers' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def maps_of(method, *tokens):
    return [method.relevance_map(one) for one in tokens]


@every_method
def test_the_relevance_map_is_one_number_a_token(method):
    for seed, n in enumerate((1, 2, 40, 300)):
        tokens = tokens_of(n, seed=seed)
        scores = method.relevance_map(tokens)
        if scores is None:
            assert not method.prompt_aware
            assert "cls_attention" not in method.needs
            continue
        assert scores.shape == (n,)
        assert scores.dtype == torch.float32
        assert bool(scores.isfinite().all())
        live = map_tensors(tokens, lambda x: x.clone().requires_grad_())
        with torch.autocast("cpu", torch.bfloat16):
            again = method.relevance_map(live)
        assert not again.requires_grad
        assert torch.equal(again, scores)


@every_method
def test_the_relevance_map_belongs_to_what_a_token_is(method):
    tokens, order = tokens_of(grid=(1, 5, 8)), torch.randperm(40, generator=torch.Generator().manual_seed(3))
    shuffled = make_tokens(tokens.embeds[order], tokens.question)
    one, other = maps_of(method, tokens, shuffled)
    if one is not None:
        torch.testing.assert_close(other, one[order])
    bare = VisualTokens(tokens.embeds, tokens.question, **{name: getattr(tokens, name) for name in method.needs})
    (alone,) = maps_of(method, bare)
    assert (alone is None) == (one is None)
    assert one is None or torch.equal(alone, one)


@every_method
def test_the_relevance_map_follows_the_question_iff_prompt_aware(method):
    tokens = tokens_of()
    one, other = maps_of(method, tokens, make_tokens(tokens.embeds, tokens_of(seed=1).question))
    assert (one is not None and not torch.equal(one, other)) == method.prompt_aware


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [("foveate", "focus", 0), ("glance", "focus", 0), ("zspaprune", "core", 0), ("coin", "coverage", 1),
     ("coin", "saliency", 1)],
)  # fmt: skip
def test_settings_that_leave_the_question_out_make_a_method_that_does_not_read_it(name, setting, value):
    """Everything that asks for `prompt_aware` treats it as such: tiles, turns, caches, legends, tables."""
    method = dataclasses.replace(resolve(name), **{setting: value})
    test_the_question_matters_iff_prompt_aware(method)
    assert not method.prompt_aware
    assert make_blind(method) is None
    tokens = tokens_of()
    one, other = maps_of(method, tokens, make_tokens(tokens.embeds, tokens_of(seed=1).question))
    assert one is other is None or torch.equal(one, other)
    assert type(method).prompt_aware


@every_method
def test_what_the_map_puts_first_is_kept(method):
    """The map is the one that the method itself goes by: where all else is even, it keeps what is high there."""
    tokens = tokens_of()
    if method.prompt_aware:  # orthogonal tokens, of which the question names some
        tokens = make_tokens(torch.eye(40), torch.eye(40)[[7, 11, 30]])
    elif method.needs:
        peaks = torch.full((40,), 0.01)
        peaks[[7, 11, 30]] = 0.2
        alike = make_tokens(torch.eye(40), torch.zeros(0, 40))
        tokens = dataclasses.replace(alike, encoder=torch.eye(40), keys=torch.eye(40), cls_attention=peaks)
    scores = method.relevance_map(tokens)
    if scores is None:
        assert not method.core_mask(tokens, method.select(tokens, 4)).any()
        return
    assert sorted(scores.topk(3).indices.tolist()) == [7, 11, 30]
    kept = method.select(tokens, 6)
    assert len({7, 11, 30} & set(kept.tolist())) >= 2
    core = set(kept[method.core_mask(tokens, kept)].tolist())
    assert core & {7, 11, 30}


@every_method
def test_core_stands_beside_kept_and_is_more_relevant_than_the_rest_of_it(method):
    for seed in range(20):
        tokens = tokens_of(seed=seed, grid=(1, 5, 8))
        scores = method.relevance_map(tokens)
        for k in (1, 2, 13, 39, 40):
            kept = method.select(tokens, k)
            with torch.autocast("cpu", torch.bfloat16):
                core = method.core_mask(tokens, kept)
            assert core.shape == (k,)
            assert core.dtype == torch.bool
            if scores is None:
                assert not core.any()
            elif core.any() and not core.all():
                assert scores[kept[core]].min() >= scores[kept[~core]].max() - 1e-5  # a tie, below


@every_method
def test_core_is_permutation_equivariant_unless_spatial(method):
    if method.spatial:
        pytest.skip("declares itself spatial")
    for seed in range(10):
        tokens, order = tokens_of(seed=seed), torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        shuffled = make_tokens(tokens.embeds[order], tokens.question)
        kept, there = method.select(tokens, 13), method.select(shuffled, 13)
        core = kept[method.core_mask(tokens, kept)].tolist()
        assert sorted(order[there[method.core_mask(shuffled, there)]].tolist()) == core


@every_method
@pytest.mark.parametrize("kind", ["blank", "no question", "no attention"])
def test_where_the_map_says_nothing_there_is_no_core(method, kind):
    tokens = tokens_of()
    if kind == "blank":
        tokens = make_tokens(tokens.embeds[:1].repeat(40, 1), tokens.question)
        assert not method.core_mask(tokens, method.select(tokens, 13)).any() or method.needs
        return
    if kind == "no question":
        tokens = dataclasses.replace(tokens, question=tokens.question[:0])
    else:
        tokens = dataclasses.replace(tokens, cls_attention=torch.full((40,), 1 / 40))
    scores = method.relevance_map(tokens)
    flat = scores is None or float(scores.amax() - scores.amin()) == 0
    speaks = {"no question": method.needs or method.name == "coin", "no attention": method.prompt_aware}[kind]
    assert flat != bool(speaks)
    if flat and not method.needs:
        assert not method.core_mask(tokens, method.select(tokens, 13)).any()


@every_method
def test_explaining_reads_what_choosing_reads(method):
    tokens = tokens_of()
    kept = method.select(tokens, 13)
    before = map_tensors(tokens, torch.Tensor.clone)
    method.core_mask(tokens, kept)
    for name in ("embeds", "question", "encoder", "keys", *WEIGHTS):
        assert torch.equal(getattr(tokens, name), getattr(before, name))
    for name in method.needs:
        lacking = dataclasses.replace(tokens, **{name: None})
        with pytest.raises(InputError, match=f"without {name}: give it"):
            method.relevance_map(lacking)
        with pytest.raises(InputError, match=f"without {name}: give it"):
            method.core_mask(lacking, kept)
