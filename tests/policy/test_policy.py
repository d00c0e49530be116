"""The decision by hand, files, and what is unlike the calibration."""

import json
import math
from dataclasses import asdict, replace

import pytest

from foveate.errors import InputError
from foveate.policy import Policy
from foveate.policy.fit import SAFEST
from foveate.policy.policy import Promise, Retry, ScoreTerm, format_percent
from foveate.policy.signature import Signature

POLICY = Policy(
    Signature("llava", 100, (0.5, -0.25)), "foveate", "original", (0.1, 0.5), (-1.0, -3.0),
    (ScoreTerm("token spread", 0.2, 0.1, 0.05, 0.6, 1.5),), (2.0, -1.0), (0.6, 0.8), 0.9, 3.0,
    Promise(0.01, 0.95, 800, 0.005, 0.3),
)  # fmt: skip
RETRY = Retry(0.5, 0.8, -0.2, -0.7, 20.0, Promise(0.01, 0.95, 800, 0.004, 0.2))


def test_estimate_is_the_logistic_model():
    logit = 1.5 * (0.3 - 0.2) / 0.1 + 2.0 * 0.6 - 1.0 * 0.8
    expected = [1 / (1 + math.exp(-(offset + logit))) for offset in (-1.0, -3.0)]
    assert POLICY.estimate({"token spread": 0.3}, (0.6, 0.8)) == pytest.approx(expected)


@pytest.mark.parametrize("price", [0.0, 0.5, 3.0, 30.0, 1e12])
def test_decision_has_the_lowest_cost(price):
    policy = replace(POLICY, price=price)
    low, high = policy.estimate({"token spread": 0.2}, (0.6, 0.8))
    costs = {0.1: 0.1 + price * low, 0.5: 0.5 + price * high, 1.0: 1.0}
    assert policy.decide({"token spread": 0.2}, (0.6, 0.8)).keep == min(costs, key=costs.get)


def test_a_higher_price_never_keeps_less():
    keeps = [replace(POLICY, price=10**p).decide({"token spread": 0.2}, (0.6, 0.8)).keep for p in range(-2, 8)]
    assert keeps == sorted(keeps)
    assert (keeps[0], keeps[-1]) == (0.1, 1.0)


@pytest.mark.parametrize("retry", [None, RETRY])
def test_the_safest_price_keeps_everything_however_sure_the_estimate_is(retry):
    sure = replace(POLICY, offsets=(-5000.0, -6000.0), price=SAFEST, retry=retry and replace(retry, price=SAFEST))
    assert sure.with_retry().decide({"token spread": 0.2}, (0.6, 0.8)).keep == 1


def test_reason_names_the_risk_of_less():
    reason = replace(POLICY, price=3.0).decide({"token spread": 0.2}, (0.6, 0.8)).reason
    assert reason == "50 % of the tokens, at an estimated risk of 6.9 %; 10 % would risk 35 %."


def test_shares_are_percents_of_two_digits():
    shares = (0.0, 1e-9, 1e-4, 0.00015, 0.0694, 0.35, 0.994, 0.9951, 1.0)
    assert [format_percent(share) for share in shares] == [
        "0 %", "below 0.01 %", "0.01 %", "0.015 %", "6.9 %", "35 %", "99 %", "100 %", "100 %",
    ]  # fmt: skip


def test_what_is_unlike_the_calibration_is_named():
    assert POLICY.decide({"token spread": 0.3}, (0.6, 0.8)).notes == ()
    (note,) = POLICY.decide({"token spread": 0.7}, (0.6, 0.8)).notes
    assert "token spread 0.7, calibrated on 0.05 to 0.6" in note
    (note,) = POLICY.decide({"token spread": 0.3}, (0.8, -0.6)).notes
    assert "a question unlike" in note


def test_a_saved_policy_is_the_same(tmp_path):
    POLICY.save(tmp_path / "mine.policy.json")
    assert Policy.load(tmp_path / "mine.policy.json") == POLICY


