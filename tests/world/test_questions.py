import random
from collections import Counter

import pytest

from foveate.world.questions import (
    COLORS,
    DRILL,
    NUMBERS,
    OPTIONS,
    SIDES,
    TASKS,
    list_words,
    make_caption,
    make_drill,
    make_question,
    sample_questions,
    tasks_of,
)
from foveate.world.scenes import CHARTS, DENSE, NOUNS, Scene, Thing, sample_scene
from foveate.world.suite import sample_cases


def test_every_question_is_answered_by_its_image():
    """A second, obvious implementation of every task gives the same answer."""
    seen = Counter()
    for index in range(400):
        for kind in ("scene", "crowd", *CHARTS, *DENSE):
            scene = sample_scene(1, index, kind)
            for question in sample_questions(scene, tasks_of(scene), 8, random.Random(index)):
                words = question.text.rstrip("?").split()
                kind_of_question = question.variant if question.task in ("crowd", "search") else question.task
                assert question.answer == OPINIONS[kind_of_question](scene, words), (scene, question)
                assert_shown(scene, question)
                seen[question.task, question.variant] += 1
    assert {task for task, _ in seen} == set(TASKS)
    assert len(seen) == 29


def assert_shown(scene, question):
    """The answer can be read off the question's objects alone."""
    assert set(question.things) <= set(scene.things)
    verifies = question.text.startswith("is the ")
    if question.things and question.task not in ("chart", "counting") and not verifies:
        shown = {w for t in question.things for w in (t.form, t.color, t.cell, t.text, "yes")}
        assert question.answer in shown
    if question.task == "counting":
        assert question.answer == NUMBERS[len(question.things)]
    whole = question.task in ("overview", "gist") or question.answer in ("no", "zero")
    assert bool(question.things) != whole or verifies


def fits(thing, words):
    return all(w in (thing.form, thing.color, thing.cell, "object", "the") for w in words)


def the(scene, words):
    (thing,) = [t for t in scene.things if fits(t, words)]
    return thing


def relation(scene, words):
    text = " ".join(words)
    side = next(s for s in SIDES if f" {s} " in text)
    if words[0] == "is":
        a, b = (the(scene, part.split()) for part in text.removeprefix("is ").split(f" {side} "))
        return "yes" if SIDES[side](a, b) > 0 else "no"
    thing = the(scene, text.split(f" {side} ")[1].split())
    (other,) = [t for t in scene.things if t is not thing and SIDES[side](t, thing) > 0]
    return other.color if words[1] == "color" else other.form


def count(scene, words):
    singular = [w.removesuffix("es") if w == "crosses" else w.removesuffix("s") for w in words[2:-2]]
    return NUMBERS[sum(fits(t, singular) for t in scene.things)]


def attribute(scene, words):
    thing = the(scene, [w for w in words[4:] if w != "in"])
    return thing.color if words[1] == "color" else thing.form


def grounding(scene, words):
    thing = the(scene, words[3:])
    return "abcd"[int(thing.x * 4)] + "1234"[int(thing.y * 4)]


def overview(scene, words):
    if words[0] == "how":
        return NUMBERS[len(scene.things)]
    return Counter(getattr(t, {"color": "color", "shape": "form"}[words[-1]]) for t in scene.things).most_common(1)[0][
        0
    ]


def chart(scene, words):
    topic, options = [word.rstrip("?") for word in words[:-OPTIONS]], [word.rstrip(",") for word in words[-OPTIONS:]]
    assert len(set(options)) == OPTIONS
    if scene.kind == "bars":
        order = sorted(scene.things, key=lambda t: t.ry)
        right = order[-1].color if "tallest" in topic else order[0].color
    else:
        (thing,) = [t for t in scene.things if t.color in topic]
        right = thing.form if scene.kind == "lines" else thing.text
    assert right in options
    return right


def gist(scene, words):
    tally = Counter(t.color if words[-1] == "color" else t.form for t in scene.things).most_common(2)
    assert tally[0][1] >= 1.5 * tally[1][1]
    return tally[0][0]


