"""The masks of a step, in every form in which a layer gets its own."""

from types import SimpleNamespace

import pytest
import torch

from foveate.hooks.step_call import hide_tokens, read_seen

STAYS = torch.tensor([[True, False, True, True], [False, True, True, True]])
LOW = torch.finfo(torch.float32).min


def make_layer(kernel):
    return SimpleNamespace(self_attn=SimpleNamespace(config=SimpleNamespace(_attn_implementation=kernel)))


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_without_a_mask_everything_is_seen_and_what_does_not_stay_is_masked(kernel):
    hidden = torch.zeros(2, 1, 8, dtype=torch.bfloat16)
    assert read_seen(None, torch.zeros(2, 3, 4)).all()
    mask = hide_tokens(None, STAYS, make_layer(kernel), hidden)
    assert mask.shape == (2, 1, 1, 4)
    if kernel == "sdpa":
        assert torch.equal(mask[:, 0, 0], STAYS)
    else:
        assert mask.dtype == torch.bfloat16
        assert torch.equal(mask[:, 0, 0] == 0, STAYS)
        assert mask[0, 0, 0, 1] == torch.finfo(torch.bfloat16).min


def test_a_layers_own_mask_holds_too():
    own = torch.tensor([[[[False, True, True, True]]]])  # of both rows
    bias = torch.zeros(own.shape).masked_fill(~own, LOW)
    for mask in (own, bias):
        assert read_seen(mask, torch.zeros(2, 3, 4)).tolist() == [[False, True, True, True]] * 2
    expected = own[:, 0, 0] & STAYS
    hidden, layer = torch.zeros(2, 1, 8), make_layer("sdpa")
    assert torch.equal(hide_tokens(own, STAYS, layer, hidden)[:, 0, 0], expected)
    assert torch.equal(hide_tokens(bias, STAYS, layer, hidden)[:, 0, 0], torch.zeros(2, 4).masked_fill(~expected, LOW))
    assert not bool((bias[0, 0, 0, 1:] < 0).any())  # a new tensor
