"""Questions about clips: every arm answers as foveate's own functions do on the processor's inputs."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import foveate
from foveate.apps.evaluate import EvalPlan
from foveate.apps.evaluate.page import write_page
from foveate.errors import FoveateError, InputError, VideoError
from foveate.method.registry import METHODS
from foveate.runtime.conversation import apply_template, generate_answers
from foveate.runtime.load import load, quiet
from foveate.runtime.video import read_clip
from tiny import tiny_folder
from videos import load_reader, needs_videos, write_video

pytest.importorskip("av", reason="PyAV is not installed: pip install 'foveate[video]'")
TIMES = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
QUESTION = "what color is it?"
PLAN = {"methods": "divprune", "keep": "0.3", "max_new_tokens": 3, "max_frames": 6}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_reader("qwen2_5_vl", tmp_path_factory.mktemp("qwen2_5_vl"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_video(folder / "a.mp4", TIMES, "libx264")
    write_video(folder / "b.mp4", TIMES[:4], "libx264", size=(96, 64))
    Image.new("RGB", (60, 40), "red").save(folder / "red.png")
    return folder


def write_data(folder, *lines):
    path = folder / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"question": QUESTION, "answer": "red", **line}) for line in lines))
    return path


def process(loaded, images, clips):
    """The processor's inputs, by its own arguments."""
    content = [*({"type": "image"} for _ in images), *({"type": "video"} for _ in clips)]
    prompt = apply_template(loaded, [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION}]}])
    rates = [(len(clip) - 1) / (clip[-1][0] - clip[0][0]) for clip in clips]
    times = [
        {"fps": rate, "total_num_frames": len(clip), "frames_indices": [round(at * rate, 6) for at, _ in clip]}
        for clip, rate in zip(clips, rates, strict=True)
    ]
    videos = {"videos": [[image for _, image in clip] for clip in clips], "video_metadata": times} if clips else {}
    shown = {"images": images} if images else {}
    return loaded.processor(text=[prompt], return_tensors="pt", do_sample_frames=False, **shown, **videos)


def answer_row(loaded, row, images, clips):
    """The answer and the visual tokens of an arm, from `prune_inputs`."""
    inputs = process(loaded, images, clips)
    with torch.no_grad():
        if row["name"] == "unpruned":
            return generate_answers(loaded, inputs, 3)[0], None
        short = foveate.prune_inputs(loaded.model, inputs, keep=0.3, method=row["name"])
        return generate_answers(loaded, short, 3)[0], short.report.kept_count


@needs_videos
@pytest.mark.filterwarnings("ignore:.*cap_pixels")
def test_every_arm_answers_as_the_functions_do(loaded, folder):
    lines = {"video": "a.mp4"}, {"videos": ["a.mp4", "b.mp4"], "image": "red.png"}, {"image": "red.png"}
    run = EvalPlan(**PLAN, data=write_data(folder, *lines)).run(loaded)
    red, first, second = Image.open(folder / "red.png"), *(read_clip(folder / name, 6) for name in ("a.mp4", "b.mp4"))
    shown = {"line-1": ([], [first]), "line-2": ([red], [first, second]), "line-3": ([red], [])}
    for row in run.rows:
        if row["arm"] in ("unpruned", "grid @ 0.3", "divprune @ 0.3"):
            answer, tokens = answer_row(loaded, row, *shown[row["id"]])
            assert row["answer"] == answer
            assert tokens in (None, row["tokens"])
    counts = {(row["arm"], row["id"]): row["tokens"] for row in run.rows}
    total = counts["unpruned", "line-1"]
    assert counts["none", "line-2"] == 0
    assert counts["fewer @ 0.3", "line-1"] == total / 3  # one moment of three
    assert counts["unpruned", "line-2"] > total + counts["unpruned", "line-3"]


@needs_videos
@pytest.mark.filterwarnings("ignore:.*cap_pixels")
def test_every_method_answers_or_says_why_not(loaded, folder):
    data, refused = write_data(folder, {"video": "a.mp4"}), {}
    for name in METHODS.names():
        try:
            run = EvalPlan(**{**PLAN, "methods": name}, resize=False, data=data).run(loaded)
            assert any(row["name"] == name for row in run.rows)
        except FoveateError as error:
            refused[name] = str(error)
    assert all(text.endswith(".") and len(text) < 300 for text in refused.values()), refused
    assert not {"foveate", "divprune", "cdpruner", "mmtok", "vidcom2", "grid", "random"} & refused.keys()


@needs_videos
@pytest.mark.filterwarnings("ignore:.*cap_pixels")
def test_the_page_shows_frames(loaded, folder):
    plan = EvalPlan(**PLAN, data=write_data(folder, {"video": "a.mp4"}, {"videos": ["b.mp4"], "image": "red.png"}))
    run = plan.run(loaded)
    for row in run.rows:
        row["right"] = row["name"] == "unpruned"
    page = write_page(plan, loaded, run, plot=False)
    assert page.count('alt="What was kept." src="data:image/jpeg') == 2 * 5  # grid, three seeds of random, divprune


@needs_videos
@pytest.mark.filterwarnings("ignore:.*cap_pixels")
def test_a_clip_that_breaks_later_stops_the_run_which_then_goes_on(loaded, folder, tmp_path):
    data = write_data(tmp_path, {"video": str(folder / "a.mp4")}, {"video": "b.mkv"})
    whole = Path(write_video(tmp_path / "b.mkv", TIMES)).read_bytes()
    (tmp_path / "b.mkv").write_bytes(whole[: len(whole) * 8 // 10])
    plan = EvalPlan(**PLAN, data=data)
    with pytest.raises(VideoError, match=r"b\.mkv cannot be decoded after frame"):
        plan.run(loaded, out=tmp_path / "out")
    answers = tmp_path / "out" / "answers.jsonl"
    before = answers.read_text()
    assert '"line-1"' in before
    assert '"line-2"' not in before
    (tmp_path / "b.mkv").write_bytes(whole)
    plan.run(loaded, out=tmp_path / "out")
    assert answers.read_text().startswith(before)
    assert '"line-2"' in answers.read_text()


def test_a_model_that_reads_no_clips(folder, tmp_path_factory):
    with quiet():
        llava = load(str(tiny_folder("llava", tmp_path_factory.mktemp("llava"))))
    data = write_data(folder, {"video": "a.mp4"})
    with pytest.raises(InputError, match=r"reads no video here: give frames of it in 'images'"):
        EvalPlan(**PLAN, data=data).run(llava)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"keep": "0.3,auto"}, "--keep auto is a policy for images"),
        ({"encode": "0.4"}, "encode 0.4 is for images"), ({"methods": "fastv"}, "fastv prunes images"),
    ],
)  # fmt: skip
def test_what_is_not_for_clips(folder, options, text):
    plan = EvalPlan(**{**PLAN, **options}, data=write_data(folder, {"video": "a.mp4"}))
    with pytest.raises(InputError, match=text):
        plan.check()
