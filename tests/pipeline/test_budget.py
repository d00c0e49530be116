"""How a budget is allocated, against plain enumerations and loops; methods and selection are in test_select.py."""

import dataclasses
from fractions import Fraction
from itertools import product

import pytest
import torch

from foveate.errors import InputError, KeepError
from foveate.method.budget import to_budget
from foveate.method.scoring import score_peaked_tokens
from foveate.models.visual_input import make_visual_input
from foveate.pipeline.budget import REPEATS, allocate_budget, apportion, find_repeats
from foveate.pipeline.settings import check_settings

WIDTH = 16
EVERY = ("image", "video", "audio")


def noise(*shape, seed=0):
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


def item(embeds, modality="image", row=0, **fields):
    columns = torch.arange(len(embeds))
    return dataclasses.replace(make_visual_input(modality, row, columns, 0, embeds), **fields)


def make_video(frames, modality="video", **fields):
    """An item of these frames (t, h, w, d)."""
    return item(frames.flatten(0, 2), modality, grid=tuple(frames.shape[:3]), **fields)


def standing(t, h, w, seed=0):
    return noise(1, h, w, seed=seed).expand(t, -1, -1, -1)


def allocate(items, keep, per="image", modalities=EVERY, question=None):
    """(item, candidates, k) of every share."""
    questions = dict.fromkeys(range(9), noise(4, seed=99) if question is None else question)
    shares = allocate_budget(items, questions, check_settings(keep, "divprune", per=per, modalities=modalities))
    return [(share.item, share.candidates.tolist(), share.k) for share in shares]


# -- who gets a share --------------------------------------------------------------------------------------------------


def test_a_drawn_budget_of_all_keeps_repeats_too():
    settings = dataclasses.replace(check_settings(1.0, "divprune"), is_drawn=True)
    assert allocate_budget([make_video(standing(3, 2, 2))], {0: noise(4)}, settings) == []
    half = dataclasses.replace(settings, keep=0.5)
    assert len(allocate_budget([make_video(standing(3, 2, 2))], {0: noise(4)}, half)) == 1


def test_protected_tokens_and_repeats_are_no_candidates():
    protected = torch.zeros(12, dtype=torch.bool)
    protected[[3, 7, 11]] = True
    still = make_video(standing(3, 2, 2), protected=protected)
    free, first = [0, 1, 2, 4, 5, 6, 8, 9, 10], [0, 1, 2]
    assert allocate([item(noise(12), protected=protected)], 0.5) == [(0, free, to_budget(0.5, 9))]
    assert allocate([still], 0.5) == [(0, first, 3)]  # the budget counts repeats, and there is not more to keep
    assert allocate([still], 2) == [(0, first, 2)]
    assert allocate([still], 0.5, "frame") == [(0, first, 2)]  # half of three, halves up; the later frames are empty
    shares = allocate([still, item(noise(12))], 0.5, "prompt", question=noise(0))  # 11 of 21: 5 and 6
    assert shares == [(0, first, 3), (1, list(range(12)), 6)]


def test_each_frame_has_a_share_of_its_own():
    moving, image = make_video(noise(3, 1, 4)), item(noise(5))
    frames = [(0, [0, 1, 2, 3], 1), (0, [4, 5, 6, 7], 1), (0, [8, 9, 10, 11], 1)]
    assert allocate([moving, image], 0.25, "frame") == [*frames, (1, [0, 1, 2, 3, 4], 1)]
    assert allocate([moving, image], 1, "frame") == [*frames, (1, [0, 1, 2, 3, 4], 1)]
    assert allocate([moving, image], 0.25) == [(0, list(range(12)), 3), (1, [0, 1, 2, 3, 4], 1)]
    tall = allocate([make_video(noise(2, 3, 2))], 2, "frame")
    assert tall == [(0, [0, 1, 2, 3, 4, 5], 2), (0, [6, 7, 8, 9, 10, 11], 2)]