def test_a_policy_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        POLICY.save(tmp_path / "none" / "mine.policy.json")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "no JSON", '{"format": "foveate policy 1"}', '{"format": "foveate policy 2"}', "\x00"],
)
def test_other_files_are_no_policies(tmp_path, text):
    path = tmp_path / "mine.policy.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"mine\.policy\.json.*foveate calibrate"):
        Policy.load(path)


@pytest.mark.parametrize("key", ["model", "budgets", "offsets", "terms", "topic", "center", "near", "price", "promise"])
@pytest.mark.parametrize("value", [None, "x", [1, "a"], {"a": 1}])
def test_damaged_policies_are_refused(tmp_path, key, value):
    path = tmp_path / "mine.policy.json"
    POLICY.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(InputError, match="no policy of this version"):
        Policy.load(path)


def test_a_policy_with_another_score_is_refused(tmp_path):
    path = tmp_path / "mine.policy.json"
    replace(POLICY, terms=(replace(POLICY.terms[0], name="beauty"),)).save(path)
    with pytest.raises(InputError, match="no policy of this version"):
        Policy.load(path)


def test_another_metric_is_refused(tmp_path):
    path = tmp_path / "mine.policy.json"
    replace(POLICY, metric="right").save(path)
    assert Policy.load(path).metric == "right"
    path.write_text(path.read_text().replace('"right"', '"beauty"'))
    with pytest.raises(InputError, match="no policy of this version"):
        Policy.load(path)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot be read as a policy"):
        Policy.load(tmp_path / "none.json")


@pytest.mark.parametrize("price", [0.5, 1.0, 1.5, 20.0, 1000.0])
@pytest.mark.parametrize("risk", [1e-6, 1e-4, 0.02, 0.3, 0.99])
def test_answers_are_made_again_where_the_risk_costs_more_than_all_tokens(price, risk):
    limit = replace(RETRY, price=price).find_limit(risk)
    for odds in [z / 10 for z in range(-140, 141)]:
        logit = 0.5 + 0.8 * math.log(risk / (1 - risk)) - 0.2 * odds - 0.7 * min(odds, 3)
        assert (price / (1 + math.exp(-logit)) > 1) == (odds < limit)


@pytest.mark.parametrize("price", [0.5, 3.0, 30.0, 1e12])
def test_with_a_retry_a_risk_costs_no_more_than_all_tokens(price):
    policy = replace(POLICY, retry=replace(RETRY, price=price))
    risks = policy.estimate({"token spread": 0.2}, (0.6, 0.8))
    costs = {keep: keep + min(1, price * risk) for keep, risk in zip((0.1, 0.5), risks, strict=True)} | {1.0: 1.0}
    decision = policy.with_retry().decide({"token spread": 0.2}, (0.6, 0.8))
    assert decision.keep == min(costs, key=costs.get)
    assert (decision.retry_below is None) == (decision.keep == 1)
    assert policy.decide({"token spread": 0.2}, (0.6, 0.8)) == POLICY.decide({"token spread": 0.2}, (0.6, 0.8))


def test_a_saved_retry_is_the_same_and_is_not_switched_on(tmp_path):
    policy = replace(POLICY, retry=RETRY)
    policy.with_retry().save(tmp_path / "mine.policy.json")
    assert Policy.load(tmp_path / "mine.policy.json") == policy


@pytest.mark.parametrize(
    "value", ["x", [1], {"sure": 1.0}, {**asdict(RETRY), "price": "x"}, {**asdict(RETRY), "sure": 0}]
)
def test_damaged_retries_are_refused(tmp_path, value):
    path = tmp_path / "mine.policy.json"
    replace(POLICY, retry=RETRY).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "retry": value}))
    with pytest.raises(InputError, match="no policy of this version"):
        Policy.load(path)
