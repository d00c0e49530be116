"""The record of visual tokens on a cache."""

import uuid

import torch
from transformers import DynamicCache

from foveate.hooks.record import read_prompt
from foveate.hooks.visual import VisualColumns, read_visual, record_visual


def fill(cache, tokens, rows=2):
    states = torch.zeros(rows, 1, tokens, 4)
    cache.update(states, states, 0)


def test_the_record_is_as_long_as_the_cache_and_follows_its_rows():
    cache, name = DynamicCache(), uuid.uuid4()
    fill(cache, 3)
    record_visual(cache, VisualColumns(torch.tensor([[True, False, True], [False, True, False]]), name))
    fill(cache, 2)
    assert read_visual(cache).visual.tolist() == [[True, False, True, False, False], [False, True, False, False, False]]
    cache.reorder_cache(torch.tensor([1, 0]))
    assert read_visual(cache).visual[1].tolist() == [True, False, True, False, False]
    cache.crop(-3)
    assert read_visual(cache).visual.tolist() == [[False, True], [True, False]]
    fill(cache, 1)  # the third column is another token now
    assert read_visual(cache).visual.tolist() == [[False, True, False], [True, False, False]]
    assert read_visual(cache).name == name
    assert read_prompt(cache) is None  # nothing was pruned
    cache.reset()
    assert read_visual(cache) is None
    assert "reorder_cache" not in vars(cache)


def test_no_cache_and_a_cache_without_a_record_have_none():
    cache = DynamicCache()
    fill(cache, 2)
    assert read_visual(None) is None
    assert read_visual(cache) is None
