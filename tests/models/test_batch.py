"""Which tokens of a batch stay, against a plain loop over all of them."""

import dataclasses

import torch

from foveate.models.batch import mark_staying
from foveate.models.visual_input import make_visual_input


def item(row, columns, kept, total=None):
    columns = torch.tensor(columns, dtype=torch.long)
    made = make_visual_input("image", row, columns, 0, torch.zeros(total or len(columns), 4))
    return dataclasses.replace(made, kept=torch.tensor(kept, dtype=torch.long))


def walk(mask, items):
    stays = [[value != 0 for value in row] for row in mask]
    for one in items:
        for index, column in enumerate(one.columns.tolist()):
            if index not in one.kept.tolist():
                stays[one.row][column] = False
    return stays


def test_text_and_kept_tokens_stay_padding_and_dropped_tokens_do_not():
    mask = [[0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0, 0], [1] * 8]
    items = [
        item(0, [3, 4, 6], [1]), item(1, [0, 2, 4], [0, 1, 2]), item(2, [1, 2], [1]), item(2, [5, 7], []),
        item(0, [0, 7], [0, 1]),  # a kept token under the mask is no token
    ]  # fmt: skip
    for kind in (torch.bool, torch.int64, torch.float32):
        tensor = torch.tensor(mask).to(kind)
        before = tensor.clone()
        stays = mark_staying(tensor, items)
        assert stays.dtype == torch.bool
        assert stays.tolist() == walk(mask, items)
        assert torch.equal(tensor, before)  # the caller's mask is left alone
        assert mark_staying(tensor, []).tolist() == walk(mask, [])


def test_tokens_that_the_text_attends_across_to_have_no_columns():
    mask = [[1, 1, 0]]
    assert mark_staying(torch.tensor(mask), [item(0, [], [0, 2], total=4)]).tolist() == [[True, True, False]]
    stays = mark_staying(torch.tensor(mask), [item(0, [], [0, 2], total=4), item(0, [0, 1], [1])])
    assert stays.tolist() == [[False, True, False]]
