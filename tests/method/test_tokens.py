import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import foveate
from cost import Cost
from foveate.errors import FoveateError, FoveateWarning, InputError, KeepError
from foveate.method import resolve
from foveate.method.budget import check_keep, to_budget, to_fraction
from foveate.method.foveate import Foveate
from foveate.method.tokens import VisualTokens, unit_rows


@pytest.mark.parametrize(
    ("keep", "n", "k"),
    [
        (0.1, 576, 58),  # 57.6: the literature's 58
        (0.1111, 576, 64),
        (1.0, 576, 576),
        (1.0, 1, 1),
        (0.5, 5, 3),  # 2.5: halves go up
        (0.145, 100, 15),  # 14.5 as typed, though the float is a little less
        (0.29, 100, 29),
        (1e-9, 576, 1),
        (0.001, 1, 1),
        (1, 576, 1),
        (64, 576, 64),
        (576, 576, 576),
        (np.int64(64), 576, 64),
        (np.float64(0.1), 576, 58),
        (np.float32(0.1), 576, 58),
    ],
)
def test_budget(keep, n, k):
    result = to_budget(keep, n)
    assert result == k
    assert type(result) is int


def test_budget_is_between_one_and_n_and_never_falls():
    for n in (1, 2, 7, 576):
        result = [to_budget(share / 200, n) for share in range(1, 201)]
        assert result == sorted(result)
        assert result[0] >= 1
        assert result[-1] == n


def test_more_than_there_is_keeps_all_and_warns():
    with pytest.warns(FoveateWarning, match="keeps all"):
        assert to_budget(577, 576) == 576


@pytest.mark.parametrize(
    ("keep", "fix"),
    [
        (12.0, "keep=12.0 is not a share: use an int for tokens per image"),
        (0, "keeps no token"),
        (-3, "keeps no token"),
        (0.0, "not a share"),
        (-0.5, "not a share"),
        (1.0001, "not a share"),
        (math.nan, "not a share"),
        (math.inf, "not a share"),
        (True, "is a bool"),
        (np.True_, "is a bool"),
        ("0.1", "is a str"),
        (None, "is a NoneType"),
        (1j, "is a complex"),
    ],
)
def test_bad_keep_names_the_fix(keep, fix):
    for check in (check_keep, lambda keep: to_budget(keep, 576)):
        with pytest.raises(KeepError, match="use an int for tokens per image") as caught:
            check(keep)
        assert fix in str(caught.value)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, FoveateError)


def test_good_keep_passes():
    for keep in (1, 10**9, 1e-6, 1.0, np.int32(5), np.float16(0.5)):
        check_keep(keep)


def test_to_fraction_has_no_binary_rounding():
    assert to_fraction(0.6) * 5 == 3
    assert to_fraction(0.29) * 100 == 29
    assert to_fraction(1e-05) * 100000 == 1
    assert to_fraction(0.1) * 7 == Fraction(7, 10)


def test_unit_rows():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]], dtype=torch.float16)
    assert unit_rows(rows).dtype == torch.float32
    torch.testing.assert_close(unit_rows(rows), torch.tensor([[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0]]))
    torch.testing.assert_close(unit_rows(rows.reshape(3, 1, 2))[:, 0], unit_rows(rows))


def test_visual_tokens_accept_what_fits():
    tokens = VisualTokens(torch.ones(6, 4), torch.ones(0, 4), (1, 2, 3))
    assert tokens.grid == (1, 2, 3)
    assert VisualTokens(torch.ones(6, 4), torch.ones(2, 4)).grid is None
    assert len(VisualTokens(torch.ones(1, 4), torch.ones(2, 4), (1, 1, 1)).embeds) == 1
    peak = torch.tensor([0.0, 0.5, 0.5, 0, 0, 0])
    assert VisualTokens(torch.ones(6, 4), torch.ones(2, 4), cls_attention=peak).extra("cls_attention") is peak
    with pytest.raises(AttributeError):
        tokens.grid = None


ONES = torch.ones(6, 4)


@pytest.mark.parametrize(
    ("extras", "fix"),
    [
        ({"encoder": torch.ones(5, 3)}, "encoder has 5 tokens but embeds 6"),
        ({"encoder": torch.ones(6)}, "encoder has shape (6,)"),
        ({"keys": torch.ones(7, 3)}, "keys has 7 tokens"),
        ({"keys": torch.ones(6, 3) * math.inf}, "keys contains NaN or infinity"),
        ({"cls_attention": torch.ones(6, 1)}, "cls_attention has shape (6, 1): give one number a token"),
        ({"cls_attention": torch.ones(5)}, "cls_attention has 5 tokens"),
        ({"cls_attention": torch.ones(6) * math.nan}, "cls_attention contains NaN"),
        ({"cls_attention": torch.ones(6).long()}, "cls_attention is torch.int64"),
        ({"cls_attention": -torch.ones(6)}, "after the softmax"),
    ],
)
def test_extras_that_do_not_fit_are_refused(extras, fix):
    with pytest.raises(InputError) as caught:
        VisualTokens(torch.ones(6, 4), torch.ones(0, 4), **extras)
    assert fix in str(caught.value)


