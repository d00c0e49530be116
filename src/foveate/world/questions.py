"""Questions about a drawn image, by task. Each task has the form of a public benchmark; a seed determines everything.

A `variant` divides a task further: the kind of negative, of chart, of relation.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from foveate.world.plain_questions import (
    COLORS,
    NUMBERS,
    SIDES,
    Question,
    make_attribute,
    make_count,
    make_existence,
    make_grounding,
    make_overview,
    make_reading,
    make_relation,
    make_relation_between,
    name_objects,
    to_plural,
)
from foveate.world.scenes import (
    CHARTS,
    DENSE,
    GLYPHS,
    MAX_OBJECTS,
    NOUNS,
    PAGES,
    TRENDS,
    Scene,
)

DRILL = "drill"
OPTIONS = 4  # offered by a question about a chart


def list_words() -> list[str]:
    """List every word that a question or an answer can contain. The text of a sign is spelled, so it is not here."""
    other = (
        "is there a an what which how many color shape are the in read object objects picture yes no does say do line "
        "bar bars row number stands most common tallest shortest where describe user assistant chart table lines"
    )
    sides = (word for side in SIDES for word in side.split())
    plurals = (to_plural(noun) for noun in NOUNS)
    return [*dict.fromkeys([*other.split(), *sides, *NOUNS, *plurals, *COLORS, *NUMBERS, *TRENDS, *GLYPHS])]


def make_question(scene: Scene, task: str, rng: random.Random) -> Question | None:
    """Make a question of the task about the scene; None if the scene allows none."""
    return _MAKERS[task](scene, rng) if task in tasks_of(scene) else None


def tasks_of(scene: Scene) -> list[str]:
    """List the tasks that a scene of this kind can have questions of."""
    if scene.kind in CHARTS:
        return ["chart"]
    others = [task for task in TASKS if task not in ("chart", *CROWDED)]
    return list(TASKS_OF_KIND.get(scene.kind, others))


def sample_questions(scene: Scene, tasks: Sequence[str], count: int, rng: random.Random) -> list[Question]:
    """Make `count` questions of the `tasks` in random order; tasks that the scene does not allow are skipped."""
    questions: list[Question] = []
    while len(questions) < count:
        for task in rng.sample(tasks, len(tasks)):
            question = make_question(scene, task, rng)
            if question is not None:
                questions.append(question)
    return questions[:count]


def make_caption(scene: Scene, rng: random.Random) -> Question:
    """Describe the objects, a few of many; all is in random order: "red star b3, c1 circle blue"."""
    is_dense = scene.kind in (*DENSE, *PAGES)
    things = [
        [t.color, t.form, *([] if is_dense or scene.kind in CHARTS else [t.cell]), *([t.text] if t.text else [])]
        for t in rng.sample(scene.things, min(MAX_OBJECTS, len(scene.things)) if is_dense else len(scene.things))
    ]
    phrases = [" ".join(rng.sample(words, len(words))) for words in things]
    return Question("caption", scene.kind, "describe the picture", ", ".join(phrases))


def make_drill(scene: Scene, rng: random.Random) -> Question:
    """Make a training question that is one step of a relation and names objects by cell: "is the star left of b3?"."""
    placed = [(thing, thing.cell) for thing in scene.things]
    named = [(thing, f"the {name}") for thing, name in name_objects(scene)]
    question = (
        make_relation_between(scene, placed + rng.sample(named, min(len(named), len(placed))), rng)
        if rng.random() < 0.7
        else None
    )
    if question is None:
        thing, cell = rng.choice(placed)
        wanted, answer = rng.choice((("color", thing.color), ("shape", thing.form)))
        question = Question(DRILL, wanted, f"what {wanted} is the object in {cell}?", answer, (thing,))
    return replace(question, task=DRILL)


def _make_search(scene: Scene, rng: random.Random) -> Question | None:
    """Ask for one object among many: whether it is there, its colour, its form or its text."""
    makers = {"existence": make_existence, "attribute": make_attribute, "reading": make_reading}
    variant = rng.choice(tuple(makers))
    question = makers[variant](scene, rng)
    return question and replace(question, task="search", variant=variant)


def make_lookup(scene: Scene, rng: random.Random) -> Question:
    """Ask for the number of one field."""
    thing = rng.choice(scene.things)
    text = f"which number stands right of the {thing.color} {thing.form}?"
    return Question("lookup", "number", text, thing.text, (thing,))


def _make_gist(scene: Scene, rng: random.Random) -> Question | None:
    """Ask what is most common among many objects."""
    variant, names = rng.choice((("color", [t.color for t in scene.things]), ("shape", [t.form for t in scene.things])))
    first, second = Counter(names).most_common(2)
    if first[1] < 1.5 * second[1]:  # what nobody can tell without counting is left out
        return None
    return Question("gist", variant, f"what is the most common {variant}?", first[0])


def _make_crowd(scene: Scene, rng: random.Random) -> Question | None:
    """Ask for one of many objects, in the words of another task."""
    variant = rng.choice(("existence", "attribute", "relation", "reading", "grounding"))
    question = _MAKERS[variant](scene, rng)
    return question and replace(question, task="crowd", variant=variant)


def _make_chart(scene: Scene, rng: random.Random) -> Question:
    """Make a question as in ChartQA and MMMU: four options, of which one is right."""
    thing = rng.choice(scene.things)
    if scene.kind == "bars":
        wanted, best = rng.choice((("tallest", max), ("shortest", min)))
        thing = best(scene.things, key=lambda t: t.ry)
        text, answer, pool = f"which bar is the {wanted}?", thing.color, [t.color for t in scene.things]
    elif scene.kind == "lines":
        text, answer, pool = f"what does the {thing.color} line do?", thing.form, list(TRENDS)
    else:
        text, answer = f"which number stands in the {thing.color} row?", thing.text
        pool = [t.text for t in scene.things]
    options = [answer, *rng.sample([p for p in pool if p != answer], OPTIONS - 1)]
    rng.shuffle(options)
    return Question("chart", scene.kind, f"{text} {', '.join(options)}", answer, (thing,))


_MAKERS: dict[str, Callable[[Scene, random.Random], Question | None]] = {
    "existence": make_existence,
    "attribute": make_attribute,
    "relation": make_relation,
    "counting": make_count,
    "reading": make_reading,
    "chart": _make_chart,
    "grounding": make_grounding,
    "overview": make_overview,
    "crowd": _make_crowd,
    "search": _make_search,
    "lookup": make_lookup,
    "gist": _make_gist,
}
TASKS = tuple(_MAKERS)
TASKS_OF_KIND = {"crowd": ("crowd",), "shelf": ("search", "gist"), "fields": ("lookup",)}
"""The tasks of crowded scenes, by the kind of scene."""
CROWDED = tuple(task for tasks in TASKS_OF_KIND.values() for task in tasks)