def test_only_the_pruned_modalities_have_shares_and_all_of_them_none():
    items = [item(noise(4), modality) for modality in EVERY]
    for modalities in (("image",), ("audio", "video"), EVERY):
        shares = allocate(items, 0.5, "image", modalities)
        assert [n for n, _, _ in shares] == [n for n in range(3) if EVERY[n] in modalities]
    assert allocate(items, 1.0) == []
    assert [k for _, _, k in allocate(items, 1)] == [1, 1, 1]


def test_frames_that_cannot_be_told_apart_are_refused_for_frames_alone():
    blurred, image = item(noise(8), "video"), item(noise(8))
    for per in ("image", "prompt"):
        assert [k for _, _, k in allocate([image, blurred], 0.5, per)] == [4, 4]
    for items in ([blurred], [image, blurred], [blurred, make_video(noise(2, 2, 2))]):
        with pytest.raises(InputError, match='use per="image"'):
            allocate(items, 0.5, "frame")
    assert len(allocate([image, item(noise(8), "audio"), make_video(noise(2, 2, 2))], 0.5, "frame")) == 4


def test_a_count_is_refused_where_tiles_may_be_parts_of_one_image():
    part, other = item(noise(8), is_part=True), item(noise(8), "audio")
    for per in ("image", "frame"):
        for items in ([part], [other, part]):
            with pytest.raises(KeepError, match="keep=4 counts tokens per image"):
                allocate(items, 4, per)
        assert [k for _, _, k in allocate([part, other], 0.5, per)] == [4, 4]
        assert [n for n, _, _ in allocate([part, other], 4, per, ("audio",))] == [1]  # parts that are not pruned
    assert sum(k for _, _, k in allocate([part, part], 4, "prompt")) == 4


def test_shares_are_made_on_the_device_of_the_tokens():
    items = [make_video(standing(3, 2, 2)), item(noise(9))]
    question = noise(4, seed=99)
    expected = [allocate(items, 0.5, per, question=question) for per in ("image", "frame", "prompt")]
    with torch.device("meta"):  # what is not made on the device of the inputs has no values
        made = [allocate(items, 0.5, per, question=question) for per in ("image", "frame", "prompt")]
    assert made == expected


# -- one budget for a prompt -------------------------------------------------------------------------------------------


def nearest_counts(wanted, sizes, total):
    """The squared distance to `wanted` of the nearest whole numbers from 1 to their sizes that sum to `total`."""
    ways = (way for way in product(*(range(1, size + 1) for size in sizes)) if sum(way) == total)
    return min(distance(way, wanted) for way in ways)


def distance(counts, wanted):
    return sum((count - want) ** 2 for count, want in zip(counts, wanted, strict=True))


def test_a_prompt_goes_half_by_size_and_half_to_the_most_relevant_tokens():
    moved = 0
    for seed in range(40):
        sizes, question = [3 + seed % 5, 2, 4 + seed % 3], noise(2, seed=seed + 500)
        items = [item(noise(size, seed=10 * seed + n)) for n, size in enumerate(sizes)]
        items[seed % 3].embeds[:2] += 2 * question[0]
        every = torch.cat([one.embeds for one in items])
        owners = [n for n, size in enumerate(sizes) for _ in range(size)]
        relevance = score_peaked_tokens(every, question)
        ranked = sorted(range(len(every)), key=lambda i: -float(relevance[i]))
        for total in range(3, len(every) + 1):
            top = [owners[i] for i in ranked[:total]]
            by_size = [Fraction(size * total, len(every)) for size in sizes]
            by_relevance = [top.count(n) for n in range(3)]
            wanted = [(one + other) / 2 for one, other in zip(by_size, by_relevance, strict=True)]
            counts = [k for _, _, k in allocate(items, total, "prompt", question=question)]
            assert sum(counts) == total
            assert distance(counts, wanted) == nearest_counts(wanted, sizes, total)
            moved += distance(counts, by_size) > nearest_counts(by_size, sizes, total)
    assert moved > 100  # relevance does change what sizes alone would give


