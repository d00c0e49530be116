"""Runs of lmms-eval's evaluator: its tasks, and what their metrics become."""

import json

import pytest

from foveate.apps.evaluate import sample_examples
from foveate.errors import InputError
from foveate.runtime.load import load
from local_task import remember_stock_tasks, write_task
from tiny import tiny_folder

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed: pip install 'foveate[lmms]'")

from foveate.integrations.lmms import FoveateLmms
from foveate.integrations.lmms_run import LmmsTasks, run_task, write_ocr_task

FILTERS = """
filter_list:
- {name: as_it_is, filter: [{function: take_first}]}
- {name: lower, filter: [{function: lowercase}, {function: take_first}]}
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    remember_stock_tasks(monkeypatch)


@pytest.fixture
def model(tmp_path):
    return FoveateLmms(load(str(tiny_folder("llava", tmp_path / "model"))), keep=4, max_new_tokens=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "task").mkdir()
    return write_task(tmp_path / "task", sample_examples(["existence"], "dev", 3))


def test_textvqa_has_the_ocr_tokens_in_its_prompt(tmp_path):
    write_ocr_task(tmp_path / "tasks")
    tasks = LmmsTasks([tmp_path / "tasks"])
    assert tasks.find("textvqa") == "textvqa_ocr"
    assert tasks.find("textvqa_val") == "textvqa_val"
    doc, prompts = {"question": "what does it say?", "ocr_tokens": ["STOP", "ALL"]}, {}
    for name in ("textvqa_ocr", "textvqa_val"):
        config = tasks._get_config(name)
        prompts[name] = config["doc_to_text"](doc, config["lmms_eval_specific_kwargs"]["default"])
    question, instruction = "What does it say?", "\nAnswer the question using a single word or phrase."
    assert prompts["textvqa_val"] == question + instruction
    assert prompts["textvqa_ocr"] == question + "\nReference OCR token: STOP, ALL" + instruction


def test_a_loaded_model_answers_as_one_by_name(tmp_path, folder):
    path = str(tiny_folder("llava", tmp_path / "model"))
    tasks, samples = LmmsTasks([folder]), []
    for pretrained in (path, load(path)):
        result = run_task(FoveateLmms(pretrained, keep=4, max_new_tokens=2), tasks, "drawn", out=tmp_path)
        samples.append([json.loads(line) for line in result.format_samples().splitlines()])
    assert samples[0] == samples[1]
    assert [sample["doc"]["question"] for sample in samples[0]] == [
        example.question for example in sample_examples(["existence"], "dev", 3)
    ]
    with pytest.raises(InputError, match="A loaded model stays where it is"):
        FoveateLmms(load(path), device="cpu")


def test_tasks_that_cannot_be_reported(tmp_path, folder, model):
    stock = (folder / "drawn.yaml").read_text()
    several = stock.replace("task: drawn", "task: several") + FILTERS
    metrics = stock.index("metric_list"), stock.index("metadata")
    silent = stock[: metrics[0]].replace("task: drawn", "task: silent") + (
        "metric_list: [{metric: submission, aggregation: !function drawn.submit, higher_is_better: true}]\n"
    )
    broken = stock.replace("task: drawn", "task: broken").replace("questions.jsonl", "nothing.jsonl")
    for name, text in (("several", several), ("silent", silent), ("broken", broken)):
        (folder / f"{name}.yaml").write_text(text)
    tasks = LmmsTasks([folder])
    for name, says in (
        ("several", "several scores every answer in several ways: choose a task with one filter"),
        ("silent", "silent gives no score, only files for a server"),
        ("broken", r"lmms-eval cannot load broken \("),
    ):
        with pytest.raises(InputError, match=says):
            run_task(model, tasks, name, out=tmp_path)
