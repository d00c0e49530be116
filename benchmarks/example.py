"""Choose examples/sign.png and draw docs/compared.png: one question that the default answers on a tenth of the tokens,
and methods that do not read the question do not.

python benchmarks/example.py

It is chosen to show a difference, and says nothing about how often there is one: the tables of docs/results.md do.
It is the first question about a crowded scene of the development split that the unpruned model and `foveate` answer
right, and `divprune`, `grid` and `random` with each of six seeds wrong. benchmarks/results/example.json holds all these
answers, and how many questions were tried.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from PIL import Image

import foveate
from foveate.method import Method
from foveate.method.random import Random
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load, quiet
from foveate.runtime.loaded import LoadedModel
from foveate.world.drawing import draw_scene
from foveate.world.suite import HeldOutCase, sample_cases

ROOT = Path(__file__).parents[1]
KEEP, SEEDS, LIMIT = 0.1, 6, 200
DRAWN = ("foveate", "divprune", "grid", "random")
BLIND: dict[str, str | Method] = {
    "divprune": "divprune",
    "grid": "grid",
    **{f"random, seed {seed}": Random(seed) for seed in range(SEEDS)},
}


def answer(loaded: LoadedModel, image: Image.Image, question: str, method: str | Method, keep: float = KEEP) -> str:
    """The pruned model's answer."""
    inputs = make_inputs(loaded, [image], [question])
    with torch.no_grad():
        short = foveate.prune_inputs(loaded.model, inputs, keep=keep, method=method)
        return generate_answers(loaded, short, 8)[0]


def find_example(loaded: LoadedModel) -> tuple[int, HeldOutCase, dict[str, str]]:
    """The number of questions tried, the last one of them, and all answers to it."""
    for tried, case in enumerate(sample_cases("dev", "crowd", LIMIT), 1):
        image, text, truth = draw_scene(case.scene), case.question.text, case.question.answer
        answers = {"unpruned": answer(loaded, image, text, "foveate", 1.0)}
        answers["foveate"] = answer(loaded, image, text, "foveate")
        if set(answers.values()) == {truth}:
            answers |= {name: answer(loaded, image, text, method) for name, method in BLIND.items()}
            if all(answers[name] != truth for name in BLIND):
                return tried, case, answers
    raise SystemExit(f"None of {LIMIT} questions is such an example.")


def main() -> None:
    """Find the example, and write its image, its answers and the overlay of all methods."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with quiet():
        loaded = load("bundled")
    tried, case, answers = find_example(loaded)
    image, text = draw_scene(case.scene), case.question.text
    image.save(ROOT / "examples" / "sign.png", optimize=True)
    about = {"id": case.id, "question": text, "truth": case.question.answer, "keep": KEEP, "tried": tried}
    record = json.dumps({**about, "model": "bundled", "answers": answers}, indent=2)
    (ROOT / "benchmarks" / "results" / "example.json").write_text(record + "\n")
    inputs = make_inputs(loaded, [image], [text])
    with torch.no_grad():
        reports = [
            foveate.prune_inputs(loaded.model, inputs, keep=KEEP, method=name, explain=True).report for name in DRAWN
        ]
    drawn = foveate.draw(image, reports, processor=loaded.processor, step="kept")
    drawn.quantize(256, dither=Image.Dither.NONE).save(ROOT / "docs" / "compared.png", optimize=True)
    print(record)


if __name__ == "__main__":
    main()
