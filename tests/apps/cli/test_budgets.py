"""What `--keep` and `--policy` take, and what each command says of anything else."""

import json
import math

import pytest

from foveate.apps.budgets import choose_budget, describe_budget, parse_budget
from foveate.apps.console import MAX_NOTES, limit_notes
from foveate.errors import InputError
from foveate.method.recency import Recency
from foveate.policy import Policy
from foveate.policy.policy import Promise, Retry
from foveate.runtime.load import load, quiet
from policies import SAFE, make_policy, save_policy, ship


@pytest.fixture(scope="module")
def model(folder):
    with quiet():
        return load(folder).model


@pytest.fixture
def path(model, tmp_path):
    return save_policy(model, tmp_path)


def test_budgets(path):
    assert [parse_budget(text) for text in ("0.1", " 64", "auto", " auto ")] == [0.1, 64, "auto", "auto"]
    assert parse_budget(str(path)) == choose_budget(None, str(path)) == Policy.load(path)
    assert choose_budget(str(path), str(path)) == Policy.load(path)
    assert choose_budget(None, None) == 0.1


@pytest.mark.parametrize("text", ["", "many", "Auto", "auto,0.1", "mine.policy"])
def test_other_budgets_are_refused_with_all_choices(text):
    with pytest.raises(InputError, match=r"a share \(0\.1\) or a number of tokens \(64\), auto, or the \.json file"):
        parse_budget(text)


def test_a_record_tells_policies_apart(model, path):
    names = {describe_budget(keep) for keep in (make_policy(model), Policy.load(path), make_policy(model, price=SAFE))}
    assert len(names) == 2
    assert all(name.startswith("policy ") and len(name) == 19 for name in names)
    assert [describe_budget(keep) for keep in (0.1, 64, "auto")] == [0.1, 64, "auto"]
    assert describe_budget(Recency(older=0.2)) == "Recency(newest=1.0, older=0.2, fade=0.0)"


def test_many_notes_are_counted():
    notes = [f"note {number}" for number in range(MAX_NOTES + 3)]
    assert limit_notes(notes[:MAX_NOTES]) == notes[:MAX_NOTES]
    assert limit_notes(notes) == [*notes[:MAX_NOTES], "3 more notes like these were left out."]


# -- ask -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--policy", "--keep"])
def test_ask_shows_the_number_that_a_policy_chose(run, folder, scene, path, option):
    code, out, err = run("ask", scene, "what?", "--model", folder, option, path, "--json", "--max-new-tokens", 1)
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    assert (record["kept"], record["total"]) == (4, 16)
    assert record["keep"] == describe_budget(Policy.load(path))
    (reason,) = record["reasons"]
    assert reason.startswith("25 % of the tokens, at an estimated risk of")
    assert "Budget: 4 of 16 visual tokens. 25 % of the tokens" in " ".join(out.split())


def test_ask_auto_is_the_policy_that_comes_with_the_model(run, folder, model, scene, tmp_path, monkeypatch):
    (tmp_path / "shipped").mkdir()
    ship(monkeypatch, tmp_path / "shipped", make_policy(model, price=SAFE))
    code, out, _ = run("ask", scene, "what?", "--model", folder, "--keep", "auto", "--json", "--max-new-tokens", 1)
    record = json.loads(out.splitlines()[-1])
    assert (code, record["keep"], record["kept"]) == (0, "auto", 16)
    assert record["reasons"][0].startswith("100 % of the tokens, at an estimated risk of 0 %; 50 % would risk")


def test_ask_says_what_is_unlike_the_calibration(run, folder, model, scene, tmp_path):
    path = save_policy(model, tmp_path, low=30.0)
    code, out, _ = run("ask", scene, "what?", "--model", folder, "--policy", path, "--json", "--max-new-tokens", 1)
    (note,) = json.loads(out.splitlines()[-1])["notes"]
    assert (code, "tokens 16, calibrated on 30 to 1e+09" in note) == (0, True)


