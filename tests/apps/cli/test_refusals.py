import pytest
from PIL import Image

from foveate import viz
from foveate.apps import cli
from foveate.apps.ask import ask
from foveate.errors import InputError, ModelError
from foveate.runtime.load import load, quiet
from tiny import tiny_folder


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--keep", "abc"], "'abc' is no number"),
        (["--keep", "0"], "keeps no token"),
        (["--keep", "-3"], "keeps no token"),
        (["--keep", "1.5"], "is not a share"),
        (["--keep", "nan"], "is not a share"),
        (["--method", "zspaprun"], "Did you mean 'zspaprune'"),
        (["--positions", "new"], "--positions"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
        (["--max-new-tokens", "many"], "--max-new-tokens"),
        (["--overlay", "kept.txt"], "has no image suffix"),
        (["--overlay", "/no/such/folder/kept.png"], "There is no folder"),
        (["--colour", "red"], "No such option"),
        (["--model", "/no/such/model"], "There is no folder"),
        (["surplus"], "There is no image why?"),
    ],
)
def test_bad_options(refuse, scene, monkeypatch, options, text):
    if "--model" not in options:
        monkeypatch.setattr(
            "foveate.runtime.load.load", lambda name: pytest.fail("a model was loaded before the check")
        )
    assert text in refuse("ask", scene, "why?", *options)


def test_bad_images(refuse, tmp_path, monkeypatch):
    monkeypatch.setattr("foveate.runtime.load.load", lambda name: pytest.fail("a model was loaded before the check"))
    assert "There is no image" in refuse("ask", tmp_path / "none.png", "why?")
    (tmp_path / "text.png").write_text("text")
    assert "no image that Pillow can read" in refuse("ask", tmp_path / "text.png", "why?")


def test_missing_arguments_and_unknown_commands(refuse):
    assert "Missing argument 'QUESTION'" in refuse("ask")
    assert "No such command 'look'" in refuse("look")


def test_placeholders_in_the_question(refuse, folder, scene):
    assert "stands for an image" in refuse("ask", scene, "what is <image>?", "--model", folder)


def test_no_chat_template(folder, scene):
    with quiet():
        loaded = load(folder)
    for template in (None, "{{ nothing.there }}", "{% endif %}"):
        loaded.processor.chat_template = template
        with Image.open(scene) as image, pytest.raises(ModelError, match="no chat template"):
            ask(loaded, image, "why?", keep=0.5)


def test_an_image_that_the_processor_refuses(scene, tmp_path):
    with quiet():
        loaded = load(str(tiny_folder("qwen2_5_vl", tmp_path)))
        with pytest.raises(InputError, match="aspect ratio"):
            ask(loaded, Image.new("RGB", (2000, 2)), "why?", keep=0.5)


def test_no_overlay_without_a_raster(run, folder, scene, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise InputError("This model's tokens have no raster.")

    monkeypatch.setattr(viz, "draw", fail)
    overlay = tmp_path / "o.png"
    code, out, err = run("ask", scene, "why?", "--model", folder, "--overlay", overlay, "--max-new-tokens", 1)
    assert (code, err) == (2, "foveate: This model's tokens have no raster.\n")
    assert "KV cache" in out  # the answer is not lost with the overlay
    assert not overlay.exists()


def test_interrupts_and_unexpected_errors(run, scene, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("foveate.runtime.arguments.read_pages", interrupt)
    assert run("ask", scene, "why?")[0] == 130
    monkeypatch.setattr("foveate.runtime.arguments.read_pages", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["ask", scene, "why?"])
