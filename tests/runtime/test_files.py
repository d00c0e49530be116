import warnings

import numpy as np
import pytest
from PIL import Image

from foveate.errors import ImageError
from foveate.runtime.files import decode_image, open_image, to_rgb, to_upright_rgb

RED, WHITE = (255, 0, 0), (255, 255, 255)


def saved(tmp_path, image, name="p.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_rgb_is_read_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    read = open_image(str(saved(tmp_path, Image.fromarray(pixels))))
    assert read.mode == "RGB"
    assert (np.asarray(read) == pixels).all()


def test_bytes_are_read_as_their_file(tmp_path):
    path = saved(tmp_path, Image.new("RGBA", (3, 2), (255, 0, 0, 128)))
    assert decode_image(path.read_bytes()) == open_image(path)
    for data in (b"", b"text", path.read_bytes()[:40]):
        with pytest.raises(ImageError, match="The image's data is"):
            decode_image(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(tmp_path, orientation):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0] = RED
    # How a camera that notes this orientation stores the upright image.
    turns = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2),
        6: np.rot90, 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    read = open_image(saved(tmp_path, image, exif=exif))
    assert (np.asarray(read) == upright).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_turns_white(tmp_path, mode):
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((1, 1), (0, 0, 0, 255))
    read = open_image(saved(tmp_path, clear.convert(mode)))
    assert read.getpixel((0, 0)) == WHITE
    assert read.getpixel((1, 1)) == (0, 0, 0)


def test_half_transparency_is_blended(tmp_path):
    read = open_image(saved(tmp_path, Image.new("RGBA", (2, 2), (255, 0, 0, 128))))
    assert read.getpixel((0, 0)) == pytest.approx((255, 127, 127), abs=1)


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    assert open_image(saved(tmp_path, image)).getpixel((1, 0)) == (0, 255, 0)
    assert open_image(saved(tmp_path, image, "t.png", transparency=1)).getpixel((1, 0)) == WHITE
    # One alpha value a colour: Pillow warns of these when they are converted carelessly.
    assert open_image(saved(tmp_path, image, "b.png", transparency=b"\xff\x00")).getpixel((1, 0)) == WHITE


def test_deep_greys_keep_their_tones(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None]
    for name in ("p.png", "p.tif"):
        read = np.asarray(open_image(saved(tmp_path, Image.fromarray(ramp), name)))[0, :, 0]
        assert np.abs(read.astype(int) - np.arange(256)).max() <= 1
    values = np.array([[-3.0, 1.0, 5.0]], np.float32)
    read = open_image(saved(tmp_path, Image.fromarray(values), "f.tif"))
    assert np.asarray(read)[0, :, 0].tolist() == [0, 128, 255]
    read = open_image(saved(tmp_path, Image.fromarray(np.full((2, 2), 7, np.int32)), "i.tif"))
    assert read.getpixel((0, 0)) == (0, 0, 0)
    with pytest.raises(ImageError, match="NaN"):
        open_image(saved(tmp_path, Image.fromarray(np.array([[np.nan]], np.float32)), "n.tif"))


def test_other_modes(tmp_path):
    assert open_image(saved(tmp_path, Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "c.jpg")).getpixel((0, 0)) == WHITE
    assert open_image(saved(tmp_path, Image.new("1", (2, 2), 1))).getpixel((0, 0)) == WHITE
    assert open_image(saved(tmp_path, Image.new("L", (2, 2), 9))).getpixel((0, 0)) == (9, 9, 9)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (3, 3), color) for color in ("red", "blue")]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert open_image(path).getpixel((0, 0)) == RED


def test_files_that_are_no_images(tmp_path):
    with pytest.raises(ImageError, match="There is no image"):
        open_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read"):
        open_image(tmp_path)
    for name, content in (("empty.png", b""), ("text.jpg", b"no image at all")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match="no image that Pillow can read"):
            open_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp"])
def test_cut_short(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), f"p.{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="p\\."):
        open_image(path)


@pytest.mark.parametrize("pixels", [150, 60])  # Pillow warns at the limit, and raises at twice that
def test_decompression_bomb(tmp_path, monkeypatch, pixels):
    path = saved(tmp_path, Image.new("RGB", (10, 20)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the caller's own filters must not let one through
        with pytest.raises(ImageError, match="scale it down"):
            open_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    assert open_image(path).size == (10, 20)


def make_odd_images():
    """Images in memory of every mode that a data set may hold, all with the same upright pixels in the file's rules."""
    clear = Image.new("RGBA", (4, 6), (0, 0, 0, 0))
    clear.putpixel((1, 1), (255, 0, 0, 255))
    keyed = Image.new("RGB", (4, 6), (9, 9, 9))
    keyed.info["transparency"] = (9, 9, 9)
    grey = Image.new("LA", (4, 6), (0, 0))
    palette = Image.new("P", (4, 6), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.info["transparency"] = 0
    deep = Image.fromarray(np.full((6, 4), 65535, np.uint16))
    return {
        "RGBA": clear, "RGBa": clear.convert("RGBa"), "keyed": keyed, "LA": grey, "La": grey.convert("La"),
        "palette": palette, "deep": deep, "1": Image.new("1", (4, 6), 1), "CMYK": Image.new("CMYK", (4, 6)),
    }  # fmt: skip


@pytest.mark.parametrize("name", make_odd_images())
def test_images_in_memory_follow_the_rules_of_files(name, tmp_path):
    image = make_odd_images()[name]
    read = to_upright_rgb(image)
    assert read.mode == "RGB"
    assert read.getpixel((0, 0)) == WHITE
    assert to_rgb(image) == read
    if name not in ("RGBa", "La", "CMYK"):  # what PNG can store
        options = {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
        assert open_image(saved(tmp_path, image, **options)) == read
    assert to_upright_rgb(read) == read


def test_an_image_in_memory_is_rotated_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (4, 6), RED)
    image.info["exif"] = exif.tobytes()
    image.getexif()[0x0112] = 6
    upright = to_upright_rgb(image)
    assert upright.size == (6, 4)
    assert to_upright_rgb(upright).size == (6, 4)
    assert to_rgb(image).size == (4, 6)
