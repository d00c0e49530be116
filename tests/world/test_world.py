import random
from collections import Counter

import numpy as np
import pytest
import torch

from foveate.question import default_template
from foveate.world.build import GRID, build_model, build_processor, build_tokenizer
from foveate.world.labels import patch_labels
from foveate.world.questions import KINDS, NUMBERS, SIDES, Question, ask, sample_questions, words
from foveate.world.scenes import COLORS, LETTERS, MAX_OBJECTS, SHAPES, Scene, Thing, draw_scene, sample_scene
from foveate.world.score import DEV, TEST, by_kind, cases, prompt, right

LABELS = ("labels", "captions")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_scenes_follow_from_the_seed():
    assert sample_scene(3, 5) == sample_scene(3, 5)
    assert sample_scene(3, 5) != sample_scene(3, 6)
    assert sample_scene(3, 5) != sample_scene(4, 5)
    one, other = (np.asarray(draw_scene(sample_scene(3, 5))) for _ in range(2))
    assert (one == other).all()


def test_objects_never_overlap_and_stay_inside():
    for index in range(300):
        things = sample_scene(0, index).things
        assert 1 <= len(things) <= MAX_OBJECTS
        for i, a in enumerate(things):
            assert a.radius < a.x < 1 - a.radius
            assert a.radius < a.y < 1 - a.radius
            for b in things[i + 1 :]:
                assert max(abs(a.x - b.x), abs(a.y - b.y)) > a.radius + b.radius


def test_every_question_is_answered_by_its_scene():
    """An obvious second opinion on every kind."""
    seen = Counter()
    for index in range(400):
        scene = sample_scene(1, index)
        for question in sample_questions(scene, tuple(KINDS), 8, random.Random(index)):
            assert question.answer == second_opinion(scene, question.kind, question.text.rstrip("?").split())
            seen[question.kind] += 1
    assert set(seen) == set(KINDS)


def fits(thing, words):
    return all(w in (thing.shape, thing.color, "object") for w in words)


def the(scene, words):
    (thing,) = [t for t in scene.things if fits(t, words)]
    return thing


def second_opinion(scene, kind, said):
    if kind == "existence":
        return "yes" if any(fits(t, said[3:]) for t in scene.things) else "no"
    if kind == "color":
        return the(scene, said[4:]).color
    if kind == "shape":
        return the(scene, said[4:]).shape
    if kind == "reading":
        return the(scene, said[said.index("on") + 2 :]).letter.lower()
    if kind == "count":
        singular = [w.removesuffix("es") if w == "crosses" else w.removesuffix("s") for w in said[2:-2]]
        return NUMBERS[sum(fits(t, singular) for t in scene.things)]
    text = " ".join(said[2:])
    side = next(s for s in SIDES if f" {s} the " in text)
    a, b = (the(scene, part.split()) for part in text.split(f" {side} the "))
    return "yes" if SIDES[side](a, b) > 0 else "no"


def test_yes_and_no_are_balanced_and_numbers_varied():
    tally = {kind: Counter() for kind in KINDS}
    for case in cases(DEV, 300):
        tally[case.question.kind][case.question.answer] += 1
    for kind in ("existence", "relation"):
        assert 0.4 < tally[kind]["yes"] / 300 < 0.6
    assert max(tally["count"].values()) < 150
    assert len(tally["reading"]) == len(LETTERS)
    assert len(tally["color"]) == len(COLORS)
    assert len(tally["shape"]) == len(SHAPES)


def test_held_out_questions_are_fixed_and_their_streams_apart():
    assert cases(TEST, 5) == cases(TEST, 5)
    assert not {c.scene.texture for c in cases(TEST, 5)} & {c.scene.texture for c in cases(DEV, 5)}
    assert TEST % 2 == DEV % 2 == 0  # training draws from odd streams


def test_impossible_questions_are_not_asked():
    twins = Scene((Thing("star", "red", None, 0.3, 0.3, 0.1), Thing("star", "red", None, 0.7, 0.7, 0.1)), 0)
    for kind in ("color", "shape", "relation", "reading"):
        assert ask(twins, kind, random.Random(0)) is None


def test_labels_say_what_was_drawn():
    scene = Scene((Thing("square", "red", "B", 0.25, 0.25, 0.1), Thing("star", "blue", None, 0.75, 0.75, 0.1)), 0)
    labels = patch_labels(scene, GRID)
    shape = labels.shape.reshape(GRID, GRID)
    assert shape[4, 4] == SHAPES.index("square") + 1
    assert shape[12, 12] == SHAPES.index("star") + 1
    assert shape[4, 12] == 0
    assert labels.letter.reshape(GRID, GRID)[4, 4] == LETTERS.index("B") + 1
    assert labels.letter.reshape(GRID, GRID)[12, 12] == 0
    assert labels.middle.sum() == 2
    assert labels.place.reshape(GRID, GRID, 2)[12, 12].tolist() == [0.75, 0.75]


def test_every_word_of_the_world_is_one_token_and_others_are_spelled(tokenizer):
    for word in words():
        assert len(tokenizer(f" {word}").input_ids) == 1, word
    strange = "Wie heißt das? 你好"
    assert tokenizer.decode(tokenizer(strange).input_ids) == strange.lower()


def test_template_of_the_bundled_model_leaves_the_words(tokenizer):
    from foveate.question import find_question

    config = build_model(tokenizer).config
    text = prompt(build_processor(tokenizer), "What color is the star?")
    ids = tokenizer(text).input_ids
    template = default_template(config, [tokenizer.eos_token_id])
    where = find_question(ids, ids.index(config.image_token_id), template, [False] * len(ids))
    assert tokenizer.decode([ids[i] for i in where]).strip() == "what color is the star?"


def test_answers_are_marked_to_the_letter():
    asked = cases(DEV, 1)
    given = [c.question.answer for c in asked[:-1]] + ["?"]
    assert right(asked, given) == [True] * (len(asked) - 1) + [False]
    assert by_kind(asked, right(asked, given))[asked[-1].question.kind] == 0.0


def test_model_fits_the_package(tokenizer):
    model = build_model(tokenizer)
    assert 2 * sum(p.numel() for p in model.parameters()) < 16e6
    assert GRID * GRID >= 256


def test_packed_questions_are_single_question_prompts(tokenizer):
    """A question in a packed row gets the logits that it gets alone."""
    from foveate.rewrite import IGNORED_LABEL
    from foveate.world.data import pack

    torch.manual_seed(0)
    model = build_model(tokenizer).eval()
    asked = [
        Question("color", "what color is the star?", "red"),
        Question("count", "how many stars are there?", "two"),
        Question("caption", "describe the picture", "red"),
    ]
    pixels = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        packed = pack([asked], tokenizer)
        together = model(pixel_values=pixels, **{k: v for k, v in packed.items() if k not in LABELS}).logits[0]
        places = (packed["labels"][0] != IGNORED_LABEL).nonzero()[:, 0].tolist()
        for number, question in enumerate(asked):
            text = prompt(build_processor(tokenizer), question.text).replace("<image>", "<image>" * GRID**2)
            ids = torch.tensor([tokenizer(text + f" {question.answer}</s>").input_ids])
            alone = model(input_ids=ids, pixel_values=pixels).logits[0]
            assert packed["input_ids"][0, places[2 * number]] == ids[0, -2]
            assert torch.allclose(together[places[2 * number] - 1], alone[-3], atol=1e-5)
