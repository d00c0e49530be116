"""Each method against its slow reference, index by index, and what its own hyper-parameters do."""

import dataclasses
import math
import random

import pytest
import torch

from foveate.errors import FoveateError, FoveateWarning, InputError, KeepError, UnknownMethodError
from foveate.method import Method, methods, resolve, select
from foveate.method.cdpruner import CDPruner
from foveate.method.coin import CoIn
from foveate.method.divprune import DivPrune
from foveate.method.foveate import Foveate
from foveate.method.grid import Grid
from foveate.method.holov import HoloV
from foveate.method.lrcp import LRCP
from foveate.method.mmtok import MMTok
from foveate.method.prumerge import PruMerge
from foveate.method.prunesid import PruneSID
from foveate.method.random import Random
from foveate.method.scope import Scope
from foveate.method.score import SCoRe
from foveate.method.tokens import VisualTokens
from foveate.method.trimmed_llama import TrimmedLlama
from foveate.method.vidcom2 import VidCom2
from foveate.method.visionzip import VisionZip
from foveate.method.vispruner import VisPruner
from foveate.method.zspaprune import ZSPAPrune
from reference import MIXES, REFERENCES, Margin

# A candidate this near to the border of a tie, as a share of the tie's width, is within the rounding of float32.
TIGHT = 0.3


