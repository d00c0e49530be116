"""Videos in conversations over HTTP: some frames of each, at their times; bounded, and refused by name."""

import numpy as np
import pytest
from PIL import Image

import foveate
from foveate.apps.serve.app import make_app
from foveate.apps.serve.settings import ServeLimits, ServeSettings
from foveate.errors import InputError
from foveate.runtime.load import load, quiet
from foveate.runtime.video import read_clip
from served import content, data_url, post, refusal, running_app, to_file
from tiny import tiny_folder
from videos import load_reader, needs_videos, write_video

pytest.importorskip("av", reason="PyAV is not installed: pip install 'foveate[video]'")
TIMES = [0.0, 0.4, 1.0, 1.5, 2.5, 3.0]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_reader("qwen2_5_vl", tmp_path_factory.mktemp("qwen2_5_vl"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", TIMES, "libx264")


def to_url(path, mime="video/mp4"):
    with open(path, "rb") as file:
        return data_url(file.read(), mime)


def video_turn(question, *urls):
    return [*({"type": "video_url", "video_url": {"url": url}} for url in urls), *content(question)]


def make_request(loaded, *turns, **more):
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(turns)]
    return {"model": loaded.name, "messages": messages, "temperature": 0, "max_tokens": 6, "keep": 0.5, **more}


def serve(loaded, **limits):
    return running_app(make_app(loaded, ServeSettings(limits=ServeLimits(**{"frames": 4, **limits}))))


@needs_videos
def test_a_conversation_about_a_video_and_an_image(loaded, path):
    """The answers of a session that saw the same frames; the video is encoded once."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8))
    first = video_turn("what color?", to_url(path))
    with serve(loaded) as server, foveate.Session(loaded.model, loaded.processor, keep=0.5) as session:
        session.see(read_clip(path, 4))
        expected = str(session.ask("what color?", max_new_tokens=6, do_sample=False))
        answer = post(server.url, make_request(loaded, first)).json()
        text = answer["choices"][0]["message"]["content"]
        assert text.strip() == expected
        session.see(image)
        expected = session.ask("how many?", max_new_tokens=6, do_sample=False)
        second = content("how many?", data_url(to_file(image)))
        answer = post(server.url, make_request(loaded, first, text, second)).json()
        assert answer["choices"][0]["message"]["content"].strip() == str(expected)
        assert sum(answer["foveate"]["kept"]) == expected.report.kept_count
        again = post(server.url, make_request(loaded, first, text, second)).json()
        assert (answer["foveate"]["reused"], again["foveate"]["reused"]) == (0, 2)


@needs_videos
def test_streams_and_further_requests(loaded, path):
    with serve(loaded) as server:
        request = make_request(loaded, video_turn("what color?", to_url(path)), stream=True)
        assert post(server.url, request).text.endswith("data: [DONE]\n\n")
        assert post(server.url, make_request(loaded, "what color?")).status_code == 200


@needs_videos
def test_videos_that_cannot_be_read(loaded, path, tmp_path):
    with open(path, "rb") as file:
        data = file.read()
    gif = write_video(tmp_path / "a.gif", TIMES, "gif", "gray")
    with serve(loaded, pixels=50_000) as server:
        for url, message in (
            (data_url(data[:900], "video/mp4"), "no video that can be read"),
            (to_url(gif), "no video that can be read"),
            (to_url(path, "image/png"), "begins with data:video/mp4;base64"), ("data:video/mp4;base64,!", "base64"),
            ("https://a.example/a.mp4", "not fetched"), ("file:///etc/passwd", "not fetched"),
        ):  # fmt: skip
            response = post(server.url, make_request(loaded, video_turn("what color?", url)))
            assert message in refusal(response, 400)["message"]
        large = write_video(tmp_path / "large.mp4", TIMES, "libx264", size=(128, 128))
        response = post(server.url, make_request(loaded, video_turn("what color?", to_url(large))))
        assert "cannot be decoded from its first frame on" in refusal(response, 400)["message"]
        assert post(server.url, make_request(loaded, video_turn("what color?", to_url(path)))).status_code == 200


@needs_videos
def test_a_video_counts_as_an_image(loaded, path):
    with serve(loaded, images=1) as server:
        two = post(server.url, make_request(loaded, video_turn("what color?", to_url(path), to_url(path))))
        assert "2 images and videos" in refusal(two, 400)["message"]


@needs_videos
def test_decoding_ends_with_its_time(loaded, path, monkeypatch):
    monkeypatch.setattr("foveate.apps.serve.images.DECODE_SECONDS", -1.0)
    with serve(loaded) as server:
        response = post(server.url, make_request(loaded, video_turn("what color?", to_url(path))))
        assert "send shorter or smaller ones" in refusal(response, 400)["message"]


def test_a_server_takes_no_videos_unless_it_is_told_to(loaded, path):
    with serve(loaded, frames=0) as server:
        response = post(server.url, make_request(loaded, video_turn("what color?", to_url(path))))
        assert refusal(response, 400)["code"] == "no_videos"
        assert "start it with --max-frames" in refusal(response, 400)["message"]


def test_a_model_that_reads_no_videos_is_not_served_with_them(tmp_path):
    from foveate.apps.serve.videos import check_frames

    with quiet():
        llava = load(str(tiny_folder("llava", tmp_path)))
    with pytest.raises(InputError, match="reads no video here"):
        check_frames(llava, ServeLimits(frames=4))
    check_frames(llava, ServeLimits())
