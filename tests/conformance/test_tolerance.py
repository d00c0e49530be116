"""The limit of the laws is relative to the size of a model's logits."""

import pytest
import torch

from foveate.conformance import laws, reference
from foveate.models import lookup
from foveate.models.sequence import count_positions

pytestmark = pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning")


@pytest.fixture
def large_logits(llava):
    with torch.no_grad():
        llava.lm_head.weight.mul_(1000)
    return llava


def test_the_limit_grows_with_the_logits(large_logits, monkeypatch):
    assert {result.status for result in laws.check(large_logits)} == {"holds"}
    monkeypatch.setattr(reference, "logit_size", lambda logits: 1.0)
    assert "violated" in {result.status for result in laws.check(large_logits)}


def test_large_logits_hide_no_violation(large_logits, monkeypatch):
    family = lookup.family("llava")
    monkeypatch.setattr(type(family), "positions", lambda self, model, inputs, mask: count_positions(mask) * 2)
    statuses = {result.name: result.status for result in laws.check(large_logits)}
    assert statuses["keep=1.0 is the untouched model"] == "violated"


@pytest.mark.parametrize(("size", "error"), [(0.01, 1.0), (1.0, 1.0), (20.0, 0.05)])
def test_errors_are_relative_to_logits_above_one(size, error):
    logits = torch.tensor([size, -size])
    assert reference.relative_error(logits + torch.tensor([0.0, 1.0]), logits) == pytest.approx(error)


def test_ids_that_a_model_rules_out_have_no_size():
    lowest = torch.finfo(torch.float32).min
    assert reference.relative_error(torch.tensor([1.5, lowest]), torch.tensor([1.0, lowest])) == 0.5
    assert reference.relative_error(torch.tensor([1.5, 1.0]), torch.tensor([1.5, lowest])) > 1e30


def test_logits_of_another_shape_are_infinitely_wrong():
    assert reference.relative_error(torch.zeros(2), torch.zeros(1)) == float("inf")
