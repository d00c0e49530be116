"""Drawn clips: coloured shapes that move, come and blink, and a sign that changes. A seed determines everything.

A clip has `MOMENTS` moments of two frames: Qwen2.5-VL joins two frames into one layer of visual tokens. What comes does
so between the two frames of a moment, and so does a sign's new text: the first frame has neither the old nor the new.
"""

import random
from dataclasses import dataclass, replace

from PIL import Image

from foveate.world.drawing import draw_scene
from foveate.world.scenes import COLORS, SHAPES, SIGN, Scene, Thing, make_text

MOMENTS = 6
SIDE = 96  # pixels of a frame's sides
SLOTS = 3  # a frame has SLOTS x SLOTS cells
PIXELS = 192  # sides of the image that has objects and text of the same size in pixels
SCALE = PIXELS / SIDE
DRIFT = 0.2  # of the way between two moments that an object goes between the two frames of one
AWAY = (-1.0, -1.0)  # where an object is drawn that is not there: outside of the frame
WAYS = ("right", "left", "falls", "rises")
STANDS = "stands"


@dataclass(frozen=True)
class Track:
    """One object through a clip.

    Args:
        thing: Its form, colour and size.
        way: Where it moves, one of `WAYS`; "stands" for an object that does not move.
        places: Its centre at every moment, as shares of the frame's sides; None while it is not there.
        texts: Its text at every moment.
    """

    thing: Thing
    way: str
    places: tuple[tuple[float, float] | None, ...]
    texts: tuple[str, ...] = ("",) * MOMENTS

    @property
    def start(self) -> int:
        """The first moment at which it is there."""
        return next(i for i, place in enumerate(self.places) if place is not None)

    @property
    def arrivals(self) -> tuple[int, ...]:
        """The moments at which it comes. What is there from the beginning comes later, or never."""
        there = [place is not None for place in self.places]
        return tuple(i for i in range(1, len(there)) if there[i] and not there[i - 1])

    @property
    def times(self) -> int:
        """How often it is there: the number of spans without a gap."""
        return len(self.arrivals) + (self.places[0] is not None)

    @property
    def change(self) -> int:
        """The first moment with another text; 0 if its text stays."""
        return next((i for i, text in enumerate(self.texts) if text != self.texts[0]), 0)

    def cell(self, moment: int) -> str:
        """The cell of its centre: letter of the column, number of the row, such as "b3"."""
        return name_cell(self.places[moment] or AWAY)


@dataclass(frozen=True)
class Clip:
    """The content of one clip; `texture` is the seed of the background. No two objects share a colour or a form."""

    tracks: tuple[Track, ...]
    texture: int

    @property
    def sign(self) -> Track | None:
        """The sign, where there is one."""
        return next((track for track in self.tracks if track.thing.form == SIGN), None)


def name_cell(place: tuple[float, float]) -> str:
    """The cell of a place in a grid of SLOTS x SLOTS, such as "b3"."""
    return f"{'abc'[int(SLOTS * place[0])]}{int(SLOTS * place[1]) + 1}"


def sample_clip(seed: int, index: int) -> Clip:
    """Sample clip number `index` of the stream `seed`. Two streams share no random numbers."""
    rng = random.Random(f"foveate clip {seed} {index}")
    has_sign = rng.random() < 0.65
    rows = [0, 1, 2]
    colors, forms = rng.sample(list(COLORS), 6), rng.sample(list(SHAPES), 5)
    tracks = []
    if has_sign:
        rows.remove(row := rng.choice((0, 2)))
        tracks.append(_make_sign(rng, colors.pop(), row))
    lanes = [[(column, row) for column in range(SLOTS)] for row in rows]
    across = rng.random() < 0.5
    lanes = lanes if across else [list(lane) for lane in zip(*lanes, strict=True)]
    rng.shuffle(lanes)
    movers = rng.choice((0, 1, 1, 1, 2)) if len(lanes) > 2 else rng.choice((0, 1, 1))
    for lane in lanes[:movers]:
        tracks.append(_make_mover(rng, _make_shape(rng, forms.pop(), colors.pop()), lane, across))
    free = [cell for lane in lanes[movers:] for cell in lane]
    cells = rng.sample(free, min(len(free), rng.choice((4, 4, 5)) - movers))
    starts = rng.sample(range(1, MOMENTS), len(cells))
    for cell, start in zip(cells, starts, strict=True):
        tracks.append(_make_stander(rng, _make_shape(rng, forms.pop(), colors.pop()), cell, start))
    return Clip(tuple(rng.sample(tracks, len(tracks))), rng.randrange(2**31))


