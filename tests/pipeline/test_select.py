"""How a budget is shared out: the laws of budgets and selection, on tensors alone."""

import dataclasses
import warnings

import pytest
import torch

from extras import make_tokens
from foveate.errors import FoveateWarning, InputError, KeepError
from foveate.method import Method, methods, resolve
from foveate.method.budget import to_budget
from foveate.method.prumerge import PruMerge
from foveate.method.tokens import VisualTokens
from foveate.method.visionzip import VisionZip
from foveate.models.visual_input import VisualInput, make_visual_input
from foveate.pipeline.budget import Share, allocate_budget, find_repeats
from foveate.pipeline.select import select_tokens
from foveate.pipeline.settings import check_settings

WIDTH = 16
EXTRAS = ("encoder", "cls_attention", "keys", "attention", "cross_attention")


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """Tokens to select from, in a row of the batch; `whole` ones are of a modality that is not pruned."""

    row: int
    tokens: VisualTokens
    fixed: torch.Tensor | None = None
    whole: bool = False

    def item(self) -> VisualInput:
        tokens, modality = self.tokens, "audio" if self.whole else "video" if self.tokens.grid else "image"
        item = make_visual_input(modality, self.row, torch.arange(len(tokens.embeds)), 0, tokens.embeds)
        extras = {name: getattr(tokens, name) for name in EXTRAS}
        return dataclasses.replace(item, grid=tokens.grid, protected=self.fixed, extras=extras)


def choose(subjects, method, keep, per="image", *, explain=False):
    """What is kept of each subject: the budget is allocated, then tokens are selected."""
    items, questions = [subject.item() for subject in subjects], {s.row: s.tokens.question for s in subjects}
    settings = check_settings(keep, method, per=per)
    shares = allocate_budget(items, questions, settings)
    return select_tokens(items, shares, questions, settings.method, explain=explain)


NAMES = [row.name for row in methods() if row.prunes == "input"]
MERGING = [PruMerge(), VisionZip(dominant=0.5)]
every_method = pytest.mark.parametrize("method", [resolve(name) for name in NAMES], ids=NAMES)
merging = pytest.mark.parametrize("method", MERGING, ids=[method.name for method in MERGING])
KEEPS = (1, 5, 0.2, 0.55)


def noise(*shape, seed=0):
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


def make_image(n=24, *, seed=0, row=0, grid=None, question=None, **fields):
    words = noise(4, seed=99) if question is None else question
    return Subject(row, make_tokens(noise(n, seed=seed), words, grid), **fields)


def make_video(frames, **fields):
    """A subject of these frames (t, h, w, d)."""
    return Subject(0, make_tokens(frames.flatten(0, 2), noise(4, seed=99), tuple(frames.shape[:3])), **fields)


def standing(t, h, w, seed=0):
    return noise(1, h, w, seed=seed).expand(t, -1, -1, -1)


def some_fixed(n, *places):
    fixed = torch.zeros(n, dtype=torch.bool)
    fixed[list(places)] = True
    return fixed


def only(subject, places, grid=None):
    """A subject of these of its tokens alone, with what the tower made of them."""
    tokens, places = subject.tokens, list(places)
    rows = {name: getattr(tokens, name)[places] for name in ("embeds", *EXTRAS)}
    return Subject(subject.row, VisualTokens(question=tokens.question, grid=grid, **rows))


