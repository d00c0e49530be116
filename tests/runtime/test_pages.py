"""Pages of PDF and TIFF files: each is the image that was saved, by its number, and none is read by default."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from foveate.errors import ImageError, InputError
from foveate.runtime import pages
from foveate.runtime.pages import DPI, LONGEST, POINTS, parse_pages, read_pages

COLOURS = ["red", "lime", "blue"]


@pytest.fixture(scope="module", params=["pdf", "tif"])
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / f"scan.{request.param}"
    first, *others = (Image.new("RGB", (90, 60), colour) for colour in COLOURS)
    first.save(path, save_all=True, append_images=others)
    return path


def colour_of(image):
    middle = np.asarray(image)[image.height // 2, image.width // 2]
    return COLOURS[int(middle.argmax())]


def test_ranges():
    assert parse_pages("1, 3-5,2", "a.pdf") == [(1, 1), (3, 5), (2, 2)]


@pytest.mark.parametrize("text", ["", "0", "0-2", "3-1", "-1", "1-", "x", "1,,2", "1.5", "²", "9" * 12])
def test_what_is_no_range(text):
    with pytest.raises(InputError, match=r"names no pages: they count from 1, as in a\.pdf#page=1,3-5"):
        parse_pages(text, "a.pdf")


def test_pages_come_in_the_order_of_their_numbers(path):
    for numbers in ([(1, 1)], [(2, 3)], [(3, 3), (1, 2)], [(2, 2), (2, 2)]):
        expected = [COLOURS[number - 1] for first, last in numbers for number in range(first, last + 1)]
        for source in (path, BytesIO(path.read_bytes())):
            read = read_pages(source, path.name, numbers)
            assert [colour_of(image) for image in read] == expected
            assert {image.mode for image in read} == {"RGB"}


def test_none_of_several_is_the_default(path):
    with pytest.raises(InputError) as refusal:
        read_pages(path, path.name)
    name = path.name
    assert str(refusal.value) == f"{name} has 3 pages: name one, as in {name}#page=1, or all, as #page=1-3."
    for pages_ in ([(4, 4)], [(1, 1), (2, 900_000_000)]):
        with pytest.raises(InputError, match=rf"{name} has 3 pages, and no page {pages_[-1][1]}: name one that it has"):
            read_pages(path, name, pages_)


@pytest.mark.parametrize("suffix", ["pdf", "tif", "png", "gif"])
def test_an_only_page_needs_no_number(tmp_path, suffix):
    path = tmp_path / f"one.{suffix}"
    Image.new("RGB", (90, 60), "lime").save(path)
    for numbers in (None, [(1, 1)]):
        (image,) = read_pages(path, path.name, numbers)
        assert colour_of(image) == "lime"
    with pytest.raises(InputError, match=r"has one page, and no page 2"):
        read_pages(path, path.name, [(2, 2)])


def test_an_animation_is_its_first_frame(tmp_path):
    first, *others = (Image.new("RGB", (90, 60), colour) for colour in COLOURS)
    first.save(tmp_path / "a.gif", save_all=True, append_images=others)
    (image,) = read_pages(tmp_path / "a.gif", "a.gif")
    assert colour_of(image) == "red"


@pytest.mark.parametrize(("width", "height"), [(144, 72), (72, 36000)])
def test_the_size_of_a_drawn_page(tmp_path, width, height):
    """Pillow writes a pixel as a point."""
    Image.new("L", (width, height)).save(tmp_path / "a.pdf")
    (image,) = read_pages(tmp_path / "a.pdf", "a.pdf")
    scale = min(DPI / POINTS, LONGEST / max(width, height))
    assert image.size == pytest.approx((scale * width, scale * height), abs=1)
    assert max(image.size) <= LONGEST


def test_a_pdf_is_known_by_its_bytes(tmp_path):
    Image.new("RGB", (90, 60), "blue").save(tmp_path / "a.pdf")
    (tmp_path / "a").write_bytes(b"\n" * 100 + (tmp_path / "a.pdf").read_bytes())
    (image,) = read_pages(tmp_path / "a", "a")
    assert colour_of(image) == "blue"


def test_files_that_cannot_be_read(tmp_path):
    Image.new("RGB", (90, 60)).save(tmp_path / "a.pdf")
    whole = (tmp_path / "a.pdf").read_bytes()
    for name, data, text in (
        ("text.pdf", b"text", "text.pdf is no PDF that can be read: save or download it again"),
        ("empty.pdf", b"", "empty.pdf is no PDF that can be read"),
        ("short.pdf", whole[:60], "short.pdf is no PDF that can be read"),
        ("text.tif", b"text", "text.tif is no image that Pillow can read"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=text):
            read_pages(tmp_path / name, name)
    with pytest.raises(ImageError, match=r"There is no image none\.pdf: check the path"):
        read_pages(tmp_path / "none.pdf", "none.pdf")


def test_a_pdf_with_a_password(tmp_path):
    """One whose keys fit no empty password."""
    Image.new("RGB", (90, 60)).save(tmp_path / "a.pdf")
    keys = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >> /ID [<00> <00>]" % (b"0" * 64, b"0" * 64)
    data = (tmp_path / "a.pdf").read_bytes().replace(b"trailer\n<<", b"trailer\n<< " + keys)
    with pytest.raises(ImageError, match=r"a\.pdf needs a password: save it without one"):
        read_pages(BytesIO(data), "a.pdf")


def test_a_page_with_too_many_pixels(tmp_path, monkeypatch):
    small, large = Image.new("L", (10, 10)), Image.new("L", (100, 100))
    small.save(tmp_path / "a.tif", save_all=True, append_images=[large])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert read_pages(tmp_path / "a.tif", "a.tif", [(1, 1)])[0].size == (10, 10)
    with pytest.raises(ImageError, match="more than 500 pixels"):
        read_pages(tmp_path / "a.tif", "a.tif", [(2, 2)])


def test_the_extra_is_named(tmp_path, monkeypatch):
    def fail(name):
        raise ImportError(name)

    Image.new("L", (10, 10)).save(tmp_path / "a.pdf")
    monkeypatch.setattr(pages, "import_late", fail)
    with pytest.raises(InputError, match=r"pip install 'foveate\[pdf\]'"):
        read_pages(tmp_path / "a.pdf", "a.pdf")