def random_case(seed):
    """n 1..60, d 2..32, m 0..8, any float type; duplicates, a row of zeros and selected tokens in some."""
    rng, torch_rng = random.Random(seed), torch.Generator().manual_seed(seed)
    n, d, m = rng.randint(1, 60), rng.choice([2, 3, 4, 8, 16, 32]), rng.randint(0, 8)
    dtype = rng.choice([torch.float32, torch.float16, torch.bfloat16])
    embeds, question = torch.randn(n, d, generator=torch_rng), torch.randn(m, d, generator=torch_rng)
    if rng.random() < 0.4:
        embeds = embeds[torch.randint(0, max(1, n // 2), (n,), generator=torch_rng)]
    if rng.random() < 0.15:
        embeds[rng.randrange(n)] = 0
    selected = rng.sample(range(n), rng.randint(0, min(6, n - 1))) if rng.random() < 0.4 else []
    k = rng.randint(1, n - len(selected))
    # What the vision tower knows: of another width, with duplicates and flat or peaked attention of its own.
    encoder, keys = torch.randn(n, 6, generator=torch_rng), torch.randn(n, 12, generator=torch_rng)
    attention = (torch.randn(n, generator=torch_rng) * rng.choice([0, 1, 1, 2, 8])).softmax(0)
    if rng.random() < 0.4:
        same = torch.randint(0, max(1, n // 2), (n,), generator=torch_rng)
        encoder, keys, attention = encoder[same], keys[same], attention[same]
    heads = torch.rand(n, rng.randint(1, 4), generator=torch_rng).mul(rng.choice([4, n, 1000])).floor()  # with ties
    tower = {"encoder": encoder, "keys": keys, "cls_attention": attention, "cross_attention": heads / 1024}
    tower = {name: value.to(dtype) for name, value in tower.items()}
    return VisualTokens(embeds.to(dtype), question.to(dtype), **tower), k, selected


def random_grid(n, seed):
    """Some (t, h, w) of n tokens, or none."""
    rng = random.Random(seed)
    rows = rng.choice([size for size in range(1, n + 1) if n % size == 0])
    frames = rng.choice([size for size in range(1, rows + 1) if rows % size == 0])
    return rng.choice([None, (1, rows, n // rows), (frames, rows // frames, n // rows)])


def extras_of(method, tokens):
    """The reference's arguments for what the method needs, in double precision."""
    short = {"encoder": "h", "cls_attention": "a", "keys": "keys", "cross_attention": "across"}
    return {short[name]: getattr(tokens, name).double().tolist() for name in method.needs}


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
        (Scope(), {}, 200),
        (Scope(alpha=0.0), {"alpha": 0.0}, 100),
        (SCoRe(), {}, 300),
        (SCoRe(alpha=2.0), {"alpha": 2.0}, 100),
        (CoIn(), {}, 200),
        (CoIn(coverage=0.9, saliency=0.0, ridge=0.1), {"coverage": 0.9, "saliency": 0.0, "ridge": 0.1}, 100),
        (CoIn(coverage=0.0), {"coverage": 0.0}, 100),
        (VisPruner(), {}, 300),
        (VisPruner(important=0.2, step=1), {"tenths": 2, "step": 1}, 100),
        (HoloV(), {}, 300),
        (HoloV(crops=4), {"crops": 4}, 300),
        (VisionZip(), {}, 300),
        (VisionZip(dominant=0.4), {"dominant": (4, 10)}, 300),
        (PruMerge(), {}, 300),
        (TrimmedLlama(), {}, 300),
        (LRCP(), {}, 200),
        (LRCP(rank=1), {"rank": 1}, 100),
        (PruneSID(), {}, 300),
        (PruneSID(members=2, threshold=4.0, largest=1), {"members": 2, "threshold": 4.0, "largest": 1}, 200),
    ],
    ids=lambda value: repr(value) if isinstance(value, Method) else "",
)
def test_agrees_with_the_reference_index_by_index(method, options, cases):
    luck = []
    for seed in range(cases):
        tokens, k, selected = random_case(seed)
        margin = Margin()
        v, e = tokens.embeds.double().tolist(), tokens.question.double().tolist()
        expected = sorted(REFERENCES[method.name](v, e, k, selected, margin, **extras_of(method, tokens), **options))
        if method.select(tokens, k, selected=selected).tolist() != expected:
            # Two candidates so close to the border of a tie that float32 cannot tell on which side they are.
            assert margin.closest < TIGHT, f"seed {seed}: {tuple(tokens.embeds.shape)}, k={k}, selected={selected}"
            luck.append(seed)
    assert len(luck) <= cases // 100, f"too many disagreements put down to rounding: seeds {luck}"


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (Foveate(), {}),
        (Foveate(reach=0.5, focus=0.0), {"reach": 0.5, "focus": 0.0}),
        (Foveate(3, 1.5, 0.7), {"focus": 3, "place": 1.5, "reach": 0.7}),
        (VidCom2(), {}),
        (VidCom2(temperature=0.2), {"temperature": 0.2}),
    ],
    ids=repr,
)
def test_agrees_with_the_reference_on_any_grid(method, options):
    luck = []
    for seed in range(300):
        tokens, k, selected = random_case(seed)
        tokens = dataclasses.replace(tokens, grid=random_grid(len(tokens.embeds), seed))
        margin = Margin()
        v, e = tokens.embeds.double().tolist(), tokens.question.double().tolist()
        expected = sorted(REFERENCES[method.name](v, e, k, selected, margin, tokens.grid, **options))
        if method.select(tokens, k, selected=selected).tolist() != expected:
            assert margin.closest < TIGHT, (
                f"seed {seed}: {tuple(tokens.embeds.shape)}, {tokens.grid}, k={k}, {selected}"
            )
            luck.append(seed)
    assert len(luck) <= 3, f"too many disagreements put down to rounding: seeds {luck}"


def test_foveate_keeps_the_second_of_two_equal_objects_but_not_of_two_neighbours():
    ground, thing = [1.0, 0.0], [0.0, 1.0]
    rows = [ground] * 16
    rows[3] = rows[12] = rows[13] = thing
    chosen = Foveate().select(tokens_of(rows, grid=(1, 4, 4)), 4).tolist()
    assert 3 in chosen
    assert len({12, 13} & set(chosen)) == 1
    assert len({3, 12, 13} & set(DivPrune().select(tokens_of(rows), 2).tolist())) == 1


def test_foveate_on_plain_ground_spreads_over_the_image():
    chosen = Foveate().select(tokens_of([[1.0, 0.0]] * 64, grid=(1, 8, 8)), 4)
    quarters = {(int(i) // 32, int(i) % 8 // 4) for i in chosen}
    assert len(quarters) >= 3


def test_foveate_starts_from_what_the_question_names():
    tokens = tokens_of([[1.0, 0.0]] * 9 + [[0.0, 1.0]] * 7, [[0.1, 1.0]], grid=(1, 4, 4))
    assert Foveate().select(tokens, 1).item() == 9


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (VisionZip(), {}),
        (VisionZip(dominant=0.4), {"dominant": (4, 10)}),
        (VisionZip(dominant=0.0), {"dominant": (0, 1)}),
        (PruMerge(), {}),
        (PruMerge(neighbours=3), {"neighbours": 3}),
        (PruMerge(neighbours=0), {"neighbours": 0}),
    ],
    ids=repr,
)
def test_merges_as_the_reference_does(method, options):
    luck = []
    for seed in range(300):
        tokens, k, _ = random_case(seed)
        kept, margin = method.select(tokens, k), Margin()
        rows = MIXES[method.name](len(tokens.embeds), kept.tolist(), margin, **extras_of(method, tokens), **options)
        if not torch.allclose(method.merge_weights(tokens, kept).double(), torch.tensor(rows).double(), atol=1e-6):
            assert margin.closest < TIGHT, f"seed {seed}: {tuple(tokens.embeds.shape)}, k={k}"
            luck.append(seed)
    assert len(luck) <= 3, f"too many disagreements put down to rounding: seeds {luck}"


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
    method, tokens = ZSPAPrune(core=core), VisualTokens(rows, rows[:1])
    chosen = method.select(tokens, k)
    assert int((chosen < 100).sum()) == size
    assert chosen[method.core_mask(tokens, chosen)].tolist() == list(range(size))


def test_zspaprune_without_a_pointing_question_is_divprune():
    embeds = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    embeds[:, 0] = 0
    nowhere = torch.eye(8)[:1]  # at right angles to every token: a flat map
    for question in (embeds[:0], nowhere, torch.zeros(3, 8), torch.cat([nowhere, -nowhere])):
        tokens = VisualTokens(embeds, question)
        chosen = ZSPAPrune().select(tokens, 9)
        assert chosen.tolist() == DivPrune().select(tokens, 9).tolist()
        assert not ZSPAPrune().core_mask(tokens, chosen).any()


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


def test_mmtok_covers_words_when_the_image_weighs_nothing():
    tokens = tokens_of([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], [[1, 0, 0], [0, 1, 0]])
    assert MMTok(alpha=0.0).select(tokens, 2).tolist() == [0, 1]


def tower_tokens(attention, encoder=None, keys=None, grid=None):
    """Tokens of which only what the vision tower knows matters."""
    attention = torch.tensor(attention, dtype=torch.float32)
    blank = torch.ones(len(attention), 2)
    encoder = blank if encoder is None else torch.tensor(encoder, dtype=torch.float32)
    keys = blank if keys is None else torch.tensor(keys, dtype=torch.float32)
    return VisualTokens(blank, blank[:0], grid, encoder=encoder, keys=keys, cls_attention=attention / attention.sum())


def test_scope_weighs_coverage_by_saliency():
    rows = angles(0, 10, 20, 180)
    assert Scope(alpha=0.0).select(tower_tokens([1, 1, 1, 1], rows), 2).tolist() == [1, 3]
    assert Scope().select(tower_tokens([9, 1, 1, 1], rows), 2).tolist() == [0, 3]
    assert Scope().select(tower_tokens([9, 1, 8, 0.01], rows), 2).tolist() == [0, 2]


def test_score_starts_from_the_most_salient():
    rows = angles(0, 10, 90, 180)
    assert SCoRe().select(tower_tokens([1, 5, 1, 1], rows), 1).tolist() == [1]
    assert SCoRe().select(tower_tokens([1, 5, 1, 1], rows), 2).tolist() == [1, 3]
    assert SCoRe().select(tower_tokens([1, 5, 4, 1], rows), 2).tolist() == [1, 2]
    assert SCoRe().select(tower_tokens([1, 5, 1, 1], rows), 1, selected=[3]).tolist() == [1]


def test_coin_takes_the_steepest_step_of_its_objective():
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        v, e = torch.randn(9, 4, generator=generator).double(), torch.randn(3, 4, generator=generator).double()
        method = CoIn(coverage=0.7, saliency=0.3, ridge=0.05)
        norm, unit, fits = v.norm(dim=1), v / v.norm(dim=1, keepdim=True), torch.cosine_similarity(v, e.mean(0)[None])
        s = 0.3 * (norm - norm.min()) / (norm.max() - norm.min()) + 0.7 * (fits - fits.min()) / (
            fits.max() - fits.min()
        )

        def objective(kept, s=s, unit=unit):
            kernel = unit[kept] @ unit[kept].T + 0.05 * torch.eye(len(kept))
            return float(0.3 * s[kept].sum() + 0.7 * torch.logdet(kernel))

        kept = []
        for _ in range(6):
            kept.append(max((j for j in range(9) if j not in kept), key=lambda j: objective([*kept, j])))
            assert method.select(VisualTokens(v, e), len(kept)).tolist() == sorted(kept)


def test_coin_prefers_the_relevant_and_shuns_the_duplicate():
    tokens = tokens_of(angles(0, 0, 30, 90), angles(0))
    assert CoIn().select(tokens, 1).tolist() == [0]
    assert CoIn().select(tokens, 2).tolist() == [0, 3]
    assert CoIn(coverage=0.0).select(tokens, 2).tolist() == [0, 1]


def test_vispruner_is_half_attention_and_half_what_is_left_without_duplicates():
    attention = [1, 1, 9, 1, 1, 8, 1, 1]
    rows = angles(0, 1, 45, 90, 91, 45, 180, 270)
    tokens = tower_tokens(attention, rows)
    # 2 and 5 by attention. Of 0, 1, 3, 4, 6, 7 the first side, 0, 3, 6, may all go at once; then 1, 7 meet 4.
    assert VisPruner().select(tokens, 4).tolist() == [2, 4, 5, 7]
    assert VisPruner().core_mask(tokens, torch.tensor([2, 4, 5, 7])).tolist() == [True, False, True, False]
    assert VisPruner().select(tokens, 3).tolist()[0] == 2  # floor(0.5 * 3) = 1
    assert VisPruner(important=1.0).select(tokens, 2).tolist() == [2, 5]
    doubled = tower_tokens([1] * 4, angles(0, 0, 90, 180))
    assert VisPruner(important=0.0, step=1).select(doubled, 3).tolist() == [1, 2, 3]


def test_holov_gives_every_crop_a_share():
    peaked = [8] * 4 + [1] * 12
    assert HoloV(crops=4).select(tower_tokens([1] * 16), 8).tolist() == [0, 1, 4, 5, 8, 9, 12, 13]
    # Weights 8/2.75 + 1 and three times 1/2.75 + 1: 3.91 and 1.36 of 8, so 4, 2, 1, 1.
    assert HoloV(crops=4).select(tower_tokens(peaked), 8).tolist() == [0, 1, 2, 3, 4, 5, 8, 12]
    # All four of the first crop; of the other three one each, and what it cannot take goes round.
    assert HoloV(crops=4).select(tower_tokens([99] * 4 + [1] * 12), 10).tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 12, 13]
    assert HoloV(crops=4).select(tower_tokens(peaked), 3, selected=[0, 1, 2, 3]).tolist() == [4, 8, 12]


def test_holov_gives_more_to_a_varied_crop():
    rows = angles(*[0] * 8, *[0, 90, 10, 180, 30, 270, 0, 200])
    chosen = HoloV(crops=2).select(tower_tokens([1] * 16, rows), 8)
    assert int((chosen >= 8).sum()) == 6  # weights 1 + 0 and 1 + 2


def test_visionzip_merges_the_rest_into_a_few():
    tokens = tower_tokens([9, 1, 1, 8, 1, 1, 1, 1], keys=angles(0, 0, 0, 0, 0, 90, 90, 0))
    method = VisionZip(dominant=0.5)
    kept = method.select(tokens, 4)
    assert kept.tolist() == [0, 1, 3, 5]  # of 1, 2, 4, 5, 6, 7 every third
    expected = torch.eye(8)[kept]
    expected[1] = torch.tensor([0, 1 / 2, 1 / 6, 0, 1 / 6, 0, 0, 1 / 6])
    expected[3] = torch.tensor([0, 0, 0, 0, 0, 1 / 2, 1 / 2, 0])
    torch.testing.assert_close(method.merge_weights(tokens, kept), expected)


@pytest.mark.parametrize(("k", "dominant"), [(64, 54), (128, 108), (192, 162), (58, 49), (1, 1)])
def test_visionzip_splits_the_budget_as_the_paper_does(k, dominant):
    attention = torch.rand(576, generator=torch.Generator().manual_seed(0))
    tokens = tower_tokens(attention.tolist())
    kept = VisionZip().select(tokens, k)
    own = VisionZip().merge_weights(tokens, kept)[torch.arange(k), kept]
    top = attention.argsort(descending=True)[:dominant].tolist()
    assert set(top) <= set(kept.tolist())
    assert sum(i not in top for i in kept.tolist()) == k - dominant
    assert int((own == 1).sum()) >= dominant
    assert sorted(kept[VisionZip().core_mask(tokens, kept)].tolist()) == sorted(top)


def test_prumerge_takes_outliers_first_and_fills_evenly():
    attention = [1.0 + i / 100 for i in range(16)]
    attention[5], attention[9] = 50, 40
    tokens = tower_tokens(attention, grid=(1, 4, 4))
    assert PruMerge().select(tokens, 1).tolist() == [5]
    assert PruMerge().select(tokens, 2).tolist() == [5, 9]
    assert PruMerge().select(tokens, 4).tolist() == [3, 5, 9, 12]  # the others are 14: the 3rd and the 10th of them
    assert PruMerge().select(tokens, 1, selected=[5]).tolist() == [9]
    flat = tower_tokens([1] * 16, grid=(1, 4, 4))
    assert PruMerge().select(flat, 4).tolist() == Grid().select(flat, 4).tolist()


def test_prumerge_adds_the_nearest_by_their_attention():
    tokens = tower_tokens([7, 1, 1, 1], keys=angles(0, 1, 2, 90))
    weights = PruMerge(neighbours=2).merge_weights(tokens, torch.tensor([0]))
    torch.testing.assert_close(weights, torch.tensor([[1.0, 0.1, 0.1, 0.0]]) / 1.2)


def test_lrcp_keeps_what_the_main_directions_do_not_explain():
    line = [[1.0, x / 10, 0.0, 0.0] for x in range(-6, 7)]
    odd = [[1.0, 0.0, 0.2, 0.0], [1.0, 0.0, 0.0, -0.3]]
    tokens = tokens_of([*line[:5], odd[0], *line[5:], odd[1]])  # the line's ends are farther from the mean
    assert LRCP(rank=1).select(tokens, 2).tolist() == [5, 14]
    assert LRCP(rank=1).select(tokens, 1).tolist() == [14]
    assert LRCP(rank=1).select(tokens, 1, selected=[14]).tolist() == [5]
    assert LRCP(rank=3).select(tokens, 2).tolist() == [0, 1]  # all is explained: ties, lower indices first


def test_lrcp_calls_no_subspace_dominant_in_which_the_next_component_is_as_strong():
    rows = torch.eye(6).repeat(2, 1)
    rows[5] *= 1.5
    assert LRCP(rank=2).select(VisualTokens(rows, rows[:0]), 3).tolist() == [0, 1, 2]


def test_prunesid_keeps_the_strongest_of_a_group_and_no_copy_of_it():
    # Eight at 0 and 5 degrees, eight at 90 and 95: one component divides them, and both ends load on it.
    tokens = tokens_of(angles(*[0] * 5, *[5] * 3, *[90] * 5, *[95] * 3))
    chosen = PruneSID(members=8).select(tokens, 4).tolist()
    assert chosen == [0, 5, 8, 13]  # no copy
    assert PruneSID(members=8, threshold=1.0).select(tokens, 2).tolist() in ([0, 8], [0, 13], [5, 8], [5, 13])
    assert PruneSID(members=8).select(tokens, 2, selected=[0, 5]).tolist() == [8, 13]


def test_prunesid_on_a_blank_page_keeps_the_first():
    tokens = tokens_of([[1.0, 0.5]] * 16)
    assert PruneSID().select(tokens, 5).tolist() == [0, 1, 2, 3, 4]
    assert PruneSID().select(tokens, 3, selected=[0, 2]).tolist() == [1, 3, 4]


def test_prunesid_gives_every_component_a_token_and_none_too_many():
    rows = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    rows[:200] += 3 * torch.randn(64, generator=torch.Generator().manual_seed(1))  # most contribute to the first one
    tokens = VisualTokens(rows, rows[:0])
    squashed = torch.sigmoid(rows.double() / rows.double().square().mean().sqrt())
    loads = torch.linalg.svd(squashed - squashed.mean(0), full_matrices=False).U[:, :10].abs()
    groups = loads.argmax(1)
    sizes = groups[PruneSID().select(tokens, 40)].bincount(minlength=10)
    assert sizes.sum() == 40
    assert sizes.min() >= 1
    assert sizes.max() == 5
    assert groups[PruneSID(largest=1).select(tokens, 40)].bincount(minlength=10).tolist() == [4] * 10


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
    assert Grid().select(square, 4, selected=[0, 5]).tolist() == [2, 7, 10, 14]
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
        (lambda: Scope(alpha=-1.0), "0 or more"),
        (lambda: SCoRe(alpha=math.inf), "0 or more"),
        (lambda: CoIn(coverage=1.5), "coverage=1.5 is not a share"),
        (lambda: CoIn(saliency=math.nan), "saliency=nan is not a share"),
        (lambda: CoIn(ridge=0.0), "from 0.001 to 1"),
        (lambda: VisPruner(important=-0.1), "float in [0, 1]"),
        (lambda: VisPruner(step=0), "int of 1 or more"),
        (lambda: HoloV(crops=0), "int of 1 or more"),
        (lambda: VisionZip(dominant=64), "float in [0, 1]"),
        (lambda: PruMerge(neighbours=-1), "int of 0 or more"),
        (lambda: LRCP(rank=0), "int of 1 or more"),
        (lambda: PruneSID(members=0), "int of 1 or more"),
        (lambda: PruneSID(threshold=-1.0), "0 or more"),
        (lambda: PruneSID(largest=0.5), "int of 1 or more"),
    ],
)
def test_hyper_parameters_are_checked(make, fix):
    with pytest.raises(InputError) as caught:
        make()
    assert fix in str(caught.value)


def test_hyper_parameters_may_be_at_their_bounds():
    for share in (0, 1):
        assert ZSPAPrune(core=share).core == share
    assert [CoIn(ridge=ridge).ridge for ridge in (0.001, 1)] == [0.001, 1]
    assert [Foveate(focus=focus).focus for focus in (0, 10)] == [0, 10]
    assert MMTok(alpha=0).alpha == PruMerge(neighbours=0).neighbours == 0
    assert HoloV(crops=1).crops == VisPruner(step=1).step == 1


@pytest.mark.parametrize(
    "method",
    [
        Foveate(focus=0), ZSPAPrune(core=0), CoIn(coverage=1), Scope(alpha=0), SCoRe(alpha=0), VisPruner(important=0),
        VisionZip(dominant=0), DivPrune(), LRCP(), PruneSID(), Random(), Grid(),
    ],
    ids=lambda method: method.name,
)  # fmt: skip
def test_a_method_that_does_not_look_at_relevance_has_no_map(method):
    tokens = tower_tokens([5, 1, 4, 1, 3, 1, 2, 1], torch.eye(8).tolist())
    tokens = dataclasses.replace(tokens, question=tokens.embeds[:2])
    assert method.relevance_map(tokens) is None
    assert not method.core_mask(tokens, method.select(tokens, 4)).any()


def test_the_core_are_those_of_the_kept_among_as_many_of_the_most_relevant():
    tokens = tokens_of([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1], [0.8, 0.3, 0]], [[1, 0, 0]])
    kept = torch.tensor([0, 2, 4])  # by relevance 0, 1 and 4
    assert CDPruner().core_mask(tokens, kept).tolist() == [True, False, True]
    assert CDPruner().core_mask(tokens, kept[:2]).tolist() == [True, False]
    alike = tokens_of([[1, 0], [1, 0], [1, 0], [0, 1]], [[1, 0]])
    assert CDPruner().core_mask(alike, torch.tensor([0, 2])).tolist() == [True, False]  # ties: lower indices first


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
    assert select(embeds, question, k=64).tolist() == Foveate().select(VisualTokens(embeds, question), 64).tolist()
    assert select(embeds, k=9, method="divprune").tolist() == select(embeds, k=9, method=DivPrune()).tolist()
    tower = {"cls_attention": torch.rand(576), "encoder": embeds, "keys": embeds}
    assert len(select(embeds, k=64, method="visionzip", **tower)) == 64
    with pytest.raises(InputError, match="without cls_attention"):
        select(embeds, k=64, method="visionzip")
    with pytest.warns(FoveateWarning, match="keeps all"):
        assert len(select(embeds[:5], k=64)) == 5
    with pytest.raises(KeepError, match="not a share"):
        select(embeds, k=64.0)