def by_frame(choice, t, size):
    return (choice.kept // size).bincount(minlength=t).tolist()


def same(one, other):
    mixes = (one.merge_weights is None) == (other.merge_weights is None) and (
        one.merge_weights is None or torch.equal(one.merge_weights, other.merge_weights)
    )
    return torch.equal(one.kept, other.kept) and mixes


# -- budgets -----------------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("keep", KEEPS)
def test_every_picture_keeps_its_own_budget(method, keep):
    sizes = (24, 7, 40)
    choices = choose([make_image(n, seed=n) for n in sizes], method, keep)
    for n, choice in zip(sizes, choices, strict=True):
        kept = choice.kept.tolist()
        assert len(kept) == to_budget(keep, n)
        assert kept == sorted(set(kept))
        assert kept[0] >= 0
        assert kept[-1] < n


@every_method
def test_a_picture_is_chosen_from_as_if_alone(method):
    images = [make_image(24, seed=1), make_image(16, seed=2, row=1), make_image(9, seed=3, fixed=some_fixed(9, 2, 5))]
    together = choose(images, method, 0.4)
    assert all(same(choose([one], method, 0.4)[0], choice) for one, choice in zip(images, together, strict=True))


@every_method
def test_a_whole_picture_is_the_methods_own_choice(method):
    one = make_image(24, grid=(1, 4, 6))
    kept = method.select(one.tokens, 9)
    (choice,) = choose([one], method, 9)
    assert torch.equal(choice.kept, kept)
    mix = method.merge_weights(one.tokens, kept)
    assert mix is choice.merge_weights is None or torch.allclose(choice.merge_weights, mix)


@every_method
@pytest.mark.parametrize("keep", KEEPS)
def test_every_frame_is_chosen_from_as_a_picture_of_its_own(method, keep):
    subject = make_video(noise(3, 3, 4))
    (whole,) = choose([subject], method, keep, "frame")
    apart = choose([only(subject, range(n, n + 12), (1, 3, 4)) for n in (0, 12, 24)], method, keep)
    assert whole.kept.tolist() == [12 * n + i for n, choice in enumerate(apart) for i in choice.kept.tolist()]
    assert by_frame(whole, 3, 12) == [to_budget(keep, 12)] * 3
    if whole.merge_weights is not None:
        assert torch.equal(whole.merge_weights, torch.block_diag(*(choice.merge_weights for choice in apart)))


def test_a_picture_is_one_frame():
    for subject in (make_image(grid=(1, 4, 6)), make_image()):
        ways = [choose([subject], resolve("divprune"), 0.3, per)[0] for per in ("image", "frame", "prompt")]
        assert same(ways[0], ways[1])
        assert same(ways[0], ways[2])


@every_method
@pytest.mark.parametrize("keep", [3, 10, 0.1, 0.55])
def test_a_prompt_shares_one_budget(method, keep):
    sizes = (24, 6, 40)
    subjects = [make_image(n, seed=n) for n in sizes] + [make_image(10, seed=4, row=3)]
    choices = choose(subjects, method, keep, "prompt")
    counts = [len(choice.kept) for choice in choices]
    assert sum(counts[:3]) == to_budget(keep, sum(sizes))
    assert all(1 <= count <= n for count, n in zip(counts, sizes, strict=False))
    for row in ([0, 1, 2], [3]):
        alone = choose([subjects[n] for n in row], method, keep, "prompt")
        assert all(same(choices[n], choice) for n, choice in zip(row, alone, strict=True))


def test_a_prompt_gives_more_to_the_picture_that_the_question_is_about():
    question = noise(3, seed=50)
    dull, apt = noise(60, seed=51), noise(60, seed=52)
    apt[::6] += 4 * question.mean(0)
    two = [Subject(0, make_tokens(rows, question)) for rows in (dull, apt, dull.flip(0))]
    for keep in (0.2, 0.3, 30):
        first, second, third = (len(c.kept) for c in choose(two, resolve("foveate"), keep, "prompt"))
        assert second > first >= 1
        assert second > third >= 1


def test_a_prompt_goes_half_by_size_and_half_by_relevance():
    question = noise(1, seed=50)
    apt = 5 * question + noise(10, seed=52)  # all ten of the most relevant tokens
    two = [Subject(0, make_tokens(rows, question)) for rows in (noise(30, seed=51), apt)]
    wanted = [(7.5 + 0) / 2, (2.5 + 10) / 2]
    assert [len(c.kept) for c in choose(two, resolve("foveate"), 10, "prompt")] == [round(want) for want in wanted]


def test_without_a_question_a_prompt_is_shared_by_size():
    nothing = noise(0)
    subjects = [make_image(n, seed=n, question=nothing) for n in (10, 20, 30)]
    assert [len(c.kept) for c in choose(subjects, resolve("foveate"), 0.5, "prompt")] == [5, 10, 15]
    assert [len(c.kept) for c in choose(subjects, resolve("foveate"), 6, "prompt")] == [1, 2, 3]


def test_a_prompt_with_too_few_tokens_names_the_way_out():
    subjects = [make_image(seed=n, row=2) for n in range(3)]
    for keep, left in ((2, 2), (0.02, 1)):
        with pytest.raises(
            KeepError, match=rf'leaves {left} tokens for the 3 images of row 2.*raise keep.*per="image"'
        ):
            choose(subjects, resolve("divprune"), keep, "prompt")
    assert [len(c.kept) for c in choose(subjects, resolve("divprune"), 3, "prompt")] == [1, 1, 1]
    assert [len(c.kept) for c in choose(subjects, resolve("divprune"), 0.02)] == [1, 1, 1]


def test_other_ways_to_share_are_refused():
    for per in ("image", "frame", "prompt"):
        check_settings(1, "divprune", per=per)
    for per in ("picture", "", None):
        with pytest.raises(InputError, match='use "image", "frame" or "prompt"'):
            check_settings(1, "divprune", per=per)


def test_more_than_there_is_keeps_all_and_warns():
    for per in ("image", "frame", "prompt"):
        with pytest.warns(FoveateWarning, match="keep=99 keeps all"):
            (choice,) = choose([make_image()], resolve("divprune"), 99, per)
        assert choice.kept.tolist() == list(range(24))


# -- videos ----------------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("per", ["image", "frame", "prompt"])
def test_a_standing_clip_costs_one_frame(method, per):
    still, moving = make_video(standing(4, 3, 4)), make_video(noise(4, 3, 4))
    for keep in (0.25, 0.5, 0.9):
        (few,), (many,) = (choose([one], method, keep, per) for one in (still, moving))
        assert len(many.kept) == (4 * to_budget(keep, 12) if per == "frame" else to_budget(keep, 48))
        assert by_frame(few, 4, 12)[1:] == [0, 0, 0]
        assert len(few.kept) == min(12, to_budget(keep, 12 if per == "frame" else 48))
        assert len(few.kept) < len(many.kept) or keep == 0.25
    assert len(choose([still], method, 0.5, per)[0].kept) < len(choose([moving], method, 0.5, per)[0].kept)


def test_tokens_that_differ_a_little_are_no_repeats():
    """A cosine of 0.99 may be a sign that says something else."""
    frame = noise(1, 3, 4)
    (choice,) = choose([make_video(torch.cat([frame, frame + 0.1 * noise(1, 3, 4, seed=5)]))], "divprune", 0.9)
    assert by_frame(choice, 2, 12)[1] >= to_budget(0.9, 24) - 12


def test_only_what_moves_is_kept_of_later_frames():
    frames = standing(5, 3, 3).clone()
    frames[2:, 1, 1] = noise(1, seed=8)  # appears in frame 2 and stays
    (choice,) = choose([make_video(frames)], resolve("divprune"), 0.9)
    assert choice.kept.tolist() == [*range(9), 2 * 9 + 4]


@every_method
@pytest.mark.parametrize("per", ["image", "frame", "prompt"])
def test_keeping_everything_keeps_everything(method, per):
    subjects = [make_image(fixed=some_fixed(24, 3)), make_video(standing(4, 3, 4)), make_video(noise(2, 3, 4))]
    for subject, choice in zip(subjects, choose(subjects, method, 1.0, per), strict=True):
        n = len(subject.tokens.embeds)
        assert choice.kept.tolist() == list(range(n))
        assert choice.merge_weights is None or torch.equal(choice.merge_weights, torch.eye(n))


@every_method
@pytest.mark.parametrize("per", ["image", "frame", "prompt"])
def test_what_is_whole_stays_whole_and_costs_nothing(method, per):
    whole, other = make_video(standing(2, 3, 4), whole=True), make_image(24, seed=5)
    for keep in (6, 0.25):
        first, second = choose([whole, other], method, keep, per)
        assert first.kept.tolist() == list(range(24))
        assert first.merge_weights is None or torch.equal(first.merge_weights, torch.eye(24))
        assert same(second, choose([other], method, keep, per)[0])


# -- tokens that always stay -------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("per", ["image", "frame", "prompt"])
@pytest.mark.parametrize("keep", [1, 6, 0.3])
def test_fixed_tokens_stay_and_are_no_candidates(method, per, keep):
    fixed = some_fixed(24, 5, 11, 17, 23)  # the ends of four rows
    one = make_image(fixed=fixed)
    (choice,) = choose([one], method, keep, per)
    kept = set(choice.kept.tolist())
    assert kept >= {5, 11, 17, 23}
    assert len(kept) == 4 + to_budget(keep, 20)
    assert choice.kept.tolist() == sorted(kept)
    places = (~fixed).nonzero().squeeze(1)
    (without,) = choose([only(one, places.tolist())], method, keep, per)
    assert sorted(kept - {5, 11, 17, 23}) == places[without.kept].tolist()


def test_no_fixed_token_is_the_same_as_none():
    for method in (resolve("foveate"), *MERGING):
        one, other = make_image(), make_image(fixed=some_fixed(24))
        assert same(choose([one], method, 0.3)[0], choose([other], method, 0.3)[0])


@pytest.mark.parametrize("per", ["image", "frame", "prompt"])
@pytest.mark.parametrize("keep", [2, 0.5])
def test_a_picture_of_structure_alone_stays_and_needs_no_budget(per, keep):
    bones, other = make_image(3, fixed=some_fixed(3, 0, 1, 2)), make_image(24, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = choose([bones, other], resolve("divprune"), keep, per)
        assert same(choose([bones], resolve("divprune"), keep, per)[0], first)
    assert first.kept.tolist() == [0, 1, 2]
    assert same(second, choose([other], resolve("divprune"), keep, per)[0])


# -- methods that merge ------------------------------------------------------------------------------------------------


@merging
@pytest.mark.parametrize("per", ["image", "frame", "prompt"])
@pytest.mark.parametrize("keep", [2, 0.3, 0.6])
def test_rows_of_a_mix_are_weights_and_fixed_tokens_hold_their_own(method, per, keep):
    moving, still = noise(3, 3, 4), standing(3, 3, 4)
    half = torch.cat([moving[:, :1], still[:, :2]], dim=1)  # a row that moves above two that stand
    fixed = some_fixed(36, 3, 7, 35)
    for frames in (moving, still, half):
        subject = make_video(frames, fixed=fixed)
        (choice,) = choose([subject], method, keep, per)
        kept, mix = choice.kept, choice.merge_weights
        assert mix.shape == (len(kept), 36)
        assert mix.dtype == torch.float32
        assert bool((mix >= 0).all())
        assert torch.allclose(mix.sum(1), torch.ones(len(kept)), atol=1e-6)
        assert bool((mix[torch.arange(len(kept)), kept] > 0).all())
        own = fixed[kept]
        assert torch.equal(mix[own], torch.eye(36)[kept[own]])
        stale = fixed | find_repeats(subject.item())  # nothing flows out of what was no candidate
        assert not mix[~own][:, stale].any()
        if per == "frame":
            assert not mix[(kept // 12)[:, None] != torch.arange(36)[None] // 12].any()
        assert frames is not moving or bool((mix > 0).sum(1).amax() > 1)


@merging
def test_a_mix_gives_constants_back(method):
    """Weights that sum to one leave an image alone that is the same everywhere."""
    (choice,) = choose([make_image(fixed=some_fixed(24, 4, 9))], method, 0.3)
    values = torch.full((24, 3), 2.5)
    assert torch.allclose(choice.merge_weights @ values, values[: len(choice.kept)])


# -- why ---------------------------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("per", ["image", "frame", "prompt"])
@pytest.mark.parametrize("keep", [3, 0.3, 1.0])
def test_explaining_changes_no_choice_and_stands_beside_it(method, per, keep):
    subjects = [
        make_video(noise(2, 3, 4, seed=3)),
        make_image(24, seed=1, fixed=some_fixed(24, 5, 11)),
        make_image(9, seed=2, whole=True),
    ]
    plain, told = choose(subjects, method, keep, per), choose(subjects, method, keep, per, explain=True)
    for subject, one, other in zip(subjects, plain, told, strict=True):
        assert (one.relevance, one.core) == (None, None)
        assert same(one, dataclasses.replace(other, relevance=None, core=None))
        assert other.core.shape == other.kept.shape
        assert other.core.dtype == torch.bool
        if subject.fixed is not None:
            assert not other.core[torch.isin(other.kept, subject.fixed.nonzero())].any()
        if keep == 1.0 or subject.whole:
            assert other.relevance is None
            assert not other.core.any()
            continue
        if other.relevance is None:
            assert not method.prompt_aware
            continue
        assert other.relevance.shape == subject.tokens.embeds.shape[:1]
        assert other.relevance.dtype == torch.float32
        free = torch.ones(24, dtype=torch.bool) if subject.fixed is None else ~subject.fixed
        assert torch.equal(~other.relevance.isnan(), free)


@every_method
def test_each_frame_is_explained_as_a_picture_of_its_own(method):
    frames = noise(2, 3, 4, seed=3)
    (whole,) = choose([make_video(frames)], method, 4, "frame", explain=True)
    for number in range(2):
        alone = only(make_video(frames), range(12 * number, 12 * number + 12), grid=(1, 3, 4))
        (choice,) = choose([alone], method, 4, explain=True)
        here = whole.kept // 12 == number
        assert torch.equal(whole.core[here], choice.core)
        if choice.relevance is not None:
            assert torch.equal(whole.relevance[12 * number : 12 * number + 12], choice.relevance)


@every_method
def test_repeats_of_an_earlier_frame_have_no_relevance(method):
    (choice,) = choose([make_video(standing(3, 3, 4))], method, 6, explain=True)
    if choice.relevance is not None:
        assert choice.relevance[:12].isfinite().all()
        assert choice.relevance[12:].isnan().all()
    assert choice.core.shape == choice.kept.shape


# -- what a method is shown, and where its results go ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Brightest(Method):
    """The tokens with the highest first number; the second says whether a kept one is of the core."""

    name = "brightest"
    paper = "baseline"
    summary = "the tokens with the highest first number"
    prompt_aware = False
    needs = frozenset({"keys"})
    calls: list = dataclasses.field(default_factory=list, compare=False)

    def _select(self, tokens, k, selected):
        self.calls.append(("select", tokens))
        return tokens.embeds[:, 0].argsort(descending=True, stable=True)[:k].sort().values

    def _relevance_map(self, tokens):
        self.calls.append(("relevance", tokens))
        return tokens.embeds[:, 0].float()

    def _core_mask(self, tokens, kept):
        self.calls.append(("core", tokens))
        return tokens.embeds[kept, 1] > 0


def test_explanations_are_the_methods_own_for_each_share():
    moving, still, other = make_video(noise(3, 2, 3, seed=6)), make_video(standing(2, 2, 3)), make_image(9, seed=2)
    free = make_image(12, seed=3, fixed=some_fixed(12, 0, 5), whole=True)
    items, questions = [subject.item() for subject in (moving, still, other, free)], {0: noise(2)}
    shares = [
        Share(0, torch.arange(6, 12), 2), Share(0, torch.arange(0, 6), 3), Share(1, torch.arange(0, 6), 2),
        Share(2, torch.tensor([1, 2, 4, 7]), 4),
    ]  # fmt: skip
    chosen = select_tokens(items, shares, questions, Brightest(), explain=True)
    for n, (item, result) in enumerate(zip(items, chosen, strict=True)):
        kept, relevance = [], [None] * item.total
        for share in (share for share in shares if share.item == n):
            own = share.candidates.tolist()
            kept += sorted(own, key=lambda i, item=item: -float(item.embeds[i, 0]))[: share.k]
            for i in own:
                relevance[i] = float(item.embeds[i, 0])
        if n == 3:  # without a share all stays, and nothing is to be explained
            assert (result.kept.tolist(), result.relevance) == (list(range(12)), None)
            assert result.core.tolist() == [False] * 12
            continue
        assert result.kept.tolist() == sorted(kept)
        assert [None if value != value else value for value in result.relevance.tolist()] == relevance
        assert result.core.tolist() == [bool(item.embeds[i, 1] > 0) for i in sorted(kept)]
        assert result.core.any()


def test_nothing_is_explained_unasked():
    method, items = Brightest(), [make_image(9).item()]
    (plain,) = select_tokens(items, [Share(0, torch.arange(9), 2)], {0: noise(1)}, method)
    assert [call for call, _ in method.calls] == ["select"]
    assert (plain.relevance, plain.core) == (None, None)
    select_tokens(items, [Share(0, torch.arange(9), 2)], {0: noise(1)}, method, explain=True)
    assert [call for call, _ in method.calls[1:]] == ["select", "relevance", "core"]


def test_candidates_have_a_grid_where_they_are_whole_frames():
    item, method = make_video(noise(3, 2, 2)).item(), Brightest()
    cases = {
        (*range(12),): (3, 2, 2), (*range(8),): (2, 2, 2), (*range(4, 12),): (2, 2, 2), (*range(4, 8),): (1, 2, 2),
        (*range(2, 10),): None, (*range(2, 6),): None, (*range(6),): None, (*range(3),): None, (0, 1, 2, 4): None,
        (*range(4), *range(8, 12)): None, (0, 2, 4, 6): None,
    }  # fmt: skip
    for candidates, grid in cases.items():
        select_tokens([item], [Share(0, torch.tensor(candidates), 1)], {0: noise(1)}, method)
        _, tokens = method.calls[-1]
        assert tokens.grid == grid
        assert torch.equal(tokens.embeds, item.embeds[list(candidates)])
        assert torch.equal(tokens.keys, item.extras["keys"][list(candidates)])
    assert tokens.encoder is tokens.cls_attention is None  # only what the method needs


def test_a_question_comes_in_the_type_of_the_tokens_and_without_gradients():
    item, method = make_image(9).item(), Brightest()
    item = dataclasses.replace(item, embeds=item.embeds.half().requires_grad_())
    select_tokens([item], [Share(0, torch.arange(9), 2)], {0: noise(3)}, method)
    _, tokens = method.calls[-1]
    assert tokens.question.dtype == tokens.embeds.dtype == torch.float16
    assert torch.equal(tokens.question, noise(3).half())
    assert not tokens.embeds.requires_grad


@merging
def test_results_are_made_on_the_device_of_the_tokens(method):
    subjects = [make_video(noise(3, 3, 4)), make_image(24, fixed=some_fixed(24, 5))]
    items, questions = [subject.item() for subject in subjects], {0: noise(4, seed=99)}
    settings = check_settings(0.3, method, per="frame")
    shares = allocate_budget(items, questions, settings)
    expected = select_tokens(items, shares, questions, method, explain=True)
    with torch.device("meta"):  # what is not made on the device of the inputs has no values
        chosen = select_tokens(items, shares, questions, method, explain=True)
    for one, other in zip(expected, chosen, strict=True):
        assert same(one, other)
        assert torch.equal(one.core, other.core)
        assert other.relevance is None or other.relevance.device.type == "cpu"
