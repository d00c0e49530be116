"""VisionPulse as a pure function, against its formula, token by token."""

import math
import random
from dataclasses import dataclass

import pytest
import torch

import foveate
from foveate import StepMethod, VisionPulse
from foveate.conformance.batches import make_batch
from foveate.errors import InputError
from foveate.method import resolve, resolve_any
from foveate.method.in_decoder import select_highest
from foveate.method.registry import METHODS
from step_reference import slow_choice


def make_logits(rng, heads, n, words):
    """Logits (heads, s) in which visual tokens and words are mixed; which are visual."""
    logits = [[rng.gauss(0, 1) * rng.choice((0.2, 1, 3)) for _ in range(n + words)] for _ in range(heads)]
    visual = [True] * n + [False] * words
    rng.shuffle(visual)
    return torch.tensor(logits), torch.tensor(visual)


def test_the_choice_is_the_formula():
    rng, counts = random.Random(0), set()
    for case in range(400):
        n = rng.randint(1, 60)
        logits, visual = make_logits(rng, rng.randint(1, 5), n, rng.randint(1, 30))
        method = VisionPulse(least=rng.choice((0, 0.2, 0.5, 1)), temperature=rng.choice((0.1, 0.4, 1, 5)))
        k = rng.randint(1, n)
        chosen = method.select(logits, visual, k)
        assert chosen.tolist() == slow_choice(logits, visual, k, method.least, method.temperature), case
        assert chosen.dtype == torch.long
        counts.add((len(chosen) == k, len(chosen) == max(1, int(method.least * k))))
    assert counts >= {(True, False), (False, True), (False, False)}  # both ends and what lies between


def test_the_settings_of_the_paper():
    """From 1 to 5 %, and from 5 to 10 %, rounded down, at least one."""
    rng = random.Random(1)
    for n in (7, 60, 199, 300, 576, 1001):
        for low, high, method in ((100, 20, VisionPulse()), (20, 10, VisionPulse(least=0.5, temperature=0.4))):
            k = max(1, n // high)
            logits, visual = make_logits(rng, 2, n, 9)
            none, every = logits.clone(), logits.clone()
            none[:, visual] -= 1e4
            every[1, visual] += 1e4  # one head is enough
            assert len(method.select(none, visual, k)) == max(1, n // low)
            assert len(method.select(every, visual, k)) == k
    assert VisionPulse().find_anchor(36) == 17
    assert [VisionPulse().find_anchor(depth) for depth in (1, 2, 28, 32)] == [0, 1, 13, 15]
    assert VisionPulse(anchor_at=1).find_anchor(6) == 5


def test_what_a_mass_below_the_ends_of_the_budget_keeps():
    """One head, two tokens as strong as the only word: each has a third of the attention."""
    logits, visual = torch.zeros(1, 32), torch.ones(32, dtype=torch.bool)
    visual[31] = False
    logits[:, 2:31] = -1e4
    assert VisionPulse(least=0, temperature=1).count(logits, visual, 29) == 31 * 2 // 3
    assert VisionPulse(least=0, temperature=1).count(logits, visual, 12) == 12
    assert VisionPulse(least=0.8, temperature=1).count(logits, visual, 29) == 23


def test_a_low_temperature_counts_what_stands_out():
    logits, visual = torch.zeros(1, 40), torch.ones(40, dtype=torch.bool)
    visual[39], logits[0, 39] = False, 1.0  # the word has the highest logit
    assert VisionPulse(least=0, temperature=0.1).count(logits, visual, 38) == 1
    assert VisionPulse(least=0, temperature=10).count(logits, visual, 38) == 37  # 39 / (39 + exp(0.1)) of 39


def test_ties_go_to_the_lowest_index_and_all_are_all():
    visual = torch.tensor([False, *[True] * 9])
    assert VisionPulse(least=1).select(torch.zeros(2, 10), visual, 4).tolist() == [0, 1, 2, 3]
    assert VisionPulse(least=0).select(torch.zeros(2, 10).half(), visual, 9).tolist() == list(range(9))


def test_select_checks_its_arguments():
    logits, visual = torch.rand(2, 10), torch.tensor([True] * 4 + [False] * 6)
    for k in (0, 5, True, 1.0):
        with pytest.raises(InputError, match="cannot stay"):
            VisionPulse().select(logits, visual, k)
    with pytest.raises(InputError, match="cannot stay"):
        VisionPulse().select(logits, torch.zeros(10, dtype=torch.bool), 1)
    for wrong in (torch.rand(1, 2, 10), torch.rand(0, 10), torch.ones(2, 10, dtype=torch.long)):
        with pytest.raises(InputError, match="heads, tokens"):
            VisionPulse().select(wrong, visual, 1)
    for wrong in (visual[:9], visual.long(), visual[None]):
        with pytest.raises(InputError, match="a bool for every token"):
            VisionPulse().select(logits, wrong, 1)
    with pytest.raises(InputError, match="logits is a list"):
        VisionPulse().select([[0.5]], visual, 1)


@pytest.mark.parametrize(
    "fields", [{"least": 1.2}, {"least": "a"}, {"temperature": 0}, {"temperature": math.inf}, {"anchor_at": 17}]
)
def test_fields_are_checked(fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        VisionPulse(**fields)


def test_is_a_value_and_registered():
    assert METHODS.load("visionpulse") is VisionPulse
    assert resolve_any("visionpulse") == VisionPulse() == VisionPulse(0.2, 0.1, 17 / 36)
    row = next(row for row in foveate.methods() if row.name == "visionpulse")
    assert (row.prunes, row.needs, row.prompt_aware, row.paper) == ("decoding", (), True, "arXiv 2605.31457")
    with pytest.raises(AttributeError):
        VisionPulse().least = 1  # frozen


def test_the_input_seam_says_where_to_go(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    with pytest.raises(InputError, match=r"foveate\.pruning or foveate\.attach"):
        foveate.prune_inputs(llava, inputs, keep=0.5, method="visionpulse")
    with pytest.raises(InputError, match=r"foveate\.pruning or foveate\.attach"):
        resolve(VisionPulse())


@dataclass(frozen=True)
class Nearest(StepMethod):
    """A plug-in method is one class."""

    layer: int = 2

    name = "nearest"
    paper = "baseline"
    summary = "at every step, from layer 2 on, the tokens that any head rates highest"

    def find_anchor(self, depth):
        return self.layer

    def _select(self, logits, visual, k):
        return select_highest(logits[:, visual].amax(0), k)


@torch.no_grad()
def test_a_method_of_ones_own(family):
    from decoder_reference import deep_model

    model = deep_model(family)
    inputs = make_batch(model, family, [(2, 5)])
    with foveate.pruning(model, keep=2, method=Nearest()) as handle:
        model.generate(**inputs, max_new_tokens=3, min_new_tokens=3)
    assert [len(step.kept[0]) for step in handle.report.steps] == [2, 2]
    assert (handle.report.method, handle.report.anchor) == ("nearest", 2)
    for layer in (-1, 6):
        with pytest.raises(InputError, match="this model has 6: choose one from 0 to 5"):
            foveate.attach(model, keep=2, method=Nearest(layer))
