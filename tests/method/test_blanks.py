"""Which merge units stand for others, beside a slow reference, and that nothing is lost that shows something."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.method import blanks
from foveate.method.blanks import ROUNDS, find_representatives

GRIDS = [(1, 1, 1), (1, 1, 7), (1, 5, 1), (1, 6, 9), (1, 13, 4), (3, 1, 1), (4, 3, 5), (2, 7, 2)]
THRESHOLDS = [0, 0.01, 0.05, 0.3]
SIDE = 8  # pixels of a merge unit here


def find_slowly(units, grid, threshold):
    """The definition, unit by unit."""
    _, h, w = grid
    limit = threshold * (units.max() - units.min())

    def is_near(one, other):
        return bool((units[one] - units[other]).abs().max() <= limit)

    def is_blank(one):
        return all(units[one, :, c].max() - units[one, :, c].min() <= limit for c in range(units.shape[2]))

    links, result, left = {}, list(range(len(units))), list(range(len(units)))
    for n in range(len(units)):
        frame, row, column = n // (h * w), n // w % h, n % w
        for before, exists in ((n - h * w, frame), (n - w, row and is_blank(n)), (n - 1, column and is_blank(n))):
            if exists and is_near(n, before):
                links[n] = before
                break
    for _ in range(ROUNDS):
        first = {}
        for n in left:
            first[n] = first.get(links.get(n), n)
        for n in left:
            if is_near(n, first[n]):
                result[n] = first[n]
        left = [n for n in left if not is_near(n, first[n])]
    return torch.tensor(result)


def cut_units(image, side=SIDE):
    """The merge units (n, 4, c, p) of an image (h, w, c) or a clip (t, h, w, c), and their grid."""
    clip = torch.as_tensor(np.asarray(image, np.float32))
    clip = clip if clip.ndim == 4 else clip[None]
    t, h, w = clip.shape[0], clip.shape[1] // side, clip.shape[2] // side
    parts = clip.reshape(t, h, 2, side // 2, w, 2, side // 2, -1).permute(0, 1, 4, 2, 5, 7, 3, 6)
    return parts.reshape(t * h * w, 4, clip.shape[3], -1), (t, h, w)


def make_steps(grid, seed, sizes=(3, 1, 20, 200)):
    """Units of few kinds, one of them with something on it, in which each value may be off by a little."""
    rng = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1] * grid[2]
    kinds = torch.randint(0, sizes[3], (sizes[0], 1, 3, 1), generator=rng).float().repeat(1, 4, 1, 2)
    kinds[0, 1, 2, 0] += 70
    units = kinds[torch.randint(0, sizes[0], (n,), generator=rng)]
    return units + torch.randint(-sizes[1], sizes[1] + 1, units.shape, generator=rng)


def make_drift(grid, seed):
    """A gradient over all axes with a little noise: neighbours are near, ends are not."""
    places = torch.cartesian_prod(*(torch.arange(size, dtype=torch.float) for size in grid)).sum(1)
    noise = torch.rand(len(places), 4, 3, 2, generator=torch.Generator().manual_seed(seed))
    return places[:, None, None, None] + noise


def count_encoded(units, grid, threshold):
    return int((find_representatives(units, grid, threshold) == torch.arange(len(units))).sum())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("make", [make_steps, make_drift])
def test_the_slow_reference(grid, make):
    for seed in range(8):
        units = make(grid, seed)
        for threshold in THRESHOLDS:
            assert torch.equal(find_representatives(units, grid, threshold), find_slowly(units, grid, threshold))


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("make", [make_steps, make_drift])
def test_what_stands_for_a_unit_is_encoded_and_near(make, threshold):
    grid = (2, 17, 23)
    units = make(grid, 5)
    firsts = find_representatives(units, grid, threshold)
    assert torch.equal(firsts[firsts], firsts)
    assert bool((firsts <= torch.arange(len(units))).all())
    assert float((units - units[firsts]).abs().max()) <= threshold * float(units.max() - units.min()) + 1e-5


@pytest.mark.parametrize("grid", GRIDS)
def test_at_0_exactly_what_is_blank_as_its_neighbour_or_as_it_was_goes(grid):
    t, h, w = grid
    units = make_steps(grid, 3, (2, 0, 20, 200))
    cells = units.reshape(t, h, w, -1)
    blank = (units == units[:, :1, :, :1]).all(-1).all(-1).all(-1).reshape(grid)
    repeats = torch.zeros(grid, dtype=torch.bool)
    repeats[:, 1:] |= (cells[:, 1:] == cells[:, :-1]).all(-1)
    repeats[:, :, 1:] |= (cells[:, :, 1:] == cells[:, :, :-1]).all(-1)
    repeats &= blank
    repeats[1:] |= (cells[1:] == cells[:-1]).all(-1)
    firsts = find_representatives(units, grid, 0)
    assert torch.equal(firsts != torch.arange(len(units)), repeats.flatten())
    assert torch.equal(units[firsts], units)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("steps", [2, 3, 5])
def test_a_slow_gradient_is_no_run(axis, steps):
    """Every unit is near to the next one and the ends are as far apart as values can be."""
    count, threshold = 40, 1.01 * steps / 39
    ramp = np.linspace(0, 255, count).repeat(SIDE)
    image = np.broadcast_to(ramp[:, None] if axis == 0 else ramp[None], (count * SIDE, count * SIDE))[..., None]
    units, grid = cut_units(image)
    firsts = find_representatives(units, grid, threshold)
    assert float((units - units[firsts]).abs().max()) <= threshold * 255 + 1e-3
    assert count_encoded(units, grid, threshold) >= count / (steps + 1)
    assert count_encoded(units, grid, threshold) < count**2  # the first runs of it are still cut


def test_blank_pages_and_gradients_in_time():
    units, grid = cut_units(np.full((5 * SIDE, 7 * SIDE, 3), 236))
    for threshold in THRESHOLDS:
        assert find_representatives(units, grid, threshold).unique().tolist() == [0]
    fading = np.linspace(0, 255, 30)[:, None, None, None] * np.ones((30, 2 * SIDE, 2 * SIDE, 1))
    units, grid = cut_units(fading)
    assert count_encoded(units, grid, 0.0) == 30
    assert count_encoded(units, grid, 0.05) >= 15


def test_chessboards():
    y, x = np.mgrid[: 6 * SIDE, : 8 * SIDE]
    fine = ((y + x) % 2 * 255)[..., None]  # all units are equal, and none is blank
    assert count_encoded(*cut_units(fine), 0) == 48
    assert count_encoded(*cut_units(np.stack([fine, fine, 255 - fine])), 0) == 96  # a repeat in time goes
    coarse = ((y // SIDE + x // SIDE) % 2 * 255)[..., None]  # no neighbours are
    assert count_encoded(*cut_units(coarse), 0.9) == 48
    odd = ((y // 3 + x // 3) % 2 * 255)[..., None]  # squares and units do not fit together
    assert count_encoded(*cut_units(odd), 0.9) == 48


def test_one_pixel_is_enough():
    page = np.full((6 * SIDE, 6 * SIDE, 3), 255)
    page[3 * SIDE + 5, 2 * SIDE + 1] = (255, 255, 240)  # a dot in one channel
    page[0, 0] = 0
    units, grid = cut_units(page)
    firsts = find_representatives(units, grid, 0.05)
    assert set(firsts.unique().tolist()) == {0, 1, 6, 20}  # the corner, two runs that begin beside it, the dot
    assert 20 not in find_representatives(units, grid, 0.06).unique()


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_equal_signs_in_a_row_are_all_encoded(threshold):
    page = np.full((5 * SIDE, 8 * SIDE, 3), 255)
    for column in range(1, 7):  # each in a unit of its own, and all alike
        page[2 * SIDE + 2 : 2 * SIDE + 6, column * SIDE + 3 : column * SIDE + 5] = 0
    page[4 * SIDE + 3] = 0  # a line
    firsts = find_representatives(*cut_units(page), threshold)
    assert set(range(17, 23)) | set(range(32, 40)) <= set(firsts.unique().tolist())
    assert len(firsts.unique()) <= 14 + 3


def test_jpeg_and_noise_need_a_threshold():
    rng = np.random.default_rng(0)
    page = np.full((20 * SIDE, 20 * SIDE, 3), 244, np.uint8)
    page[40:60, 32:120] = rng.integers(0, 255, (20, 88, 3))
    buffer = io.BytesIO()
    Image.fromarray(page).save(buffer, "JPEG", quality=85)
    noisy = np.asarray(Image.open(buffer)).astype(float) + rng.integers(-2, 3, page.shape)
    units, grid = cut_units(noisy)
    assert count_encoded(units, grid, 0) == 400
    assert count_encoded(units, grid, 0.02) <= 150
    written = {n for n in range(400) if 40 < (n // 20 + 0.5) * SIDE < 56 and 40 < (n % 20 + 0.5) * SIDE < 112}
    assert written <= set(find_representatives(units, grid, 0.02).unique().tolist())


def test_a_clip_costs_what_moves():
    rng = np.random.default_rng(0)
    still = np.broadcast_to(rng.integers(0, 255, (1, 4 * SIDE, 5 * SIDE, 3)), (6, 4 * SIDE, 5 * SIDE, 3)).copy()
    assert count_encoded(*cut_units(still), 0) == 20
    still[3, :SIDE, :SIDE] = 7  # for one frame, and back again
    firsts = find_representatives(*cut_units(still), 0)
    assert firsts.unique().tolist() == [*range(20), 60, 80]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_and_scales(dtype):
    grid = (2, 6, 5)
    units = make_steps(grid, 1, (3, 2, 20, 100))
    for threshold in THRESHOLDS:
        expected = find_representatives(units, grid, threshold)
        assert torch.equal(find_representatives(units.to(dtype), grid, threshold), expected)
        assert torch.equal(find_representatives(units * 4 - 256, grid, threshold), expected)


def test_differences_are_not_rounded():
    units = torch.full((3, 4, 3, 2), 0.5)
    units[0], units[2], units[0, 0, 0, 0] = 0, 129, 256  # 128.5 apart, which bfloat16 does not have
    for threshold, count in ((128.25 / 256, 3), (128.75 / 256, 2)):
        assert len(find_representatives(units.bfloat16(), (1, 1, 3), threshold).unique()) == count
    units[1] = units[2]
    units[1:, 2] = 0.5  # two units of two colours, 128.5 apart
    for threshold, count in ((128.25 / 256, 3), (128.75 / 256, 2)):
        assert len(find_representatives(units.bfloat16(), (1, 1, 3), threshold).unique()) == count


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_no_numbers_are_left_to_the_encoder(wrong):
    units = torch.ones(12, 4, 3, 2)
    units[7, 3, 1, 0] = wrong
    assert 7 in find_representatives(units, (1, 3, 4), 0.02).unique()


def test_the_cost_is_linear_and_blocks_change_nothing(monkeypatch):
    measured, measure = [], blanks._measure_distances
    monkeypatch.setattr(blanks, "_measure_distances", lambda *call: measured.append(len(call[1])) or measure(*call))
    for grid in [(1, 6, 9), (1, 60, 90), (3, 20, 20)]:
        units = make_drift(grid, 0)
        measured.clear()
        whole = find_representatives(units, grid, 0.02)
        assert sum(measured) <= (3 + ROUNDS) * len(units)
        monkeypatch.setattr(blanks, "BLOCK", 200)
        assert torch.equal(find_representatives(units, grid, 0.02), whole)
        monkeypatch.setattr(blanks, "BLOCK", 2**22)
