from unittest import mock

import numpy as np
import pytest

from foveate.errors import InputError
from foveate.world.diagrams import DIAGRAMS, draw_diagram, list_diagram_questions, sample_diagram
from foveate.world.fonts import import_matplotlib
from foveate.world.scenes import COLORS

SOME = range(60)


def test_a_seed_determines_the_diagram():
    diagram = sample_diagram(3, 5)
    assert diagram == sample_diagram(3, 5)
    assert diagram not in (sample_diagram(3, 6), sample_diagram(4, 5))
    assert (np.asarray(draw_diagram(diagram)) == np.asarray(draw_diagram(diagram))).all()
    assert {sample_diagram(1, index).kind for index in SOME} == set(DIAGRAMS)


def test_questions_have_one_right_answer():
    for diagram in (sample_diagram(1, index) for index in SOME):
        questions = list_diagram_questions(diagram)
        assert len({question.text for question in questions}) == len(questions)
        answers = {question.text: question.answer for question in questions}
        if diagram.kind == "lines":
            continue
        (values,) = diagram.series
        assert len(set(values)) == len(values)
        noun = "part" if diagram.kind == "pie" else "bar"
        shown = dict(zip(diagram.names, values, strict=True))
        assert shown[answers[f"which {noun} is the largest?"]] == max(values)
        assert shown[answers[f"which {noun} is the smallest?"]] == min(values)
        for name, value in shown.items():
            assert answers.get(f"what is the value of {name}?", str(value)) == str(value)


@pytest.mark.parametrize("kind", DIAGRAMS)
def test_the_drawing_shows_its_colours(kind):
    diagram = next(it for it in (sample_diagram(1, index) for index in SOME) if it.kind == kind)
    pixels = np.asarray(draw_diagram(diagram), int)
    assert pixels.shape == (diagram.size[1], diagram.size[0], 3)
    shares = {ink: (np.abs(pixels - np.array(COLORS[ink])).max(2) < 3).mean() for ink in COLORS}
    assert all(shares[ink] > 0.001 for ink in diagram.inks)
    assert all(shares[ink] < 0.001 for ink in COLORS if ink not in (*diagram.inks, "white", "black"))


def test_longer_bars_are_longer():
    diagram = next(
        it for it in (sample_diagram(1, i) for i in range(300)) if it.kind == "bars" and len(set(it.inks)) > 2
    )
    pixels = np.asarray(draw_diagram(diagram), int)
    areas = [(np.abs(pixels - np.array(COLORS[ink])).max(2) < 3).sum() for ink in diagram.inks]
    values = diagram.series[0]
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [areas[i] for i in order if diagram.inks[i] != "black"] == sorted(
        areas[i] for i in order if diagram.inks[i] != "black"
    )


def test_without_matplotlib_the_error_says_what_to_install():
    with mock.patch("importlib.util.find_spec", return_value=None), pytest.raises(InputError, match=r"foveate\[eval\]"):
        import_matplotlib()
