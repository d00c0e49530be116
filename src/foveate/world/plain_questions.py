"""Questions about plain scenes: one object, two of them, or the whole."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from foveate.world.scenes import MAX_OBJECTS, NOUNS, POPULARITY, SHAPES, SIGN, Scene, Thing

COLORS = tuple(POPULARITY)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
SIDES: dict[str, Callable[[Thing, Thing], float]] = {
    "left of": lambda a, b: b.x - a.x,
    "right of": lambda a, b: a.x - b.x,
    "above": lambda a, b: b.y - a.y,
    "below": lambda a, b: a.y - b.y,
}
CLEAR = 0.12  # two objects at least this far apart along an axis have a clear relation; a share of the image's side


@dataclass(frozen=True)
class Question:
    """A question, its answer, and the objects that show it: none for a question about the whole or about nothing."""

    task: str
    variant: str
    text: str
    answer: str
    things: tuple[Thing, ...] = ()


def to_plural(noun: str) -> str:
    """Return the noun's plural."""
    return "crosses" if noun == "cross" else f"{noun}s"


def name_objects(scene: Scene) -> list[tuple[Thing, str]]:
    """Pair every object with each phrase that only it matches: "star", "red object", "red star"."""
    phrases = [(t, p) for t in scene.things for p in (t.form, f"{t.color} object", f"{t.color} {t.form}")]
    count = Counter(p for _, p in phrases)
    return [(t, p) for t, p in phrases if count[p] == 1]


def make_existence(scene: Scene, rng: random.Random) -> Question:
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
    things = tuple(t for t in scene.things if (t.color, t.form) == (color, form))
    text = f"is there {with_article(color)} {form}?"
    return Question("existence", variant, text, "yes" if present else "no", things)


def with_article(word: str) -> str:
    """Return the word with its indefinite article."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def make_attribute(scene: Scene, rng: random.Random) -> Question | None:
    """Make a question as GQA's one-hop questions: one attribute names an object, the other is the answer."""
    wanted = rng.choice(("color", "shape"))
    unique = [
        t for t, phrase in name_objects(scene) if phrase == (t.form if wanted == "color" else f"{t.color} object")
    ]
    if not unique:
        return None
    thing = rng.choice(unique)
    if wanted == "color":
        return Question("attribute", wanted, f"what color is the {thing.form}?", thing.color, (thing,))
    return Question("attribute", wanted, f"what shape is the {thing.color} object?", thing.form, (thing,))


def make_relation(scene: Scene, rng: random.Random) -> Question | None:
    """Make a question as GQA's: is one object beside another, or (two hops) what is the object beside another?"""
    return make_relation_between(scene, [(thing, f"the {name}") for thing, name in name_objects(scene)], rng)


def make_relation_between(scene: Scene, named: Sequence[tuple[Thing, str]], rng: random.Random) -> Question | None:
    """Make a relation between objects, given with the phrases that name them."""
    side = rng.choice(tuple(SIDES))
    if rng.random() < 0.5:
        pairs = [(a, b) for a in named for b in named if abs(SIDES[side](a[0], b[0])) > CLEAR]
        if not pairs:
            return None
        (a, name_a), (b, name_b) = rng.choice(pairs)
        answer = "yes" if SIDES[side](a, b) > 0 else "no"
        return Question("relation", "verify", f"is {name_a} {side} {name_b}?", answer, (a, b))
    unique = []
    for thing, name in named:
        beyond = [t for t in scene.things if t is not thing and SIDES[side](t, thing) > -CLEAR / 2]
        if len(beyond) == 1 and SIDES[side](beyond[0], thing) > CLEAR:
            unique.append((beyond[0], thing, name))
    if not unique:
        return None
    other, thing, name = rng.choice(unique)
    wanted = rng.choice(("color", "shape"))
    answer = other.color if wanted == "color" else other.form
    return Question("relation", "two hops", f"what {wanted} is the object {side} {name}?", answer, (thing, other))


def make_count(scene: Scene, rng: random.Random) -> Question:
    """Ask how many objects have a colour or a form; of many objects one that few have, as answers go up to six."""
    form = rng.choice(("shape", "color"))
    tally = Counter(t.form if form == "shape" else t.color for t in scene.things)
    values = [v for v in (NOUNS if form == "shape" else COLORS) if tally[v] < len(NUMBERS)]
    # The answer is drawn first; otherwise nearly all answers would be zero or one.
    wanted = rng.choice(sorted({tally[v] for v in values}))
    value = rng.choice([v for v in values if tally[v] == wanted])
    name = to_plural(value) if form == "shape" else f"{value} objects"
    things = tuple(t for t in scene.things if value in (t.form, t.color))
    return Question("counting", form, f"how many {name} are there?", NUMBERS[wanted], things)


def make_reading(scene: Scene, rng: random.Random) -> Question | None:
    """Make a question as in TextVQA: the answer is a drawn word or number."""
    named = [(t, phrase) for t, phrase in name_objects(scene) if t.form == SIGN and SIGN in phrase]
    if not named:
        return None
    thing, phrase = rng.choice(named)
    form = rng.choice(("what does the {} say?", "read the {}"))
    variant = "number" if thing.text.isdigit() else "word"
    return Question("reading", variant, form.format(phrase), thing.text, (thing,))


def make_grounding(scene: Scene, rng: random.Random) -> Question | None:
    """Ask for the cell of an object: a letter for the column, a number for the row."""
    if not (named := name_objects(scene)):
        return None
    thing, phrase = rng.choice(named)
    return Question("grounding", "cell", f"where is the {phrase}?", thing.cell, (thing,))


def make_overview(scene: Scene, rng: random.Random) -> Question | None:
    """Make a question about the whole image, which names no object."""
    variant = rng.choice(("most common color", "most common shape", "all"))
    if variant == "all":
        return Question("overview", variant, "how many objects are there?", NUMBERS[len(scene.things)])
    tally = Counter(t.color if variant.endswith("color") else t.form for t in scene.things).most_common(2)
    if tally[0][1] < 2 or (len(tally) > 1 and tally[1][1] == tally[0][1]):
        return None
    return Question("overview", variant, f"what is the {variant}?", tally[0][0])


assert len(NUMBERS) > MAX_OBJECTS
