"""Drawn screens: a small user interface with buttons that is clicked step by step. A seed determines everything.

A history has a screenshot for each click: the button that was pressed is dark. The text of the sign above the buttons
changes, and one click may put all buttons elsewhere.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from foveate.world.clip_questions import ask_order, ask_text, choose_attribute, name_track
from foveate.world.clips import AWAY, SCALE, SIDE, SLOTS, STANDS, Track, make_sign, name_cell
from foveate.world.drawing import OVERSAMPLE, PAPER, draw_things
from foveate.world.plain_questions import NUMBERS, Question
from foveate.world.questions import DRILL
from foveate.world.scenes import COLORS, SHAPES, Thing, make_text

SHOTS = (4, 5)  # screenshots of a history
PANEL, LIT = (190, 190, 190), (80, 80, 80)  # both are as grey as the ground of scenes, which no colour is
HALF = 0.15  # of a panel's sides, as a share of the screen's


@dataclass(frozen=True)
class Screens:
    """A history of screenshots.

    Args:
        buttons: The buttons with their places in every screenshot.
        sign: The sign with its texts.
        pressed: The number of the button that is pressed in each screenshot; none is pressed twice.
        texture: The seed of small variations in colour.
    """

    buttons: tuple[Track, ...]
    sign: Track
    pressed: tuple[int, ...]
    texture: int


def sample_screens(seed: int, index: int) -> Screens:
    """Sample history number `index` of the stream `seed`. Two streams share no random numbers."""
    rng = random.Random(f"foveate screens {seed} {index}")
    shots = rng.choice(SHOTS)
    count = rng.randint(shots, 6)
    colors, forms = rng.sample(list(COLORS), count + 1), rng.sample(list(SHAPES), count)
    cells = [(column, row) for row in (1, 2) for column in range(SLOTS)]
    moves = rng.randrange(1, shots) if rng.random() < 0.7 else shots
    layouts = [rng.sample(cells, count) for _ in range(2)]
    buttons = []
    for i, (form, color) in enumerate(zip(forms, colors, strict=False)):
        places = [((column + 0.5) / SLOTS, (row + 0.5) / SLOTS) for column, row in (layout[i] for layout in layouts)]
        radius = SCALE * rng.uniform(0.058, 0.068)
        thing = Thing(form, color, *AWAY, radius, radius)
        buttons.append(Track(thing, STANDS, (places[0],) * moves + (places[1],) * (shots - moves)))
    thing, place = make_sign(rng, colors[-1], 0)
    texts = [make_text(rng)]
    for _ in range(shots - 1):
        texts.append(make_text(rng) if rng.random() < 0.6 else texts[-1])
    sign = Track(thing, STANDS, (place,) * shots, tuple(texts))
    return Screens(tuple(buttons), sign, tuple(rng.sample(range(count), shots)), rng.randrange(2**31))


def draw_shots(screens: Screens) -> list[Image.Image]:
    """Draw the screenshots, the oldest first, as RGB images."""
    return [_draw_shot(screens, shot) for shot in range(len(screens.pressed))]


def _draw_shot(screens: Screens, shot: int) -> Image.Image:
    big = (SIDE * OVERSAMPLE,) * 2
    canvas = Image.new("RGB", big, PAPER)
    pen, things = ImageDraw.Draw(canvas), []
    for number, track in enumerate((*screens.buttons, screens.sign)):
        x, y = track.places[shot] or AWAY
        if track is not screens.sign:
            fill = LIT if number == screens.pressed[shot] else PANEL
            corners = ((x - HALF) * big[0], (y - HALF) * big[1], (x + HALF) * big[0], (y + HALF) * big[1])
            pen.rounded_rectangle(corners, radius=8, fill=fill)
        things.append(replace(track.thing, x=x, y=y, text=track.texts[shot]))
    draw_things(canvas, things, screens.texture)
    return canvas.resize((SIDE, SIDE), Image.Resampling.BOX)


def make_screen_question(screens: Screens, task: str, rng: random.Random) -> Question | None:
    """Make a question of the task about the history; None if it allows none."""
    return _MAKERS[task](screens, rng)


def _make_press(screens: Screens, rng: random.Random) -> Question | None:
    """Ask which button was pressed before or after another one, first or last."""
    events = [(screens.buttons[number], step) for step, number in enumerate(screens.pressed)]
    if rng.random() < 0.4:
        return ask_order(events, "press", rng)
    step = rng.randrange(1, len(events))
    side, target, named = rng.choice((("before", step - 1, step), ("after", step, step - 1)))
    wanted, answer = choose_attribute(events[target][0], rng)
    name = name_track(events[named][0], rng)
    things = (events[target][0].thing, events[named][0].thing)
    return Question("press", side, f"which {wanted} is {side} the {name}?", answer, things)


def _make_click(screens: Screens, rng: random.Random) -> Question:
    """Ask for the cell in which a button is now."""
    track = rng.choice(screens.buttons)
    return Question("click", "cell", f"click on the {name_track(track, rng)}", name_cell(_last(track)), (track.thing,))


def _last(track: Track) -> tuple[float, float]:
    return track.places[-1] or AWAY


def _make_field(screens: Screens, rng: random.Random) -> Question:
    """Ask for the first or the last text of the sign."""
    return ask_text(screens.sign, "field", rng)


def make_screen_drill(screens: Screens, rng: random.Random) -> Question:
    """Make a training question that names a screenshot by its number: "which color is in two?"."""
    step = rng.randrange(len(screens.pressed))
    track = screens.buttons[screens.pressed[step]]
    if rng.random() < 0.5:
        return Question(DRILL, "when", f"when is the {name_track(track, rng)}?", NUMBERS[step], (track.thing,))
    wanted, answer = choose_attribute(track, rng)
    return Question(DRILL, "which", f"which {wanted} is in {NUMBERS[step]}?", answer, (track.thing,))


def make_screen_caption(screens: Screens, rng: random.Random) -> Question:
    """Describe the buttons in the order in which they are pressed; the words of each are in random order."""
    phrases = []
    for step, number in enumerate(screens.pressed):
        track = screens.buttons[number]
        words = [track.thing.form, track.thing.color, NUMBERS[step], name_cell(track.places[step] or AWAY)]
        phrases.append(" ".join(rng.sample(words, len(words))))
    return Question("caption", "screens", "describe the picture", ", ".join(phrases))


_MAKERS: dict[str, Callable[[Screens, random.Random], Question | None]] = {
    "press": _make_press,
    "click": _make_click,
    "field": _make_field,
}
SCREEN_TASKS = tuple(_MAKERS)
