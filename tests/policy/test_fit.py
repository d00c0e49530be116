"""The decision that is fitted, and the promise on fresh questions."""

import math
import random
from dataclasses import replace

import pytest
import torch

from foveate.errors import InputError
from foveate.policy.fit import CalibrationCase, CalibrationSettings, count_outcome, fit_policy, fit_risks, keep_promise
from foveate.policy.signature import Signature

BUDGETS = (0.1, 0.25, 0.5)
SIGNATURE = Signature("tiny", 10, (1.0,))


def make_cases(n, seed, *, measured=False):
    """Questions of two kinds (by direction) and a score: both raise the risk, a larger budget lowers it."""
    draw, cases = random.Random(seed), []
    for _ in range(n):
        kind, score, uniform = float(draw.random() < 0.3), draw.gauss(), draw.random()
        length = math.hypot(1 - kind, kind, 0.1)
        topic = ((1 - kind) / length, kind / length, 0.1 / length)
        changed = tuple(uniform < 1 / (1 + math.exp(9 * budget**0.5 + 3 - 5 * kind - score)) for budget in BUDGETS)
        odds = tuple(2 * draw.gauss() + (1.0 if each else 6.0) for each in changed) if measured else ()
        cases.append(CalibrationCase({"tokens": 100.0, "token spread": score}, topic, changed, odds))
    return cases


def follow(policy, case):
    """Whether the answer changes, and the tokens of both tries, by `Policy.decide`."""
    decision = policy.decide(case.scores, case.topic)
    if decision.keep == 1:
        return False, 1.0
    at = BUDGETS.index(decision.keep)
    if decision.retry_below is not None and case.odds[at] < decision.retry_below:
        return False, decision.keep + 1
    return case.changed[at], decision.keep


def make_settings(loss, **more):
    return CalibrationSettings(SIGNATURE, "foveate", "original", BUDGETS, loss, **more)


def test_harder_questions_get_more_tokens():
    policy = fit_policy(make_cases(1500, 0), make_settings(0.01))
    easy, hard = (torch.nn.functional.normalize(torch.tensor([1.0 - k, k, 0.1]), dim=0).tolist() for k in (0, 1))
    keeps = [
        policy.decide({"tokens": 100.0, "token spread": score}, topic).keep
        for topic in (easy, hard)
        for score in (-2, 2)
    ]
    assert keeps[0] <= keeps[1] <= keeps[3]
    assert keeps[0] <= keeps[2] <= keeps[3]
    assert keeps[0] < keeps[3]


def test_a_larger_budget_is_never_a_higher_risk():
    policy = fit_policy(make_cases(1000, 1), make_settings(0.02))
    for case in make_cases(50, 2):
        risks = policy.estimate(case.scores, case.topic)
        assert risks == sorted(risks, reverse=True)


def test_the_promise_holds_on_fresh_questions_as_often_as_it_says():
    fresh = make_cases(6000, 999)
    broken = 0
    for seed in range(40):
        policy = fit_policy(make_cases(700, seed), make_settings(0.01))
        broken += count_outcome(policy, fresh)[0] > 0.01 * len(fresh)
    assert broken <= 5  # 2 of 40 expected at the most; 5 or fewer with a probability of 98 %


def test_it_keeps_fewer_tokens_than_a_fixed_budget_with_the_same_promise():
    policy = fit_policy(make_cases(3000, 0), make_settings(0.01))
    fresh = make_cases(6000, 999)
    _, keep = count_outcome(policy, fresh)
    fixed = min(
        budget for n, budget in enumerate(BUDGETS) if sum(case.changed[n] for case in fresh) <= 0.01 * len(fresh)
    )
    assert keep < 0.8 * fixed


def test_everything_is_kept_where_nothing_can_be_promised():
    cases = [CalibrationCase(case.scores, case.topic, (True, True, True)) for case in make_cases(700, 0)]
    policy = fit_policy(cases, make_settings(0.01))
    assert count_outcome(policy, cases) == (0, 1.0)
    assert (policy.promise.expected_loss, policy.promise.expected_keep) == (0.0, 1.0)


def test_everything_is_kept_where_the_risks_were_fitted_to_few_cases_that_never_change():
    cases = make_cases(60, 0, measured=True)
    still = [replace(case, changed=(False, False, False)) for case in cases]
    policy, _ = fit_risks(still, make_settings(0.01), 0)
    policy = keep_promise(policy, [replace(case, changed=(True, True, True)) for case in cases], 0.01, 0.95)
    assert count_outcome(policy, cases) == count_outcome(policy.with_retry(), cases) == (0, 1.0)


def test_too_few_questions_are_refused_with_the_number_that_is_needed():
    with pytest.raises(InputError, match=r"597 questions are too few .* give 598 at least"):
        fit_policy(make_cases(597, 0), make_settings(0.01))
    fit_policy(make_cases(598, 0), make_settings(0.01))


def test_the_same_cases_give_the_same_policy():
    assert fit_policy(make_cases(700, 0), make_settings(0.02)) == fit_policy(make_cases(700, 0), make_settings(0.02))


@pytest.mark.parametrize("loss", [0.01, 0.05])
@pytest.mark.parametrize("retries", [False, True])
def test_all_cases_at_once_are_decided_as_each_one_is(loss, retries):
    policy = fit_policy(make_cases(1200, 3, measured=True), make_settings(loss))
    policy = policy.with_retry() if retries else policy
    fresh = make_cases(300, 4, measured=True)
    outcomes = [follow(policy, case) for case in fresh]
    losses, keep = count_outcome(policy, fresh)
    assert losses == sum(changed for changed, _ in outcomes)
    assert keep == pytest.approx(sum(tokens for _, tokens in outcomes) / len(fresh))
    assert len({tokens for _, tokens in outcomes}) > 2


def test_the_promise_holds_with_a_retry_too():
    fresh = make_cases(6000, 999, measured=True)
    policies = [
        fit_policy(make_cases(700, seed, measured=True), make_settings(0.01)).with_retry() for seed in range(40)
    ]
    assert sum(count_outcome(policy, fresh)[0] > 0.01 * len(fresh) for policy in policies) <= 5


def test_a_retry_saves_tokens_where_the_first_token_tells():
    policy = fit_policy(make_cases(3000, 0, measured=True), make_settings(0.01))
    fresh = make_cases(6000, 999, measured=True)
    assert count_outcome(policy.with_retry(), fresh)[1] < 0.9 * count_outcome(policy, fresh)[1]


def test_without_odds_there_is_no_retry():
    policy = fit_policy(make_cases(700, 0), make_settings(0.02))
    assert policy.retry is None
    assert policy.with_retry() is policy


def test_a_surer_first_token_is_never_a_higher_risk():
    cases = make_cases(700, 0, measured=True)
    cases = [replace(case, odds=tuple(-odds for odds in case.odds)) for case in cases]
    retry = fit_policy(cases, make_settings(0.02)).retry
    assert retry.sure < 0
    assert retry.sure + retry.knee < 0
