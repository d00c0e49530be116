"""Through lmms-eval's own evaluator, offline, on a task of local pictures."""

import json
import os
import subprocess
import sys

import pytest

from foveate.apps.evaluate import evaluate, world_examples
from foveate.apps.evaluate.arms import EvalBatch
from foveate.apps.evaluate.settings import make_arms, parse_methods
from foveate.errors import FoveateError, InputError
from foveate.runtime.load import load

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed: pip install 'foveate[lmms]'")

TASK = """
task: drawn
dataset_path: json
dataset_kwargs: {data_files: {test: questions.jsonl}}
test_split: test
output_type: generate_until
doc_to_visual: !function drawn.pictures
doc_to_text: !function drawn.text
doc_to_messages: !function drawn.messages
doc_to_target: answer
generation_kwargs: {max_new_tokens: 8, until: ["\\n"]}
process_results: !function drawn.mark
metric_list: [{metric: right, aggregation: mean, higher_is_better: true}]
metadata: [{version: 0.0}]
"""
CODE = """
from PIL import Image
from foveate.apps.evaluate.examples import is_right
def pictures(doc): return [Image.open(doc["image"])]
def text(doc, lmms_eval_specific_kwargs=None): return doc["question"]
def messages(doc, lmms_eval_specific_kwargs=None):
    content = [{"type": "image", "url": pictures(doc)[0]}, {"type": "text", "text": doc["question"]}]
    return [{"role": "user", "content": content}]
def mark(doc, results): return {"right": float(is_right(results[0], [doc["answer"]]))}
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    asked = world_examples(["existence", "attribute", "counting"], "dev", 4)
    lines = []
    for example in asked:
        example.image().save(folder / f"{example.id}.png")
        row = {"image": str(folder / f"{example.id}.png"), "question": example.question, "answer": example.answers[0]}
        lines.append(json.dumps(row))
    (folder / "questions.jsonl").write_text("\n".join(lines))
    (folder / "drawn.yaml").write_text(TASK.replace("questions.jsonl", str(folder / "questions.jsonl")))
    (folder / "drawn.py").write_text(CODE)
    return folder


@pytest.mark.heavy
@pytest.mark.parametrize(("model", "keep"), [("bundled-qwen", 1.0), ("bundled-qwen", 0.25), ("bundled", 0.1)])
def test_its_evaluator_finds_what_ours_finds(task, tmp_path, model, keep):
    command = [
        sys.executable, "-m", "lmms_eval", "--model", "foveate", "--model_args", f"pretrained={model},keep={keep}",
        "--tasks", "drawn", "--include_path", str(task), "--batch_size", "4", "--output_path", str(tmp_path),
        "--log_samples",
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    ran = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (samples,) = tmp_path.rglob("*samples_drawn.jsonl")
    given = [json.loads(line) for line in samples.read_text().splitlines()]
    asked = world_examples(["existence", "attribute", "counting"], "dev", 4)
    arms = make_arms(parse_methods("foveate"), [keep], resize=False)
    loaded = load(model)
    rows = evaluate(loaded, asked, [arm for arm in arms if arm.name == "foveate"], batch=4)
    assert [row["filtered_resps"] for row in given] == [row["answer"] for row in rows]
    for row, counted, example in zip(rows, given, asked, strict=True):
        whole = int(EvalBatch(loaded, [example], []).inputs["attention_mask"].sum())
        assert counted["token_counts"][0]["input_tokens"] == whole - row["total"] + row["tokens"]
    (results,) = tmp_path.rglob("*results.json")
    score = json.loads(results.read_text())["results"]["drawn"]["right,none"]
    assert score == pytest.approx(sum(row["right"] for row in rows) / len(rows))


def test_bad_settings():
    from foveate.integrations.lmms import Pruned

    with pytest.raises(InputError, match="'kep' is no setting"):
        Pruned(kep=0.1)
    with pytest.raises(InputError, match="batch_size"):
        Pruned(batch_size="auto")
    with pytest.raises(FoveateError, match="keep"):
        Pruned(keep=2.0)
