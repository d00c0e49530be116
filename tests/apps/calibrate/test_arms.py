"""What a calibration measures beside the answers, and what an audit answers again."""

import math
import statistics
from dataclasses import replace

import pytest

from foveate.apps.calibrate.arms import MeasuredEvalArm, PolicyEvalArm, ScoredEvalArm
from foveate.apps.calibrate.calibrate import make_cases
from foveate.apps.evaluate.arms import PrunedEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import sample_examples
from foveate.method import resolve
from foveate.pipeline.follow import measure_difficulty
from foveate.policy.policy import Promise, Retry
from foveate.runtime.load import load
from policies import make_policy

METHOD = resolve("foveate")


@pytest.fixture(scope="module")
def batch():
    loaded = load("bundled-qwen")
    return EvalBatch(loaded, sample_examples(["attribute", "overview"], "dev", 4, 0), [METHOD])


def make_arm(batch, limit):
    """A policy that keeps a quarter, and answers again where the log-odds of the first token are below `limit`."""
    retry = Retry(limit - math.log(99.0), 0.0, -1.0, 0.0, 100.0, Promise(0.01, 0.95, 1000, 0.0, 0.5))
    policy = make_policy(batch.loaded.model, price=1e12, offsets=(-30.0, -60.0), weight=0.0, retry=retry)
    return PolicyEvalArm("policy", None, policy=policy.with_retry(), method=METHOD)


def test_scores_in_a_batch_are_those_of_each_question(batch):
    answers = ScoredEvalArm("unpruned", None, method=METHOD).answer(batch)
    assert answers.answers == UnprunedEvalArm("unpruned", None).answer(batch).answers
    for example, measures in zip(batch.examples, answers.measures, strict=True):
        alone = EvalBatch(batch.loaded, [example], [METHOD])
        ((scores, topic),) = measure_difficulty(batch.loaded.model, alone.inputs, METHOD, alone.encoded)
        assert measures["scores"] == pytest.approx(scores, rel=1e-3)
        assert measures["topic"] == pytest.approx(topic, abs=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_unsure_answers_are_those_of_the_unpruned_model(batch, share):
    first = MeasuredEvalArm("foveate", 0.25, method=METHOD).answer(batch)
    odds = [measures["odds"] for measures in first.measures]
    limit = {0.0: -20.0, 0.5: statistics.median(odds), 1.0: 20.0}[share]
    whole = UnprunedEvalArm("unpruned", None).answer(batch)
    result = make_arm(batch, limit).answer(batch)
    unsure = [each < limit for each in odds]
    assert sum(unsure) == share * len(unsure)
    assert [measures["retried"] for measures in result.measures] == unsure
    for row, again in enumerate(unsure):
        kept = first.counts[row]
        assert result.answers[row] == (whole if again else first).answers[row]
        assert result.counts[row] == kept + batch.sizes[row] * again
        assert result.kept[row] == (None if again else first.kept[row])


def test_without_a_retry_it_is_the_policys_share(batch):
    arm = make_arm(batch, 20.0)
    plain = replace(arm, policy=replace(arm.policy, retries=False, price=0.0)).answer(batch)
    fixed = PrunedEvalArm("foveate", 0.25, method=METHOD).answer(batch)
    assert (plain.answers, plain.kept, plain.counts) == (fixed.answers, fixed.kept, fixed.counts)
    assert not any(measures["retried"] for measures in plain.measures)


def test_a_loss_is_another_answer_or_a_right_answer_that_is_lost():
    """Unpruned right or wrong; pruned the same, another answer, or the right one."""
    rows = []
    for name, unpruned, pruned in [
        ("right stays", ("red", True), ("red", True)),
        ("right is lost", ("red", True), ("blue", False)),
        ("right in other words", ("red", True), ("Red", True)),
        ("wrong changes", ("blue", False), ("green", False)),
        ("wrong gets right", ("blue", False), ("red", True)),
    ]:
        for keep, (answer, right) in ((None, unpruned), (0.25, pruned)):
            measures = {"scores": {}, "topic": []} if keep is None else {"odds": 0.0}
            rows.append({"id": name, "keep": keep, "answer": answer, "right": right, **measures})
    assert [case.changed for case in make_cases(rows)] == [(False,), (True,), (True,), (True,), (True,)]
    assert [case.changed for case in make_cases(rows, "right")] == [(False,), (True,), (False,), (False,), (False,)]
