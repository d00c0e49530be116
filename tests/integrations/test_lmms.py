"""Through lmms-eval's own evaluator, offline, on a task of local images."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

import foveate
from foveate.apps.evaluate import evaluate, sample_examples
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.settings import make_arms, parse_methods
from foveate.errors import FoveateError, InputError
from foveate.runtime.load import load
from local_task import write_task
from policies import make_policy, save_policy, ship
from tiled import tiled_folder
from tiny import tiny_folder
from viz.golden.write import make_scene

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed: pip install 'foveate[lmms]'")

from lmms_eval.api.instance import Instance

from foveate.integrations.lmms import FoveateLmms, manifest


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    examples = sample_examples(["existence", "attribute", "counting"], "dev", 4)
    return write_task(tmp_path_factory.mktemp("task"), examples)


@pytest.mark.heavy
@pytest.mark.parametrize(("model", "keep"), [("bundled-qwen", 1.0), ("bundled-qwen", 0.25), ("bundled", 0.1)])
def test_its_evaluator_gives_the_answers_of_ours(task, tmp_path, model, keep):
    command = [
        sys.executable, "-m", "lmms_eval", "--model", "foveate", "--model_args", f"pretrained={model},keep={keep}",
        "--tasks", "drawn", "--include_path", str(task), "--batch_size", "4", "--output_path", str(tmp_path),
        "--log_samples",
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    ran = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (samples,) = tmp_path.rglob("*samples_drawn.jsonl")
    records = [json.loads(line) for line in samples.read_text().splitlines()]
    examples = sample_examples(["existence", "attribute", "counting"], "dev", 4)
    arms = make_arms(parse_methods("foveate"), [keep], resize=False)
    loaded = load(model)
    rows = evaluate(loaded, examples, [arm for arm in arms if arm.name == "foveate"], batch=4)
    assert [row["filtered_resps"] for row in records] == [row["answer"] for row in rows]
    for row, record, example in zip(rows, records, examples, strict=True):
        whole = int(EvalBatch(loaded, [example], []).inputs["attention_mask"].sum())
        assert record["token_counts"][0]["input_tokens"] == whole - row["total"] + row["tokens"]
    (results,) = tmp_path.rglob("*results.json")
    score = json.loads(results.read_text())["results"]["drawn"]["right,none"]
    assert score == pytest.approx(sum(row["right"] for row in rows) / len(rows))


IMAGES = (Image.new("RGB", (96, 40), "red"), Image.new("RGB", (32, 32), "blue"), make_scene(90, 61))
CHATS = ([0, "what color"], [1, 2, "which one is red"], ["how many"], [2, "and", 0, "then", 1, "what"])


def make_request(number, images=IMAGES):
    """A request whose conversation is one of `CHATS`."""
    parts = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "url": images[part]}
        for part in CHATS[number]
    ]
    meta = {"task": "drawn", "doc_id": number, "repeats": 1}
    arguments = ("", lambda doc: [{"role": "user", "content": parts}], {"max_new_tokens": 2}, number, "drawn", "test")
    return Instance(request_type="generate_until", arguments=arguments, idx=number, metadata=meta)


@pytest.mark.parametrize("family", ["llava", "idefics3", "smolvlm", "aya_vision", "internvl", "llava_next"])
@pytest.mark.parametrize("keep", [5, 0.3, 1.0])
def test_input_tokens_are_those_that_the_model_reads(family, keep, tmp_path):
    """For tiled images, several images in a prompt, and prompts without one, in one batch."""
    folder = (tiny_folder if family == "llava" else tiled_folder)(family, tmp_path)
    batched, single = (FoveateLmms(str(folder), keep=keep, batch_size=n) for n in (len(CHATS), 1))
    batched.task_dict["drawn"] = single.task_dict["drawn"] = {"test": dict.fromkeys(range(len(CHATS)))}
    requests = [make_request(number) for number in range(len(CHATS))]
    counts = [result.token_counts.input_tokens for result in batched.generate_until(requests)]
    assert counts == [result.token_counts.input_tokens for result in single.generate_until(requests)]
    for request, count in zip(requests, counts, strict=True):
        (chat, images), processor = single._read_request(request), single._loaded.processor
        text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=[images] if images else None, return_tensors="pt")
        short = foveate.prune_inputs(single._loaded.model, inputs, keep=keep)
        assert count == short["input_ids"].shape[1]


@pytest.mark.parametrize("form", ["a file", "auto", "an object"])
def test_a_policy_chooses_the_input_tokens(form, tmp_path, monkeypatch):
    """As lmms-eval writes it in --model_args, which has texts alone, and from Python."""
    folder = str(tiny_folder("qwen2_5_vl", tmp_path / "model"))
    policy = make_policy(load(folder).model, price=1.0, mean=32.0)
    path = save_policy(load(folder).model, tmp_path, price=1.0, mean=32.0)
    ship(monkeypatch, tmp_path, policy)
    keep = {"a file": str(path), "auto": "auto", "an object": policy}[form]
    chosen = FoveateLmms(folder, keep=keep, batch_size=2)
    chosen.task_dict["drawn"] = {"test": dict.fromkeys(range(len(CHATS)))}
    results = chosen.generate_until([make_request(0), make_request(2)])
    (chat, images), processor = chosen._read_request(make_request(0)), chosen._loaded.processor
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=[images], return_tensors="pt")
    short = foveate.prune_inputs(chosen._loaded.model, inputs, keep=policy)
    assert results[0].token_counts.input_tokens == short["input_ids"].shape[1] < inputs["input_ids"].shape[1]


def test_policies_that_cannot_be_used(tmp_path, monkeypatch):
    folder, other = (str(tiny_folder(name, tmp_path / name)) for name in ("llava", "qwen2_5_vl"))
    ship(monkeypatch, tmp_path)
    path = save_policy(load(other).model, tmp_path)
    for more, says in (
        ({"keep": "auto"}, "none comes with it: make one with foveate calibrate"),
        ({"keep": str(path)}, "calibrated on another model"),
        ({"keep": str(path), "method": "fastv"}, "which takes one budget: give a number"),
        ({"keep": "none.json"}, "none.json cannot be read as a policy"),
        ({"keep": "mine.policy"}, "'mine.policy' is no number: .*, auto, or the .json file of a policy"),
        ({"keep": ""}, "'' is no number"),
    ):
        with pytest.raises(FoveateError, match=says):
            FoveateLmms(folder, **more)
    path = save_policy(load(folder).model, tmp_path)
    with pytest.raises(InputError, match="calibrated with method='foveate', not 'grid'"):
        FoveateLmms(folder, keep=str(path), method="grid")


@pytest.mark.parametrize("family", ["internvl", "llava_next"])
@pytest.mark.parametrize("share", [0.6, "0.6", 1, "1.0"])
def test_some_tiles_of_the_images(family, share, tmp_path):
    """As lmms-eval writes it in --model_args, and from Python: what the model reads is what the library leaves."""
    folder = str(tiled_folder(family, tmp_path))
    chosen = FoveateLmms(folder, keep=0.9, encode=share, batch_size=2)
    chosen.task_dict["drawn"] = {"test": dict.fromkeys(range(len(CHATS)))}
    results = chosen.generate_until([make_request(0), make_request(2)])
    (chat, images), processor = chosen._read_request(make_request(0)), chosen._loaded.processor
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=[images], return_tensors="pt")
    some, whole = (foveate.prune_inputs(chosen._loaded.model, inputs, keep=0.9, encode=each) for each in (0.6, 1.0))
    expected = some if float(share) < 1 else whole
    assert results[0].token_counts.input_tokens == expected["input_ids"].shape[1]
    assert some["input_ids"].shape[1] < whole["input_ids"].shape[1]


def test_tiles_that_cannot_be_left_out(tmp_path):
    llava, tiles = (
        str(make(name, tmp_path / name)) for make, name in ((tiny_folder, "llava"), (tiled_folder, "internvl"))
    )
    for folder, more, says in (
        (llava, {"encode": 0.4}, "images of llava models whole: leave encode out"),
        (tiles, {"encode": 0.4, "keep": "auto"}, "not for a policy, which was calibrated on whole images"),
        (llava, {"encode": 0.4, "method": "fastv"}, r"encode=0\.4 is not for fastv, which sees the whole image"),
        (tiles, {"encode": 0}, "encode=0 is not a share"),
        (tiles, {"encode": 1.5}, r"encode=1\.5 is not a share"),
        (tiles, {"encode": "half"}, "^encode 'half' is not a share"),
        (tiles, {"encode": True}, "encode=True is not a share"),
    ):
        with pytest.raises(FoveateError, match=says):
            FoveateLmms(folder, **{"keep": 0.5, **more})


def test_in_decoder_methods_count_what_the_last_layers_read(tmp_path):
    folder = tiny_folder("llava", tmp_path)
    whole, pruned = FoveateLmms(str(folder)), FoveateLmms(str(folder), keep=5, method=foveate.FastV(layer=1))
    whole.task_dict["drawn"] = pruned.task_dict["drawn"] = {"test": {1: None}}
    counts = [model.generate_until([make_request(1)])[0].token_counts.input_tokens for model in (whole, pruned)]
    assert counts[0] - counts[1] == 2 * (16 - 5)


def test_bad_settings():
    with pytest.raises(InputError, match="has no setting 'kep'"):
        FoveateLmms(kep=0.1)
    with pytest.raises(InputError, match="batch_size"):
        FoveateLmms(batch_size="auto")
    with pytest.raises(FoveateError, match="keep"):
        FoveateLmms(keep=2.0)


def test_the_manifest_names_the_class():
    module, name = manifest().chat_class_path.rsplit(".", 1)
    assert getattr(sys.modules[module], name) is FoveateLmms


@pytest.mark.parametrize("family", ["llava", "idefics3"])
@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_transparent_images_are_on_white(family, keep, tmp_path):
    folder = (tiny_folder if family == "llava" else tiled_folder)(family, tmp_path)
    model, blank = FoveateLmms(str(folder), keep=keep), (0, 0, 0, 0)
    model.task_dict["drawn"] = {"test": {1: None}}
    clear = [Image.new("RGBA", (96, 40), blank), Image.new("LA", (32, 32), (0, 0)), make_scene(90, 61)]
    clear[0].paste((0, 0, 0, 255), (20, 5, 60, 30))
    white = [Image.alpha_composite(Image.new("RGBA", each.size, "white"), each.convert("RGBA")) for each in clear]
    answers = []
    for images in (clear, [each.convert("RGB") for each in white]):
        _, read = model._read_request(make_request(1, images))
        assert all(isinstance(each, Image.Image) for each in read)
        answers.append(model.generate_until([make_request(1, images)])[0].text)
    assert answers[0] == answers[1]


def test_the_options_of_load(tmp_path):
    folder = str(tiny_folder("llava", tmp_path))
    model = FoveateLmms(folder, dtype="bfloat16", attention="eager", device_map='{"": "cpu"}')._loaded.model
    assert (str(model.dtype), model.config._attn_implementation) == ("torch.bfloat16", "eager")
    assert FoveateLmms(folder, device="cpu")._loaded.model.device.type == "cpu"
    with pytest.raises(InputError, match=r"device and device_map say both"):
        FoveateLmms(folder, device="cpu", device_map="auto")
    with pytest.raises(InputError, match=r"device_map '\{' is no JSON object"):
        FoveateLmms(folder, device_map="{")
    with pytest.raises(InputError, match=r"'nowhere' is no device"):
        FoveateLmms(folder, device="nowhere")
    with pytest.raises(InputError, match=r"quantize '2bit' is unknown"):
        FoveateLmms(folder, quantize="2bit")


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_videos_are_refused(kind, tmp_path):
    """A list of sampled frames would be taken for 24 frames a second: no video reaches a processor from here."""
    model = FoveateLmms(str(tiny_folder("qwen3_vl", tmp_path)))
    model.task_dict["drawn"] = {"test": {0: None}}
    request = make_request(0)
    parts = [{"type": kind, "url": "film.mp4"}, {"type": "text", "text": "what color"}]
    arguments = (request.args[0], lambda doc: [{"role": "user", "content": parts}], *request.args[2:])
    with pytest.raises(InputError, match=rf"has {kind} in its questions: choose tasks with images alone, or give"):
        model.generate_until([Instance(request_type="generate_until", arguments=arguments, idx=0,
                                       metadata={"task": "drawn", "doc_id": 0, "repeats": 1})])  # fmt: skip
