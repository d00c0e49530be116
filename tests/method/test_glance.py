"""How the attention of a first look shapes the choice."""

import pytest
import torch

from foveate.method.foveate import Foveate
from foveate.method.glance import Glance
from foveate.method.tokens import VisualTokens


def look_at(attention):
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(len(attention), 16, generator=generator)
    return VisualTokens(embeds, embeds[:0], (1, 6, 8), attention=attention)


def test_the_core_shrinks_as_the_model_looks_at_more():
    """The larger the share of the image that it looks at, the nearer the choice is to the blind one."""
    blind = set(Foveate(focus=0.0).select(look_at(torch.ones(48)), 12).tolist())
    common = []
    for looked_at in (4, 12, 24, 48):
        attention = torch.zeros(48)
        attention[:looked_at] = 1.0
        kept = set(Glance().select(look_at(attention), 12).tolist())
        assert len(kept & set(range(looked_at))) >= min(looked_at, round(12 * (1 - looked_at / 48)))
        common.append(len(kept & blind))
    assert common[0] < common[-1] == 12


@pytest.mark.parametrize("attention", [torch.full((48,), 0.02), torch.zeros(48)])
def test_where_it_looks_everywhere_the_choice_is_blind(attention):
    tokens = look_at(attention)
    assert torch.equal(Glance().select(tokens, 9), Foveate(focus=0.0).select(tokens, 9))


@pytest.mark.parametrize("power", [-100, -30, -20, 20])
def test_the_scale_of_the_attention_changes_nothing(power):
    attention = torch.rand(48, generator=torch.Generator().manual_seed(1)) ** 8
    assert torch.equal(Glance().select(look_at(attention), 9), Glance().select(look_at(attention * 2.0**power), 9))
