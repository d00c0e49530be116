"""What a command's arguments stand for."""

from io import BytesIO
from types import SimpleNamespace

import pytest
from PIL import Image

from foveate.errors import ImageError, InputError
from foveate.runtime import arguments
from foveate.runtime.arguments import IMAGES, list_images, open_clip, open_images, open_seen, open_single_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    first, second = Image.new("RGB", (9, 6), "red"), Image.new("RGB", (8, 5), "blue")
    first.save(folder / "a.png")
    first.save(folder / "two.tif", save_all=True, append_images=[second])
    return folder


def sizes(images):
    return [image.size for image in images]


def test_pages_by_number(folder):
    assert sizes(open_images(f"{folder}/two.tif#page=2")) == [(8, 5)]
    assert sizes(open_images(f"{folder}/two.tif#page=1-2")) == [(9, 6), (8, 5)]
    assert sizes(open_seen([f"{folder}/two.tif#page=2", f"{folder}/a.png"], [], 1)) == [(8, 5), (9, 6)]


def test_a_file_of_that_name_goes_before_pages(folder, tmp_path):
    path = tmp_path / "two.tif#page=2"
    Image.new("RGB", (4, 4)).save(path, "PNG")
    assert sizes(open_images(str(path))) == [(4, 4)]


def test_pages_of_standard_input(folder, monkeypatch):
    data = (folder / "two.tif").read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=BytesIO(data)))
    assert sizes(open_images("-#page=2")) == [(8, 5)]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=BytesIO(data)))
    with pytest.raises(InputError, match="The image on standard input has 2 pages"):
        open_images("-")


def test_an_only_image(folder):
    assert open_single_image("--image", f"{folder}/two.tif#page=2").size == (8, 5)
    with pytest.raises(InputError, match=r"--image .*two.tif#page=1-2 names 2 pages: name one"):
        open_single_image("--image", f"{folder}/two.tif#page=1-2")


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("https://example.com/a.png", InputError, "is an address: add --fetch to fetch it, or download the file"),
        ("HTTPS://example.com/a.pdf#page=2", InputError, "is an address: add --fetch"),
        ("http://example.com/a.png", InputError, "only https addresses are fetched"),
        ("ftp://example.com/a.png", InputError, "only https addresses are fetched"),
        ("clip.mp4", InputError, "clip.mp4 is a video: ask about it with --video clip.mp4"),
        ("none.png", ImageError, "There is no image none.png: check the path"),
    ],
)
def test_what_is_not_opened(name, error, text, monkeypatch):
    with pytest.raises(error, match=text):
        open_images(name)


def test_addresses_are_fetched_where_it_is_allowed(folder, monkeypatch):
    fetched = []
    monkeypatch.setattr(arguments, "fetch_file", lambda url: fetched.append(url) or (folder / "two.tif").read_bytes())
    assert sizes(open_images("https://example.com/two.tif#page=2", fetch=True)) == [(8, 5)]
    assert fetched == ["https://example.com/two.tif"]
    with pytest.raises(InputError, match="add --fetch"):
        open_clip("https://example.com/clip.mp4", 4)


def test_a_folder_by_name(tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("b.PNG", "a.jpg", "10.png", "9.png", "scan.pdf", "notes.txt", ".hidden.png", "more/c.png", "clip.mp4"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["10.png", "9.png", "a.jpg", "b.PNG", "scan.pdf"]
    with pytest.raises(InputError, match="There is no image in the folder"):
        list_images(tmp_path / "folder.png")


def test_endings_are_of_formats_that_can_be_read():
    Image.init()
    known = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert IMAGES - {".pdf"} <= known
