"""What the policies of a session cost a second question, and what they save. Writes results/dialogues.json.

python -m benchmarks.dialogues alone bundled bundled-qwen
python -m benchmarks.dialogues turns bundled-qwen
python -m benchmarks.dialogues cost bundled bundled-qwen

Dialogues of two questions on the development split of the drawn world, of three kinds. "else": the second question is
about other objects of the image. "earlier": the first one was about another image beside it. "it": the second one calls
the object of the first one "it".

The bundled models were trained on single questions. `alone` measures the choice: the second question is asked by itself
(with "it" spelled out) over the tokens that the policy would have in its cache, in the order of the image. `turns`
asks both in a session, with the first question and the model's own answer before the second one. `cost` times the
second answer up to its first token, beside that of "rechoose" in the same round.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import foveate
from foveate.apps.evaluate.metrics import match_exact
from foveate.apps.evaluate.statistics import bootstrap_interval
from foveate.method.foveate import Foveate
from foveate.models.visual_input import VisualInput
from foveate.pipeline.earlier import EarlierChoices
from foveate.pipeline.encode import encode
from foveate.pipeline.prune import prune
from foveate.pipeline.report import PrunedInputs
from foveate.pipeline.settings import check_settings
from foveate.runtime.conversation import generate_answers, make_inputs
from foveate.runtime.load import load, quiet
from foveate.runtime.loaded import LoadedModel
from foveate.runtime.turns import POLICIES
from foveate.world.drawing import draw_scene
from foveate.world.plain_questions import Question, name_objects
from foveate.world.questions import make_question
from foveate.world.scenes import Scene
from foveate.world.suite import sample_cases

OUT = Path(__file__).parent / "results" / "dialogues.json"
KEEPS = (0.111, 0.056)
TASKS = ("existence", "attribute", "relation", "counting", "reading", "grounding")
ABOUT_ONE = ("attribute", "reading", "grounding")
KINDS = ("else", "earlier", "it")
BATCH, LONGEST, ROUNDS = 20, 8, 11


@dataclass(frozen=True)
class WorldDialogue:
    """Two questions about a scene: the second one as it is asked, and with "it" spelled out."""

    scene: Scene
    first: str
    second: str
    whole: str
    answer: str


def sample_dialogues(kind: str, count: int) -> list[WorldDialogue]:
    """`count` dialogues, the second questions in turn of every task."""
    rng, dialogues = random.Random(f"dialogues {kind}"), list[WorldDialogue]()
    tasks = ABOUT_ONE if kind == "it" else TASKS
    pools = [sample_cases("dev", task, count) for task in tasks]
    others = sample_cases("dev", "attribute", count, seed=1)
    for n, cases in enumerate(zip(*pools, strict=True)):
        for case in cases:
            first = others[n].question if kind == "earlier" else _ask_first(kind, case.scene, case.question, rng)
            if first is not None and len(dialogues) < count:
                dialogues.append(_join(kind, case.scene, first, case.question))
    return dialogues


def _ask_first(kind: str, scene: Scene, second: Question, rng: random.Random) -> Question | None:
    """A first question about other objects, or with "it" about the same one; None where none turns up."""
    for _ in range(20):
        first = make_question(scene, rng.choice(ABOUT_ONE if kind == "it" else TASKS), rng)
        if first is None or first.text == second.text or not first.things:
            continue
        if first.things == second.things if kind == "it" else not set(first.things) & set(second.things):
            return first
    return None


def _join(kind: str, scene: Scene, first: Question, second: Question) -> WorldDialogue:
    text = second.text
    if kind == "it":
        for thing, name in name_objects(scene):
            if (thing,) == second.things:
                text = text.replace(f"the {name}", "it")
    return WorldDialogue(scene, first.text, text, second.text, second.answer)


# -- the second question alone ------------------------------------------------------------------------------------


@torch.no_grad()
def ask_alone(loaded: LoadedModel, dialogues: Sequence[WorldDialogue]) -> Iterator[dict[str, list[float]]]:
    """Right or wrong (1 or 0) for every dialogue so far, by policy and share; the share that "recall" keeps."""
    scores: dict[str, list[float]] = {}
    for start in range(0, len(dialogues), BATCH):
        batch = dialogues[start : start + BATCH]
        images = [draw_scene(each.scene) for each in batch]
        first, second, whole = (
            make_inputs(loaded, images, [getattr(each, name) for each in batch])
            for name in ("first", "second", "whole")
        )
        encoded = encode(loaded.model, whole)

        def choose(inputs: Any, keep: float, method: Any, kept: Sequence[VisualInput] = ()) -> PrunedInputs:
            return prune(loaded.model, inputs, check_settings(keep, method), encoded, EarlierChoices(kept))  # noqa: B023

        arms: dict[str, PrunedInputs] = {"unpruned": choose(whole, 1.0, "foveate")}
        for keep in KEEPS:
            ours, new, blind = (
                choose(inputs, keep, method).report.items
                for inputs, method in ((first, "foveate"), (second, "foveate"), (second, Foveate(focus=0.0)))
            )
            both = [
                replace(one, kept=torch.cat([one.kept, two.kept]).unique()) for one, two in zip(ours, new, strict=True)
            ]
            for name, items in zip(POLICIES, (new, ours, both, blind), strict=True):
                arms[f"{name} {keep}"] = choose(whole, keep, "foveate", items)
            share = [len(item.kept) / item.total for item in both]
            scores.setdefault(f"share of recall {keep}", []).extend(share)
        for name, short in arms.items():
            answers = generate_answers(loaded, short, LONGEST)
            right = [float(match_exact(text, (each.answer,))) for text, each in zip(answers, batch, strict=True)]
            scores.setdefault(name, []).extend(right)
        yield scores


# -- both questions in a session ----------------------------------------------------------------------------------


def ask_in_turns(loaded: LoadedModel, dialogues: Sequence[WorldDialogue]) -> Iterator[dict[str, list[float]]]:
    """Right or wrong for every dialogue so far, by policy and share."""
    scores: dict[str, list[float]] = {}
    for each in dialogues:
        image = draw_scene(each.scene)
        for turns, keep in [("rechoose", 1.0), *((turns, keep) for keep in KEEPS for turns in POLICIES)]:
            with foveate.Session(loaded.model, loaded.processor, keep=keep, turns=turns) as session:
                session.see(image)
                str(session.ask(each.first, max_new_tokens=LONGEST, do_sample=False))
                text = str(session.ask(each.second, max_new_tokens=LONGEST, do_sample=False))
            name = "unpruned" if keep == 1 else f"{turns} {keep}"
            scores.setdefault(name, []).append(float(match_exact(text, (each.answer,))))
        yield scores


# -- what a second question costs ---------------------------------------------------------------------------------


def measure_cost(loaded: LoadedModel, rounds: int) -> dict[str, Any]:
    """Medians over rounds: the second answer's time to its first token beside that of "rechoose"; tokens."""
    seconds: dict[str, list[float]] = {turns: [] for turns in POLICIES}
    tokens: dict[str, list[tuple[int, int]]] = {turns: [] for turns in POLICIES}
    for each in sample_dialogues("else", rounds + 1):
        image = draw_scene(each.scene)
        for turns in POLICIES:
            with foveate.Session(loaded.model, loaded.processor, keep=KEEPS[0], turns=turns) as session:
                session.see(image)
                str(session.ask(each.first, max_new_tokens=LONGEST, do_sample=False))
                started = time.perf_counter()
                reply = session.ask(each.second, max_new_tokens=1, do_sample=False)
                str(reply)
                seconds[turns].append(time.perf_counter() - started)
                tokens[turns].append((reply.cached, reply.report.kept_count))
    out: dict[str, Any] = {}
    for turns in POLICIES:
        ratios = [own / base for own, base in zip(seconds[turns][1:], seconds["rechoose"][1:], strict=True)]
        cached, kept = zip(*tokens[turns][1:], strict=True)
        out[turns] = {
            "ratio": [round(float(q), 3) for q in np.quantile(ratios, (0.25, 0.5, 0.75))],
            "cached": statistics.median(cached), "visual tokens": statistics.median(kept),
        }  # fmt: skip
    return {"rounds": rounds, "keep": KEEPS[0], **out}


