"""Embeddings of any finite scale: k distinct tokens, and those that an ordinary scale would have."""

import dataclasses
import math

import pytest
import torch

import foveate
from foveate.errors import InputError
from foveate.method.registry import METHODS
from foveate.method.scale import BLOCK_BYTES, LONGEST, SHORTEST, SPREAD, fit_rows, fit_weights, split_blocks
from foveate.method.scoring import score_pooled
from foveate.method.tokens import VisualTokens, unit_rows

METHODS_OF_INPUT = [METHODS.load(row.name)() for row in foveate.methods() if row.prunes == "input"]
RELEVANCES = [foveate.ZSPAPrune(relevance="word_mean"), foveate.ZSPAPrune(relevance="word_max")]
every_method = pytest.mark.parametrize("method", [*METHODS_OF_INPUT, *RELEVANCES], ids=repr)
ROWS = ("embeds", "question", "encoder", "keys")
POWERS = {
    torch.float16: (3, 8, 13), torch.bfloat16: (-110, -60, -20, 20, 63, 64, 100, 125),
    torch.float32: (-100, -64, -40, -12, 20, 63, 64, 100, 124), torch.float64: (-900, -120, -64, 64, 120, 128, 900),
}  # fmt: skip


def make_tokens(dtype=torch.float32, n=25, width=8):
    rng = torch.Generator().manual_seed(1)
    parts = {"embeds": (n, width), "question": (3, width), "encoder": (n, 6), "keys": (n, 6)}
    rows = {name: torch.randn(*shape, generator=rng).to(dtype) for name, shape in parts.items()}
    shares = {name: torch.rand(n, generator=rng).to(dtype) for name in ("cls_attention", "attention")}
    shares["cross_attention"] = torch.rand(n, 3, generator=rng).to(dtype)
    return VisualTokens(**rows, **shares, grid=(1, 5, 5))