def test_an_extra_is_there_or_an_error_names_it():
    tokens = VisualTokens(torch.ones(6, 4), torch.ones(0, 4), encoder=torch.ones(6, 9))
    assert tokens.extra("encoder").shape == (6, 9)
    with pytest.raises(InputError, match=r"came without keys.*foveate\.prune_inputs"):
        tokens.extra("keys")


@pytest.mark.parametrize(
    ("embeds", "question", "grid", "fix"),
    [
        (ONES[None], ONES, None, "embeds has shape (1, 6, 4)"),
        (ONES[0], ONES, None, "embeds has shape (4,)"),
        (ONES, ONES[0], None, "question has shape (4,)"),
        (ONES[:0], ONES, None, "has no tokens"),
        (ONES, ONES[:, :3], None, "embeds are 4 wide but question is 3 wide"),
        (ONES, ONES.long(), None, "not ids"),
        (ONES / 0, ONES, None, "embeds contains NaN or infinity"),
        (ONES, ONES * math.nan, None, "question contains NaN or infinity"),
        (ONES, ONES, (1, 2, 2), "t * h * w = 6"),
        (ONES, ONES, (2, 3), "t * h * w = 6"),
        (ONES, ONES, (1, -2, -3), "t * h * w = 6"),
    ],
)
def test_visual_tokens_refuse_what_does_not_fit(embeds, question, grid, fix):
    with pytest.raises(InputError) as caught:
        VisualTokens(embeds, question, grid)
    assert fix in str(caught.value)


DENSE = "sparse, nested or quantized tensor: pass a dense one"


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ([[1.0] * 4] * 6, "is a list: pass a tensor of torch"),
        (np.ones((6, 4)), "is a ndarray: pass a tensor of torch"),
        ("rows", "is a str: pass a tensor of torch"),
        (ONES.to_sparse(), DENSE),
        (ONES.to("meta"), "on the meta device, which holds no values"),
        (ONES.bool(), "is torch.bool"),
        (ONES.to(torch.complex64), "is torch.complex64"),
        (ONES.to(torch.float8_e4m3fn), "is torch.float8_e4m3fn"),
        (ONES[:, :0], "has shape (6, 0)"),
        (torch.tensor(1.0), "has shape ()"),
    ],
)
def test_what_is_no_tensor_of_numbers_is_refused_by_name(value, fix):
    rest = {"embeds": ONES, "question": ONES}
    for name in ("embeds", "question", "encoder", "keys", "cls_attention", "attention"):
        with pytest.raises(InputError, match=r"^" + name) as caught:
            VisualTokens(**{**rest, name: value})
        assert fix in str(caught.value) or name.endswith("attention")  # of which a matrix has the wrong shape
    with pytest.raises(InputError, match=r"^embeds") as caught:
        foveate.select(value, k=2)
    assert fix in str(caught.value)


@pytest.mark.parametrize(
    "grid", [5, "123", (1.0, 2, 3), (True, 2, 3), {1, 2, 3}, torch.tensor([1, 2, 3]), (1, 2, 3, 1)]
)
def test_a_grid_is_three_integers(grid):
    with pytest.raises(InputError, match=r"is not for 6 tokens: give \(t, h, w\)"):
        VisualTokens(ONES, ONES, grid)


@pytest.mark.parametrize(
    "selected",
    [5, None, "12", [[0]], [0.0], [True], [0, 0], [6], [-1], np.zeros((1, 1), int), torch.tensor(1), iter([1])],
)
def test_selected_are_distinct_indices(selected):
    with pytest.raises(InputError, match="must be distinct token indices, each an int from 0 to 5"):
        resolve("divprune").select(VisualTokens(ONES, ONES), 1, selected=selected)


def test_selected_may_be_any_collection_of_integers():
    tokens = VisualTokens(torch.eye(6), torch.eye(6))
    for selected in ({0, 2}, np.array([0, 2]), torch.tensor([2, 0]), range(0, 3, 2), (np.int32(0), 2)):
        assert resolve("divprune").select(tokens, 4, selected=selected).tolist() == [1, 3, 4, 5]
    with pytest.raises(InputError, match="selected is on the meta device"):
        resolve("divprune").select(tokens, 1, selected=torch.tensor([1], device="meta"))


@pytest.mark.parametrize(
    "kept",
    [[0, 1], torch.tensor([6]), torch.tensor([-1]), torch.tensor([0.0]), torch.tensor([[0]]), torch.tensor([]).long(),
     torch.tensor([True] * 6), torch.tensor([0], device="meta"), torch.tensor([0], dtype=torch.int32)],
)  # fmt: skip
def test_kept_are_what_select_returned(kept):
    method = resolve("foveate")
    for read in (method.merge_weights, method.core_mask):
        with pytest.raises(InputError, match=r"^kept is"):
            read(VisualTokens(ONES, ONES), kept)


