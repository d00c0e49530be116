"""Questions about a scene whose answer is one word, by kind. Everything follows from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foveate.world.scenes import COLORS, LETTERS, MAX_OBJECTS, SHAPES, Scene, Thing

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
SIDES: dict[str, Callable[[Thing, Thing], float]] = {
    "left of": lambda a, b: b.x - a.x,
    "right of": lambda a, b: a.x - b.x,
    "above": lambda a, b: b.y - a.y,
    "below": lambda a, b: a.y - b.y,
}
COLUMNS, ROWS = ("leftmost", "left", "right", "rightmost"), ("top", "upper", "lower", "bottom")
CLEAR = 0.12  # two objects this far apart along an axis have a clear relation (a share of the picture's side)


@dataclass(frozen=True)
class Question:
    """A question, its one-word answer, and which kind of skill it asks for."""

    kind: str
    text: str
    answer: str


def words() -> list[str]:
    """Every word that a question or an answer can hold."""
    fixed = (
        "is there a an what which how many color shape letter are on the in read object objects picture yes no "
        "describe user assistant"
    )
    sides = (word for side in SIDES for word in side.split())
    plurals = (*(f"{s}s" for s in SHAPES), "crosses")
    return [
        *fixed.split(),
        *sides,
        *COLUMNS,
        *ROWS,
        *SHAPES,
        *plurals,
        *COLORS,
        *NUMBERS,
        *(x.lower() for x in LETTERS),
        "s",
    ]


def ask(scene: Scene, kind: str, rng: random.Random) -> Question | None:
    """A question of the `kind` about the scene, or None if the scene admits none."""
    return KINDS[kind](scene, rng)


def sample_questions(scene: Scene, kinds: Sequence[str], count: int, rng: random.Random) -> list[Question]:
    """`count` questions of the `kinds` in turn, shuffled; kinds that the scene does not admit are passed over."""
    found: list[Question] = []
    while len(found) < count:
        for kind in rng.sample(kinds, len(kinds)):
            question = ask(scene, kind, rng)
            if question is not None:
                found.append(question)
    return found[:count]


def caption(scene: Scene, rng: random.Random) -> Question:
    """Every object by its words, objects and words in random order: "red top star d left, lower circle left blue"."""
    things = []
    for thing in rng.sample(scene.things, len(scene.things)):
        attributes = [thing.color, thing.shape, COLUMNS[int(4 * thing.x)], ROWS[int(4 * thing.y)]]
        attributes += [thing.letter.lower()] if thing.letter else []
        things.append(" ".join(rng.sample(attributes, len(attributes))))
    return Question("caption", "describe the picture", ", ".join(things))


def plural(shape: str) -> str:
    """The shape's plural."""
    return "crosses" if shape == "cross" else f"{shape}s"


def _names(scene: Scene) -> list[tuple[Thing, str]]:
    """Every object with each phrase that names it alone: "star", "red object", "red star"."""
    phrases = [(t, p) for t in scene.things for p in (t.shape, f"{t.color} object", f"{t.color} {t.shape}")]
    count = Counter(p for _, p in phrases)
    return [(t, p) for t, p in phrases if count[p] == 1]


def _existence(scene: Scene, rng: random.Random) -> Question:
    present = rng.random() < 0.5
    thing = rng.choice(scene.things)
    pairs = {(t.color, t.shape) for t in scene.things}
    form = rng.choice(("pair", "pair", "shape", "color"))
    if present:
        color, shape = thing.color, thing.shape
    elif form == "pair":
        # Half of the negatives recombine a colour and a shape, so that one of the two is there.
        near = [(c, thing.shape) for c in COLORS] + [(thing.color, s) for s in SHAPES]
        far = [(c, s) for c in COLORS for s in SHAPES]
        color, shape = rng.choice([p for p in (near if rng.random() < 0.6 else far) if p not in pairs])
    else:
        color = rng.choice([c for c in COLORS if c not in {t.color for t in scene.things}])
        shape = rng.choice([s for s in SHAPES if s not in {t.shape for t in scene.things}] or [""])
        if not shape and form == "shape":
            return _existence(scene, rng)
    name = {"pair": f"{color} {shape}", "shape": shape, "color": f"{color} object"}[form]
    article = "an" if name[0] in "aeiou" else "a"
    return Question("existence", f"is there {article} {name}?", "yes" if present else "no")


def _color(scene: Scene, rng: random.Random) -> Question | None:
    unique = [t for t, phrase in _names(scene) if phrase == t.shape]
    if not unique:
        return None
    thing = rng.choice(unique)
    return Question("color", f"what color is the {thing.shape}?", thing.color)


def _shape(scene: Scene, rng: random.Random) -> Question | None:
    unique = [t for t, phrase in _names(scene) if phrase == f"{t.color} object"]
    if not unique:
        return None
    thing = rng.choice(unique)
    return Question("shape", f"what shape is the {thing.color} object?", thing.shape)


def _relation(scene: Scene, rng: random.Random) -> Question | None:
    named = _names(scene)
    side = rng.choice(tuple(SIDES))
    pairs = [(a, b) for a in named for b in named if abs(SIDES[side](a[0], b[0])) > CLEAR]
    if not pairs:
        return None
    (a, name_a), (b, name_b) = rng.choice(pairs)
    answer = "yes" if SIDES[side](a, b) > 0 else "no"
    return Question("relation", f"is the {name_a} {side} the {name_b}?", answer)


def _count(scene: Scene, rng: random.Random) -> Question:
    form = rng.choice(("shape", "color", "all"))
    if form == "all":
        return Question("count", "how many objects are there?", NUMBERS[len(scene.things)])
    tally = Counter(t.shape if form == "shape" else t.color for t in scene.things)
    values = SHAPES if form == "shape" else tuple(COLORS)
    # Draw the answer first: zero and one would swamp the rest otherwise.
    wanted = rng.choice(sorted({tally[v] for v in values}))
    value = rng.choice([v for v in values if tally[v] == wanted])
    name = plural(value) if form == "shape" else f"{value} objects"
    return Question("count", f"how many {name} are there?", NUMBERS[wanted])


def _reading(scene: Scene, rng: random.Random) -> Question | None:
    named = [(t, phrase) for t, phrase in _names(scene) if t.letter is not None]
    if not named:
        return None
    thing, phrase = rng.choice(named)
    form = rng.choice(("what letter is on the {}?", "read the letter on the {}"))
    return Question("reading", form.format(phrase), str(thing.letter).lower())


KINDS: dict[str, Callable[[Scene, random.Random], Question | None]] = {
    "existence": _existence,
    "color": _color,
    "shape": _shape,
    "relation": _relation,
    "count": _count,
    "reading": _reading,
}
assert len(NUMBERS) > MAX_OBJECTS
