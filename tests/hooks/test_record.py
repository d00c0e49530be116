"""What a cache remembers of a pruned prompt, value by value, and how it follows the rows of the cache."""

import re
from functools import partial

import pytest
import torch
from transformers import DynamicCache

from foveate.errors import InputError
from foveate.hooks.record import (
    CachedPrompt,
    CachedStates,
    find_cache,
    fit_rows,
    forget_prompt,
    open_cache,
    read_prompt,
    record_prompt,
)
from foveate.models.sequence import lay_out

# Two rows of six columns, the second padded on the left; columns 2 and 3 are dropped.
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]])
STAYS = torch.tensor([[1, 1, 0, 0, 1, 1], [0, 1, 0, 0, 1, 1]]).bool()
LAYOUT = lay_out(MASK, STAYS)
ONE_AXIS = torch.tensor([[0, 1, 4, 5], [0, 0, 3, 4]])
# A row that counts tokens, then time, height and width, of which height is the largest at the end.
AXES = torch.tensor(
    [
        [[0, 1, 2, 3], [0, 0, 1, 2]],
        [[0, 1, 2, 2], [0, 0, 2, 2]],
        [[0, 1, 3, 7], [0, 0, 2, 9]],
        [[0, 1, 2, 5], [0, 0, 2, 4]],
    ]
)


def make_record(positions=ONE_AXIS, is_counted=False, shift=(0, 0)):
    return CachedPrompt(LAYOUT, positions, is_counted, torch.tensor(shift), 4)


def test_positions_behind_the_prompt():
    steps = torch.tensor([[0, 1, 2], [0, 1, 2]])
    assert make_record().next_positions(steps).tolist() == [[6, 7, 8], [5, 6, 7]]
    following = make_record(AXES, True).next_positions(steps)
    assert following[0].tolist() == [[4, 5, 6], [3, 4, 5]]  # tokens that are no padding
    assert following[1:].tolist() == [[[8, 9, 10], [10, 11, 12]]] * 3  # behind the largest of all axes
    assert make_record(AXES[1:]).next_positions(steps).tolist() == [[[8, 9, 10], [10, 11, 12]]] * 3
    # Padding does not count, whatever stands there.
    padded = ONE_AXIS.clone()
    padded[1, 0] = 50
    assert make_record(padded).next_positions(steps).tolist() == [[6, 7, 8], [5, 6, 7]]


