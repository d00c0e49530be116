"""The labels of the tokens of clips and screens say what is drawn there."""

import numpy as np
import pytest
import torch

from foveate.world.clips import MOMENTS, SIDE, STANDS, draw_frames, sample_clip
from foveate.world.scenes import COLORS, SHAPES, SIGN
from foveate.world.screens import LIT, draw_shots, sample_screens
from training.moments import CELLS, CLASSES, make_clip_labels, make_no_labels, make_screen_labels

SIZE = SIDE // CELLS  # pixels of a token


@pytest.mark.parametrize("index", range(30))
def test_a_standing_object_comes_when_its_places_say_so(index):
    """Along the moments of one token, the numbers follow from the events alone."""
    clip = sample_clip(1, index)
    labels = {name: label.view(MOMENTS, CELLS, CELLS) for name, label in make_clip_labels(clip).items()}
    for track in clip.tracks:
        if track.way != STANDS or track.thing.form == SIGN:
            continue
        x, y = next(place for place in track.places if place is not None)
        row, column = int(y * CELLS - 0.5), int(x * CELLS - 0.5)  # the token left above its centre
        events = labels["event"][:, row, column].tolist()
        there = [event in (1, 2) for event in events]
        assert there == [place is not None for place in track.places]
        came = [m for m in range(MOMENTS) if there[m] and (m == 0 or not there[m - 1])]
        assert [m for m in range(1, MOMENTS) if events[m] == 2] == [m for m in came if m]
        assert [m for m in range(MOMENTS) if events[m] == 3] == [
            m for m in range(1, MOMENTS) if there[m - 1] and not there[m]
        ]
        for m in range(came[0], MOMENTS):
            assert labels["since"][m, row, column] == came[0]
            assert labels["spans"][m, row, column] == sum(start <= m for start in came)
            assert labels["time"][m, row, column] == m


@pytest.mark.parametrize("index", range(10))
def test_a_token_of_an_object_shows_its_colour_in_the_frame(index):
    clip = sample_clip(1, index)
    events = make_clip_labels(clip)["event"].view(MOMENTS, CELLS, CELLS)
    frames = [np.asarray(frame, float) for frame in draw_frames(clip)[1::2]]
    colors = [COLORS[track.thing.color] for track in clip.tracks]
    for moment, frame in enumerate(frames):
        for row in range(CELLS):
            for column in range(CELLS):
                part = frame[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE].reshape(-1, 3)
                shown = max((np.abs(part - color).max(1) < 25).mean() for color in colors)
                if events[moment, row, column] in (1, 2):
                    assert shown > 0.02


@pytest.mark.parametrize("index", range(10))
def test_the_lit_button_is_where_the_light_is(index):
    screens = sample_screens(1, index)
    labels = {name: label.view(-1, CELLS, CELLS) for name, label in make_screen_labels(screens).items()}
    for shot, image in enumerate(draw_shots(screens)):
        pixels = np.asarray(image, float)
        lit = [
            [
                (np.abs(pixels[r * SIZE : (r + 1) * SIZE, c * SIZE : (c + 1) * SIZE] - LIT).max(-1) < 20).mean() > 0.15
                for c in range(CELLS)
            ]
            for r in range(CELLS)
        ]
        assert torch.equal(labels["event"][shot] == 2, torch.tensor(lit))
    for step in range(len(screens.pressed)):
        before = screens.buttons[screens.pressed[step - 1]].thing if step else None
        lit = labels["event"][step] == 2
        forms, colors = (labels[name][step][lit].unique().tolist() for name in ("form before", "color before"))
        assert forms == ([list(SHAPES).index(before.form) + 1] if before else [0])
        assert colors == ([list(COLORS).index(before.color) + 1] if before else [0])
        assert (labels["form before"][step][~lit] < 0).all()
    final = labels["since"][-1]
    assert {int(value) for value in final.unique() if value >= 0} == set(range(len(screens.pressed)))


def test_an_image_has_no_labels():
    assert all((label < 0).all() and len(label) == 5 for label in make_no_labels(5).values())
    assert set(make_no_labels(5)) == set(CLASSES)
