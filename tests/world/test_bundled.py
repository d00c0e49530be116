"""The bundled models are small and answer questions about images."""

import pytest
import torch

from foveate.apps.encoder import EncoderOptions
from foveate.apps.evaluate import evaluate, sample_examples
from foveate.apps.evaluate.arms import BlindEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.encoded import EncodedEvalArm
from foveate.method import resolve
from foveate.runtime.load import BUNDLED, load


@pytest.mark.parametrize("name", BUNDLED)
def test_they_are_small_and_in_half_precision(name):
    from safetensors import safe_open

    folder = BUNDLED[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16e6
    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.float16}  # noqa: SIM118


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "tasks"), [("bundled", "plain"), ("bundled", "crowd"), ("bundled-qwen", "all")])
def test_they_answer_from_the_image(name, tasks):
    """Loose bounds on held-out scenes of what each has learned; exact figures are in benchmarks/results."""
    loaded = load(name)
    rows = evaluate(
        loaded, sample_examples([tasks], "dev", 20), [UnprunedEvalArm("unpruned", None), BlindEvalArm("none", None)]
    )
    share = {
        arm: sum(row["right"] for row in rows if row["name"] == arm) / (len(rows) / 2) for arm in ("unpruned", "none")
    }
    assert share["unpruned"] > (0.6 if tasks == "crowd" else 0.85)
    assert share["none"] < 0.35


@pytest.mark.heavy
def test_one_reads_pages_of_which_two_tiles_of_five_are_encoded():
    some = EncodedEvalArm("some tiles", 0.1, method=resolve("foveate"), encoder=EncoderOptions(0.4))
    examples = sample_examples(["form", "sheet"], "dev", 10, side=672)
    rows = evaluate(load("bundled-tiles"), examples, [some, BlindEvalArm("none", None)], batch=1)
    right = {name: sum(row["right"] for row in rows if row["name"] == name) for name in ("some tiles", "none")}
    assert right["some tiles"] > 0.8 * len(examples)
    assert right["none"] < 0.5 * len(examples)
