import random
from collections import Counter

import numpy as np
import pytest

from foveate.apps.evaluate import sample_examples
from foveate.errors import InputError
from foveate.world.drawing import draw_scene, locate_glyphs
from foveate.world.pages import CELLS_OF_SIDE, MOST, PAGE_TASKS, SIDES, make_page_question, sample_page
from foveate.world.plain_questions import COLORS, NUMBERS
from foveate.world.suite import sample_pages

KINDS = ("form", "sheet")
SOME = range(12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_determines_the_page(kind):
    page = sample_page(3, 5, kind, 672)
    assert page == sample_page(3, 5, kind, 672)
    assert page not in (sample_page(3, 6, kind, 672), sample_page(4, 5, kind, 672))
    assert draw_scene(page).size == page.size == (672, 672)
    assert (np.asarray(draw_scene(page)) == np.asarray(draw_scene(page))).all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_everything_lies_in_a_cell_of_its_own(kind, side):
    cells = CELLS_OF_SIDE[side]
    for index in SOME:
        page, taken = sample_page(1, index, kind, side), set()
        assert len(page.things) <= MOST
        for thing in page.things:
            boxes = [(thing.x - thing.rx, thing.y - thing.ry, thing.x + thing.rx, thing.y + thing.ry)]
            boxes += locate_glyphs(thing)
            corners = [(x, y) for x0, y0, x1, y1 in boxes for x, y in ((x0, y0), (x1, y1))]
            own = {(int(x * cells), int(y * cells)) for x, y in corners}
            assert len(own) == 1, thing
            taken |= own
        assert len(taken) == len(page.things)


def test_questions_have_one_right_answer():
    for index in range(40):
        for task in PAGE_TASKS:
            page = sample_page(1, index, "form" if task == "form" else "sheet", 1344)
            question = make_page_question(page, task, random.Random(index))
            if question is None:
                continue
            assert question.task == task
            words = question.text.rstrip("?").split()
            if task == "form":
                (thing,) = [t for t in page.things if t.color in words and t.form in words]
                assert question.answer == thing.text
            if task == "tally":
                name = words[2]
                count = sum(name in (t.color, f"{t.form}s", f"{t.form}es") for t in page.things)
                assert question.answer == NUMBERS[count]
            if question.variant == "reading":
                colors = set(words) & set(COLORS) or set(COLORS)
                (thing,) = [t for t in page.things if t.form == "sign" and t.color in colors]
                assert question.answer == thing.text
            if question.variant == "existence":
                there = any((t.color, t.form) == (words[-2], words[-1]) for t in page.things)
                assert question.answer == ("yes" if there else "no")


def test_a_task_of_a_page_is_for_its_kind_of_page():
    form, sheet = (sample_page(1, 0, kind, 672) for kind in KINDS)
    assert make_page_question(form, "tally", random.Random(0)) is None
    assert make_page_question(sheet, "form", random.Random(0)) is None


def test_answers_cannot_be_guessed():
    for task, most in (("form", 0.05), ("sheet", 0.35), ("tally", 0.35)):
        answers = Counter(case.question.answer for case in sample_pages("dev", task, 150, side=896))
        assert max(answers.values()) / 150 < most, task


def test_splits_and_sides_hold_different_pages():
    dev, test = (sample_pages(split, "form", 3, side=672) for split in ("dev", "test"))
    assert not {case.scene for case in dev} & {case.scene for case in test}
    assert sample_pages("dev", "form", 2, side=672) == dev[:2]
    assert {example.task for example in sample_examples(["pages"], "dev", 1, side=672)} == set(PAGE_TASKS)
    with pytest.raises(InputError, match="no pages of 1000 pixels: use one of 672"):
        sample_examples(["pages"], "dev", 1, side=1000)
