import itertools

import numpy as np
import pytest

from foveate.world.drawing import draw_scene, locate_glyphs
from foveate.world.scenes import (
    CELLS,
    CHARTS,
    COLORS,
    DENSE,
    DENSE_SIZES,
    FIELD_COLUMNS,
    FIELD_ROWS,
    FORMS,
    MAX_GLYPHS,
    MAX_OBJECTS,
    POPULARITY,
    SHAPES,
    SHELF_CELLS,
    SIZES,
    sample_scene,
)

KINDS = ("scene", "crowd", "variety", *CHARTS, *DENSE)
COUNTS = {"crowd": (1, CELLS**2), "shelf": (30, SHELF_CELLS**2), "fields": (FIELD_COLUMNS * FIELD_ROWS,) * 2}


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_determines_the_image(kind):
    assert sample_scene(3, 5, kind) == sample_scene(3, 5, kind)
    assert sample_scene(3, 5, kind) != sample_scene(3, 6, kind)
    assert sample_scene(3, 5, kind) != sample_scene(4, 5, kind)
    one, other = (draw_scene(sample_scene(3, 5, kind)) for _ in range(2))
    assert (np.asarray(one) == np.asarray(other)).all()
    assert one.size == sample_scene(3, 5, kind).size


@pytest.mark.parametrize("kind", KINDS)
def test_things_never_overlap_and_stay_inside(kind):
    sizes = set()
    for index in range(300):
        scene = sample_scene(0, index, kind)
        sizes.update(scene.size)
        least, most = COUNTS.get(kind, (1, MAX_OBJECTS))
        assert least <= len(scene.things) <= most
        for i, a in enumerate(scene.things):
            assert a.form in FORMS
            assert a.rx <= a.x <= 1 - a.rx
            assert a.ry <= a.y <= 1 - a.ry
            for b in scene.things[i + 1 :]:
                assert abs(a.x - b.x) > a.rx + b.rx - 1e-9 or abs(a.y - b.y) > a.ry + b.ry - 1e-9
    assert sizes == set(DENSE_SIZES if kind in DENSE else SIZES)


def test_signs_hold_their_glyphs():
    texts = [t for i in range(500) for t in sample_scene(0, i).things if t.form == "sign"]
    assert {len(t.text) for t in texts} == {2, 3, MAX_GLYPHS}
    for thing in texts:
        boxes = locate_glyphs(thing)
        assert len(boxes) == len(thing.text)
        assert boxes[0][0] >= thing.x - thing.rx
        assert boxes[-1][2] <= thing.x + thing.rx


def test_the_number_of_a_field_stands_right_of_its_object_and_touches_nothing():
    for index in range(100):
        things = sample_scene(0, index, "fields").things
        assert len({(t.form, t.color) for t in things}) == len({t.text for t in things}) == len(things)
        boxes = [(t.x - t.rx, t.y - t.ry, locate_glyphs(t)[-1][2], t.y + t.ry) for t in things]
        for i, (left, top, right, bottom) in enumerate(boxes):
            assert things[i].form in SHAPES
            assert 0 < left < right < 1
            assert locate_glyphs(things[i])[0][0] > things[i].x + things[i].rx
            for a, b, c, d in boxes[i + 1 :]:
                assert right < a or c < left or bottom < b or d < top


def test_a_shelf_has_single_objects_to_ask_for():
    for index in range(100):
        things = sample_scene(0, index, "shelf").things
        signs = [t.color for t in things if t.form == "sign"]
        assert len(signs) == len(set(signs)) >= 3
        assert any(
            [t.form for t in things].count(t.form) == 1 or [t.color for t in things].count(t.color) == 1 for t in things
        )


def test_charts_ask_nothing_ambiguous():
    for index in range(100):
        for kind in CHARTS:
            things = sample_scene(0, index, kind).things
            assert len({t.color for t in things}) == len(things)
        heights = sorted(t.ry for t in sample_scene(0, index, "bars").things)
        assert min(b - a for a, b in itertools.pairwise(heights)) > 0.02
        assert len({t.text for t in sample_scene(0, index, "table").things}) >= 4


def test_frequent_colors_are_frequent():
    colors = [t.color for i in range(800) for t in sample_scene(0, i).things]
    assert set(colors) == set(COLORS) == set(POPULARITY)
    assert colors.count("red") > 1.3 * colors.count("black")
