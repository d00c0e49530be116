import json
from dataclasses import replace

import pytest

from apps.bench.cases import fill, make_case
from foveate.apps.bench.figures import compute_figures, to_record, write_verdict
from foveate.apps.bench.spread import Spread
from foveate.method import resolve


def get_targets(figures):
    return {target.name.split(",")[0]: (round(target.value.median, 3), target.met) for target in figures.targets}


def test_ratios():
    one = make_case()
    figures = compute_figures(one, one.pruned[0])
    assert figures.saved.median == pytest.approx(0.58)  # 42 of 100 ms are left
    assert figures.allowed.median == pytest.approx(0.60)  # the limit takes 40
    assert figures.left == pytest.approx({"encoder": 20 / 42, "selection": 2 / 42, "prefill": 20 / 42})
    assert get_targets(figures) == {
        "prefill": (1.0, True), "TTFT gain": (0.967, True), "KV bytes": (1.0, True), "peak memory": (0.5, True),
    }  # fmt: skip


def test_targets_that_are_missed():
    one = make_case(pruned=(20, 20, 21), peak=1200)
    one.pruned[0].kv_bytes = 3
    assert get_targets(compute_figures(one, one.pruned[0])) == {
        "prefill": (1.05, False), "TTFT gain": (0.65, False), "KV bytes": (1.5, False), "peak memory": (1.2, False),
    }  # fmt: skip


def test_long_prompts_may_be_a_little_farther_from_the_limit():
    one = make_case(pruned=(20, 2, 20.9), total=2880, length=2920)
    assert get_targets(compute_figures(one, one.pruned[0]))["prefill"] == (1.045, True)


def test_ratios_are_taken_within_a_round():
    """A round in which everything is slower changes no ratio."""
    one = make_case(jitter=0.3)
    figures = compute_figures(one, one.pruned[0])
    assert get_targets(figures)["prefill"] == (1.0, True)
    assert figures.targets[0].value == Spread(1.0, 1.0, 1.0)
    assert figures.saved.low < figures.saved.median < figures.saved.high


def test_a_round_without_a_possible_gain_is_left_out():
    one = make_case()
    one.unpruned.seconds["first_token"][0] = 0.03
    assert get_targets(compute_figures(one, one.pruned[0]))["TTFT gain"] == (0.967, True)


def test_what_cannot_be_measured_is_left_out():
    one = make_case(limit=None, peak=None)
    figures = compute_figures(one, one.pruned[0])
    assert (figures.allowed, figures.targets) == (None, ())
    nothing = make_case(unpruned=(20, 0, 10), limit=(20, 0, 20))  # there is nothing to gain, and no share of it
    assert "TTFT gain" not in get_targets(compute_figures(nothing, nothing.pruned[0]))


def test_it_pays():
    assert write_verdict(make_case()) == (
        "1 prompt, image 448x336: pruning to 10% (58 of 576 visual tokens) saves 58% of the time to first token and "
        "78% of the KV cache: the first token comes 2.4 times faster, and the vision encoder is now 48% of what is "
        "left. Too few rounds for an interval: give --rounds 5 or more."
    )
    assert "4 prompts, image" in write_verdict(make_case(batch=4))
    assert "the prefill is now 80%" in write_verdict(make_case(unpruned=(5, 0, 80), pruned=(5, 3, 32)))
    assert "KV cache" not in write_verdict(make_case(kv_bytes=(None, None)))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"total": 16, "length": 616, "pruned": (20, 2, 79)}, "only 16 of the prompt's 616 tokens are visual"),
        ({"pruned": (20, 2, 81)}, "the prefill takes no less time with fewer visual tokens"),
        (
            {"unpruned": (96, 0, 4), "pruned": (96, 0.5, 1), "limit": (96, 0, 1)},
            "the vision encoder, which pruning leaves alone, is 96% of the time to first token: at most 3%",
        ),
        (
            {"unpruned": (20, 0, 30), "pruned": (20, 19, 10)},
            "the prefill gets only 20.0 ms shorter, and choosing the tokens costs 19.0 ms",
        ),
        ({"pruned": (20, 1, 77)}, "is little, or no more than the spread"),
    ],
)
def test_it_does_not_pay(settings, reason):
    verdict = write_verdict(make_case(**settings))
    assert "will not pay here, because" in verdict
    assert reason in verdict
    assert "It does save 78% of the KV cache at 58 visual tokens." in verdict
    assert "At best, pruning to " in verdict
    assert verdict.endswith("Too few rounds for an interval: give --rounds 5 or more.")


def test_the_verdict_has_quartiles_of_enough_rounds():
    """The pruned prefill is steady, the unpruned one is not."""
    one = make_case(rounds=5)
    one.unpruned.seconds["first_token"] = [0.070, 0.080, 0.084, 0.105, 0.4]  # to 42 ms
    verdict = write_verdict(one)
    assert "saves 50% (48 to 60%) of the time to first token" in verdict
    assert "2.0 (1.9 to 2.5) times faster" in verdict
    assert verdict.endswith("In brackets: quartiles of 5 rounds.")
    one.unpruned.seconds["first_token"] = [0.030, 0.040, 0.042, 0.043, 0.044]
    assert "saves 0% (-5 to 2%) of the time to first token." in write_verdict(one)
    two = make_case(rounds=2)
    two.unpruned.seconds["first_token"] = [0.07, 0.4]
    assert "(" not in write_verdict(two).split("saves")[1]


def test_one_token_is_not_no_token():
    assert "pruning to 0.2% (1 of 576 visual tokens)" in write_verdict(make_case(kept=1))


def test_the_budget_that_saves_most_is_judged():
    one, two = make_case(), make_case(pruned=(20, 2, 10), kept=29)
    both = make_case()
    both.pruned.extend(two.pruned)
    assert write_verdict(both) == write_verdict(two) != write_verdict(one)
    both.pruned.append(fill(replace(one.pruned[0], method=resolve("grid")), 20, 1, 30, 2, None))
    assert "(29 of 576 visual tokens by divprune)" in write_verdict(both)


def test_the_record():
    record = json.loads(json.dumps(to_record(make_case()), allow_nan=False))
    assert (record["visual_tokens"], record["prompt_tokens"], record["image_size"]) == (576, 616, "448x336")
    assert [arm["kind"] for arm in record["arms"]] == ["whole", "pruned", "limit"]
    assert record["arms"][1]["seconds"]["selection"]["rounds"] == [0.002] * 3
    assert record["arms"][1]["targets"][0] == {
        "name": "prefill, times the limit", "median": 1.0, "low": 1.0, "high": 1.0, "bound": 1.02, "met": True,
    }  # fmt: skip
    assert record["arms"][0]["peak_bytes"] == {"before": 1000, "above": 1000}
    assert record["verdict"] == write_verdict(make_case())


def test_spread():
    assert Spread.from_values([1, 2, 3, 4, 5]).format() == "3.0 (2.0 to 4.0)"
    assert Spread.from_values([0.0125]).format(1000) == "12.5"
