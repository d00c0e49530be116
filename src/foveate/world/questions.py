"""Questions about a drawn image, by task. Each task has the form of a public benchmark; a seed determines everything.

A `variant` divides a task further: the kind of negative, of chart, of relation.
"""

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
CLEAR = 0.12  # two objects at least this far apart along an axis have a clear relation; a share of the image's side
DRILL = "drill"
OPTIONS = 4  # offered by a question about a chart


@dataclass(frozen=True)
class Question:
    """A question and its answer."""

    task: str
    variant: str
    text: str
    answer: str


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
    own = "chart" if scene.kind in CHARTS else scene.kind
    return [own] if own in TASKS else [task for task in TASKS if task not in ("chart", *CROWDED)]


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
    """Describe every object; objects and their words are in random order: "red star b3, c1 circle blue"."""
    things = [
        [t.color, t.form, *([] if scene.kind in CHARTS else [t.cell]), *([t.text] if t.text else [])]
        for t in rng.sample(scene.things, len(scene.things))
    ]
    phrases = [" ".join(rng.sample(words, len(words))) for words in things]
    return Question("caption", scene.kind, "describe the picture", ", ".join(phrases))


def make_drill(scene: Scene, rng: random.Random) -> Question:
    """Make a training question that is one step of a relation and names objects by cell: "is the star left of b3?"."""
    placed = [(thing, thing.cell) for thing in scene.things]
    named = [(thing, f"the {name}") for thing, name in _name_objects(scene)]
    question = (
        _make_relation_between(scene, placed + rng.sample(named, min(len(named), len(placed))), rng)
        if rng.random() < 0.7
        else None
    )
    if question is None:
        thing, cell = rng.choice(placed)
        wanted, answer = rng.choice((("color", thing.color), ("shape", thing.form)))
        question = Question(DRILL, wanted, f"what {wanted} is the object in {cell}?", answer)
    return replace(question, task=DRILL)


def to_plural(noun: str) -> str:
    """Return the noun's plural."""
    return "crosses" if noun == "cross" else f"{noun}s"


def _name_objects(scene: Scene) -> list[tuple[Thing, str]]:
    """Pair every object with each phrase that only it matches: "star", "red object", "red star"."""
    phrases = [(t, p) for t in scene.things for p in (t.form, f"{t.color} object", f"{t.color} {t.form}")]
    count = Counter(p for _, p in phrases)
    return [(t, p) for t, p in phrases if count[p] == 1]


def _make_existence(scene: Scene, rng: random.Random) -> Question:
    """Make a question as in POPE: half of the answers are yes.

    An absent object is drawn at random, from the most frequent ones, or from combinations of attributes in the scene.
    """
    pairs = {(t.color, t.form) for t in scene.things}
    variant = rng.choice(("random", "popular", "adversarial"))
    everything = [(c, f) for c in COLORS for f in NOUNS]
    pools = {
        "random": everything,
        "popular": [(c, f) for c in COLORS[:4] for f in (*tuple(SHAPES)[:4], SIGN)],
        "adversarial": [(c, f) for c in {p[0] for p in pairs} for f in {p[1] for p in pairs}],
    }
    absent = sorted(p for p in pools[variant] if p not in pairs)
    # Where the scene is too uniform for that, only one of the two attributes is in the scene.
    absent = absent or sorted(p for p in everything if p not in pairs and any(set(p) & set(q) for q in pairs))
    present = rng.random() < 0.5
    color, form = rng.choice(sorted(pairs) if present else absent)
    return Question("existence", variant, f"is there {_with_article(color)} {form}?", "yes" if present else "no")


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _make_attribute(scene: Scene, rng: random.Random) -> Question | None:
    """Make a question as GQA's one-hop questions: one attribute names an object, the other is the answer."""
    wanted = rng.choice(("color", "shape"))
    unique = [
        t for t, phrase in _name_objects(scene) if phrase == (t.form if wanted == "color" else f"{t.color} object")
    ]
    if not unique:
        return None
    thing = rng.choice(unique)
    if wanted == "color":
        return Question("attribute", wanted, f"what color is the {thing.form}?", thing.color)
    return Question("attribute", wanted, f"what shape is the {thing.color} object?", thing.form)