def test_a_question_is_rounded_to_the_type_of_the_tokens():
    for seed in range(30):
        items = [item(noise(500, seed=2 * seed + n).bfloat16()) for n in range(2)]
        question = noise(2, seed=seed + 500)
        once = allocate(items, 300, "prompt", question=question)
        assert once == allocate(items, 300, "prompt", question=question.bfloat16())


def test_each_row_has_a_budget_of_its_own_and_items_of_protected_tokens_have_none():
    rigid = item(noise(3), protected=torch.ones(3, dtype=torch.bool))
    items = [item(noise(6, seed=1), row=2), rigid, item(noise(8, seed=2)), item(noise(4, seed=3)), rigid]
    shares = allocate(items, 6, "prompt", question=noise(0))
    assert [n for n, _, _ in shares] == [0, 2, 3]
    assert [k for _, _, k in shares] == [6, 4, 2]
    assert allocate([rigid], 6, "prompt") == []
    with pytest.raises(KeepError, match="keep=1 leaves 1 tokens for the 2 images of row 0"):
        allocate(items, 1, "prompt")


# -- the apportionment -------------------------------------------------------------------------------------------------


def cases(count=300):
    generator = torch.Generator().manual_seed(7)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape or (1,), generator=generator).tolist()

    for _ in range(count):
        (parts,) = draw(1, 8)
        sizes = draw(1, 30, parts)
        (total,) = draw(parts, sum(sizes) + 1)
        weights = draw(0, 10, parts)
        yield sizes, total, [Fraction(total * w, sum(weights) or 1) for w in weights]


def test_apportioned_budgets_are_whole_in_bounds_and_sum_to_the_total():
    for sizes, total, wanted in cases():
        counts = apportion(wanted, sizes, total)
        assert sum(counts) == total
        assert all(isinstance(count, int) and 1 <= count <= size for count, size in zip(counts, sizes, strict=True))


def test_apportioned_budgets_are_the_nearest_to_what_is_wanted():
    near = 0
    for sizes, total, wanted in cases(2000):
        if len(sizes) <= 4 and max(sizes) <= 9:
            near += 1
            assert distance(apportion(wanted, sizes, total), wanted) == nearest_counts(wanted, sizes, total)
    assert near > 30
    # Two steps down from two items, not from one.
    assert apportion([Fraction(0), Fraction(0), Fraction(3), Fraction(3)], [9] * 4, 6) == [1, 1, 2, 2]


def test_apportioned_budgets_are_as_wanted_where_nothing_stands_in_the_way():
    for sizes, total, _ in cases():
        wanted = [Fraction(size * total, sum(sizes)) for size in sizes]
        counts = apportion(wanted, sizes, total)
        if min(wanted) >= 1:
            assert all(abs(count - want) < 1 for count, want in zip(counts, wanted, strict=True))
            remainders = [(want - want.__floor__(), count > want) for count, want in zip(counts, wanted, strict=True)]
            up = [part for part, rounded_up in remainders if rounded_up]
            assert not up or min(up) >= max((part for part, rounded_up in remainders if not rounded_up), default=0)
    assert apportion([Fraction(5, 2)] * 4, [9] * 4, 10) == [3, 3, 2, 2]  # among equals the first
    assert apportion([Fraction(3), Fraction(7)], [9, 9], 10) == [3, 7]
    assert apportion([Fraction(0), Fraction(0), Fraction(6)], [9, 9, 9], 6) == [1, 1, 4]
    assert apportion([Fraction(9), Fraction(1)], [4, 9], 10) == [4, 6]


