"""The overlays that tests/test_viz.py compares with: `python tests/golden/write.py` writes them anew, then look."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw

from foveate import Report, draw
from foveate.models.visual_input import View, frames, squares

FOLDER = Path(__file__).parent


def report(kept, views, *, total=None, relevance=(), core=(), grids=None, modality="image", **more):
    """A report on items of so many tokens, as `prune_inputs` would make it."""
    total = total or [max(view.tokens()[-1] for view in own) + 1 if own else 1 for own in views]
    return Report(
        tuple(torch.tensor(k, dtype=torch.long) for k in kept), tuple(total),
        grids or (None,) * len(kept), "foveate", 0.0, (), (modality,) * len(kept), (0,) * len(kept),
        relevance=tuple(None if r is None else torch.tensor(r, dtype=torch.float32) for r in relevance),
        core=tuple(torch.tensor(c, dtype=torch.bool) for c in core), views=tuple(views), **more,
    )  # fmt: skip


def scene(width=240, height=160, shift=0):
    """A picture of flat colours, dark, light and bright."""
    image = Image.new("RGB", (width, height), (225, 225, 215))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, height // 2, width, height), fill=(70, 110, 60))
    pen.ellipse((30 + shift, 30, 110 + shift, 110), fill=(200, 40, 40))
    pen.rectangle((150, 60, 210, 130), fill=(30, 40, 120))
    return image


def cases(change=0):
    """Name -> picture and report; with `change` one token is kept less (1), or for another reason (2)."""
    less, other = change == 1, change == 2
    ramp = [[i / 23 for i in range(24)]]
    why = {"relevance": ramp, "core": [[True, other, False, True, False, False][less:]]}
    explained = report([[20, 21, 3, 5, 14, 10][less:]], [frames((1, 4, 6))], **why)
    tiles, parts = squares(7, 2), [[i / 3 for i in range(4)]] * 7
    marks = [[True], [], [True, False], [], [False], [True], [True, other]]
    apart = report(
        [[0], [], [1, 2], [], [3], [0], [1, 3]], [squares(1, 2)] * 7, relevance=parts, core=marks, tiles_apart=True,
        overview="last",
    )  # fmt: skip
    if less:
        apart.kept[6].resize_(1)
        apart.core[6].resize_(1)
    return {
        "explained": (scene(), explained),
        "plain": (scene(), report([[0, 8, 13, 22][less + other :]], [frames((1, 4, 6))])),
        "tiles": (scene(), apart),
        "rows": (
            scene(),
            report(
                [[1, 5, 9, 11][less + other :]], [(View(0, 2, 2, 2), View(4, 2, 3, 4))], total=[12], overview="first"
            ),
        ),
        "clip": (
            [scene(shift=9 * i) for i in range(10)],
            report([[0, 5, 10, 15, 19][less + other :]], [frames((5, 2, 2))], modality="video"),
        ),
        "joined": (scene(), report([[0, 6, 25][less + other :]], [tiles], overview="last")),
    }


def drawn(change=0):
    """Name -> overlay, without a legend: fonts differ."""
    return {name: draw(image, report, legend=False) for name, (image, report) in cases(change).items()}


if __name__ == "__main__":
    for name, overlay in drawn().items():
        overlay.quantize(256, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)
        print(FOLDER / f"{name}.png")
