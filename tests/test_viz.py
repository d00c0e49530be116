import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from foveate.errors import InputError
from foveate.viz import EDGE, check_overlay, draw, save, seen_part


def test_kept_cells_are_bright_and_the_rest_dark():
    out = np.asarray(draw(Image.new("RGB", (64, 32), (200, 40, 40)), torch.tensor([0, 7]), (1, 2, 4))).astype(int)
    assert out.shape == (256, 512, 3)
    middles = out[64::128, 64::128]  # of the 2 x 4 cells of 128 pixels
    assert (middles[0, 0] == (200, 40, 40)).all()
    assert (middles[1, 3] == (200, 40, 40)).all()
    dropped = middles.reshape(8, 3)[1:7]
    assert (dropped.max(-1) < 90).all()
    assert (np.ptp(dropped, axis=-1) < 40).all()  # desaturated
    assert (out[0, :128] == EDGE).all()
    assert (out[0, 128:] != EDGE).any(-1).all()


def test_cells_fill_a_picture_that_they_do_not_divide():
    image = Image.new("RGB", (601, 401), "white")
    out = np.asarray(draw(image, range(7 * 11), (1, 7, 11)))
    assert out.shape == (401, 601, 3)  # large enough already
    dark = (out < 200).all(-1)  # only the thin inner frames
    assert dark.mean() < 0.15


def test_every_index_has_its_own_cell():
    image = Image.new("RGB", (30, 20), "white")
    for index in range(6):
        out = np.asarray(draw(image, [index], (1, 2, 3)).convert("L")).astype(float)
        blocks = np.array([[np.median(b) for b in np.array_split(row, 3, 1)] for row in np.array_split(out, 2, 0)])
        assert blocks.argmax() == index


def test_tiny_cells_and_nothing_kept():
    image = Image.effect_noise((512, 40), 50).convert("RGB")
    assert draw(image, range(50 * 600), (1, 50, 600)).size == (512, 40)
    assert draw(image, [], (1, 4, 4)).size == (512, 40)
    assert draw(Image.new("RGB", (2000, 1)), [0], (1, 1, 4)).size == (2000, 1)


def test_the_picture_is_not_changed():
    image = Image.new("RGB", (600, 600), "white")
    draw(image, [0], (1, 2, 2))
    assert image.getcolors() == [(360000, (255, 255, 255))]


@pytest.mark.parametrize(
    ("kept", "grid", "text"),
    [([0], None, "no raster"), ([0], (2, 2, 2), "frames"), ([4], (1, 2, 2), "outside"), ([-1], (1, 2, 2), "outside")],
)
def test_what_cannot_be_drawn(kept, grid, text):
    with pytest.raises(InputError, match=text):
        draw(Image.new("RGB", (8, 8)), kept, grid)


@pytest.mark.parametrize("size", [(90, 30), (30, 90), (50, 50), (61, 40)])
@pytest.mark.parametrize("crop", [32, 24, 40])
def test_seen_part_is_what_clip_sees(size, crop):
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": crop, "width": crop}, do_normalize=False
    )
    ramp = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), -1) * 2
    image = Image.fromarray(np.concatenate([ramp, 0 * ramp[..., :1] + 99], -1).astype(np.uint8))
    model_sees = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0) * 255
    part = seen_part(image, processor)
    shown = np.asarray(part.resize((crop, crop), Image.Resampling.BICUBIC)).astype(float)
    inner = slice(6, -6)
    assert np.abs(shown - model_sees)[inner, inner].max() < 6


def test_seen_part_of_squashed_and_padded_pictures():
    image = Image.new("RGB", (40, 20), "white")
    squashed = CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
    assert seen_part(image, squashed) is image
    assert seen_part(image, object()) is image

    class Pads:
        do_pad = True

    padded = seen_part(image, Pads())
    assert padded.size == (40, 40)
    assert padded.getpixel((20, 5)) == (0, 0, 0)
    assert padded.getpixel((20, 20)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", ["png", "PNG", "jpg", "jpeg", "webp"])
def test_save(tmp_path, suffix):
    path = tmp_path / f"o.{suffix}"
    path.write_text("old")
    save(Image.new("RGB", (8, 8), "red"), path)
    with Image.open(path) as drawn:
        assert drawn.size == (8, 8)
    assert list(tmp_path.iterdir()) == [path]


def test_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "o.png"
    path.write_text("old")

    def full(self, target, format):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match="No space left"):
        save(Image.new("RGB", (8, 8)), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_overlay_paths_that_cannot_be(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name, text in (
        ("o.txt", "no picture"),
        ("o", "no picture"),
        ("none/o.png", "no folder"),
        ("folder.png", "is a f"),
    ):
        with pytest.raises(InputError, match=text):
            check_overlay(tmp_path / name)
