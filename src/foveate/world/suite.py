"""Held-out questions for every task, on a split to choose settings with ("dev") and one to report on ("test")."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from foveate.world.plain_questions import Question
from foveate.world.questions import TASKS, TASKS_OF_KIND, make_question
from foveate.world.scenes import CHARTS, Scene, sample_scene

# Streams of scenes. Training draws from odd streams only, so it never draws from these.
SPLITS = {"dev": 2, "test": 4}
KINDS = {task: kind for kind, tasks in TASKS_OF_KIND.items() for task in tasks}
APART = 1_000_000  # scenes between the tasks of a stream


@dataclass(frozen=True)
class HeldOutCase:
    """One question about one scene; `id` never changes."""

    id: str
    scene: Scene
    question: Question


def sample_cases(split: str, task: str, limit: int, seed: int = 0) -> list[HeldOutCase]:
    """Sample `limit` questions of the task, each about its own scene. A larger limit only appends to a smaller one."""
    return list(islice(_generate_cases(split, task, seed), limit))


def _generate_cases(split: str, task: str, seed: int) -> Iterator[HeldOutCase]:
    stream = SPLITS[split] + 4 * seed
    for index in count(APART * TASKS.index(task)):
        rng = random.Random(f"foveate {stream} {index}")
        kind = rng.choice(CHARTS) if task == "chart" else KINDS.get(task, "scene")
        scene = sample_scene(stream, index, kind)
        question = make_question(scene, task, rng)
        if question is not None:
            yield HeldOutCase(f"{split}-{seed}-{task}-{index % APART}", scene, question)
