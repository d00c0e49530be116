"""Every arm answers a batch as plain code would, one question at a time."""

import pytest
import torch

import foveate
from foveate.apps.evaluate.arms import BlindEvalArm, InDecoderEvalArm, PrunedEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import sample_examples
from foveate.apps.evaluate.resized import ResizedEvalArm, fit_cells
from foveate.apps.evaluate.settings import make_arms, parse_methods
from foveate.errors import ModelError
from foveate.method import resolve
from foveate.method.fastv import FastV
from foveate.method.visionpulse import VisionPulse
from foveate.runtime.conversation import format_question
from foveate.runtime.load import load
from tiny import tiny_folder

ARMS = {"max_new_tokens": 4}


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def loaded(request, tmp_path_factory):
    return load(str(tiny_folder(request.param, tmp_path_factory.mktemp(request.param))))


@pytest.fixture(scope="module")
def examples():
    return sample_examples(["existence", "reading"], "dev", 2)


def alone(loaded, example, method=None, keep=1.0):
    text = format_question(loaded, example.question)
    inputs = loaded.processor(text=[text], images=[example.image()], return_tensors="pt")
    short = inputs if method is None else foveate.prune_inputs(loaded.model, inputs, keep=keep, method=method)
    out = loaded.model.generate(**short, max_new_tokens=4, do_sample=False)
    return loaded.processor.decode(out[0, short["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_whole_is_generate(loaded, examples):
    result = UnprunedEvalArm("unpruned", None, **ARMS).answer(EvalBatch(loaded, examples, []))
    assert result.answers == [alone(loaded, example) for example in examples]
    assert result.kept == [None] * 4


@pytest.mark.parametrize("name", ["zspaprune", "grid", "mmtok"])
def test_pruned_is_prune_inputs_and_generate(loaded, examples, name):
    method = resolve(name)
    batch = EvalBatch(loaded, examples, [method])
    result = PrunedEvalArm(name, 0.3, method=method, **ARMS).answer(batch)
    assert result.answers == [alone(loaded, example, name, 0.3) for example in examples]
    assert [len(kept) for kept in result.kept] == result.counts
    assert [foveate.method.budget.to_budget(0.3, size) for size in batch.sizes] == result.counts


def test_the_blind_arm_sees_no_visual_token(loaded, examples):
    batch = EvalBatch(loaded, examples, [])
    arm = BlindEvalArm("none", None, **ARMS)
    inputs, kept, counts = arm.inputs(batch)
    assert not (inputs["input_ids"] == loaded.model.config.image_token_id).any()
    assert "pixel_values" not in inputs
    assert (kept, counts) == ([[]] * 4, [0] * 4)
    tokenizer = loaded.processor.tokenizer
    for example, answer in zip(examples, arm.answer(batch).answers, strict=True):
        text = format_question(loaded, example.question)
        whole = loaded.processor(text=[text], images=[example.image()], return_tensors="pt")["input_ids"]
        ids = whole[whole != loaded.model.config.image_token_id][None]
        out = loaded.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False
        )
        assert tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip() == answer


def test_resize_has_about_the_tokens(loaded, examples):
    batch = EvalBatch(loaded, examples, [])
    inputs, _, counts = ResizedEvalArm("resize", 0.3, **ARMS).inputs(batch)
    marked = (inputs["input_ids"] == loaded.model.config.image_token_id).sum(1).tolist()
    assert marked == counts
    for count, size in zip(counts, batch.sizes, strict=True):
        assert 0.6 <= count / foveate.method.budget.to_budget(0.3, size) <= 1.4
    assert len(ResizedEvalArm("resize", 0.3, **ARMS).answer(batch).answers) == 4


@pytest.mark.parametrize("aspect", [0.2, 0.8, 1.0, 1.5, 6.0])
@pytest.mark.parametrize("k", [1, 2, 7, 64, 500])
def test_cells_fit_and_look_alike(aspect, k):
    columns, rows = fit_cells(aspect, k)
    assert 1 <= columns * rows <= k
    if k >= 64:
        assert columns * rows > 0.8 * k
        assert columns / rows == pytest.approx(aspect, rel=0.3)


def test_in_decoder_is_pruning_around_generate(loaded, examples):
    method = FastV(layer=1)
    arm = InDecoderEvalArm("fastv", 0.3, method=method, **ARMS)
    arm.check(loaded)
    result = arm.answer(EvalBatch(loaded, examples, []))
    for example, answer, count in zip(examples, result.answers, result.counts, strict=True):
        with foveate.pruning(loaded.model, keep=0.3, method=method) as handle:
            assert alone(loaded, example) == answer
        assert count == pytest.approx(handle.report.mean_visual_tokens, abs=1)


def test_steps_of_decoding_are_pruning_around_generate(loaded, examples):
    arm = InDecoderEvalArm("visionpulse", 0.1, method=VisionPulse(), **ARMS)
    arm.check(loaded)
    result = arm.answer(EvalBatch(loaded, examples, []))
    for example, answer, kept in zip(examples, result.answers, result.kept, strict=True):
        with foveate.pruning(loaded.model, keep=0.1, method=VisionPulse()) as handle:
            assert alone(loaded, example) == answer
        assert len(kept) == handle.report.total_count  # nothing is dropped
    assert all(0 < count <= len(kept) for count, kept in zip(result.counts, result.kept, strict=True))


def test_what_the_model_has_not_is_refused(tmp_path):
    loaded = load(str(tiny_folder("qwen2_5_vl", tmp_path)))
    (arm,) = [arm for arm in make_arms(parse_methods("visionzip"), [0.3]) if arm.name == "visionzip"]
    with pytest.raises(ModelError, match="visionzip"):
        arm.check(loaded)


def test_arms_leave_the_batch_as_it_was(loaded, examples):
    """Any order gives the same answers: an arm changes nothing that another reads."""
    method = resolve("divprune")
    arms = [
        UnprunedEvalArm("unpruned", None, **ARMS),
        PrunedEvalArm("divprune", 0.3, method=method, **ARMS),
        BlindEvalArm("none", None, **ARMS),
    ]
    there, back = EvalBatch(loaded, examples, [method]), EvalBatch(loaded, examples, [method])
    first = [arm.answer(there).answers for arm in arms]
    assert first == [arm.answer(back).answers for arm in reversed(arms)][::-1]
    assert first[0] == arms[0].answer(there).answers
