"""A task of local images in lmms-eval's own format."""

import json
from pathlib import Path

TASK = """
task: drawn
dataset_path: json
dataset_kwargs: {{data_files: {{test: {questions}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function drawn.images
doc_to_text: !function drawn.text
doc_to_messages: !function drawn.messages
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 8, until: ["\\n"]}}
process_results: !function drawn.mark
metric_list:
- {{metric: right, aggregation: mean, higher_is_better: true}}
- {{metric: f1, aggregation: !function drawn.f1, higher_is_better: true}}
- {{metric: each_once, aggregation: !function drawn.each_once, higher_is_better: true}}
- {{metric: submission, aggregation: !function drawn.submit, higher_is_better: true}}
metadata: [{{version: 0.0}}]
"""
CODE = """
from PIL import Image
from foveate.apps.evaluate.metrics import match_exact
def images(doc): return [Image.open(doc["image"])]
def text(doc, lmms_eval_specific_kwargs=None): return doc["question"]
def messages(doc, lmms_eval_specific_kwargs=None):
    content = [{"type": "image", "url": images(doc)[0]}, {"type": "text", "text": doc["question"]}]
    return [{"role": "user", "content": content}]
def mark(doc, results):
    right = match_exact(results[0], [doc["answer"]])
    items = {"f1": {"answer": results[0], "expected": doc["answer"]}, "each_once": doc["question"] + doc["image"]}
    return {"right": float(right), **items, "submission": results[0]}
def f1(items):
    print("metrics print")
    pairs = [(item["answer"] == "yes", item["expected"] == "yes") for item in items]
    return 2 * sum(a and b for a, b in pairs) / max(1, sum(a + b for a, b in pairs))
def each_once(items):
    assert len(set(items)) == len(items)
    return 1.0
def submit(items): return None
"""
STOCK = {}


def write_task(folder, examples):
    """Write the task `drawn` into the folder: its metrics are a mean, an F1, one that cannot be resampled, and none."""
    lines = []
    for example in examples:
        example.image().save(folder / f"{example.id}.png")
        row = {"image": str(folder / f"{example.id}.png"), "question": example.question, "answer": example.answers[0]}
        lines.append(json.dumps(row))
    (folder / "questions.jsonl").write_text("\n".join(lines))
    (folder / "drawn.yaml").write_text(TASK.format(questions=folder / "questions.jsonl"))
    (folder / "drawn.py").write_text(CODE)
    return folder


def remember_stock_tasks(monkeypatch):
    """Read lmms-eval's thousand files of tasks once for all tests."""
    from lmms_eval import tasks

    own, read = str(Path(tasks.__file__).parent), tasks.TaskManager._get_task_and_group

    def read_once(self, folder):
        if not folder.startswith(own):
            return read(self, folder)
        if folder not in STOCK:
            STOCK[folder] = read(self, folder)
        return STOCK[folder]

    monkeypatch.setattr(tasks.TaskManager, "_get_task_and_group", read_once)
