"""Frames that a program sampled itself, in Qwen3-VL's processor (`make test-towers`, which has torchvision)."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import Qwen3VLVideoProcessor

import foveate
from foveate.runtime.load import load
from tiny import tiny_folder

pytest.importorskip("torchvision", reason="torchvision is not installed: make test-towers")

PAGE = Path(__file__).parents[2] / "docs" / "in-your-program.md"
COUNT = 12
PROMPT = "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>what color<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load(str(tiny_folder("qwen3_vl", tmp_path_factory.mktemp("qwen3_vl"))))


def make_names(loaded):
    frames = [Image.new("RGB", (32, 32), (20 * n, 0, 0)) for n in range(COUNT)]
    return {"processor": loaded.processor, "prompt": PROMPT, "frames": frames}


def list_times(loaded, inputs):
    """The seconds that the processor wrote into the prompt."""
    text = loaded.processor.tokenizer.decode(inputs["input_ids"][0])
    return [float(seconds) for seconds in re.findall(r"([0-9.]+) seconds", text)]


def test_a_list_of_frames_is_taken_for_24_a_second(loaded):
    """When this fails, the processor has mended it, and the page need not warn of it."""
    names = make_names(loaded)
    inputs = loaded.processor(text=[PROMPT], videos=[names["frames"]], return_tensors="pt")
    assert max(list_times(loaded, inputs)) < COUNT / 24
    sampled = Qwen3VLVideoProcessor()(videos=[names["frames"] * 4], return_tensors="pt")
    assert sampled["video_grid_thw"][0, 0] == 2  # of 48 frames, taken for 2 seconds, 4 are left


def test_the_snippet_of_the_page_keeps_every_frame_and_its_time(loaded):
    (snippet,) = re.findall(r"^```\n(times = .*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names = make_names(loaded)
    exec(snippet, names)
    inputs, merged = names["inputs"], COUNT // 2
    assert inputs["video_grid_thw"][0, 0] == merged
    assert list_times(loaded, inputs) == [round(n + 0.25, 1) for n in range(merged)]  # two frames at 0 and 0.5 s, ...
    with torch.no_grad():
        report = foveate.prune_inputs(loaded.model, inputs, keep=0.5).report
    assert len(report.items[0].tiles) == merged
