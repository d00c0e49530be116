"""The gallery: drawn scenes that no bundled model was trained on, with questions whose answers are known."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count

from foveate.world.drawing import draw_scene
from foveate.world.plain_questions import Question
from foveate.world.questions import make_question
from foveate.world.scenes import Scene, sample_scene
from foveate.world.suite import SPLITS

FIRST_INDEX = 20_000_000  # behind the images that `foveate eval` draws from the same stream
TRIES = 20  # to draw a question that the scene does not have yet

# Title, kind of scene, minimum number of things in it, and the tasks of its questions.
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
class GalleryScene:
    """A scene with its questions."""

    title: str
    scene: Scene
    questions: tuple[Question, ...]

    def to_png(self) -> bytes:
        """The drawn scene as a PNG file."""
        out = BytesIO()
        draw_scene(self.scene).save(out, "PNG")
        return out.getvalue()


def make_gallery(seed: int = 0) -> list[GalleryScene]:
    """The gallery of a seed, one scene per theme."""
    return [_sample_scene(seed, number, *theme) for number, theme in enumerate(THEMES)]


def _sample_scene(seed: int, number: int, title: str, kind: str, things: int, tasks: Sequence[str]) -> GalleryScene:
    """The first scene of the stream with enough things and a question for every task."""
    for index in count(FIRST_INDEX + 1000 * number):
        scene, rng = sample_scene(SPLITS["test"] + 4 * seed, index, kind), random.Random(f"foveate {seed} {index}")
        questions = _draw_questions(scene, tasks, rng) if len(scene.things) >= things else ()
        if len(questions) == len(tasks):
            return GalleryScene(title, scene, questions)
    raise AssertionError("The stream of scenes has no end.")


def _draw_questions(scene: Scene, tasks: Sequence[str], rng: random.Random) -> tuple[Question, ...]:
    """One distinct question per task; fewer if the scene does not allow them."""
    questions: dict[str, Question] = {}
    for task in tasks:
        tries = (make_question(scene, task, rng) for _ in range(TRIES))
        # Charts offer four options in any order, which do not make another question.
        fresh = (q for q in tries if q is not None and _stem(q.text) not in questions)
        question = next(fresh, None)
        if question is not None:
            questions[_stem(question.text)] = question
    return tuple(questions.values())


def _stem(text: str) -> str:
    return text.partition("?")[0]
