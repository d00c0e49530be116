"""Questions about a picture, by task; the tasks have the form of the public benchmarks'. All follows from a seed.

A `variant` is a task's sub-division: the kind of negative, of chart, of hop.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from foveate.world.scenes import CHARTS, GLYPHS, MAX_OBJECTS, NOUNS, POPULARITY, SHAPES, SIGN, TRENDS, Scene, Thing

COLORS = tuple(POPULARITY)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
SIDES: dict[str, Callable[[Thing, Thing], float]] = {
    "left of": lambda a, b: b.x - a.x,
    "right of": lambda a, b: a.x - b.x,
    "above": lambda a, b: b.y - a.y,
    "below": lambda a, b: a.y - b.y,
}
CLEAR = 0.12  # two objects this far apart along an axis have a clear relation (a share of the picture's side)
DRILL = "drill"
OPTIONS = 4  # of a question about a chart


@dataclass(frozen=True)
class Question:
    """A question and its answer."""

    task: str
    variant: str
    text: str
    answer: str


def words() -> list[str]:
    """Every word that a question or an answer can hold; what is written on a sign is spelled."""
    fixed = (
        "is there a an what which how many color shape are the in read object objects picture yes no does say do line "
        "bar bars row number stands most common tallest shortest where describe user assistant chart table lines"
    )
    sides = (word for side in SIDES for word in side.split())
    plurals = (plural(noun) for noun in NOUNS)
    return [*dict.fromkeys([*fixed.split(), *sides, *NOUNS, *plurals, *COLORS, *NUMBERS, *TRENDS, *GLYPHS])]


def ask(scene: Scene, task: str, rng: random.Random) -> Question | None:
    """A question of the task about the scene, or None if the scene admits none."""
    return TASKS[task](scene, rng) if task in tasks_of(scene) else None


def tasks_of(scene: Scene) -> list[str]:
    """The tasks that a picture of this kind can serve."""
    return [task for task in TASKS if (task == "chart") == (scene.kind in CHARTS)]


def sample_questions(scene: Scene, tasks: Sequence[str], count: int, rng: random.Random) -> list[Question]:
    """`count` questions of the `tasks` in turn, shuffled; tasks that the scene does not admit are passed over."""
    found: list[Question] = []
    while len(found) < count:
        for task in rng.sample(tasks, len(tasks)):
            question = ask(scene, task, rng)
            if question is not None:
                found.append(question)
    return found[:count]


def caption(scene: Scene, rng: random.Random) -> Question:
    """Every thing by its words, things and words in random order: "red star b3, c1 circle blue"."""
    things = [" ".join(rng.sample(said, len(said))) for said in _said(scene, rng)]
    return Question("caption", scene.kind, "describe the picture", ", ".join(things))


def _said(scene: Scene, rng: random.Random) -> list[list[str]]:
    return [
        [t.color, t.form, *([] if scene.kind in CHARTS else [t.cell]), *([t.text] if t.text else [])]
        for t in rng.sample(scene.things, len(scene.things))
    ]


def drill(scene: Scene, rng: random.Random) -> Question:
    """One step of a relation by itself, to learn from: objects go by their cells, "is the star left of b3?"."""
    placed = [(thing, thing.cell) for thing in scene.things]
    named = [(thing, f"the {name}") for thing, name in _names(scene)]
    question = (
        _beside(scene, placed + rng.sample(named, min(len(named), len(placed))), rng) if rng.random() < 0.7 else None
    )
    if question is None:
        thing, cell = rng.choice(placed)
        wanted, answer = rng.choice((("color", thing.color), ("shape", thing.form)))
        question = Question(DRILL, wanted, f"what {wanted} is the object in {cell}?", answer)
    return replace(question, task=DRILL)


def plural(noun: str) -> str:
    """The noun's plural."""
    return "crosses" if noun == "cross" else f"{noun}s"


def _names(scene: Scene) -> list[tuple[Thing, str]]:
    """Every object with each phrase that names it alone: "star", "red object", "red star"."""
    phrases = [(t, p) for t in scene.things for p in (t.form, f"{t.color} object", f"{t.color} {t.form}")]
    count = Counter(p for _, p in phrases)
    return [(t, p) for t, p in phrases if count[p] == 1]


