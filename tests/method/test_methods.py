"""Each method against its slow reference, index by index, and what its own hyper-parameters do."""

import math
import random

import pytest
import torch

from foveate.errors import FoveateError, FoveateWarning, InputError, KeepError, UnknownMethodError
from foveate.method import Method, methods, resolve, select
from foveate.method.cdpruner import CDPruner
from foveate.method.divprune import DivPrune
from foveate.method.grid import Grid
from foveate.method.mmtok import MMTok
from foveate.method.random import Random
from foveate.method.zspaprune import ZSPAPrune
from foveate.tokens import VisualTokens
from reference import REFERENCES, Margin

# A candidate this near to the border of a tie, as a share of the tie's width, is within the rounding of float32.
TIGHT = 0.3


def random_case(seed):
    """n 1..60, d 2..32, m 0..8, any float type; duplicates, a row of zeros and given tokens in some."""
    rng, torch_rng = random.Random(seed), torch.Generator().manual_seed(seed)
    n, d, m = rng.randint(1, 60), rng.choice([2, 3, 4, 8, 16, 32]), rng.randint(0, 8)
    dtype = rng.choice([torch.float32, torch.float16, torch.bfloat16])
    embeds, question = torch.randn(n, d, generator=torch_rng), torch.randn(m, d, generator=torch_rng)
    if rng.random() < 0.4:
        embeds = embeds[torch.randint(0, max(1, n // 2), (n,), generator=torch_rng)]
    if rng.random() < 0.15:
        embeds[rng.randrange(n)] = 0
    given = rng.sample(range(n), rng.randint(0, min(6, n - 1))) if rng.random() < 0.4 else []
    return VisualTokens(embeds.to(dtype), question.to(dtype)), rng.randint(1, n - len(given)), given


@pytest.mark.parametrize(
    ("method", "options", "cases"),
    [
        (ZSPAPrune(), {}, 200),
        (ZSPAPrune(core=0.3, relevance="word_mean"), {"tenths": 3, "kind": "word_mean"}, 100),
        (ZSPAPrune(core=0.9, relevance="word_max"), {"tenths": 9, "kind": "word_max"}, 100),
        (DivPrune(), {}, 200),
        (CDPruner(), {}, 200),
        (MMTok(), {}, 200),
        (MMTok(alpha=2.0, tau_v=0.5, tau_t=0.1), {"alpha": 2.0, "tau_v": 0.5, "tau_t": 0.1}, 100),
    ],
    ids=lambda value: repr(value) if isinstance(value, Method) else "",
)
def test_agrees_with_the_reference_index_by_index(method, options, cases):
    luck = []
    for seed in range(cases):
        tokens, k, given = random_case(seed)
        margin = Margin()
        v, e = tokens.embeds.double().tolist(), tokens.question.double().tolist()
        expected = sorted(REFERENCES[method.name](v, e, k, given, margin, **options))
        if method.select(tokens, k, given=given).tolist() != expected:
            # Two candidates so close to the border of a tie that float32 cannot tell on which side they are.
            assert margin.closest < TIGHT, f"seed {seed}: {tuple(tokens.embeds.shape)}, k={k}, given={given}"
            luck.append(seed)
    assert len(luck) <= cases // 100, f"too many disagreements put down to rounding: seeds {luck}"


def tokens_of(rows, question=(), grid=None):
    embeds = torch.tensor(rows, dtype=torch.float32)
    return VisualTokens(embeds, torch.tensor(question, dtype=torch.float32).reshape(-1, embeds.shape[1]), grid)


def angles(*degrees):
    return [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in degrees]


def test_zspaprune_takes_the_core_and_then_its_complement():
    tokens = tokens_of(angles(0, 2, 4, 60, 90, 200), angles(0))
    # floor(0.6 * 4) = 2 at 0 and 2 degrees; then 200 (158 from the nearest kept), then 90.
    assert ZSPAPrune().select(tokens, 4).tolist() == [0, 1, 4, 5]
    assert ZSPAPrune(core=1.0).select(tokens, 4).tolist() == [0, 1, 2, 3]
    assert ZSPAPrune(core=0.0).select(tokens, 4).tolist() == DivPrune().select(tokens, 4).tolist()


@pytest.mark.parametrize(
    ("core", "k", "size"),
    [
        (0.6, 5, 3),
        (0.6, 4, 2),
        (0.6, 2, 1),
        (0.6, 58, 34),
        (0.58, 50, 29),
        (0.29, 100, 29),
        (0.999, 100, 99),
        (1, 7, 7),
    ],
)
def test_zspaprune_core_is_the_floor_of_the_share_that_was_typed(core, k, size):
    # In binary 0.58 * 50 is 28.999999999999996. 100 copies point where the question does, so that only the core takes
    # a second one; the others are mutually orthogonal and at right angles to it.
    rows = torch.cat([torch.eye(101)[:1].repeat(100, 1), torch.eye(101)[1:]])
    chosen = ZSPAPrune(core=core).select(VisualTokens(rows, rows[:1]), k)
    assert int((chosen < 100).sum()) == size


def test_zspaprune_without_a_pointing_question_is_divprune():
    embeds = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    embeds[:, 0] = 0
    nowhere = torch.eye(8)[:1]  # at right angles to every token: a flat map
    for question in (embeds[:0], nowhere, torch.zeros(3, 8), torch.cat([nowhere, -nowhere])):
        tokens = VisualTokens(embeds, question)
        assert ZSPAPrune().select(tokens, 9).tolist() == DivPrune().select(tokens, 9).tolist()


def test_zspaprune_relevances_differ():
    tokens = tokens_of([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.7, 0.7, 0]], [[9, 1, 0], [0, 1, 1], [0, 1, 0.2]])
    chosen = {
        kind: ZSPAPrune(core=1.0, relevance=kind).select(tokens, 1).item()
        for kind in ("pooled", "word_mean", "word_max")
    }
    assert chosen == {"pooled": 0, "word_mean": 3, "word_max": 0}


def test_divprune_starts_from_the_most_isolated_token():
    tokens = tokens_of(angles(0, 5, 120, 240, 243, 250))
    assert DivPrune().select(tokens, 1).tolist() == [2]
    assert DivPrune().select(tokens, 2).tolist() == [2, 5]  # 250 is 130 from 120
    assert DivPrune().select(tokens, 3).tolist() == [1, 2, 5]  # 5 is 115 from both


def test_cdpruner_prefers_the_relevant_and_shuns_the_duplicate():
    tokens = tokens_of(angles(0, 0, 30, 90), angles(0))
    assert CDPruner().select(tokens, 1).tolist() == [0]
    assert CDPruner().select(tokens, 2).tolist() == [0, 2]  # not 1, the duplicate, though it is as relevant
    assert CDPruner().select(tokens, 3).tolist() == [0, 1, 2]  # two directions are spent; then by relevance


def test_cdpruner_all_but_bars_the_least_relevant():
    # The least relevant weighs 1e-6: even a token 0.3 degrees from the first adds more volume.
    assert CDPruner().select(tokens_of(angles(0, 0.3, 90), angles(0)), 2).tolist() == [0, 1]


def test_cdpruner_with_a_flat_question_is_diversity_alone():
    embeds = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    empty = CDPruner().select(VisualTokens(embeds, embeds[:0]), 8)
    assert CDPruner().select(VisualTokens(embeds, torch.zeros(2, 8)), 8).tolist() == empty.tolist()


def test_mmtok_covers_words_when_the_picture_weighs_nothing():
    tokens = tokens_of([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], [[1, 0, 0], [0, 1, 0]])
    assert MMTok(alpha=0.0).select(tokens, 2).tolist() == [0, 1]


def test_random_depends_on_the_seed_and_leaves_the_global_state_alone():
    tokens = VisualTokens(torch.randn(40, 4), torch.zeros(0, 4))
    state = torch.get_rng_state()
    choices = {tuple(Random(seed=seed).select(tokens, 10).tolist()) for seed in range(20)}
    assert len(choices) == 20
    assert torch.equal(state, torch.get_rng_state())
    assert set(Random().select(tokens, 10).tolist()) < set(Random().select(tokens, 20).tolist())


def test_random_is_uniform():
    tokens = VisualTokens(torch.ones(6, 2), torch.zeros(0, 2))
    counts = torch.zeros(6)
    for seed in range(600):
        counts[Random(seed=seed).select(tokens, 2)] += 1
    assert counts.min() > 150  # 200 expected, 11.5 one standard deviation
    assert counts.max() < 250


def test_grid_is_an_even_stride():
    flat = VisualTokens(torch.ones(16, 2), torch.zeros(0, 2))
    assert Grid().select(flat, 4).tolist() == [2, 6, 10, 14]
    square = VisualTokens(torch.ones(16, 2), torch.zeros(0, 2), grid=(1, 4, 4))
    assert Grid().select(square, 4).tolist() == [5, 7, 13, 15]
    assert Grid().select(square, 4, given=[0, 5]).tolist() == [2, 7, 10, 14]
    video = VisualTokens(torch.ones(64, 2), torch.zeros(0, 2), grid=(4, 4, 4))
    assert Grid().select(video, 8).tolist() == [16 * t + 4 * h + w for t in (1, 3) for h in (1, 3) for w in (1, 3)]


@pytest.mark.parametrize("grid", [(1, 24, 24), (1, 7, 31), (1, 40, 3), (5, 4, 6), (1, 1, 12), (12, 1, 1), (3, 1, 7)])
def test_grid_spreads_exactly_k_and_evenly(grid):
    t, h, w = grid
    n = t * h * w
    tokens = VisualTokens(torch.ones(n, 1), torch.zeros(0, 1), grid=grid)
    place = torch.stack(torch.unravel_index(torch.arange(n), grid), 1).float()
    for k in range(1, n + 1, max(1, n // 60)):
        chosen = Grid().select(tokens, k)
        assert chosen.unique().tolist() == chosen.tolist()
        assert len(chosen) == k
        axes = sum(size > 1 for size in grid)
        stride = (n / k) ** (1 / axes)
        # No token is farther from a kept one than about a stride along every axis (an axis may be shorter than that).
        hole = torch.cdist(place, place[chosen], p=float("inf")).amin(1).max()
        assert hole <= max(2.0, 2 * n / k / min(n / k, math.prod(s for s in grid if s <= stride)), 1.5 * stride)


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        (lambda: ZSPAPrune(core=1.5), "float in [0, 1]"),
        (lambda: ZSPAPrune(core=math.nan), "float in [0, 1]"),
        (lambda: ZSPAPrune(core=True), "float in [0, 1]"),
        (lambda: ZSPAPrune(core="high"), "float in [0, 1]"),
        (lambda: ZSPAPrune(relevance="mean"), "pooled, word_mean, word_max"),
        (lambda: MMTok(alpha=-1.0), "0 or more"),
        (lambda: MMTok(tau_v=0.0), "above 0"),
        (lambda: MMTok(tau_t=math.inf), "above 0"),
        (lambda: Random(seed=-1), "int of 0 or more"),
        (lambda: Random(seed=0.5), "int of 0 or more"),
    ],
)
def test_hyper_parameters_are_checked(make, fix):
    with pytest.raises(InputError) as caught:
        make()
    assert fix in str(caught.value)


def test_resolve():
    method = ZSPAPrune(core=0.5)
    assert resolve(method) is method
    assert resolve("mmtok") == MMTok()
    with pytest.raises(InputError, match=r"ZSPAPrune\(\)"):
        resolve(ZSPAPrune)
    with pytest.raises(InputError, match="a name"):
        resolve(3)
    with pytest.raises(UnknownMethodError, match="Did you mean 'zspaprune'"):
        resolve("zspa-prune")


def test_select_is_the_whole_library_in_one_pure_function():
    embeds = torch.randn(576, 16, generator=torch.Generator().manual_seed(0))
    question = embeds[100:103]
    assert len(select(embeds, question, k=0.1)) == 58
    assert len(select(embeds, k=64, method="grid", grid=(1, 24, 24))) == 64
    assert select(embeds, question, k=64).tolist() == ZSPAPrune().select(VisualTokens(embeds, question), 64).tolist()
    assert select(embeds, k=9).tolist() == select(embeds, k=9, method=DivPrune()).tolist()
    with pytest.warns(FoveateWarning, match="keeps all"):
        assert len(select(embeds[:5], k=64)) == 5
    with pytest.raises(KeepError, match="not a share"):
        select(embeds, k=64.0)


def test_select_checks_k_and_given():
    tokens = VisualTokens(torch.randn(5, 4), torch.zeros(0, 4))
    for k in (0, 6, -1, True, 2.0, None):
        with pytest.raises(InputError, match="int from 1 to 5"):
            DivPrune().select(tokens, k)
    with pytest.raises(InputError, match="int from 1 to 3"):
        DivPrune().select(tokens, 4, given=[0, 1])
    for given in ([5], [-1], [1, 1], [0.5], torch.tensor([0.0])):
        with pytest.raises(InputError, match="distinct token indices"):
            DivPrune().select(tokens, 1, given=given)
    assert DivPrune().select(tokens, 3, given=torch.tensor([1, 4])).tolist() == [0, 2, 3]


def test_methods_lists_the_registry():
    rows = methods()
    assert [row.name for row in rows] == sorted(row.name for row in rows)
    assert {"zspaprune", "divprune", "cdpruner", "mmtok", "random", "grid"} <= {row.name for row in rows}
    assert all(row.summary and "\n" not in row.summary and row.paper for row in rows)
    assert {row.name for row in rows if row.prompt_aware} >= {"zspaprune", "cdpruner", "mmtok"}


def test_every_error_is_a_foveate_error():
    with pytest.raises(FoveateError):
        resolve("nothing")
