"""The metrics against published examples and slow, obvious oracles."""

import itertools
import random
from functools import cache

import pytest

from foveate.apps.evaluate.metrics import METRICS, check_references, choose_metric, count_edits, score_anls, score_vqa
from foveate.errors import InputError


@pytest.mark.parametrize(
    ("name", "answer", "references", "score"),
    [
        ("exact", " Two  Stars. ", ["three", "two stars"], 1),
        ("exact", "two star", ["two stars"], 0),
        ("contains", "The star is red, I think.", ["red"], 1),
        ("contains", "It is covered.", ["red"], 0),  # whole words
        ("contains", "C++ (2024)", ["c++"], 1),
        ("contains", "anything", [""], 0),
        ("numeric", "The bar shows 104 units", ["100"], 1),
        ("numeric", "106", ["100"], 0),
        ("numeric", "In 2019 it was 1,250.5 dollars.", ["$1250.5"], 1),
        ("numeric", "-3", ["3"], 0),
        ("numeric", "\u22123", ["-3"], 1),
        ("numeric", "12.4 %", ["12.4%"], 1),
        ("numeric", ".5", ["0.5"], 1),
        ("numeric", "0", ["0"], 1),
        ("numeric", "none", ["0"], 0),
        ("numeric", "Red", ["red", "7"], 1),  # a reference that is no number
        ("numeric", "7", ["room 7b"], 0),
        ("choice", "B", ["B"], 1),
        ("choice", "(b) the red one", ["B"], 1),
        ("choice", "B. the red one", ["B. the red one"], 1),
        ("choice", "The answer is C.", ["B"], 0),
        ("choice", "A is wrong, so the answer is B", ["B"], 1),
        ("choice", "the red one", ["B. the red one"], 1),
        ("choice", "A red car", ["A"], 0),  # an article
        ("choice", "because", ["B"], 0),
        ("vqa", "yes", ["yes"] * 10, 1),
        ("vqa", "The  Dogs!", ["dogs"] * 4, 1),
        ("vqa", "two", ["2"] * 10, 1),
        ("vqa", "1,000", ["1000"] * 10, 1),
        ("vqa", "no", ["yes"] * 10, 0),
        ("anls", "", [""], 1),
    ],
)
def test_scores(name, answer, references, score):
    assert METRICS[name](answer, references) == pytest.approx(score)


@pytest.mark.parametrize(("agreeing", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_vqa_accuracy_of_so_many_of_ten(agreeing, score):
    """The figures that the benchmark's authors print."""
    assert score_vqa("cat", ["cat"] * agreeing + ["dog"] * (10 - agreeing)) == pytest.approx(score)


def test_vqa_accuracy_is_the_mean_over_all_subsets_of_nine():
    generator = random.Random(0)
    for _ in range(30):
        references = [generator.choice("abc") for _ in range(10)]
        subsets = itertools.combinations(references, 9)
        expected = sum(min(subset.count("b") / 3, 1) for subset in subsets) / 10
        assert score_vqa("b", references) == pytest.approx(expected)


def test_edits_are_those_of_the_recursion():
    @cache
    def count(one, two):
        if not one or not two:
            return len(one) + len(two)
        same = count(one[1:], two[1:]) + (one[0] != two[0])
        return min(same, count(one[1:], two) + 1, count(one, two[1:]) + 1)

    generator = random.Random(1)
    for _ in range(60):
        one, two = ("".join(generator.choice("abc") for _ in range(generator.randint(0, 7))) for _ in range(2))
        assert count_edits(one, two) == count(one, two)
    assert count_edits("kitten", "sitting") == 3


def test_anls_is_the_best_reference_above_one_half():
    assert score_anls("Hello World", ["hello  world"]) == 1
    assert score_anls("hallo", ["hello", "x"]) == pytest.approx(0.8)
    assert score_anls("ab", ["ac"]) == 0  # one half is too far
    assert score_anls("abc", ["abd"]) == pytest.approx(2 / 3)


def test_the_tolerance_is_a_choice():
    assert choose_metric("numeric", 0.2)("118", ["100"])
    assert not choose_metric("numeric", 0.0)("100.1", ["100"])
    for name, tolerance in (("exact", 0.1), ("numeric", 1.0), ("numeric", -0.1), ("numeric", float("nan"))):
        with pytest.raises(InputError, match=f"--tolerance {tolerance} is a share"):
            choose_metric(name, tolerance)
    with pytest.raises(InputError, match="no metric 'bleu': use one of exact, contains"):
        choose_metric("bleu")


def test_vqa_accuracy_needs_references():
    check_references("vqa", [10, 4])
    check_references("exact", [1])
    with pytest.raises(InputError, match=r"needs 4 references or more .*, and a question has 3"):
        check_references("vqa", [10, 3])
