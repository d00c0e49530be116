"""The model that ships in the package does its job."""

import pytest
import torch

from foveate.load import BUNDLED, load
from foveate.world.questions import KINDS
from foveate.world.score import DEV, answers, by_kind, cases, right

PER_KIND = 60


def test_it_is_small_and_in_half_precision():
    from safetensors import safe_open

    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 16e6
    with safe_open(BUNDLED / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}  # noqa: SIM118


@pytest.mark.heavy
def test_it_answers_whole_and_pruned():
    """Loose bounds on held-out scenes; benchmarks/bundled_accuracy.py has the figures."""
    loaded, asked = load(None), cases(DEV, PER_KIND)
    given = answers(
        loaded.model, loaded.processor, asked, {"whole": None, "pruned": {"keep": 0.1}, "blind": {"keep": 1}}
    )
    marks = {name: right(asked, found) for name, found in given.items()}
    share = {name: sum(values) / len(values) for name, values in marks.items()}
    assert share["whole"] > 0.85
    assert min(by_kind(asked, marks["whole"]).values()) > 0.65  # 0.7 over many questions, 0.65 over 60
    assert set(by_kind(asked, marks["whole"])) == set(KINDS)
    assert share["pruned"] > share["blind"] + 0.1
