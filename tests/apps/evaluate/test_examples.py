import pytest

from foveate.apps.evaluate.examples import sample_examples
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


def test_right_is_to_the_letter_but_for_case_and_full_stop():
    assert match_exact(" Two  Stars. ", ["three", "two stars"])
    assert not match_exact("two star", ["two stars"])
