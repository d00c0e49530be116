"""Families that cut images into tiles: an image counts as one, whatever its number of tiles."""

import pytest
from PIL import Image

import foveate
from foveate.apps.evaluate import evaluate
from foveate.apps.evaluate.arms import BlindEvalArm, PrunedEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import EvalExample
from foveate.apps.evaluate.resized import ResizedEvalArm
from foveate.apps.evaluate.settings import make_arms, parse_methods
from foveate.errors import FoveateWarning, ModelError
from foveate.method import resolve
from foveate.method.budget import to_budget
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load, quiet
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from tiled import CALLS, TILED, tiled_folder

SIZES = [(96, 32), (32, 96), (64, 64), (30, 30)]  # 30 x 30: a single tile in some families


@pytest.fixture(scope="module", params=[name for name in TILED if name not in CALLS])
def loaded(request, tmp_path_factory):
    with quiet():
        return load(str(tiled_folder(request.param, tmp_path_factory.mktemp(request.param))))


@pytest.fixture(scope="module")
def examples():
    def draw(number, size):
        return lambda: draw_scene(sample_scene(number, 2)).resize(size, Image.Resampling.NEAREST)

    return [
        EvalExample(f"e{number}", "tiles", "what color is the star", ("red",), draw(number, size))
        for number, size in enumerate(SIZES)
    ]


def alone(loaded, example, **settings):
    """The answer to one example in a batch of its own, and its kept and all visual tokens."""
    inputs = make_inputs(loaded, [example.image()], [example.question])
    short = foveate.prune_inputs(loaded.model, inputs, **settings)
    return generate_answers(loaded, short, 4)[0], short.report


def test_sizes_are_those_of_whole_images(loaded, examples):
    batch = EvalBatch(loaded, examples, [])
    assert batch.sizes == [alone(loaded, example, keep=1.0)[1].total_count for example in examples]
    assert (len(set(batch.sizes)) > 1) == (loaded.model.config.model_type != "idefics2")  # always five tiles


def test_unpruned_answers(loaded, examples):
    result = UnprunedEvalArm("unpruned", None, max_new_tokens=4).answer(EvalBatch(loaded, examples, []))
    assert result.answers == [alone(loaded, example, keep=1.0)[0] for example in examples]


@pytest.mark.parametrize("keep", [0.4, 3])
def test_pruned_answers(loaded, examples, keep):
    method = resolve("divprune")
    batch = EvalBatch(loaded, examples, [method])
    result = PrunedEvalArm("divprune", keep, method=method, max_new_tokens=4).answer(batch)
    for n, example in enumerate(examples):
        answer, report = alone(loaded, example, keep=keep, method=method)
        assert result.answers[n] == answer
        assert result.counts[n] == len(result.kept[n]) == report.kept_count
        assert result.kept[n] == sorted(set(result.kept[n]))
        assert max(result.kept[n]) < batch.sizes[n]


def test_an_int_is_tokens_of_an_image(loaded, examples):
    """Ends of rows and other protected tokens stay beside them."""
    result = PrunedEvalArm("grid", 3, method=resolve("grid")).answer(EvalBatch(loaded, examples, []))
    protected = [
        sum(0 if item.protected is None else int(item.protected.sum()) for item in alone(loaded, e, keep=1.0)[1].items)
        for e in examples
    ]
    assert [count - extra for count, extra in zip(result.counts, protected, strict=True)] == [3] * len(examples)


def test_the_blind_arm_sees_no_visual_token(loaded, examples):
    batch = EvalBatch(loaded, examples, [])
    inputs, kept, counts = BlindEvalArm("none", None).inputs(batch)
    assert (kept, counts) == ([[]] * 4, [0] * 4)
    assert batch.count_tokens(inputs) == [0] * 4
    assert len(BlindEvalArm("none", None).answer(batch).answers) == 4


def test_resize_is_left_out_with_a_warning(loaded, examples):
    with pytest.raises(ModelError, match=r"smaller images|tiles"):
        ResizedEvalArm("resize", 0.4).check(loaded)
    arms = make_arms(parse_methods("foveate,divprune"), [0.5, 4], max_new_tokens=2)
    with pytest.warns(FoveateWarning, match="resize was left out"):
        rows = evaluate(loaded, examples, arms, batch=3)
    assert {row["name"] for row in rows} == {
        "unpruned",
        "none",
        "grid",
        "random",
        "foveate",
        "foveate, blind",
        "divprune",
    }
    assert len(rows) == len(examples) * (2 + 2 * 7)
    for row in rows:
        if row["name"] == "divprune" and row["keep"] == 0.5:
            assert row["tokens"] == len(row["kept"]) >= to_budget(0.5, row["total"])
