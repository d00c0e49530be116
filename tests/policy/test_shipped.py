"""The policies that come with the bundled models: they fit, and keep their promise on questions of the test split."""

import pytest

import foveate
from foveate.apps.calibrate.audit import audit
from foveate.apps.evaluate.examples import sample_examples
from foveate.method import resolve
from foveate.policy.shipped import find_shipped
from foveate.runtime.conversation import make_inputs
from foveate.runtime.load import load
from foveate.world.drawing import draw_scene
from foveate.world.suite import sample_cases

MODELS = ("bundled", "bundled-qwen")
QUESTIONS = 12  # of each task


@pytest.fixture(scope="module", params=MODELS)
def loaded(request):
    return load(request.param)


def test_it_promises_one_percent_on_thousands_of_questions(loaded):
    policy = find_shipped(loaded.model)
    promises = (policy.promise, policy.retry.promise)
    assert [(promise.loss, promise.confidence) for promise in promises] == [(0.01, 0.95)] * 2
    assert all(promise.questions >= 2500 and promise.expected_loss < 0.01 for promise in promises)


def test_auto_is_that_policy_and_differs_by_question(loaded):
    keeps = set()
    for case in (case for task in ("existence", "counting", "overview") for case in sample_cases("dev", task, 8)):
        inputs = make_inputs(loaded, [draw_scene(case.scene)], [case.question.text])
        auto, own = (
            foveate.prune_inputs(loaded.model, inputs, keep=keep).report.items[0]
            for keep in ("auto", find_shipped(loaded.model))
        )
        assert (auto.keep, auto.reason, auto.kept.tolist()) == (own.keep, own.reason, own.kept.tolist())
        keeps.add(auto.keep)
    assert len(keeps) > 1


@pytest.mark.parametrize("retries", [False, True])
def test_the_promise_is_kept_on_fresh_questions(loaded, retries):
    """With a loss of at most 1 %, more than 4 of 96 answers change in fewer than 1 of 300 cases."""
    policy = find_shipped(loaded.model)
    tasks = ["existence", "attribute", "relation", "counting", "chart", "grounding", "overview", "crowd"]
    examples = sample_examples(tasks, "test", QUESTIONS, seed=11)
    result = audit(loaded, examples, policy.with_retry() if retries else policy, resolve("foveate"))
    assert result.every.questions == len(tasks) * QUESTIONS
    assert result.every.changed <= 4
    assert result.every.keep < 1
