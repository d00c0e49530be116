"""Marks among an image's tokens, against a plain list."""

from __future__ import annotations

import random

import pytest
import torch

from foveate.integrations.vllm.layout import Layout, find_layout, join_marks, write_ids
from foveate.integrations.vllm.settings import ImagePlan

PLACEHOLDER = 9
WRITTEN = [
    [9, 9, 9],
    [1, 9, 9, 2],
    [9, 9, 3, 9, 9, 4],
    [5, 6, 9, 9, 7, 7, 5, 8, 9, 9, 5],
    [9],
]


def draw(seed):
    """The ids of an image, and which of its features stay."""
    rng = random.Random(seed)
    ids = [PLACEHOLDER if rng.random() < 0.6 else rng.randint(10, 99) for _ in range(rng.randint(1, 30))]
    features = ids.count(PLACEHOLDER)
    return ids, sorted(rng.sample(range(features), rng.randint(0, features)))


def split(ids):
    return find_layout(ids, torch.tensor(ids) == PLACEHOLDER)


@pytest.mark.parametrize("ids", WRITTEN)
def test_a_layout_is_what_stands_between_the_features(ids):
    layout = split(ids)
    assert layout == Layout(len(ids), len(ids) - ids.count(9), [(n, i) for n, i in enumerate(ids) if i != 9])
    assert write_ids(PLACEHOLDER, layout.total, layout.marks) == ids


def test_kept_features_and_marks_stand_in_the_order_of_the_prompt():
    for seed in range(200):
        ids, kept = draw(seed)
        marks = split(ids).marks
        number, expected, places = 0, [], []
        for place, token in enumerate(ids):  # row by row: a feature's number, or the negative id of a mark
            if token != PLACEHOLDER:
                expected, places = [*expected, [-float(token), 0.0]], [*places, place]
            elif number in kept:
                expected, places = [*expected, [float(number), 0.5]], [*places, place]
            number += token == PLACEHOLDER
        rows = torch.tensor([[float(n), 0.5] for n in kept]).view(-1, 2)
        words = torch.tensor([[-float(token)] for _, token in marks]).view(-1, 1)
        joined, found = join_marks(rows, torch.tensor(kept, dtype=torch.long), words, marks)
        assert joined.tolist() == expected
        assert found.tolist() == places


def test_a_plan_takes_its_marks_along():
    for marks in ((), ((0, 5), (7, 6))):
        plan = ImagePlan(3, 9, "grid", "original", (1, 2), "", marks)
        assert ImagePlan.unpack(plan.pack()) == plan
