"""A shard with an engine without a model: which rows are answered, and which are set aside."""

import json

import pytest
from PIL import Image

from foveate.apps.batch.engines.base import BatchReply
from foveate.apps.batch.formats import open_source
from foveate.apps.batch.shard import ShardAnswers
from foveate.errors import InputError, ModelError


class Echo:
    """Repeats the question in capitals, and fails on some questions."""

    notes = ()

    def __init__(self):
        self.batches, self.broken = [], False

    def answer(self, images, questions):
        self.batches.append(list(questions))
        if self.broken:
            raise RuntimeError("gone for good")
        for question in questions:
            if question == "break":
                self.broken = True
                raise RuntimeError("device-side assert")
            if question == "odd":
                raise RuntimeError("index out of range\nin self")
            if question == "refuse":
                raise InputError("The question is refused: ask another.")
            if question == "crowd" and len(questions) > 1:
                raise MemoryError("too many")
        return [BatchReply(question.upper(), image.width, 9) for image, question in zip(images, questions, strict=True)]


@pytest.fixture
def answer(tmp_path):
    """Answer rows in batches of 3; return the shard's answers and the engine."""
    for i in range(1, 4):
        Image.new("RGB", (i, 1)).save(tmp_path / f"{i}.png")

    def run(rows, engine=None):
        path = tmp_path / "q.jsonl"
        path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
        source, engine = open_source(path), engine or Echo()
        done = ShardAnswers(engine, 3)
        (shard,) = source.scan(100).shards
        done.answer(source, shard)
        assert sorted(line["row"] for line in done.answers + done.bad) == list(range(shard.rows))
        return done, engine

    return run


def asks(*questions):
    return [{"image": f"{i % 3 + 1}.png", "question": question} for i, question in enumerate(questions)]


def test_answers(answer):
    done, engine = answer(asks("a", "b", "c", "d"))
    assert engine.batches == [["a", "b", "c"], ["d"]]
    assert done.answers[3] == {
        "row": 3, "id": "row-3", "question": "d", "answer": "D", "kept": 1, "total": 9, "reason": None,
        "encoded": None,
    }  # fmt: skip
    assert [line["kept"] for line in done.answers] == [1, 2, 3, 1]
    assert (done.bad, done.note) == ([], None)


def test_rows_that_cannot_be_read(answer):
    rows = [*asks("a"), "{\n", {"image": "none.png", "question": "b", "id": 7}, *asks("c"), {"image": "1.png"}]
    done, _ = answer(rows)
    assert [line["answer"] for line in done.answers] == ["A", "C"]
    assert [(line["row"], line["id"]) for line in done.bad] == [(1, "row-1"), (2, 7), (4, "row-4")]
    for line, text in zip(done.bad, ("no JSON object", "There is no image", "'question'"), strict=True):
        assert text in line["reason"]


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("refuse", "The question is refused: ask another."),
        ("odd", "RuntimeError: index out of range in self"),
    ],
)
def test_one_bad_row_spoils_no_other(answer, question, reason):
    done, engine = answer(asks("a", question, "c", "d", "e"))
    assert [line["answer"] for line in done.answers] == ["A", "C", "D", "E"]
    assert done.bad == [{"row": 1, "id": "row-1", "reason": reason}]
    assert [["a"], [question], ["c"]] == [batch for batch in engine.batches[1:] if batch != ["What is this?"]][:3]
    assert done.note is None


def test_nothing_but_bad_rows(answer):
    done, engine = answer(["[]\n"] * 4 + [{"question": "x"}] * 3)
    assert (len(done.bad), done.answers, engine.batches) == (7, [], [])


def test_batches_that_are_too_large_are_told(answer):
    done, _ = answer(asks("a", "crowd", "c"))
    assert [line["answer"] for line in done.answers] == ["A", "CROWD", "C"]
    assert "Some batches of 3 rows failed (MemoryError: too many)" in done.note


def test_an_engine_that_breaks_is_no_rows_fault(answer):
    with pytest.raises(ModelError, match=r"broke at rows 0 to 2 \(RuntimeError: device-side assert\)"):
        answer(asks("a", "break", "c"))


def test_odd_texts(answer):
    rows = [{"image": "1.png", "question": text, "id": text} for text in ("图片?", "\ud800?", "a\u2028b", "\0")]
    done, _ = answer([*rows, {"image": "\0", "question": "a"}, {"image": "\ud800.png", "question": "a"}])
    assert [line["question"] for line in done.answers] == ["图片?", "\ud800?", "a\u2028b", "\0"]
    assert [line["row"] for line in done.bad] == [4, 5]
    json.loads(json.dumps(done.answers + done.bad))


def test_a_file_that_changes_meanwhile(answer, tmp_path):
    class Cutter(Echo):
        def answer(self, images, questions):
            (tmp_path / "q.jsonl").write_text("")
            return super().answer(images, questions)

    rows = [*asks("a", "b", "c"), *({"image": "1.png", "question": "x" * 9000} for _ in range(9))]
    with pytest.raises(InputError, match="changed while it was read"):
        answer(rows, Cutter())