def draw_frames(clip: Clip) -> list[Image.Image]:
    """Draw the frames of a clip, two a moment, as RGB images."""
    return [_draw_frame(clip, moment, part * DRIFT) for moment in range(MOMENTS) for part in range(2)]


def _draw_frame(clip: Clip, moment: int, share: float) -> Image.Image:
    things = []
    for track in clip.tracks:
        here = track.places[moment]
        there = track.places[min(moment + 1, MOMENTS - 1)] or here
        new = moment in track.arrivals or moment == track.change > 0
        x, y = AWAY
        if here is not None and there is not None and not (new and share == 0):
            x, y = (a + share * (b - a) for a, b in zip(here, there, strict=True))
        things.append(replace(track.thing, x=x, y=y, text=track.texts[moment]))
    return draw_scene(Scene("scene", tuple(things), clip.texture, (SIDE, SIDE)))


def _make_shape(rng: random.Random, form: str, color: str) -> Thing:
    radius = SCALE * rng.uniform(0.064, 0.075)
    return Thing(form, color, *AWAY, radius, radius, scale=SCALE)


def shake(rng: random.Random, cell: tuple[int, int]) -> tuple[float, float]:
    """A place near the middle of a cell (column, row)."""
    x, y = ((part + 0.5) / SLOTS + rng.uniform(-0.015, 0.015) for part in cell)
    return x, y


def make_sign(rng: random.Random, color: str, row: int) -> tuple[Thing, tuple[float, float]]:
    """Make a sign for three glyphs that takes a row, and its place."""
    thing = Thing(SIGN, color, *AWAY, SCALE * 0.115, SCALE * 0.068, scale=SCALE)
    return thing, (0.5 + rng.uniform(-0.24, 0.24), (row + 0.5) / SLOTS)


def _make_sign(rng: random.Random, color: str, row: int) -> Track:
    thing, place = make_sign(rng, color, row)
    first, change = make_text(rng), rng.randrange(1, MOMENTS)
    second = make_text(rng)
    while second == first:
        second = make_text(rng)
    texts = (first,) * change + (second,) * (MOMENTS - change)
    return Track(thing, STANDS, (place,) * MOMENTS, texts)


def _make_mover(rng: random.Random, thing: Thing, lane: list[tuple[int, int]], across: bool) -> Track:
    """Make an object that goes from one end of its lane to the other."""
    backwards = rng.random() < 0.5
    (x0, y0), (x1, y1) = shake(rng, lane[-1 if backwards else 0]), shake(rng, lane[0 if backwards else -1])
    parts = [i / (MOMENTS - 1) for i in range(MOMENTS)]
    places = tuple((x0 + part * (x1 - x0), y0 + part * (y1 - y0)) for part in parts)
    return Track(thing, WAYS[2 * (not across) + backwards], places)


def _make_stander(rng: random.Random, thing: Thing, cell: tuple[int, int], start: int) -> Track:
    """Make an object that is always there, comes at `start`, or blinks."""
    place, kind = shake(rng, cell), rng.choice(("still", "comes", "comes", "comes", "blinks", "blinks"))
    there = [True] * MOMENTS
    if kind == "comes":
        there = [i >= start for i in range(MOMENTS)]
    elif kind == "blinks":
        there = _sample_spans(rng, start)
    return Track(thing, STANDS, tuple(place if now else None for now in there))


def _sample_spans(rng: random.Random, start: int) -> list[bool]:
    """Sample at which moments a blinking object is there: two or three spans; half of the objects are there at once."""
    count = rng.choice((2, 3))
    while True:
        there = [rng.random() < 0.5 for _ in range(MOMENTS)]
        spans = sum(now and not before for now, before in zip(there, [False, *there], strict=False))
        if spans == count and there[0] == (start % 2 == 0):
            return there