def _existence(scene: Scene, rng: random.Random) -> Question:
    """As POPE: half yes; a no is drawn at random, from the most frequent things, or from halves that are there."""
    pairs = {(t.color, t.form) for t in scene.things}
    variant = rng.choice(("random", "popular", "adversarial"))
    everything = [(c, f) for c in COLORS for f in NOUNS]
    pools = {
        "random": everything,
        "popular": [(c, f) for c in COLORS[:4] for f in (*tuple(SHAPES)[:4], SIGN)],
        "adversarial": [(c, f) for c in {p[0] for p in pairs} for f in {p[1] for p in pairs}],
    }
    absent = sorted(p for p in pools[variant] if p not in pairs)
    # One of the two is there, where the scene is too uniform for both.
    absent = absent or sorted(p for p in everything if p not in pairs and any(set(p) & set(q) for q in pairs))
    present = rng.random() < 0.5
    color, form = rng.choice(sorted(pairs) if present else absent)
    return Question("existence", variant, f"is there {_a(color)} {form}?", "yes" if present else "no")


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _attribute(scene: Scene, rng: random.Random) -> Question | None:
    """As GQA's one-hop questions: an object named by one attribute, asked for the other."""
    wanted = rng.choice(("color", "shape"))
    unique = [t for t, phrase in _names(scene) if phrase == (t.form if wanted == "color" else f"{t.color} object")]
    if not unique:
        return None
    thing = rng.choice(unique)
    if wanted == "color":
        return Question("attribute", wanted, f"what color is the {thing.form}?", thing.color)
    return Question("attribute", wanted, f"what shape is the {thing.color} object?", thing.form)


def _relation(scene: Scene, rng: random.Random) -> Question | None:
    """As GQA's: whether one object stands beside another, or (two hops) an attribute of the one that does."""
    return _beside(scene, [(thing, f"the {name}") for thing, name in _names(scene)], rng)


def _beside(scene: Scene, named: Sequence[tuple[Thing, str]], rng: random.Random) -> Question | None:
    side = rng.choice(tuple(SIDES))
    if rng.random() < 0.5:
        pairs = [(a, b) for a in named for b in named if abs(SIDES[side](a[0], b[0])) > CLEAR]
        if not pairs:
            return None
        (a, name_a), (b, name_b) = rng.choice(pairs)
        answer = "yes" if SIDES[side](a, b) > 0 else "no"
        return Question("relation", "verify", f"is {name_a} {side} {name_b}?", answer)
    found = []
    for thing, name in named:
        beyond = [t for t in scene.things if t is not thing and SIDES[side](t, thing) > -CLEAR / 2]
        if len(beyond) == 1 and SIDES[side](beyond[0], thing) > CLEAR:
            found.append((beyond[0], name))
    if not found:
        return None
    other, name = rng.choice(found)
    wanted = rng.choice(("color", "shape"))
    answer = other.color if wanted == "color" else other.form
    return Question("relation", "two hops", f"what {wanted} is the object {side} {name}?", answer)


def _count(scene: Scene, rng: random.Random) -> Question:
    form = rng.choice(("shape", "color"))
    tally = Counter(t.form if form == "shape" else t.color for t in scene.things)
    values = NOUNS if form == "shape" else COLORS
    # Draw the answer first: zero and one would swamp the rest otherwise.
    wanted = rng.choice(sorted({tally[v] for v in values}))
    value = rng.choice([v for v in values if tally[v] == wanted])
    name = plural(value) if form == "shape" else f"{value} objects"
    return Question("counting", form, f"how many {name} are there?", NUMBERS[wanted])


def _reading(scene: Scene, rng: random.Random) -> Question | None:
    """As TextVQA: a rendered word or number."""
    named = [(t, phrase) for t, phrase in _names(scene) if t.form == SIGN and SIGN in phrase]
    if not named:
        return None
    thing, phrase = rng.choice(named)
    form = rng.choice(("what does the {} say?", "read the {}"))
    return Question("reading", "number" if thing.text.isdigit() else "word", form.format(phrase), thing.text)


def _grounding(scene: Scene, rng: random.Random) -> Question | None:
    """Name the cell of an object: a letter for the column, a number for the row."""
    named = _names(scene)
    if not named:
        return None
    thing, phrase = rng.choice(named)
    return Question("grounding", "cell", f"where is the {phrase}?", thing.cell)


def _overview(scene: Scene, rng: random.Random) -> Question | None:
    """Questions that point at nothing."""
    variant = rng.choice(("most common color", "most common shape", "all"))
    if variant == "all":
        return Question("overview", variant, "how many objects are there?", NUMBERS[len(scene.things)])
    tally = Counter(t.color if variant.endswith("color") else t.form for t in scene.things).most_common(2)
    if tally[0][1] < 2 or (len(tally) > 1 and tally[1][1] == tally[0][1]):
        return None
    return Question("overview", variant, f"what is the {variant}?", tally[0][0])


def _chart(scene: Scene, rng: random.Random) -> Question:
    """As ChartQA and MMMU: four options, of which one is right."""
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
    return Question("chart", scene.kind, f"{text} {', '.join(options)}", answer)


TASKS: dict[str, Callable[[Scene, random.Random], Question | None]] = {
    "existence": _existence,
    "attribute": _attribute,
    "relation": _relation,
    "counting": _count,
    "reading": _reading,
    "chart": _chart,
    "grounding": _grounding,
    "overview": _overview,
}
assert len(NUMBERS) > MAX_OBJECTS