@pytest.mark.parametrize(("limit", "retried"), [(-1e6, False), (1e6, True)])
def test_ask_retry_answers_again_if_the_model_is_unsure(run, folder, model, scene, tmp_path, limit, retried):
    """Whether the log-odds of the first token are below the limit, of a policy that keeps a quarter."""
    retry = Retry(limit - math.log(99.0), 0.0, -1.0, 0.0, 100.0, Promise(0.01, 0.95, 1000, 0.0, 0.5))
    path = save_policy(model, tmp_path, price=SAFE, offsets=(-30.0, -60.0), weight=0.0, retry=retry)
    ask = ("ask", scene, "what?", "--model", folder, "--policy", path, "--json", "--max-new-tokens", 4)
    ask = (*ask, "--repeat", 1)  # the times of both columns are then of one round
    code, out, err = run(*ask, "--retry")
    assert (code, err) == (0, "")
    record, text = json.loads(out.splitlines()[-1]), " ".join(out.split())
    assert (record["kept"], record["retried"]) == (4, retried)
    assert ("4, then 16" in text) == ("answered again with all visual tokens" in text) == retried
    if retried:
        assert record["answer"] == record["answer_unpruned"]
        assert record["kv_bytes"]["pruned"] == record["kv_bytes"]["unpruned"]
        assert record["seconds"]["pruned"]["prefill"] > record["seconds"]["unpruned"]["prefill"]
        assert record["range"]["pruned"] == [record["seconds"]["pruned"]["first_token"]] * 2
    else:
        fixed = run("ask", scene, "what?", "--model", folder, "--keep", 4, "--json", "--max-new-tokens", 4)[1]
        assert record["answer"] == json.loads(fixed.splitlines()[-1])["answer"]
    assert json.loads(run(*ask)[1].splitlines()[-1])["retried"] is False  # without --retry


def test_a_retry_needs_a_policy_that_has_one(refuse, folder, scene, path, monkeypatch):
    assert "The policy has no retry: make one" in refuse(
        "ask", scene, "what?", "--model", folder, "--policy", path, "--retry"
    )
    monkeypatch.setattr("foveate.runtime.load.load", None)
    says = refuse("ask", scene, "what?", "--retry")
    assert "--retry is for a policy, and 0.1 is a fixed budget: add --policy, or leave it out." in says


def test_a_number_has_no_reason(run, folder, scene):
    _, out, _ = run("ask", scene, "what?", "--model", folder, "--keep", 4, "--json", "--max-new-tokens", 1)
    assert json.loads(out.splitlines()[-1])["reasons"] == []
    assert "Budget:" not in out


def test_keep_and_policy_together(refuse, scene, path):
    for keep in ("0.1", "auto", "other.json"):
        says = refuse("ask", scene, "what?", "--keep", keep, "--policy", path)
        assert says == f"foveate: --keep {keep} and --policy {path} both set the budget: leave one of them out.\n"


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"format": "foveate policy 0"}'])
@pytest.mark.parametrize("command", ["ask", "batch", "serve", "eval"])
def test_files_that_are_no_policy(refuse, scene, tmp_path, command, text):
    (tmp_path / "mine.json").write_text(text)
    before = {"ask": [scene, "what?"], "batch": [tmp_path / "q.jsonl", "--out", tmp_path / "out"]}.get(command, [])
    says = refuse(command, *before, "--keep", tmp_path / "mine.json")
    assert f"{tmp_path / 'mine.json'} " in says
    assert "make one with foveate calibrate" in says


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--policy", "/no/such.json"], "cannot be read as a policy"),
        (["--keep", "/no/such.json"], "cannot be read as a policy"),
        (["--keep", "mine.policy"], "'mine.policy' is no number"),
        (["--keep", "auto", "--method", "clever"], "There is no method 'clever'"),
        (["--keep", "auto", "--method", "fastv"], "needs the running model"),
    ],
)
def test_bad_policies_are_refused_before_the_model_is_loaded(refuse, scene, monkeypatch, options, text):
    monkeypatch.setattr("foveate.runtime.load.load", None)
    assert text in refuse("ask", scene, "what?", *options)


def test_a_policy_of_another_model_method_or_positions(refuse, folder, model, scene, path, bundled):
    ask = ("ask", scene, "what?", "--model", folder, "--policy")
    assert "calibrated with method='foveate', not 'grid': use that, or" in refuse(*ask, path, "--method", "grid")
    assert "calibrated with positions='original', not 'compact'" in refuse(*ask, path, "--positions", "compact")
    make_policy(bundled.model).save(path)
    assert "calibrated on another model (llava) or other weights: make one for this" in refuse(*ask, path)


def test_auto_for_a_model_without_a_policy(refuse, folder, scene):
    assert "none comes with it: make one with foveate calibrate" in refuse(
        "ask", scene, "what?", "--model", folder, "--keep", "auto"
    )


def test_bench_measures_fixed_budgets(refuse, path):
    for keep in ("auto", path):
        assert "give a share (0.1) or a number of tokens (64)." in refuse("bench", "--keep", keep)