def slow_repeats(frames):
    """Place by place: a token repeats when it looks as the place did when it last showed anything new."""
    t, h, w, _ = frames.shape
    marked = torch.zeros(t, h, w, dtype=torch.bool)
    for y in range(h):
        for x in range(w):
            last = frames[0, y, x]
            for n in range(1, t):
                alike = float(torch.cosine_similarity(last, frames[n, y, x], dim=0))
                marked[n, y, x] = alike > REPEATS
                last = last if marked[n, y, x] else frames[n, y, x]
    return marked.flatten()


@pytest.mark.parametrize("step", [0.0, 0.003, 0.01, 0.05, 1.0])
def test_repeats_are_those_of_a_plain_loop(step):
    for seed, (t, h, w) in enumerate([(2, 3, 4), (9, 2, 2), (5, 1, 1), (1, 4, 4)]):
        frames = noise(1, h, w, seed=seed) + step * noise(t, h, w, seed=seed + 40).cumsum(0)
        marked = find_repeats(make_video(frames))
        assert torch.equal(marked, slow_repeats(frames))
        assert not marked[: h * w].any()
        if step in (0.0, 1.0):  # nothing moves, or everything does
            assert bool(marked[h * w :].all()) is (step == 0.0 or t == 1)


def test_repeats_see_a_slow_drift_and_a_return():
    turn = torch.linspace(0, 0.084, 13)  # 0.007 rad a frame, two of which are above 0.9999, and three below
    frames = torch.zeros(13, 1, 1, WIDTH)
    frames[..., 0], frames[..., 1] = turn.cos()[:, None, None], turn.sin()[:, None, None]
    fresh = ~find_repeats(make_video(frames))
    assert fresh.nonzero().flatten().tolist() == [0, 3, 6, 9, 12]
    one, other = noise(2, 1, 1, 1, seed=3)
    back = torch.stack([one, other, other, one])
    assert find_repeats(make_video(back[:, 0])).tolist() == [False, False, True, False]


def test_scale_is_no_news_and_nothing_is_no_repeat():
    frames = standing(3, 2, 2) * torch.tensor([1.0, 7.0, 0.1])[:, None, None, None]
    assert find_repeats(make_video(frames)).tolist() == [False] * 4 + [True] * 8
    assert not find_repeats(make_video(torch.zeros(3, 2, 2, WIDTH))).any()


def test_what_was_not_encoded_is_not_what_a_place_looked_like_last():
    frames, absent = standing(4, 1, 2).clone(), torch.zeros(8, dtype=torch.bool)
    frames[1:3, 0, 0], absent[[2, 4]] = 0, True  # its first place, in the two frames between
    whole = make_video(frames)
    video = dataclasses.replace(whole, absent=absent, embeds=whole.embeds[~absent])
    assert find_repeats(video).tolist() == [False, False] + [True] * 6
    (share,) = allocate_budget([video], {0: noise(2)}, check_settings(0.5, "divprune", skip=0))
    assert (share.candidates.tolist(), share.k) == ([0, 1], 2)


def test_a_share_is_one_of_the_whole_image_where_a_part_was_encoded():
    image = dataclasses.replace(item(noise(10), absent=torch.arange(10) >= 6), embeds=noise(6))
    for keep, k in ((0.4, 4), (0.9, 6), (2, 2)):
        for more, count in (({"skip": 0}, k), ({"encode": 0.5}, k), ({}, to_budget(keep, 6))):
            (share,) = allocate_budget([image], {0: noise(2)}, check_settings(keep, "divprune", **more))
            assert (share.candidates.tolist(), share.k) == ([*range(6)], count)


def test_only_the_frames_of_a_video_repeat():
    frames = standing(3, 2, 2)
    assert find_repeats(make_video(frames)).tolist() == [False] * 4 + [True] * 8
    for other in (make_video(frames, "image"), item(frames.flatten(0, 2), "video"), item(frames.flatten(0, 2))):
        marked = find_repeats(other)  # without a grid there are no places
        assert marked.dtype == torch.bool
        assert marked.tolist() == [False] * 12
