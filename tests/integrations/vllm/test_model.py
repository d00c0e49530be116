"""The parts of the plug-in that stand on vLLM's names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from foveate.errors import FoveateWarning, ModelError
from foveate.integrations.vllm import engine
from foveate.integrations.vllm.settings import Order

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

from foveate.integrations.vllm import model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_places_survive_half_precision(dtype):
    places = torch.stack((torch.arange(2**16), torch.arange(2**16).flip(0), torch.zeros(2**16, dtype=torch.long)))
    rows = model._with_places(torch.randn(2**16, 2).to(dtype), places)
    assert rows.dtype == dtype
    assert torch.equal(model._places(rows), places)


def test_parts():
    assert list(model._parts([4, 4, 9, 1, 1], 8)) == [(0, 2), (2, 3), (3, 5)]
    assert list(model._parts([30], 8)) == [(0, 1)]
    assert list(model._parts([], 8)) == []


def feature(offset, kept, total, positions="original"):
    """A picture in a prompt."""
    from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

    packed = SimpleNamespace(data=Order(kept, total, "grid", positions, ()).pack())
    place = PlaceholderRange(offset=offset, length=kept)
    return MultiModalFeatureSpec(data={"foveate": packed}, modality="image", identifier=str(offset), mm_position=place)


def test_text_goes_on_after_the_whole_picture():
    one = object.__new__(model.OneAxis)
    tokens = [1, 2, 9, 9, 3, 9, 4, 5]
    found, delta = one.get_mrope_input_positions(tokens, [feature(5, 1, 4), feature(2, 2, 10)])
    assert found.tolist() == [[0, 1, 2, 2, 12, 13, 17, 18]] * 3
    assert len(tokens) + delta == 19
    found, delta = one.get_mrope_input_positions(tokens, [feature(2, 2, 10, "compact"), feature(5, 1, 4, "compact")])
    assert found.tolist() == [[0, 1, 2, 2, 4, 5, 6, 7]] * 3
    assert delta == 0
    found, delta = one.get_mrope_input_positions([1, 2, 3], [])
    assert (found.tolist(), delta) == ([[0, 1, 2]] * 3, 0)


def test_this_version():
    engine.check_version()


def test_another_version(monkeypatch):
    monkeypatch.setattr(engine, "installed", lambda: "0.99.1")
    with pytest.warns(FoveateWarning, match=r"tested with vLLM 0.32 or later, below 0.33, and this is 0.99.1"):
        engine.check_version()


@pytest.mark.parametrize("gone", ["module", "name", "method"])
def test_a_hook_is_gone(monkeypatch, gone):
    if gone == "method":
        monkeypatch.setattr(engine, "METHODS", ("no_such_step",))
    else:
        where = "vllm.nowhere" if gone == "module" else "vllm.multimodal"
        monkeypatch.setattr(engine, "HOOKS", {where: ("NO_SUCH_NAME",)})
    with pytest.raises(ModelError, match=r"which foveate needs: install vLLM 0\.32 or later"):
        engine.check_version()
