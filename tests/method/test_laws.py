"""The laws every method keeps, run over whatever is registered."""

import subprocess
import sys

import pytest
import torch

from foveate.method import Method, methods, resolve
from foveate.registry import METHODS
from foveate.tokens import VisualTokens

NAMES = [row.name for row in methods() if row.prunes == "input"]
every_method = pytest.mark.parametrize("method", [resolve(name) for name in NAMES], ids=NAMES)


def tokens_of(n=40, d=24, m=5, seed=0, grid=None):
    generator = torch.Generator().manual_seed(seed)
    return VisualTokens(torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator), grid)


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
        shuffled = method.select(VisualTokens(tokens.embeds[order], tokens.question), 13)
        assert sorted(order[shuffled].tolist()) == method.select(tokens, 13).tolist()


@every_method
def test_permutation_of_the_question_changes_nothing(method):
    tokens = tokens_of()
    flipped = VisualTokens(tokens.embeds, tokens.question.flip(0))
    assert method.select(flipped, 13).tolist() == method.select(tokens, 13).tolist()


@every_method
def test_the_question_matters_iff_prompt_aware(method):
    choices = set()
    for seed in range(10):
        question = tokens_of(seed=seed + 1).question
        choices.add(tuple(method.select(VisualTokens(tokens_of().embeds, question), 13).tolist()))
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
        assert_sane(method.select(VisualTokens(rows, tokens.question), k), 40, k)
        assert_sane(method.select(VisualTokens(rows, tokens.question[:0]), k), 40, k)


@every_method
def test_a_second_copy_comes_after_every_new_direction(method):
    if method.spatial:
        pytest.skip("declares itself spatial")
    rows = torch.eye(24)[:10].repeat(3, 1)
    chosen = method.select(VisualTokens(rows, torch.zeros(0, 24)), 10)
    assert chosen.tolist() == list(range(10))  # ties go to the lowest index


@every_method
def test_empty_and_flat_questions(method):
    tokens = tokens_of()
    for question in (tokens.question[:0], torch.zeros(3, 24)):
        for k in (1, 13, 40):
            assert_sane(method.select(VisualTokens(tokens.embeds, question), k), 40, k)


@every_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_in_is_float32_inside(method, dtype):
    tokens = tokens_of()
    rounded = VisualTokens(tokens.embeds.to(dtype), tokens.question.to(dtype))
    exact = VisualTokens(rounded.embeds.float(), rounded.question.float())
    assert method.select(rounded, 13).tolist() == method.select(exact, 13).tolist()


@every_method
def test_large_half_precision_values_do_not_overflow(method):
    tokens = tokens_of()
    large = VisualTokens((tokens.embeds * 1e4).clamp(-6e4, 6e4).half(), (tokens.question * 1e4).clamp(-6e4, 6e4).half())
    assert_sane(method.select(large, 13), 40, 13)


@every_method
def test_scale_changes_nothing(method):
    tokens = tokens_of()
    scaled = VisualTokens(tokens.embeds * 64, tokens.question / 32)
    assert method.select(scaled, 13).tolist() == method.select(tokens, 13).tolist()


@every_method
def test_given_is_never_chosen_again(method):
    tokens = tokens_of()
    for given in ([0], [3, 17, 39, 8], list(range(39, 9, -1))):
        for k in (1, 10 if len(given) > 5 else 36):
            chosen = method.select(tokens, k, given=given)
            assert_sane(chosen, 40, k)
            assert not set(chosen.tolist()) & set(given)
            assert method.select(tokens, k, given=torch.tensor(given)).tolist() == chosen.tolist()
            assert method.select(tokens, k, given=sorted(given)).tolist() == chosen.tolist()


@every_method
def test_given_counts_as_selected(method):
    if method.spatial:
        pytest.skip("knows no contents")
    rows = torch.eye(24)[[0, 0, 1, 1, 2, 2]]
    chosen = method.select(VisualTokens(rows, torch.zeros(0, 24)), 1, given=[0, 2])
    assert chosen.tolist() == [4]


@every_method
def test_autocast_and_gradients_leave_the_choice_alone(method):
    tokens = tokens_of(300, 64)
    expected = method.select(tokens, 100).tolist()
    live = VisualTokens(tokens.embeds.clone().requires_grad_(), tokens.question.clone().requires_grad_())
    with torch.autocast("cpu", torch.bfloat16):
        chosen = method.select(live, 100)
    assert_sane(chosen, 300, 100)
    assert chosen.tolist() == expected


@every_method
def test_inputs_stay_as_they_are(method):
    tokens = tokens_of()
    before = tokens.embeds.clone(), tokens.question.clone()
    given = torch.tensor([5, 2])
    method.select(tokens, 13, given=given)
    assert torch.equal(tokens.embeds, before[0])
    assert torch.equal(tokens.question, before[1])
    assert given.tolist() == [5, 2]


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
        there = VisualTokens(tokens.embeds.cuda(), tokens.question.cuda())
        chosen = method.select(there, 60, given=[7, 1])
        assert chosen.device.type == "cuda"
        assert chosen.tolist() == method.select(tokens, 60, given=[7, 1]).tolist()


def test_methods_do_not_import_transformers():
    code = (
        "import sys, foveate.method as m; m.methods(); "
        "sys.exit(any(name.split('.')[0] == 'transformers' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