def test_select_checks_k_and_selected():
    tokens = VisualTokens(torch.randn(5, 4), torch.zeros(0, 4))
    for k in (0, 6, -1, True, 2.0, None):
        with pytest.raises(InputError, match="int from 1 to 5"):
            DivPrune().select(tokens, k)
    with pytest.raises(InputError, match="int from 1 to 3"):
        DivPrune().select(tokens, 4, selected=[0, 1])
    for selected in ([5], [-1], [1, 1], [0.5], torch.tensor([0.0])):
        with pytest.raises(InputError, match="distinct token indices"):
            DivPrune().select(tokens, 1, selected=selected)
    assert DivPrune().select(tokens, 3, selected=torch.tensor([1, 4])).tolist() == [0, 2, 3]


def test_trimmed_llama_keeps_every_union_of_what_the_heads_attend_to_most():
    """As the paper has it: for a ratio, the union of as many tokens of each head, whatever its size."""
    for seed in range(20):
        heads = torch.rand(50, 4, generator=torch.Generator().manual_seed(seed))
        tokens = VisualTokens(torch.ones(50, 2), torch.ones(0, 2), cross_attention=heads)
        for ratio in (0.02, 0.1, 0.25, 0.5, 1.0):
            union = sorted(set(heads.topk(int(50 * ratio), dim=0).indices.flatten().tolist()))
            assert TrimmedLlama().select(tokens, len(union)).tolist() == union


@pytest.mark.parametrize("heads", [torch.ones(5), torch.ones(5, 0), torch.ones(4, 2), -torch.ones(5, 2)])
def test_weights_of_heads_are_checked(heads):
    with pytest.raises(InputError, match="cross_attention has"):
        VisualTokens(torch.ones(5, 2), torch.ones(0, 2), cross_attention=heads)


def test_methods_lists_the_registry():
    rows = methods()
    assert [row.name for row in rows] == sorted(row.name for row in rows)
    assert {"zspaprune", "divprune", "cdpruner", "mmtok", "random", "grid"} <= {row.name for row in rows}
    assert all(row.summary and "\n" not in row.summary and row.paper for row in rows)
    assert {row.name for row in rows if row.prompt_aware} >= {"zspaprune", "cdpruner", "mmtok"}
    needs = {row.name: row.needs for row in rows}
    assert needs["coin"] == ()
    assert needs["prumerge"] == ("cls_attention", "keys")
    assert all(needs[name] == ("cls_attention", "encoder") for name in ("holov", "scope", "score", "vispruner"))


def test_every_error_is_a_foveate_error():
    with pytest.raises(FoveateError):
        resolve("nothing")