OPINIONS = {
    "lookup": lambda scene, words: the(scene, words[6:]).text,
    "gist": gist,
    "existence": lambda scene, words: "yes" if any(fits(t, words[3:]) for t in scene.things) else "no",
    "attribute": attribute,
    "relation": relation,
    "counting": count,
    "reading": lambda scene, words: (
        the(scene, words[words.index("the") + 1 :][: -1 if words[-1] == "say" else None]).text
    ),
    "chart": chart,
    "grounding": grounding,
    "overview": overview,
}


def test_drills_ask_for_one_step_of_a_relation():
    variants = Counter()
    for index in range(300):
        scene = sample_scene(1, index)
        question = make_drill(scene, random.Random(index))
        words = question.text.rstrip("?").split()
        opinion = relation if question.variant in ("verify", "two hops") else attribute
        assert question.answer == opinion(scene, words), (scene, question)
        assert question.task == DRILL
        variants[question.variant] += 1
    assert set(variants) == {"verify", "two hops", "color", "shape"}
    assert DRILL not in TASKS, "Drills are for training only."


def test_answers_are_balanced_and_varied():
    tally = {task: Counter(c.question.answer for c in sample_cases("dev", task, 400)) for task in TASKS}
    assert 0.42 < tally["existence"]["yes"] / 400 < 0.58
    assert max(tally["counting"].values()) < 200
    assert len(tally["reading"]) > 300
    questions = [c.question for c in sample_cases("dev", "chart", 400)]
    places = Counter(q.text.replace(",", "").split()[-OPTIONS:].index(q.answer) for q in questions)
    assert min(places[i] for i in range(OPTIONS)) > 70, "The right option is equally often in every place."
    assert len(tally["grounding"]) == 16
    assert set(COLORS) <= set(tally["attribute"]) | set(tally["overview"])
    assert set(tally["attribute"]) <= {*COLORS, *NOUNS}


def test_negatives_are_of_their_kind():
    for case in sample_cases("dev", "existence", 300):
        question, things = case.question, case.scene.things
        color, form = question.text.rstrip("?").split()[3:]
        if question.answer == "no" and question.variant == "popular":
            assert color in COLORS[:4]
        if question.answer == "no" and question.variant == "adversarial":
            assert color in {t.color for t in things} or form in {t.form for t in things}


def test_impossible_questions_are_not_made():
    twins = [Thing("star", "red", 0.3, 0.3, 0.1, 0.1), Thing("star", "red", 0.7, 0.7, 0.1, 0.1)]
    scene = Scene("scene", tuple(twins), 0, (192, 192))
    for task in ("attribute", "relation", "reading", "grounding", "chart"):
        assert make_question(scene, task, random.Random(0)) is None
    assert make_question(sample_scene(0, 0, "bars"), "counting", random.Random(0)) is None


def test_captions_name_everything():
    scene = sample_scene(1, 0)
    words = make_caption(scene, random.Random(0)).answer.replace(",", "").split()
    expected = [w for t in scene.things for w in (t.form, t.color, t.cell, *([t.text] if t.text else []))]
    assert sorted(words) == sorted(expected)


def test_list_words_is_complete():
    known = set(list_words())
    for task in TASKS:
        for case in sample_cases("dev", task, 50):
            written = {t.text for t in case.scene.things} | {t.cell for t in case.scene.things}
            words = case.question.text.replace("?", "").replace(",", "").split()
            assert set(words) - written <= known
            assert {case.question.answer} - written <= known


@pytest.mark.parametrize("task", TASKS)
def test_held_out_questions_are_fixed_and_their_splits_apart(task):
    some = sample_cases("test", task, 5)
    assert sample_cases("test", task, 3) == some[:3]
    assert len({c.id for c in some}) == 5
    others = (
        *sample_cases("dev", task, 5),
        *sample_cases("test", task, 5, seed=1),
        *sample_cases("dev", task, 5, seed=1),
    )
    assert len({c.scene.texture for c in (*some, *others)}) == 20
