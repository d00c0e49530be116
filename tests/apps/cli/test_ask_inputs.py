"""`foveate ask` and `bench` on pages, folders, videos and addresses."""

import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import foveate
from foveate.apps.ask import DRAWN_WORLD, ask
from foveate.runtime.load import load, quiet
from foveate.runtime.pages import read_pages
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene
from videos import write_video

QUESTION = "what color is the star?"


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(sample_scene(0, number)) for number in (2, 3, 4)]


@pytest.fixture(scope="module")
def pdf(tmp_path_factory, scenes):
    path = tmp_path_factory.mktemp("pdf") / "scan.pdf"
    first, *others = (scene.copy() for scene in scenes)
    first.save(path, save_all=True, append_images=others)
    return path


def record_of(out):
    return json.loads(out.splitlines()[-1])


def test_pages_are_images_of_one_prompt(run, folder, pdf):
    options = ("--model", folder, "--keep", 3, "--max-new-tokens", 4, "--json", "--repeat", 1)
    code, out, err = run("ask", f"{pdf}#page=3,1", QUESTION, *options)
    assert (code, err) == (0, "")
    with quiet():
        expected = ask(load(folder), read_pages(pdf, "", [(3, 3), (1, 1)]), QUESTION, keep=3, max_new_tokens=4)
    assert (record_of(out)["answer"], record_of(out)["total"]) == (expected.answer, 32)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("", "has 3 pages: name one, as in"),
        ("#page=0", "names no pages: they count from 1"),
        ("#page=99", "has 3 pages, and no page 99"),
    ],
)
def test_pages_that_are_not_there(refuse, pdf, tmp_path, page, text):
    assert text in refuse("ask", f"{pdf}{page}", QUESTION)
    assert text in refuse("bench", "--image", f"{pdf}{page}", "--no-plot", "--out", tmp_path)


def test_bench_takes_one_page(run, refuse, folder, pdf, tmp_path):
    options = ("--model", folder, "--rounds", 1, "--new-tokens", 1, "--keep", 3, "--no-plot", "--out", tmp_path / "out")
    code, _, err = run("bench", "--image", f"{pdf}#page=2", "--question", QUESTION, *options)
    assert (code, err) == (0, "")
    for arguments, text in (
        (["--image", f"{pdf}#page=1-2"], "names 2 pages: name one"),
        (["--image", "https://example.com/a.png"], "add --fetch"),
        (["--engine", "vllm", "--fetch"], "--fetch is for --engine hf"),
    ):
        assert text in refuse("bench", *arguments, "--no-plot", "--out", tmp_path)


# -- folders --------------------------------------------------------------------------------------------------------