def test_methods_take_visual_tokens():
    method, tokens = resolve("foveate"), VisualTokens(ONES, ONES)
    for call in (
        lambda: method.select(ONES, 2),
        lambda: method.relevance_map(None),
        lambda: method.select_many([ONES], [2]),
    ):
        with pytest.raises(InputError, match=r"tokens is a .*: make VisualTokens"):
            call()
    for images, ks in (([tokens], [1, 2]), (tokens, [1]), ([tokens], 1), (None, None)):
        with pytest.raises(InputError, match="images and ks do not fit"):
            method.select_many(images, ks)


@pytest.mark.parametrize(
    "indices", [[0], torch.tensor([0.5]), torch.tensor([6]), torch.tensor([[0]]), torch.tensor([True])]
)
def test_indices_of_a_subset_are_of_the_tokens(indices):
    with pytest.raises(InputError, match=r"^indices"):
        FULL.subset(indices)


def test_an_extra_has_a_name():
    for name in ("colour", 5, ["keys"], None):
        with pytest.raises(InputError, match="is no extra: use one of encoder, keys, cls_attention, attention"):
            FULL.extra(name)


@pytest.mark.parametrize(
    "method", ["", b"foveate", None, 5, ["foveate"], torch.zeros(3), VisualTokens, np.zeros((9, 9))]
)
def test_what_is_no_method_is_refused(method):
    with pytest.raises(FoveateError) as caught:
        foveate.select(ONES, k=2, method=method)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_old_names_warn():
    tokens = VisualTokens(torch.eye(5), torch.zeros(0, 5))
    method = resolve("divprune")
    with pytest.warns(DeprecationWarning, match="selected="):
        assert method.select(tokens, 1, given=[0]).tolist() == method.select(tokens, 1, selected=[0]).tolist()
    with pytest.warns(DeprecationWarning, match="merge_weights"):
        assert method.mix(tokens, torch.tensor([0])) is None


FULL = VisualTokens(
    torch.arange(24.0).reshape(6, 4),
    torch.ones(2, 4),
    (1, 2, 3),
    encoder=torch.arange(18.0).reshape(6, 3),
    cls_attention=torch.arange(6.0) / 15,
    keys=torch.arange(12.0).reshape(6, 2),
)


def test_a_subset_has_the_rows_at_the_indices():
    indices = torch.tensor([1, 4, 5])
    part = FULL.subset(indices, (1, 1, 3))
    for name in ("embeds", "encoder", "cls_attention", "keys"):
        assert torch.equal(getattr(part, name), getattr(FULL, name)[indices])
    assert part.question is FULL.question
    assert part.grid == (1, 1, 3)
    assert FULL.subset(indices).grid is None
    assert VisualTokens(ONES, ONES).subset(indices).keys is None
    assert FULL.grid == (1, 2, 3)
    assert len(FULL.embeds) == 6


def test_a_subset_reads_nothing_back_from_the_device():
    with Cost() as made:
        VisualTokens(FULL.embeds, FULL.question)
    assert made.reads
    with Cost() as cut:
        FULL.subset(torch.tensor([1, 4, 5]), (3, 1, 1))
    assert cut.reads == []


def test_a_subset_has_tokens_and_a_grid_that_fits():
    with pytest.raises(InputError, match="has no tokens"):
        FULL.subset(torch.tensor([], dtype=torch.long))
    for grid in [(1, 2, 3), (1, 4)]:
        with pytest.raises(InputError, match=r"t \* h \* w = 4"):
            FULL.subset(torch.tensor([0, 1, 2, 3]), grid)


def test_a_part_of_an_image_keeps_its_places():
    """Equal tokens go by place alone: the farthest cells of the whole image, not of a row of what is left."""
    tokens = VisualTokens(torch.ones(36, 4), torch.ones(0, 4), (1, 6, 6))
    left = torch.tensor([0, 1, 2, 3, 4, 5, 6, 12, 18, 24, 30, 35])
    part = tokens.subset(left, of_raster=True)
    assert (part.grid, part.raster, part.cells.tolist()) == (None, (1, 6, 6), left.tolist())
    assert left[Foveate(reach=0.5).select(part, 4)].tolist() == [0, 5, 30, 35]
    bare = tokens.subset(left)
    assert (bare.raster, bare.cells) == (None, None)
    assert left[Foveate(reach=0.5).select(bare, 4)].tolist() == [0, 1, 2, 3]
    assert part.subset(torch.arange(3)).raster is None
    further = part.subset(torch.tensor([3, 7]), of_raster=True)
    assert (further.raster, further.cells.tolist()) == ((1, 6, 6), [3, 12])
    placed = VisualTokens(torch.ones(12, 4), torch.ones(0, 4)).place((1, 6, 6), left)
    assert (placed.grid, placed.raster, placed.cells.tolist()) == (None, (1, 6, 6), left.tolist())
    assert Foveate(reach=0.5).select(placed, 4).tolist() == Foveate(reach=0.5).select(part, 4).tolist()
    every = tokens.subset(torch.arange(36), of_raster=True)
    assert Foveate().select(every, 7).tolist() == Foveate().select(tokens, 7).tolist()
