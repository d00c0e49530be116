"""The overlays that tests/viz/test_draw.py compares with: `python tests/viz/golden/write.py` writes them anew."""

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from foveate import Report, draw
from foveate.models.visual_input import Tile, VisualInput, tile_frames, tile_squares

FOLDER = Path(__file__).parent


def make_item(kept, tiles, *, total=None, relevance=None, core=None, grid=None, modality="image"):
    """An image, video or audio of a report, as `prune_inputs` makes it."""
    total = total or (max(tile.tokens()[-1] for tile in tiles) + 1 if tiles else 1)
    return VisualInput(
        modality,
        row=0,
        columns=torch.arange(total),
        first=0,
        total=total,
        embeds=torch.zeros(0, 1),
        kept=torch.tensor(kept, dtype=torch.long),
        grid=grid,
        tiles=tuple(tiles),
        relevance=None if relevance is None else torch.tensor(relevance, dtype=torch.float32),
        core=None if core is None else torch.tensor(core, dtype=torch.bool),
    )


def make_report(*items):
    """A report on these."""
    return Report(items, "foveate", 0.0)


def mark_overview(tiles, number):
    """The tiles, of which the one with this number shows the whole image."""
    number %= len(tiles)
    return tuple(replace(tile, overview=n == number) for n, tile in enumerate(tiles))


def make_scene(width=240, height=160, shift=0):
    """An image of flat colours, dark, light and bright."""
    image = Image.new("RGB", (width, height), (225, 225, 215))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, height // 2, width, height), fill=(70, 110, 60))
    pen.ellipse((30 + shift, 30, 110 + shift, 110), fill=(200, 40, 40))
    pen.rectangle((150, 60, 210, 130), fill=(30, 40, 120))
    return image


def make_cases(change=0):
    """Name -> image and item; with `change` one token less is kept (1), or one for another reason (2)."""
    less, other = change == 1, change == 2
    scene, grid = make_scene(), tile_frames((1, 4, 6))
    tiles = mark_overview(tile_squares(7, 2), -1)
    rows = (Tile(0, 2, 2, 2, overview=True), Tile(4, 2, 3, 4))
    why = {"relevance": [i / 23 for i in range(24)], "core": [True, other, False, True, False, False][less:]}
    marks = [True, True, False, False, True, True, other][: 7 - less]
    of_tiles = {"relevance": [i / 3 for i in range(4)] * 7, "core": marks}
    absent = torch.tensor([False] * 4 + [True] * 4).repeat(4)[:28]  # every second tile
    part = {"relevance": [i / 3 for i in range(4)] * 7, "core": [True, False, True, other, True][: 5 - less]}
    frames = [make_scene(shift=9 * i) for i in range(10)]
    return {
        "explained": (scene, make_item([20, 21, 3, 5, 14, 10][less:], grid, **why)),
        "plain": (scene, make_item([0, 8, 13, 22][less + other :], grid)),
        "tiles": (scene, make_item([0, 9, 10, 19, 20, 25, 27][: 7 - less], tiles, **of_tiles)),
        "rows": (scene, make_item([1, 5, 9, 11][less + other :], rows, total=12)),
        "clip": (frames, make_item([0, 5, 10, 15, 19][less + other :], tile_frames((5, 2, 2)), modality="video")),
        "part": (scene, replace(make_item([0, 9, 10, 25, 27][: 5 - less], tiles, **part), absent=absent)),
        "joined": (scene, make_item([0, 6, 25][less + other :], tiles)),
    }


def draw_cases(change=0):
    """Name -> overlay, without a legend: fonts differ."""
    return {
        name: draw(image, make_report(item), legend=False, original=False)
        for name, (image, item) in make_cases(change).items()
    }


if __name__ == "__main__":
    for name, overlay in draw_cases().items():
        overlay.quantize(256, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)
        print(FOLDER / f"{name}.png")