def test_the_mask_of_the_cache_and_the_new_tokens():
    record = make_record()
    assert record.join_mask(None, 1, 2).tolist() == [[1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1]]
    whole = lay_out(MASK[:1], STAYS[:1])
    assert CachedPrompt(whole, ONE_AXIS[:1], False, torch.zeros(1), 4).join_mask(None, 1, 2) is None
    mask = torch.cat([MASK, torch.tensor([[1, 1, 0], [1, 1, 1]])], 1)
    joined = record.join_mask(mask.bool(), 1, 2)
    assert joined.dtype == torch.bool
    assert joined.int().tolist() == [[1, 1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("mask", "shown"),
    [
        (torch.ones(2, 8), "(2, 8)"),
        (torch.ones(2, 10), "(2, 10)"),
        (torch.ones(2, 1, 9, 9), "(2, 1, 9, 9)"),
        ([[1] * 9] * 2, "list"),
    ],
)
def test_masks_of_another_shape_are_refused(mask, shown):
    with pytest.raises(InputError, match=rf"attention_mask is {re.escape(shown)}: .* one of 9 columns"):
        make_record().join_mask(mask, 1, 2)


def test_a_mask_of_other_rows_is_refused():
    mask = torch.cat([MASK.flip(0), torch.ones(2, 3).long()], 1)
    with pytest.raises(InputError, match="hides other columns of the prompt"):
        make_record().join_mask(mask, 1, 2)


def test_positions_inside_the_prompt_are_refused():
    record = make_record()
    record.check_positions(torch.tensor([[6, 7], [5, 6]]))
    for inside in ([[5, 6], [5, 6]], [[6, 7], [4, 5]], [[6, 2], [5, 6]]):
        with pytest.raises(InputError, match="position_ids stand inside the pruned prompt"):
            record.check_positions(torch.tensor(inside))
    counted = make_record(AXES, True)
    behind = torch.tensor([[[0], [0]], [[8], [10]], [[8], [10]], [[8], [10]]])  # the row that counts is made anew
    counted.check_positions(behind)
    with pytest.raises(InputError, match="inside the pruned prompt"):
        counted.check_positions(torch.cat([behind[:2], behind[2:] - 3]))
    counted.check_positions(torch.tensor([[0], [0]]))  # of fewer axes: nothing to compare


def test_rows_are_selected_and_repeated():
    record = make_record(AXES, True, shift=(2, 5))
    other = record.select(torch.tensor([1, 1, 0]))
    assert other.count_rows() == 3
    assert other.shift.tolist() == [5, 5, 2]
    assert torch.equal(other.positions, AXES[:, [1, 1, 0]])
    assert torch.equal(other.layout.index, LAYOUT.index[[1, 1, 0]])
    assert torch.equal(other.layout.real, LAYOUT.real[[1, 1, 0]])
    assert (other.layout.width, other.length, other.is_counted) == (6, 4, True)
    assert fit_rows(record, 2) is record
    assert fit_rows(record, 6).shift.tolist() == [2, 2, 2, 5, 5, 5]
    with pytest.raises(InputError, match=r"of 2 rows: go on with as many rows, not 3\."):
        fit_rows(record, 3)
    states = CachedStates({"attention_mask": torch.tensor([[1, 0], [0, 1]])}, torch.tensor([[[[1]]], [[[2]]]]))
    assert states.count_rows() == 2
    swapped = states.select(torch.tensor([1, 0, 0]))
    assert swapped.masks["attention_mask"].tolist() == [[0, 1], [1, 0], [1, 0]]
    assert swapped.seen.flatten().tolist() == [2, 1, 1]
    assert CachedStates(states.masks).select(torch.tensor([1])).seen is None


@pytest.fixture
def cache():
    cache = DynamicCache()
    cache.update(torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 4, 1), torch.zeros(2, 1, 4, 1), 0)
    return cache


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (lambda cache: cache.reorder_cache(torch.tensor([1, 0])), [1, 0]),
        (lambda cache: cache.batch_select_indices(torch.tensor([1])), [1]),
        (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1]),
    ],
)
def test_the_record_follows_the_rows_of_the_cache(cache, change, rows):
    record_prompt(cache, make_record(shift=(2, 5)))
    change(cache)
    assert read_prompt(cache).shift.tolist() == [(2, 5)[row] for row in rows]
    assert cache.layers[0].keys[:, 0, 0, 0].tolist() == rows


def test_beams_of_every_prompt_are_reordered(cache):
    """`generate` reorders beams that it made itself, which the record does not count."""
    record_prompt(cache, make_record(shift=(2, 5)))
    cache.layers[0].batch_repeat_interleave(2)
    cache.reorder_cache(torch.tensor([1, 0, 3, 2]))
    assert read_prompt(cache).shift.tolist() == [2, 2, 5, 5]
    cache.reorder_cache(torch.tensor([2, 0, 3, 1]))
    assert read_prompt(cache).shift.tolist() == [5, 2, 5, 2]


def test_a_cache_takes_tokens_only_where_it_is_open(cache):
    states = torch.zeros(2, 1, 1, 1)
    cache.update(states, states, 0)
    record_prompt(cache, make_record())
    with pytest.raises(InputError, match="the model that goes on from it is not being pruned"):
        cache.update(states, states, 0)
    open_cache(cache, True)
    keys, values = cache.update(states, states + 1, 0)
    assert keys.shape == values.shape == (2, 1, 6, 1)
    assert values[:, :, -1].eq(1).all()
    open_cache(cache, False)
    with pytest.raises(InputError, match="is not being pruned"):
        cache.update(states, states, 0)
    assert cache.get_seq_length() == 6
    forget_prompt(cache)
    assert read_prompt(cache) is None
    assert not [value for value in vars(cache).values() if isinstance(value, partial)]
    cache.update(states, states, 0)


def test_a_cache_that_was_reset_remembers_nothing(cache):
    record_prompt(cache, make_record())
    assert read_prompt(cache) is not None
    cache.layers.clear()
    assert read_prompt(cache) is None
    assert "update" not in vars(cache)
    assert read_prompt(None) is None


def test_the_cache_of_an_output(cache):
    class Output:
        past_key_values = cache

    assert find_cache(Output()) is cache
    assert find_cache((torch.zeros(1), cache)) is cache
    assert find_cache((torch.zeros(1),)) is None
    assert find_cache(None) is None