def summarize(scores: dict[str, list[float]]) -> dict[str, Any]:
    """Mean and 95 % interval of every arm."""
    rows: dict[str, Any] = {}
    for name, values in scores.items():
        low, high = bootstrap_interval(np.array(values))
        rows[name] = {"mean": round(float(np.mean(values)), 3), "interval": [round(low, 3), round(high, 3)]}
    return {"dialogues": len(next(iter(scores.values()))), **rows}


def write(path: Path, keys: Sequence[str], result: dict[str, Any]) -> None:
    """Put a result beside what the file holds."""
    results = json.loads(path.read_text()) if path.exists() else {}
    part = results
    for key in keys[:-1]:
        part = part.setdefault(key, {})
    part[keys[-1]] = result
    path.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    """Measure what was asked for, and write it beside what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("alone", "turns", "cost"))
    parser.add_argument("models", nargs="+")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.models:
        with quiet():
            loaded = load(name)
        if options.what == "cost":
            write(options.out, (name, "cost", "else"), measure_cost(loaded, ROUNDS))
            continue
        ask = ask_alone if options.what == "alone" else ask_in_turns
        for kind in options.kinds:
            for scores in ask(loaded, sample_dialogues(kind, options.count)):  # what is there is kept
                write(options.out, (name, options.what, kind), summarize(scores))


if __name__ == "__main__":
    main()
