"""The page's gallery: drawn scenes that no model was trained on, each with questions whose answers are known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count

from foveate.world.drawing import draw_scene
from foveate.world.questions import Question, make_question
from foveate.world.scenes import Scene, sample_scene
from foveate.world.suite import SPLITS

APART = 20_000_000  # behind the pictures that `foveate eval` draws from this stream
TRIES = 20  # for a question that the scene has not been asked yet

# A title, the kind of scene, the fewest things in it, and the tasks of its questions in turn.
THEMES: tuple[tuple[str, str, int, tuple[str, ...]], ...] = (
    ("Colours and shapes", "variety", 5, ("attribute", "attribute", "attribute", "existence")),
    ("Counting", "scene", 5, ("counting", "counting", "overview")),
    ("Relations", "variety", 4, ("relation", "relation", "relation", "attribute")),
    ("Reading a sign", "scene", 3, ("reading", "attribute", "counting")),
    ("Bars", "bars", 4, ("chart", "chart")),
    ("Is it there?", "scene", 4, ("existence", "existence", "counting", "attribute")),
    ("Lines", "lines", 3, ("chart", "chart", "chart")),
    ("A table", "table", 4, ("chart", "chart", "chart")),
)


@dataclass(frozen=True)
class Exhibit:
    """A scene of the gallery, with its questions."""

    title: str
    scene: Scene
    questions: tuple[Question, ...]

    def png(self) -> bytes:
        """The picture as a file."""
        out = BytesIO()
        draw_scene(self.scene).save(out, "PNG")
        return out.getvalue()


def exhibits(seed: int = 0) -> list[Exhibit]:
    """The gallery that follows from `seed`; the models that are bundled have never seen its pictures."""
    return [_exhibit(seed, number, *theme) for number, theme in enumerate(THEMES)]


def _exhibit(seed: int, number: int, title: str, kind: str, things: int, tasks: Sequence[str]) -> Exhibit:
    """The first scene of the stream with enough things in it that all the tasks can be asked about."""
    for index in count(APART + 1000 * number):
        scene, rng = sample_scene(SPLITS["test"] + 4 * seed, index, kind), random.Random(f"foveate {seed} {index}")
        questions = _questions(scene, tasks, rng) if len(scene.things) >= things else ()
        if len(questions) == len(tasks):
            return Exhibit(title, scene, questions)
    raise AssertionError("The stream of scenes has no end.")


def _questions(scene: Scene, tasks: Sequence[str], rng: random.Random) -> tuple[Question, ...]:
    """One for each task, no two that ask the same; fewer where the scene does not admit them."""
    found: dict[str, Question] = {}
    for task in tasks:
        tries = (make_question(scene, task, rng) for _ in range(TRIES))
        # Charts offer four answers in any order: without these it is the same question.
        fresh = (q for q in tries if q is not None and _stem(q.text) not in found)
        question = next(fresh, None)
        if question is not None:
            found[_stem(question.text)] = question
    return tuple(found.values())


def _stem(text: str) -> str:
    return text.partition("?")[0]
