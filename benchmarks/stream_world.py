"""Streams of the drawn world: one frame a second, in which objects come, go, move and change, and what was where."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from foveate.world.drawing import draw_scene
from foveate.world.plain_questions import Question, name_objects
from foveate.world.scenes import CELLS, MAX_OBJECTS, SHAPES, Scene, Thing, sample_scene

SIDE = 192  # pixels
EVENT = 0.08  # of the chance that something happens in a second
STEPS = 8  # seconds of a move
CUT = 300  # seconds after which the camera stands elsewhere
NOISE = 2  # grey levels of the camera's noise
STILL = 5  # seconds that an object stands unchanged before it is asked about
NOTHING = Thing("square", "red", -1.0, -1.0, 0.01, 0.01)  # outside of the image: other objects keep their shades


@dataclass(frozen=True)
class Episode:
    """An object that looked the same at one place from second `start` to `end`, and the scene at its end."""

    thing: Thing
    start: int
    end: int
    scene: Scene


def make_stream(seed: int, seconds: int) -> list[Scene]:
    """The scene of every second."""
    rng, scenes = random.Random(f"stream {seed}"), list[Scene]()
    things, moves, texture = list[Thing](), dict[int, list[Thing]](), 0
    for second in range(seconds):
        if second % CUT == 0:
            start = sample_scene(seed, 10_000_000 + second, "variety")
            things, moves, texture = [*start.things], {}, start.texture
            things += [NOTHING] * (MAX_OBJECTS - len(things))
        elif rng.random() < EVENT:
            _change(rng, things, moves)
        for number in list(moves):
            things[number] = moves[number].pop(0)
            if not moves[number]:
                del moves[number]
        scenes.append(Scene("scene", tuple(things), texture, (SIDE, SIDE)))
    return scenes


def _change(rng: random.Random, things: list[Thing], moves: dict[int, list[Thing]]) -> None:
    """An object comes, goes, becomes another one, or begins to move to a free cell."""
    here = [n for n, thing in enumerate(things) if thing is not NOTHING and n not in moves]
    ends = [thing if n not in moves else moves[n][-1] for n, thing in enumerate(things) if thing is not NOTHING]
    taken = {thing.cell for thing in ends}
    free = [(c, r) for c in range(CELLS) for r in range(CELLS) if f"{'abcd'[c]}{r + 1}" not in taken]
    kind = rng.choice(("come", "go", "change", "move"))
    new = rng.choice(sample_scene(rng.randrange(2**20) * 2, 0, "variety").things)
    if kind == "come" and NOTHING in things:
        column, row = rng.choice(free)
        things[things.index(NOTHING)] = replace(new, x=(column + 0.5) / CELLS, y=(row + 0.5) / CELLS)
    elif kind == "go" and len(here) > 2:
        things[rng.choice(here)] = NOTHING
    elif kind == "change" and here:
        number = rng.choice(here)
        color, form = new.color, new.form if things[number].form in SHAPES and new.form in SHAPES else None
        things[number] = replace(things[number], color=color, form=form or things[number].form)
    elif kind == "move" and here:
        number, (column, row) = rng.choice(here), rng.choice(free)
        old, x, y = things[number], (column + 0.5) / CELLS, (row + 0.5) / CELLS
        shares = [(step + 1) / STEPS for step in range(STEPS)]
        moves[number] = [replace(old, x=old.x + (x - old.x) * s, y=old.y + (y - old.y) * s) for s in shares]


def draw_frame(scene: Scene, second: int) -> Image.Image:
    """The scene with the camera's noise."""
    noise = np.random.default_rng(second).normal(0, NOISE, (SIDE, SIDE, 3))
    return Image.fromarray((np.asarray(draw_scene(scene)) + noise).clip(0, 255).astype("uint8"))


def show(scene: Scene) -> Scene:
    """The scene with what is in the image."""
    return replace(scene, things=tuple(thing for thing in scene.things if thing is not NOTHING))


def list_episodes(scenes: Sequence[Scene]) -> list[Episode]:
    """What stood still for `STILL` seconds at least, in order of its end; not what stands there in the end."""
    begun: dict[Thing, int] = {}
    episodes, before, texture = list[Episode](), None, None
    for second, scene in enumerate(scenes):
        now = {thing for thing in scene.things if thing is not NOTHING}
        for thing in list(begun):
            if (thing not in now or scene.texture != texture) and before is not None:
                start = begun.pop(thing)
                if second - start >= STILL:
                    episodes.append(Episode(thing, start, second - 1, show(before)))
        for thing in now:
            begun.setdefault(thing, second)
        before, texture = scene, scene.texture
    return episodes


def ask_about(thing: Thing, scene: Scene, rng: random.Random) -> Question | None:
    """A question that only this object of the scene answers: its colour or its form."""
    names = {name for other, name in name_objects(scene) if other == thing}
    questions = []
    if thing.form in names:
        questions.append(Question("attribute", "color", f"what color is the {thing.form}?", thing.color, (thing,)))
    if f"{thing.color} object" in names:
        text = f"what shape is the {thing.color} object?"
        questions.append(Question("attribute", "shape", text, thing.form, (thing,)))
    return rng.choice(questions) if questions else None
