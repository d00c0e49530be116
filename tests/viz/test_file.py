"""The file of an overlay."""

import pytest
from PIL import Image

from foveate.errors import InputError
from foveate.viz import check_overlay, save


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


def test_a_folder_that_is_read_only(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)  # even of a file that is not there
    monkeypatch.setattr(Image.Image, "save", refuse)
    with pytest.raises(InputError, match="Read-only file system"):
        save(Image.new("RGB", (8, 8)), tmp_path / "o.png")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match="Nothing can be written to"):
        check_overlay(tmp_path / "o.png")


def test_overlay_paths_that_cannot_be(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name, text in (
        ("o.txt", "no image suffix"),
        ("o", "no image suffix"),
        ("none/o.png", "no folder"),
        ("folder.png", "is a f"),
    ):
        with pytest.raises(InputError, match=text):
            check_overlay(tmp_path / name)
