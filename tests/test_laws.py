"""The laws hold on every family, and each of them can be broken."""

import pytest
import torch
from transformers import AutoModelForImageTextToText

from foveate import laws, rewrite
from foveate.family.base import Family, count_positions, family_of
from foveate.registry import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", list(laws.LAWS))
def test_law(family, name, attention):
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(family.tiny_config(), attn_implementation=attention).eval()
    with torch.no_grad():
        assert laws.LAWS[name](model, family) <= laws.TOLERANCE[torch.float32]


def test_check_reports_every_law_and_restores_the_mode(model):
    model.train()
    results = laws.check(model)
    assert [r.name for r in results] == list(laws.LAWS)
    assert all(r.passed for r in results), results
    assert model.training


def broken(family, law):
    return {r.name: r.passed for r in laws.check(laws.tiny_model(family), family)}[law]


def test_renumbered_positions_break_the_masking_law(monkeypatch):
    family = FAMILIES.load("llava")()
    monkeypatch.setattr(type(family), "positions", lambda self, model, inputs, mask: count_positions(mask) * 2)
    assert not broken(family, "keep=1.0 is the untouched model")


def test_forgotten_deepstack_breaks_the_masking_law(monkeypatch):
    family = FAMILIES.load("qwen3_vl")()
    right = type(family).keep

    def keep(self, encoded, kept):
        out = right(self, encoded, kept)
        out.deepstack_features = [
            [f[: len(k)] for f, k in zip(layer, kept, strict=True)] for layer in encoded.deepstack_features
        ]
        return out

    monkeypatch.setattr(type(family), "keep", keep)
    assert not broken(family, "pruned = full with dropped tokens masked")


def test_a_mask_of_ones_would_be_read_as_packed_sequences(monkeypatch):
    """The trap behind `rewrite.ATTEND`: if this passes one day, the marker can go."""
    monkeypatch.setattr(rewrite, "ATTEND", 1)
    assert not broken(FAMILIES.load("llava")(), "cached decoding = recomputation")


def test_questions_of_other_rows_break_the_ragged_law(monkeypatch):
    from foveate import prune

    monkeypatch.setattr(
        prune, "find_question", lambda ids, first, template, ignored: list(range(len(ids) - 3, len(ids)))
    )
    right = prune.VisualTokens
    monkeypatch.setattr(prune, "VisualTokens", lambda e, q, g: right(e.roll(len(e) // 3, 0), q, g))
    assert broken(FAMILIES.load("llava")(), "ragged batch = each row alone")  # a consistent change is no breach
    calls = []

    def unstable(embeds, question, grid):
        calls.append(1)
        return right(embeds.roll(len(calls), 0), question, grid)

    monkeypatch.setattr(prune, "VisualTokens", unstable)
    assert not broken(FAMILIES.load("llava")(), "ragged batch = each row alone")


def test_a_handle_that_stays_breaks_the_trace_law(monkeypatch):
    from foveate.handle import Handle

    monkeypatch.setattr(Handle, "remove", lambda self: None)
    assert not broken(FAMILIES.load("llava")(), "remove() leaves no trace")


def test_family_of_finds_the_registered_class(model, family):
    assert type(family_of(model)) is type(family)
    assert isinstance(family, Family)
    assert family.summary
