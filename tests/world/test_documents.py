import numpy as np
import pytest

from foveate.apps.evaluate import sample_examples
from foveate.world.documents import DOCUMENTS, draw_document, sample_document
from foveate.world.suite import DOCUMENT_TASKS, sample_documents

SOME = range(15)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_seed_determines_the_document(kind):
    document = sample_document(3, 5, kind)
    assert document == sample_document(3, 5, kind)
    assert document not in (sample_document(3, 6, kind), sample_document(4, 5, kind))
    assert draw_document(document).size == document.size
    assert (np.asarray(draw_document(document)) == np.asarray(draw_document(document))).all()


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_texts_lie_on_the_page_and_apart(kind):
    for index in SOME:
        document = sample_document(1, index, kind)
        boxes = []
        for line in document.lines:
            glyphs = line.locate_glyphs()
            assert len(glyphs) == len(line.text)
            boxes.append((glyphs[0][0], line.y, glyphs[-1][2], glyphs[0][3]))
        width, height = document.size
        for i, (left, top, right, bottom) in enumerate(boxes):
            assert min(left, top) >= 0
            assert right <= width
            assert bottom <= height
            for x0, y0, x1, y1 in boxes[:i]:
                assert right <= x0 or x1 <= left or bottom <= y0 + 1 or y1 <= top + 1


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_glyphs_are_where_they_are_drawn(kind):
    """What is dark lies in the box of a glyph, or in a frame."""
    document = sample_document(1, 3, kind)
    pixels = np.abs(np.asarray(draw_document(document), int) - np.array(document.ground)).max(2) > 60
    for _, (left, top, right, bottom), _ in document.frames:
        pixels[int(top) - 1 : int(bottom) + 3, max(0, int(left) - 1) : int(right) + 3] = False
    dark = pixels.sum()
    for line in document.lines:
        for left, top, right, bottom in line.locate_glyphs():
            pixels[int(top) : int(bottom) + 1, max(0, int(left) - 1) : int(right) + 2] = False
    assert dark > 200
    assert pixels.sum() < 0.02 * dark + 1


def test_answers_are_written_on_the_document():
    for kind in DOCUMENTS:
        for index in SOME:
            document = sample_document(1, index, kind)
            texts = [line.text for line in document.lines]
            asked = [question.text for question in document.questions]
            assert len(set(asked)) == len(asked)
            for question in document.questions:
                assert question.answer in texts or question.variant in ("ticked", "color")
                if question.variant == "price" and kind == "receipt":
                    item = question.text.removesuffix("?").split()[-1].capitalize()
                    row = next(line.y for line in document.lines if line.text == item)
                    assert {line.text for line in document.lines if line.y == row} == {item, question.answer}


def test_a_receipt_adds_up():
    for index in SOME:
        document = sample_document(2, index, "receipt")
        by_text = {question.variant: question.answer for question in document.questions}
        prices = [float(question.answer) for question in document.questions if question.variant == "price"]
        assert float(by_text["total"]) == pytest.approx(sum(prices))


def test_documents_come_in_many_sizes():
    sizes = [sample_document(1, index, kind).size for kind in DOCUMENTS for index in range(40)]
    assert min(max(size) for size in sizes) < 336
    assert max(max(size) for size in sizes) > 1000


def test_tasks_are_held_out_and_grow():
    dev, test = (sample_documents(split, "record", 4) for split in ("dev", "test"))
    assert [case.question for case in dev] != [case.question for case in test]
    again = sample_documents("dev", "record", 2)
    assert [(case.id, case.question) for case in again] == [(case.id, case.question) for case in dev[:2]]
    assert np.asarray(again[0].image()).tolist() == np.asarray(dev[0].image()).tolist()
    examples = sample_examples(["documents"], "dev", 2)
    assert [example.task for example in examples] == [task for task in DOCUMENT_TASKS for _ in range(2)]
    assert len({example.id for example in examples}) == len(examples)
    assert all(example.image().mode == "RGB" for example in examples)
