"""A clip on the page: some of its frames are asked about, as images; bounded, and refused by name."""

import base64
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import foveate
from demo_client import make_body, running_demo
from foveate import viz
from foveate.apps.demo.session import ROOM
from foveate.apps.demo.shown import LIMITS, SHEET_SIDE, ShownFile
from foveate.runtime.conversation import generate_answers, make_chat_inputs
from foveate.runtime.load import load
from foveate.runtime.video import read_clip
from foveate.viz.overlay import make_sheet
from served import data_url, to_file
from videos import number_of, write_video

pytest.importorskip("av", reason="PyAV is not installed: pip install 'foveate[video]'")
QUESTION = "what color is the circle ?"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", [n / 2 for n in range(12)], "libx264")


@pytest.fixture(scope="module")
def clip(path):
    with open(path, "rb") as file:
        return data_url(file.read(), "video/mp4")


@pytest.fixture(scope="module")
def loaded():
    return load("bundled-qwen")


@pytest.fixture(scope="module")
def page(loaded):
    with running_demo(loaded) as demo:
        yield demo


def to_image(url):
    return Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))


def ask_by_hand(loaded, frames, keep, turns=()):
    """The answer about these frames, and what was kept of them."""
    texts = [*(text for turn in turns for text in (turn["question"], turn["answer"])), QUESTION]
    messages = [
        {"role": ("user", "assistant")[n % 2], "content": [{"type": "text", "text": text}]}
        for n, text in enumerate(texts)
    ]
    messages[0]["content"] = [*[{"type": "image"} for _ in frames], *messages[0]["content"]]
    with torch.no_grad():
        inputs = make_chat_inputs(loaded, messages, frames)
        short = foveate.prune_inputs(loaded.model, inputs, keep=keep, explain=True)
        return generate_answers(loaded, short, 256)[0], short.report


@pytest.mark.parametrize("turns", [[], [{"question": "how many?", "answer": "2"}]])
def test_both_answers_are_about_the_frames(page, loaded, path, clip, turns):
    frames = [image for _, image in read_clip(path, LIMITS.frames)]
    events = page.ask(image=clip, question=QUESTION, keep=0.3, turns=turns)
    for kind, keep in (("pruned", 0.3), ("unpruned", 1.0)):
        text = "".join(event["text"] for event in events if event["type"] == "piece" and event["answer"] == kind)
        answer, report = ask_by_hand(loaded, frames, keep, turns)
        (cost,) = [event["cost"] for event in events if event["type"] == "cost" and event["answer"] == kind]
        assert (text.strip(), cost["visual_tokens"]) == (answer, report.kept_count)
        assert (cost["encode"] > 0) == (not turns)
    look = page.post("/look", make_body(image=clip, question=QUESTION, keep=0.3, turns=turns)).json()
    assert look == events[0]
    _, report = ask_by_hand(loaded, frames, 0.3, turns)
    expected = viz.draw(frames, report, processor=loaded.processor, legend=False, original=False, step="kept")
    assert to_image(look["overlay"]).tobytes() == expected.tobytes()


def test_the_frames_are_shown_side_by_side(page, path, clip):
    shown = page.post("/frames", {"image": clip}).json()
    timed = read_clip(path, LIMITS.frames)
    assert shown["times"] == [seconds for seconds, _ in timed]
    sheet, (width, height) = to_image(shown["sheet"]), timed[0][1].size
    gap = 8  # as between the panels of an overlay, so that both have the same layout
    columns, rows = (sheet.width + gap) // (width + gap), (sheet.height + gap) // (height + gap)
    assert sheet.size == (columns * (width + gap) - gap, rows * (height + gap) - gap)
    assert (columns - 1) * rows < len(timed) <= columns * rows
    for n, (_, frame) in enumerate(timed):
        column, row = n % columns * (width + gap), n // columns * (height + gap)
        assert number_of(sheet.crop((column, row, column + width, row + height))) == number_of(frame)


def test_no_more_frames_than_the_model_has_room_for(demo, bundled, clip):
    """Images of 576 tokens, in a context of 2,048 positions."""
    assert bundled.model.config.get_text_config().max_position_embeddings == 2048
    assert len(demo.post("/frames", {"image": clip}).json()["times"]) == (2048 - ROOM) // 577
    kinds = [event["type"] for event in demo.ask(image=clip, question=QUESTION)]
    assert kinds[-1] == "saved"


@pytest.mark.parametrize(
    ("count", "kept"), [(1, [0]), (2, [0, 6]), (3, [0, 3, 6]), (4, [0, 2, 4, 6]), (7, [*range(7)]), (9, [*range(7)])]
)
def test_frames_are_left_out_evenly(count, kept):
    images = tuple(Image.new("RGB", (4, 4), (n, 0, 0)) for n in range(7))
    shown = ShownFile("key", images, tuple(float(n) for n in range(7))).thin_out(count)
    assert shown.times == tuple(kept)
    assert [image.getpixel((0, 0))[0] for image in shown.images] == kept


def test_a_sheet_of_large_frames_is_small():
    images = tuple(Image.new("RGB", (1920, 1080)) for _ in range(8))
    assert max(make_sheet(ShownFile("key", images, tuple(map(float, range(8)))).shrink()).size) <= SHEET_SIDE
    assert {image.size for image in images} == {(1920, 1080)}


def test_clips_that_cannot_be_read(page, clip, tmp_path):
    gif, noise = data_url(to_file(Image.new("RGB", (9, 9)), "GIF"), "video/mp4"), np.random.default_rng(0).bytes(900)
    large = write_video(tmp_path / "large.mp4", [0.0], "mpeg4", size=(2560, 1440))
    with open(large, "rb") as file:
        wide = data_url(file.read(), "video/mp4")
    for url, message in (
        (data_url(noise, "video/mp4"), "no video that can be read"), (gif, "no video that can be read"),
        (clip[:822], "no video that can be read"), ("data:video/mp4;base64,!", "base64"),
        ("data:video/mp4,abc", "begins with data:video/mp4;base64"), (wide, "cannot be decoded"),
    ):  # fmt: skip
        for path, body in (("/frames", {"image": url}), ("/look", make_body(image=url))):
            response = page.post(path, body)
            assert response.status_code == 400
            assert message in response.json()["error"]
    assert page.post("/look", make_body(image=clip)).status_code == 200


def test_frames_are_of_clips(page, monkeypatch, clip):
    image = data_url(to_file(Image.new("RGB", (9, 9))))
    for body, message in (
        ({"image": image}, "send it as data:video/mp4;base64"), ({}, "image"), ({"image": clip, "keep": 1}, "keep"),
        ({"image": "https://a.example/a.mp4"}, "no data URL of a video"),
    ):  # fmt: skip
        response = page.post("/frames", body)
        assert response.status_code == 400
        assert message in response.json()["error"]
    monkeypatch.setattr("foveate.apps.demo.request.importlib.util.find_spec", lambda _: None)
    response = page.post("/frames", {"image": clip})
    assert (response.status_code, response.json()["error"]) == (
        400, "This page shows no clips without PyAV: pip install 'foveate[video]'.",
    )  # fmt: skip
