"""`foveate ask --video`: the answer of the processor's own call with the same frames at their own times."""

import json
import random

import pytest
import torch
from PIL import Image

import foveate
from foveate.runtime.conversation import apply_template, generate_answers
from foveate.runtime.load import load, quiet
from foveate.runtime.video import read_clip
from foveate.world.clip_questions import make_clip_question
from foveate.world.clips import draw_frames, sample_clip
from videos import needs_videos, to_video_arguments, write_video

pytest.importorskip("av", reason="PyAV is not installed: pip install 'foveate[video]'")
pytestmark = needs_videos
QUESTION = "where is the last star?"
OPTIONS = ("--model", "bundled-clips", "--keep", 0.3, "--max-new-tokens", 4, "--repeat", 1, "--json")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Frames at times that are no multiples of one another."""
    return write_video(
        tmp_path_factory.mktemp("clips") / "a.mp4", [0.0, 0.4, 1.0, 1.5, 2.5, 3.0], "libx264", size=(96, 96)
    )


@pytest.fixture(scope="module")
def loaded():
    with quiet():
        return load("bundled-clips")


def answer_at_once(loaded, images, clips):
    """The pruned answer by the processor's own arguments, and its report."""
    content = [*({"type": "image"} for _ in images), *({"type": "video"} for _ in clips)]
    prompt = apply_template(loaded, [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION}]}])
    rates = [(len(each) - 1) / (each[-1][0] - each[0][0]) for each in clips]
    videos = to_video_arguments(clips, rates)
    inputs = loaded.processor(text=[prompt], return_tensors="pt", **({"images": images} if images else {}), **videos)
    with torch.no_grad():
        short = foveate.prune_inputs(loaded.model, inputs, keep=0.3)
        return generate_answers(loaded, short, 4)[0], short.report


@pytest.mark.parametrize("count", [4, 6])
def test_a_clip(run, loaded, clip, tmp_path, count):
    overlay = tmp_path / "kept.png"
    code, out, err = run("ask", "--video", clip, QUESTION, *OPTIONS, "--frames", count, "--overlay", overlay)
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    answer, report = answer_at_once(loaded, [], [read_clip(clip, count)])
    assert (record["answer"], record["kept"], record["total"]) == (answer, report.kept_count, report.total_count)
    with Image.open(overlay) as drawn:
        assert min(drawn.size) > 256


def test_images_before_clips(run, loaded, clip, scene, tmp_path):
    overlay = tmp_path / "kept.png"
    arguments = (scene, QUESTION, "--video", clip, "--video", clip, "--frames", 4, "--overlay", overlay)
    code, out, err = run("ask", *arguments, *OPTIONS)
    assert (code, err) == (0, "")
    with Image.open(scene) as image:
        frames = read_clip(clip, 4)
        answer, report = answer_at_once(loaded, [image.convert("RGB")], [frames, frames])
    record = json.loads(out.splitlines()[-1])
    assert (record["answer"], record["kept"], record["total"]) == (answer, report.kept_count, report.total_count)
    with Image.open(overlay) as drawn:
        assert drawn.height > 3 * 256  # one below the other


def test_a_drawn_clip_is_answered_right(run, tmp_path):
    """The model was trained on such clips: what it says is true of this one, also from a file."""
    import av

    clips = [sample_clip(2, number) for number in range(9)]
    made = [(clip, make_clip_question(clip, "place", random.Random(0))) for clip in clips]
    clip, question = next((clip, question) for clip, question in made if question)
    frames = draw_frames(clip)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=2)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))
    code, out, err = run("ask", "--video", tmp_path / "a.mkv", question.text, *OPTIONS)
    assert (code, err) == (0, "")
    record = json.loads(out.splitlines()[-1])
    assert record["total"] == 6 * 36
    assert record["answer"] == record["answer_unpruned"] == question.answer
