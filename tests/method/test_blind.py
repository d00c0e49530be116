"""Methods without the question."""

from dataclasses import dataclass, replace

import pytest
import torch

from extras import make_tokens
from foveate.errors import InputError
from foveate.method import Method, methods, resolve
from foveate.method.base import FirstLook
from foveate.method.blind import Blind, make_blind
from foveate.method.cdpruner import CDPruner
from foveate.method.foveate import Foveate
from foveate.method.glance import Glance
from foveate.method.grid import Grid

ROWS = [row for row in methods() if row.prunes == "input"]


def ask(seed):
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(40, 24, generator=generator)
    return make_tokens(embeds, torch.randn(5, 24, generator=generator.manual_seed(seed)), (1, 5, 8))


INSIDE = [row.name for row in ROWS if "cross_attention" in row.needs]  # the question is read in the model


@pytest.mark.parametrize("name", [row.name for row in ROWS if row.prompt_aware and row.name not in INSIDE])
def test_no_question_changes_the_choice(name):
    method = resolve(name)
    blind = make_blind(method)
    assert not torch.equal(method.select(ask(1), 9), method.select(ask(3), 9)) or name == "glance"
    kept = blind.select(ask(1), 9)
    assert kept.tolist() == blind.select(ask(3), 9).tolist()
    assert [k.tolist() for k in blind.select_many([ask(1), ask(3)], [9, 9])] == [kept.tolist()] * 2
    if name != "glance":  # what shapes its choice without words is the attention
        silent = replace(ask(1), question=ask(1).question[:0])
        assert kept.tolist() == method.select(silent, 9).tolist()
        for mine, other in ((blind.merge_weights, method.merge_weights), (blind.core_mask, method.core_mask)):
            expected = other(silent, kept)
            assert (mine(ask(1), kept) is expected is None) or torch.equal(mine(ask(1), kept), expected)


@pytest.mark.parametrize("name", [row.name for row in ROWS if not row.prompt_aware or row.name in INSIDE])
def test_other_methods_have_none(name):
    assert make_blind(resolve(name)) is None


def test_the_defaults_are_one_rule():
    rule = Foveate(focus=0.0, place=0.3, reach=1.5)
    assert make_blind(Foveate(place=0.3, reach=1.5)) == make_blind(Glance(place=0.3, reach=1.5)) == rule
    assert (rule.prompt_aware, make_blind(rule)) == (False, None)  # it does not read the question
    assert replace(rule, focus=1.0).prompt_aware


def test_a_first_look_shows_the_question_too():
    @dataclass(frozen=True)
    class Looking(CDPruner):
        first: Method | None = None
        needs = frozenset({"attention"})

        @property
        def first_look(self):
            return FirstLook(self.first, 0.2, 0.4, 1.0)

    assert make_blind(Looking(first=Grid())) == Grid()
    assert make_blind(Looking(first=CDPruner())) == Blind(CDPruner())
    with pytest.raises(InputError, match="cdpruner looks at the image with the question: use make_blind"):
        Blind(Looking(first=Grid()))
