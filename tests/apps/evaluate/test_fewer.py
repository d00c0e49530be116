"""Clips and histories of screenshots go through the same arms as images; fewer frames are one more arm."""

import pytest
import torch

from foveate.apps.evaluate import sample_examples
from foveate.apps.evaluate.arms import BlindEvalArm, PrunedEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.fewer import FewerEvalArm
from foveate.errors import InputError
from foveate.method import resolve
from foveate.runtime.conversation import generate_answers
from foveate.runtime.load import load
from foveate.world.clip_inputs import make_clip_inputs

FRAME = 36  # tokens


@pytest.fixture(scope="module")
def loaded():
    return load("bundled-clips")


@pytest.fixture(scope="module")
def clips():
    return sample_examples(["order", "said"], "dev", 1)


@pytest.fixture(scope="module")
def screens():
    return sample_examples(["press", "click"], "dev", 1)


def test_unpruned_answers_are_those_of_the_stock_model(loaded, clips, screens):
    for examples in (clips, screens):
        batch = EvalBatch(loaded, examples, [])
        result = UnprunedEvalArm("unpruned", None, max_new_tokens=4).answer(batch)
        assert result.answers == generate_answers(loaded, batch.inputs, 4)
        assert all(count % FRAME == 0 for count in result.counts)


def test_a_method_keeps_its_share_of_a_clip_and_of_every_frame(loaded, clips):
    batch = EvalBatch(loaded, clips, [])
    grid = resolve("grid")
    whole = PrunedEvalArm("grid", 0.1, method=grid).answer(batch)
    assert max(whole.counts) <= 22  # of 216
    frames = PrunedEvalArm("grid", 0.1, method=grid, per="frame").answer(batch)
    assert all(sum(i // FRAME == 0 for i in kept) == 4 for kept in frames.kept)
    assert BlindEvalArm("none", None).answer(batch).counts == [0, 0]


@torch.no_grad()
def test_fewer_frames_are_a_shorter_clip_at_its_times(loaded, clips):
    batch = EvalBatch(loaded, clips, [])
    inputs, _, counts = FewerEvalArm("fewer", 0.34).inputs(batch)
    assert counts == [2 * FRAME, 2 * FRAME]
    shorter = [[clip[i] for i in (2, 3, 8, 9)] for clip in batch.images]  # the middles of two halves
    own = make_clip_inputs(loaded, shorter, [example.question for example in clips])
    assert torch.equal(own["pixel_values_videos"], inputs["pixel_values_videos"])
    model = loaded.model.model
    names = ("input_ids", "mm_token_type_ids", "video_grid_thw", "second_per_grid_ts", "attention_mask")
    times = model.get_rope_index(**{name: inputs[name] for name in names})[0][0]
    visual = inputs["input_ids"] == loaded.model.config.video_token_id
    assert [len(set(row[mask].tolist())) for row, mask in zip(times, visual, strict=True)] == [2, 2]
    assert all(int(row[mask].max() - row[mask].min()) == 3 for row, mask in zip(times, visual, strict=True))
    assert FewerEvalArm("fewer", 0.01).inputs(batch)[2] == [FRAME, FRAME]


def test_fewer_images_are_the_newest(loaded, screens):
    batch = EvalBatch(loaded, screens, [])
    inputs, _, counts = FewerEvalArm("fewer", 0.2).inputs(batch)
    assert counts == [FRAME, FRAME]
    newest = batch.process([shots[-1:] for shots in batch.images])
    assert torch.equal(newest["pixel_values"], inputs["pixel_values"])


def test_images_clips_and_screens_are_evaluated_apart():
    assert {example.task for example in sample_examples(["clips"], "dev", 1)} >= {"way", "order", "place"}
    with pytest.raises(InputError, match="evaluated apart"):
        sample_examples(["attribute", "order"], "dev", 1)
    with pytest.raises(InputError, match="did you mean 'click'"):
        sample_examples(["klick"], "dev", 1)