@pytest.fixture
def gallery(tmp_path, scenes):
    for name, scene in zip(("b.png", "a.png", "c.jpg"), scenes, strict=True):
        scene.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_each_image_of_a_folder_is_a_question_of_its_own(run, folder, gallery):
    """The answers are those of `generate` with pruning, in the order of names."""
    code, out, err = run("ask", gallery, QUESTION, "--model", folder, "--keep", 3, "--max-new-tokens", 4)
    assert (code, err) == (0, "")
    expected = []
    with quiet(), torch.no_grad():
        loaded = load(folder)
        for name in ("a.png", "b.png", "c.jpg"):
            turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
            text = loaded.processor.apply_chat_template([turn], add_generation_prompt=True)
            with Image.open(gallery / name) as image:
                inputs = loaded.processor(text=[text], images=[image.convert("RGB")], return_tensors="pt")
            with foveate.pruning(loaded.model, keep=3):
                new = loaded.model.generate(**inputs, max_new_tokens=4, do_sample=False)
            answer = loaded.processor.decode(new[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            expected.append(f"{name}\t{' '.join(answer.split())}")
    # a random model writes characters that cannot be printed, which the command replaces
    assert [line.partition("\t")[0] for line in out.splitlines()] == ["a.png", "b.png", "c.jpg"]
    for line, reference in zip(out.splitlines(), expected, strict=True):
        assert len(line) == len(reference)
        assert all(ours in (theirs, "\N{REPLACEMENT CHARACTER}") for ours, theirs in zip(line, reference, strict=True))


def test_an_unreadable_file_is_named_and_the_others_are_answered(run, folder, gallery, pdf):
    (gallery / "bb.png").write_text("text")
    (gallery / "scan.pdf").write_bytes(pdf.read_bytes())
    code, out, err = run("ask", gallery, QUESTION, "--model", folder, "--keep", 3, "--max-new-tokens", 2, "--json")
    assert code == 2
    lines = out.splitlines()
    assert [line.partition("\t")[0] for line in lines[:-1]] == ["a.png", "b.png", "c.jpg"]
    unreadable, several, end = err.splitlines()
    assert unreadable.startswith(f"foveate: {gallery}/bb.png is no image that Pillow can read")
    assert several.startswith(f"foveate: {gallery}/scan.pdf has 3 pages: name one, as in")
    assert end == f"foveate: 2 of 5 images in {gallery} have no answer; the reasons are above."
    rows = json.loads(lines[-1])["images"]
    assert [(row["name"], row["kept"], row["total"]) for row in rows] == [
        ("a.png", 3, 16), ("b.png", 3, 16), ("bb.png", 0, 0), ("c.jpg", 3, 16), ("scan.pdf", 0, 0),
    ]  # fmt: skip
    assert [row["problem"] is None for row in rows] == [row["answer"] is not None for row in rows]


def test_what_the_processor_refuses_stops_no_other_image(run, tmp_path, gallery):
    from tiny import tiny_folder

    model = tiny_folder("qwen2_5_vl", tmp_path / "model")
    Image.new("RGB", (2000, 2)).save(gallery / "aa.png")
    code, out, err = run("ask", gallery, QUESTION, "--model", model, "--keep", 0.5, "--max-new-tokens", 1)
    assert code == 2
    assert len(out.splitlines()) == 3
    assert err.startswith("foveate: aa.png: The processor of")


def test_notes_on_a_folder(run, tmp_path, scenes):
    scenes[0].save(tmp_path / "a.png")
    code, out, err = run("ask", tmp_path, QUESTION, "--max-new-tokens", 1, "--keep", 999)
    assert code == 0
    assert len(out.splitlines()) == 1
    assert err.splitlines() == [
        f"Note: {DRAWN_WORLD}", "Note: keep=999 keeps all: the image has only 576 visual tokens.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--compare", "grid"], "leave --compare out"),
        (["--repeat", "2"], "leave --repeat out"),
        (["--overlay", "a.png"], "leave --overlay out"),
        (["--video", "a.mp4"], "leave --video out"),
        (["--method", "none"], "none"),
        (["--keep", "7.5"], "keep=7.5"),
    ],
)
def test_what_does_not_go_with_a_folder(refuse, gallery, monkeypatch, arguments, text):
    monkeypatch.setattr("foveate.runtime.load.load", lambda name: pytest.fail("a model was loaded before the check"))
    assert text in refuse("ask", gallery, QUESTION, *arguments)
    assert "ask about it alone" in refuse("ask", gallery / "a.png", gallery, QUESTION)


def test_an_empty_folder(refuse, tmp_path):
    assert f"There is no image in the folder {tmp_path}" in refuse("ask", tmp_path, QUESTION)


# -- videos and addresses -------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "clip.mp4", [0.0, 0.5, 1.0], "libx264")


def test_a_model_that_reads_no_videos(refuse, clip):
    text = "The processor of bundled reads no video here: show frames one by one, with their times, as foveate watch"
    assert text in refuse("ask", "--video", clip, QUESTION)


def test_what_does_not_go_with_a_video(refuse, clip, scene, monkeypatch):
    monkeypatch.setattr("foveate.runtime.load.load", lambda name: pytest.fail("a model was loaded before the check"))
    assert f"{clip} is a video: ask about it with --video {clip}" in refuse("ask", clip, QUESTION)
    assert "--frames is for videos" in refuse("ask", scene, QUESTION, "--frames", 4)
    for keep in (["--keep", "auto"], ["--compare", "auto"]):
        assert "A policy chooses budgets for images" in refuse("ask", "--video", clip, QUESTION, *keep)
    assert "There is no video none.mp4" in refuse("ask", "--video", "none.mp4", QUESTION)
    assert "is no video that can be read" in refuse("ask", "--video", scene, QUESTION)
    assert "There is no image beside 'photo.png'" in refuse("ask", "photo.png")


def test_addresses_need_fetch(refuse, run, folder, scene, monkeypatch):
    url = "https://example.com/a.png"
    assert f"{url} is an address: add --fetch to fetch it" in refuse("ask", url, QUESTION)
    assert f"{url} is an address: add --fetch to fetch it" in refuse("ask", "--video", url, QUESTION)
    assert "only https addresses are fetched" in refuse("ask", "http://example.com/a.png", QUESTION, "--fetch")
    assert "no address of the public internet" in refuse("ask", "https://127.0.0.1/a.png", QUESTION, "--fetch")
    options = (QUESTION, "--model", folder, "--keep", 3, "--max-new-tokens", 3, "--json")
    with open(scene, "rb") as file:
        data = file.read()
    monkeypatch.setattr("foveate.runtime.arguments.fetch_file", {url: data}.get)
    monkeypatch.setattr("sys.stdin", SimpleNamespace())
    fetched = record_of(run("ask", url, "--fetch", *options)[1])
    assert fetched["answer"] == record_of(run("ask", scene, *options)[1])["answer"]
