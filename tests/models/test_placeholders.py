"""Placeholders go to images in reading order, against a plain walk over the prompt."""

import random

import pytest
import torch

from foveate.errors import InputError
from foveate.models.placeholders import match_placeholders


def walk(places, sizes):
    """(row, columns) of every image: each takes the next placeholders, all of them in one row."""
    queue = [(row, column) for row, marks in enumerate(places) for column, mark in enumerate(marks) if mark]
    spans = []
    for size in sizes:
        own, queue = queue[:size], queue[size:]
        assert len({row for row, _ in own}) == 1
        spans.append((own[0][0], [column for _, column in own]))
    assert not queue
    return spans


def match(places, sizes, *modality):
    spans = match_placeholders(torch.tensor(places, dtype=torch.bool), sizes, *modality)
    return [(span.row, span.columns.tolist()) for span in spans]


def prompts(count):
    """Rows of up to 3 images with text between and inside them; many rows have none."""
    draw = random.Random(5)
    for _ in range(count):
        rows, sizes = [], []
        for _ in range(draw.randint(1, 5)):
            own = [draw.randint(1, 4) for _ in range(draw.choice((0, 0, 1, 2, 3)))]
            marks = [1] * sum(own)
            for _ in range(12 - sum(own)):
                marks.insert(draw.randint(0, len(marks)), 0)
            rows.append(marks)
            sizes += own
        yield rows, sizes


def test_each_image_takes_the_next_placeholders_of_its_row():
    for places, sizes in prompts(200):
        assert match(places, sizes) == walk(places, sizes)


def test_an_image_short_of_placeholders_is_named():
    with pytest.raises(InputError) as error:
        match([[0, 0], [1, 1], [1, 0]], [2, 2])
    assert str(error.value).startswith("Image 1 of 2 makes 2 tokens but row 2 has 1 image placeholders left for it: ")
    with pytest.raises(InputError) as error:
        match([[1, 1, 1], [1, 1, 1]], [2, 3, 1], "video")  # a row is not filled up from the next one
    assert str(error.value).startswith("Video 1 of 3 makes 3 tokens but row 0 has 1 video placeholders left for it: ")
    for places in ([[1, 1], [0, 0]], [[1, 1]], [[1, 1], [0, 0], [0, 0]]):
        with pytest.raises(InputError) as error:
            match(places, [2, 1])
        assert str(error.value).startswith("Image 1 of 2 makes 1 tokens but no placeholder is left: ")
    assert str(error.value).endswith("both from the same images, in the order of the rows.")


def test_placeholders_without_an_image_are_counted_in_the_first_row_that_has_some():
    cases = [
        ([[1, 1, 1], [1, 0, 0]], [2], 0, 1),
        ([[1, 1, 0], [1, 1, 1]], [2], 1, 3),
        ([[1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]], [2, 2], 2, 1),
        ([[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 1, 0]], [2, 3], 3, 2),
        ([[0, 0, 0], [1, 1, 0]], [], 1, 2),
    ]
    for places, sizes, row, spare in cases:
        with pytest.raises(InputError) as error:
            match(places, sizes, "audio")
        expected = f"Row {row} has {spare} audio placeholders more than its audios make tokens: "
        assert str(error.value).startswith(expected)


def test_a_prompt_without_images_has_no_spans():
    assert match([[0, 0, 0]], []) == []


@pytest.mark.parametrize("sizes", [[0, 3], [3, 0], [0]])
def test_an_image_without_tokens_is_refused(sizes):
    places = torch.tensor([[False, True, True, True, False]])
    number = sizes.index(0)
    with pytest.raises(InputError, match=rf"Image {number} of {len(sizes)} makes no tokens: leave it out\."):
        match_placeholders(places, sizes)
