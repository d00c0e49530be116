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


@pytest.mark.parametrize("core", [0.0, 0.3, 0.7, 1.0])
def test_the_core_is_where_the_model_looks(core):
    attention = torch.zeros(48)
    attention[10:22] = 1.0
    kept = Glance(core=core, focus=10.0).select(look_at(attention), 10)
    count = max(1, round(10 * core))
    assert len(set(kept.tolist()) & {*range(10, 22)}) >= count
    blind = set(Foveate(focus=0.0).select(look_at(attention), 10).tolist())
    assert len(set(kept.tolist()) & blind) < 10 or core == 0.0


def test_no_attention_is_equal_attention():
    none, equal = (Glance().select(look_at(torch.full((48,), value)), 9) for value in (0.0, 0.02))
    assert torch.equal(none, equal)


@pytest.mark.parametrize("power", [-100, -30, -20, 20])
def test_the_scale_of_the_attention_changes_nothing(power):
    attention = torch.rand(48, generator=torch.Generator().manual_seed(1)) ** 8
    assert torch.equal(Glance().select(look_at(attention), 9), Glance().select(look_at(attention * 2.0**power), 9))