def _make_relation(scene: Scene, rng: random.Random) -> Question | None:
    """Make a question as GQA's: is one object beside another, or (two hops) what is the object beside another?"""
    return _make_relation_between(scene, [(thing, f"the {name}") for thing, name in _name_objects(scene)], rng)


def _make_relation_between(scene: Scene, named: Sequence[tuple[Thing, str]], rng: random.Random) -> Question | None:
    """Make a relation between objects, given with the phrases that name them."""
    side = rng.choice(tuple(SIDES))
    if rng.random() < 0.5:
        pairs = [(a, b) for a in named for b in named if abs(SIDES[side](a[0], b[0])) > CLEAR]
        if not pairs:
            return None
        (a, name_a), (b, name_b) = rng.choice(pairs)
        answer = "yes" if SIDES[side](a, b) > 0 else "no"
        return Question("relation", "verify", f"is {name_a} {side} {name_b}?", answer)
    unique = []
    for thing, name in named:
        beyond = [t for t in scene.things if t is not thing and SIDES[side](t, thing) > -CLEAR / 2]
        if len(beyond) == 1 and SIDES[side](beyond[0], thing) > CLEAR:
            unique.append((beyond[0], name))
    if not unique:
        return None
    other, name = rng.choice(unique)
    wanted = rng.choice(("color", "shape"))
    answer = other.color if wanted == "color" else other.form
    return Question("relation", "two hops", f"what {wanted} is the object {side} {name}?", answer)


def _make_count(scene: Scene, rng: random.Random) -> Question:
    form = rng.choice(("shape", "color"))
    tally = Counter(t.form if form == "shape" else t.color for t in scene.things)
    values = NOUNS if form == "shape" else COLORS
    # The answer is drawn first; otherwise nearly all answers would be zero or one.
    wanted = rng.choice(sorted({tally[v] for v in values}))
    value = rng.choice([v for v in values if tally[v] == wanted])
    name = to_plural(value) if form == "shape" else f"{value} objects"
    return Question("counting", form, f"how many {name} are there?", NUMBERS[wanted])


def _make_reading(scene: Scene, rng: random.Random) -> Question | None:
    """Make a question as in TextVQA: the answer is a drawn word or number."""
    named = [(t, phrase) for t, phrase in _name_objects(scene) if t.form == SIGN and SIGN in phrase]
    if not named:
        return None
    thing, phrase = rng.choice(named)
    form = rng.choice(("what does the {} say?", "read the {}"))
    return Question("reading", "number" if thing.text.isdigit() else "word", form.format(phrase), thing.text)


def _make_grounding(scene: Scene, rng: random.Random) -> Question | None:
    """Ask for the cell of an object: a letter for the column, a number for the row."""
    if not (named := _name_objects(scene)):
        return None
    thing, phrase = rng.choice(named)
    return Question("grounding", "cell", f"where is the {phrase}?", thing.cell)


def _make_overview(scene: Scene, rng: random.Random) -> Question | None:
    """Make a question about the whole image, which names no object."""
    variant = rng.choice(("most common color", "most common shape", "all"))
    if variant == "all":
        return Question("overview", variant, "how many objects are there?", NUMBERS[len(scene.things)])
    tally = Counter(t.color if variant.endswith("color") else t.form for t in scene.things).most_common(2)
    if tally[0][1] < 2 or (len(tally) > 1 and tally[1][1] == tally[0][1]):
        return None
    return Question("overview", variant, f"what is the {variant}?", tally[0][0])


def _make_crowd(scene: Scene, rng: random.Random) -> Question | None:
    """Ask for one of many objects, in the words of another task."""
    variant = rng.choice(("existence", "attribute", "relation", "reading", "grounding"))
    return (question := _MAKERS[variant](scene, rng)) and replace(question, task="crowd", variant=variant)


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
    return Question("chart", scene.kind, f"{text} {', '.join(options)}", answer)


_MAKERS: dict[str, Callable[[Scene, random.Random], Question | None]] = {
    "existence": _make_existence,
    "attribute": _make_attribute,
    "relation": _make_relation,
    "counting": _make_count,
    "reading": _make_reading,
    "chart": _make_chart,
    "grounding": _make_grounding,
    "overview": _make_overview,
    "crowd": _make_crowd,
}
TASKS = tuple(_MAKERS)
CROWDED = ("crowd",)  # tasks about one of many objects, each with a kind of scene of its name
assert len(NUMBERS) > MAX_OBJECTS
