import json
from dataclasses import replace

import pytest

from apps.bench.cases import case, filled
from foveate.apps.bench.figures import Spread, figures, record, verdict
from foveate.method import resolve


def targets(found):
    return {target.name.split(",")[0]: (round(target.value.median, 3), target.met) for target in found.targets}


def test_ratios():
    one = case()
    found = figures(one, one.pruned[0])
    assert found.saved.median == pytest.approx(0.58)  # 42 of 100 ms are left
    assert found.allowed.median == pytest.approx(0.60)  # the limit takes 40
    assert found.left == pytest.approx({"encoder": 20 / 42, "selection": 2 / 42, "prefill": 20 / 42})
    assert targets(found) == {
        "prefill": (1.0, True), "TTFT gain": (0.967, True), "KV bytes": (1.0, True), "peak memory": (0.5, True),
    }  # fmt: skip


def test_targets_that_are_missed():
    one = case(pruned=(20, 20, 21), peak=1200)
    one.pruned[0].kv_bytes = 3
    assert targets(figures(one, one.pruned[0])) == {
        "prefill": (1.05, False), "TTFT gain": (0.65, False), "KV bytes": (1.5, False), "peak memory": (1.2, False),
    }  # fmt: skip


def test_long_prompts_may_be_a_little_farther_from_the_limit():
    one = case(pruned=(20, 2, 20.9), total=2880, length=2920)
    assert targets(figures(one, one.pruned[0]))["prefill"] == (1.045, True)


def test_ratios_are_taken_within_a_round():
    """A round in which everything is slower changes no ratio."""
    one = case(jitter=0.3)
    found = figures(one, one.pruned[0])
    assert targets(found)["prefill"] == (1.0, True)
    assert found.targets[0].value == Spread(1.0, 1.0, 1.0)
    assert found.saved.low < found.saved.median < found.saved.high


def test_a_round_without_anything_to_gain_has_no_share_of_it():
    one = case()
    one.whole.seconds["first_token"][0] = 0.03
    assert targets(figures(one, one.pruned[0]))["TTFT gain"] == (0.967, True)


def test_what_cannot_be_measured_is_left_out():
    one = case(limit=None, peak=None)
    found = figures(one, one.pruned[0])
    assert (found.allowed, found.targets) == (None, ())
    nothing = case(whole=(20, 0, 10), limit=(20, 0, 20))  # there is nothing to gain, and no share of it
    assert "TTFT gain" not in targets(figures(nothing, nothing.pruned[0]))


def test_it_pays():
    assert verdict(case()) == (
        "1 prompt, picture 448x336: pruning to 10% (58 of 576 visual tokens) saves 58% of the time to first token and "
        "78% of the KV cache; the vision encoder is now 48% of what is left."
    )
    assert "4 prompts, picture" in verdict(case(batch=4))
    assert "the prefill is now 80%" in verdict(case(whole=(5, 0, 80), pruned=(5, 3, 32)))
    assert "KV cache" not in verdict(case(kv_bytes=(None, None)))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"total": 16, "length": 616, "pruned": (20, 2, 79)}, "only 16 of the prompt's 616 tokens are visual"),
        ({"pruned": (20, 2, 81)}, "the prefill takes no less time with fewer visual tokens"),
        (
            {"whole": (96, 0, 4), "pruned": (96, 0.5, 1), "limit": (96, 0, 1)},
            "the vision encoder, which pruning leaves alone, is 96% of the time to first token: at most 3%",
        ),
        (
            {"whole": (20, 0, 30), "pruned": (20, 19, 10)},
            "the prefill gets only 20.0 ms shorter, and choosing the tokens costs 19.0 ms",
        ),
        ({"pruned": (20, 1, 77)}, "is little, or no more than the spread"),
    ],
)
def test_it_does_not_pay(settings, reason):
    found = verdict(case(**settings))
    assert "will not pay here, because" in found
    assert reason in found
    assert found.endswith("It does save 78% of the KV cache at 58 visual tokens.")


def test_the_budget_that_saves_most_is_judged():
    one, two = case(), case(pruned=(20, 2, 10), kept=29)
    both = case()
    both.pruned.extend(two.pruned)
    assert verdict(both) == verdict(two) != verdict(one)
    both.pruned.append(filled(replace(one.pruned[0], method=resolve("grid")), 20, 1, 30, 2, None))
    assert "(29 of 576 visual tokens by divprune)" in verdict(both)


def test_the_record():
    found = json.loads(
        json.dumps(
            record(
                case(),
            ),
            allow_nan=False,
        )
    )
    assert (found["visual_tokens"], found["prompt_tokens"], found["image_size"]) == (576, 616, "448x336")
    assert [arm["kind"] for arm in found["arms"]] == ["whole", "pruned", "limit"]
    assert found["arms"][1]["seconds"]["selection"]["rounds"] == [0.002] * 3
    assert found["arms"][1]["targets"][0] == {
        "name": "prefill, times the limit", "median": 1.0, "low": 1.0, "high": 1.0, "bound": 1.02, "met": True,
    }  # fmt: skip
    assert found["arms"][0]["peak_bytes"] == {"before": 1000, "above": 1000}
    assert found["verdict"] == verdict(case())


def test_spread():
    assert Spread.of([1, 2, 3, 4, 5]).text() == "3.0 (2.0 to 4.0)"
    assert Spread.of([0.0125]).text(1000) == "12.5"
