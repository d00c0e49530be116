"""The held-out questions: as many as are wanted for every task, on a split to choose with and one to report on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from foveate.world.questions import TASKS, Question, ask
from foveate.world.scenes import CHARTS, Scene, sample_scene

# Even streams, which training never draws from (it uses odd numbers): choose on "dev", report on "test".
SPLITS = {"dev": 2, "test": 4}
APART = 1_000_000  # pictures between the tasks of a stream


@dataclass(frozen=True)
class Case:
    """One question about one scene; `id` names it for good."""

    id: str
    scene: Scene
    question: Question


def cases(split: str, task: str, limit: int, seed: int = 0) -> list[Case]:
    """`limit` questions of the task, each about a scene of its own, the first of them the same for every limit."""
    return list(islice(_cases(split, task, seed), limit))


def _cases(split: str, task: str, seed: int) -> Iterator[Case]:
    stream = SPLITS[split] + 4 * seed
    for index in count(APART * list(TASKS).index(task)):
        rng = random.Random(f"foveate {stream} {index}")
        kind = rng.choice(CHARTS) if task == "chart" else "scene"
        scene = sample_scene(stream, index, kind)
        question = ask(scene, task, rng)
        if question is not None:
            yield Case(f"{split}-{seed}-{task}-{index % APART}", scene, question)