def scale(rows, power):
    """By a power of two, in two steps, each of which is a number of every type."""
    return rows * 2.0 ** (power // 2) * 2.0 ** (power - power // 2)


@every_method
@pytest.mark.parametrize("dtype", POWERS, ids=str)
def test_a_common_scale_changes_nothing(method, dtype):
    tokens = make_tokens(dtype)
    expected = method.select(tokens, 9)
    assert len(set(expected.tolist())) == 9
    for name in ROWS:
        for power in POWERS[dtype]:
            value = scale(getattr(tokens, name), power)
            assert torch.equal(scale(value, -power), getattr(tokens, name)), "the test's own scaling rounds"
            scaled = dataclasses.replace(tokens, **{name: value})
            assert method.select(scaled, 9).tolist() == expected.tolist(), (name, power)
            torch.testing.assert_close(method.relevance_map(scaled), method.relevance_map(tokens))


@every_method
@pytest.mark.parametrize("factor", [1e-30, 1e-19, 1e19, 1e30])
def test_powers_of_ten(method, factor):
    tokens = make_tokens()
    scaled = dataclasses.replace(tokens, **{name: getattr(tokens, name) * factor for name in ROWS})
    assert method.select(scaled, 9).tolist() == method.select(tokens, 9).tolist()


@every_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_rows_of_all_scales_together(method, dtype):
    """Where only directions count the choice is that of equal lengths."""
    tokens = make_tokens(dtype)
    powers = torch.randint(-50, 50, (25, 1), generator=torch.Generator().manual_seed(2)).to(dtype)
    mixed = dataclasses.replace(
        tokens, **{name: getattr(tokens, name) * powers.exp2() for name in ("embeds", "encoder", "keys")}
    )
    kept = method.select(mixed, 9).tolist()
    assert len(set(kept)) == 9
    if method.name not in ("coin", "lrcp", "prunesid"):  # they go by the norms
        assert kept == method.select(tokens, 9).tolist()


@every_method
def test_a_common_scale_of_a_mixture_changes_nothing(method):
    powers = torch.arange(-24, 26, 2.0)[:, None]
    tokens = make_tokens()
    mixed = {name: getattr(tokens, name) * powers.exp2() for name in ("embeds", "encoder", "keys")}
    expected = method.select(dataclasses.replace(tokens, **mixed), 9).tolist()
    for factor in (2.0**-70, 2.0**-30, 2.0**30, 2.0**90):
        scaled = {name: value * factor for name, value in mixed.items()}
        assert method.select(dataclasses.replace(tokens, **scaled), 9).tolist() == expected, factor


@every_method
def test_one_huge_and_one_tiny_row(method):
    rows = torch.ones(6, 4)
    rows[0], rows[1] = 3e38, 1e-45
    tokens = VisualTokens(
        rows, rows, encoder=rows, keys=rows, cls_attention=rows[:, 0], attention=rows[:, 0], cross_attention=rows
    )
    for k in range(1, 7):
        kept = method.select(tokens, k)
        assert sorted(set(kept.tolist())) == kept.tolist()
        assert len(kept) == k
        weights, relevance = method.merge_weights(tokens, kept), method.relevance_map(tokens)
        assert weights is None or bool(weights.isfinite().all())
        assert relevance is None or bool(relevance.isfinite().all())


def test_rows_of_an_ordinary_scale_stay_as_they_are():
    for rows in (torch.randn(5, 3), torch.ones(2, 1) * 2**-31, torch.ones(1, 1) * 2**39, torch.ones(0, 3)):
        assert fit_rows("rows", rows) is rows
    assert (SHORTEST, LONGEST, SPREAD) == (2**-32, 2**40, 30)


def test_other_rows_are_of_length_one_and_keep_their_proportions():
    rows = torch.tensor([[3.0, -4.0], [6.0, 8.0], [0.0, 0.0]], dtype=torch.float64)
    for power in (-1000, -33, 45, 1000):
        fitted = fit_rows("rows", scale(rows, power))
        assert fitted.dtype == torch.float32
        assert fitted.tolist() == [[0.1875, -0.25], [0.375, 0.5], [0, 0]]
    assert fit_rows("rows", torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2


def test_a_far_smaller_row_keeps_its_direction_alone():
    rows = torch.tensor([[2.0**50, 0.0], [3 * 2.0**-80, 4 * 2.0**-80]])
    fitted = fit_rows("rows", rows)
    assert fitted[0].tolist() == [0.5, 0]
    torch.testing.assert_close(unit_rows(fitted)[1], torch.tensor([0.6, 0.8]))
    assert fitted[1].amax() == 2.0 ** -(SPREAD + 1)


def test_half_precision_keeps_the_directions_of_its_smallest_rows():
    rows = torch.tensor([[2.0**15, 0], [0, 2.0**-24], [0, 0]], dtype=torch.float16)
    fitted = fit_rows("rows", rows)
    assert fitted.dtype == torch.float32
    assert fitted.tolist() == [[0.5, 0], [0, 2.0 ** -(SPREAD + 1)], [0, 0]]


VALUES = BLOCK_BYTES // 4  # of a block in float32


@pytest.mark.parametrize(
    ("width", "height"), [(0, VALUES), (1, VALUES), (2, VALUES // 2), (VALUES // 2, 2), (VALUES, 1), (2 * VALUES, 1)]
)
def test_rows_are_split_into_blocks_of_an_ordinary_size(width, height):
    """As many rows as fit in, and at least one."""
    rows = torch.zeros(1, 1).expand(2 * height + 1, max(1, width))[:, :width]
    assert [len(block) for block in split_blocks(rows)] == [height, height, 1]


def test_gradients_and_the_callers_tensor_are_left_alone():
    rows = (torch.ones(3, 2) * 1e25).requires_grad_()
    tokens = VisualTokens(rows, rows)
    assert not tokens.embeds.requires_grad
    assert rows.amax() == 1e25
    torch.testing.assert_close(score_pooled(tokens.embeds, tokens.question), torch.ones(3))


def test_weights_are_scaled_together():
    weights = torch.tensor([0.5, 0.25, 0.0])
    assert fit_weights("weights", weights) is weights
    assert fit_weights("weights", torch.zeros(3)).tolist() == [0, 0, 0]
    for power, expected in ((-100, 2.0**-30), (100, 2.0**30), (127, 2.0**30)):
        assert fit_weights("weights", weights * 2.0**power).tolist() == (weights * expected).tolist()
    assert fit_weights("weights", weights.double() * 1e300).isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", POWERS, ids=str)
def test_nan_and_infinity_are_no_scale(bad, dtype):
    rows = torch.ones(4, 3, dtype=dtype)
    rows[2, 1] = bad
    with pytest.raises(InputError, match="rows contains NaN or infinity"):
        fit_rows("rows", rows)
    with pytest.raises(InputError, match="weights contains NaN or infinity"):
        fit_weights("weights", rows[2])
