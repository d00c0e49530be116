import json

import pytest
from PIL import Image

from foveate.apps.evaluate.examples import read_data, sample_examples
from foveate.apps.evaluate.metrics import match_exact
from foveate.errors import InputError
from foveate.world.questions import TASKS


def test_the_world():
    examples = sample_examples(["all"], "dev", 3)
    assert [example.task for example in examples] == [task for task in TASKS for _ in range(3)]
    assert len({example.id for example in examples}) == len(examples)
    assert examples[0].image().size[0] >= 176
    assert [e.id for e in sample_examples(["counting"], "dev", 2)] == [e.id for e in examples if e.task == "counting"][
        :2
    ]


def test_splits_and_seeds_are_apart():
    images = [
        {example.image().tobytes() for example in sample_examples(["counting"], split, 5, seed)}
        for split in ("dev", "test")
        for seed in (0, 1)
    ]
    assert len(set.union(*images)) == 20


@pytest.mark.parametrize(
    ("tasks", "split", "text"), [(["countin"], "dev", "'counting'"), (["all"], "train", "dev or test")]
)
def test_unknown_tasks_and_splits(tasks, split, text):
    with pytest.raises(InputError) as raised:
        sample_examples(tasks, split, 1)
    assert text in str(raised.value)


def test_own_data(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    good = {"image": "a.png", "question": "what is it?", "answer": "a square"}
    lines = [
        json.dumps(good),
        "{not json",
        json.dumps({**good, "image": "missing.png"}),
        json.dumps({**good, "image": "broken.png"}),
        json.dumps({**good, "question": " "}),
        json.dumps({"image": "a.png", "question": "?"}),
        "[1]",
        "",
        json.dumps({**good, "id": "line-1"}),
        json.dumps({**good, "id": "x", "task": "shapes", "answer": ["square", 4]}),
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(lines))
    examples, skipped = read_data(path)
    assert [(e.id, e.task, e.answers) for e in examples] == [
        ("line-1", "data", ("a square",)),
        ("x", "shapes", ("square", "4")),
    ]
    assert [int(line.split()[1]) for line in skipped] == [2, 3, 4, 5, 6, 7, 9]
    assert len(read_data(path, limit=1)[0]) == 1


@pytest.mark.parametrize("text", ["", "{}", None])
def test_data_without_a_question(tmp_path, text):
    path = tmp_path / "questions.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as raised:
        read_data(path)
    assert "questions.jsonl" in str(raised.value)


def test_right_is_to_the_letter_but_for_case_and_full_stop():
    assert match_exact(" Two  Stars. ", ["three", "two stars"])
    assert not match_exact("two star", ["two stars"])
