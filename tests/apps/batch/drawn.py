"""Questions about drawn images, the library's answers to them one by one, and the lines of a folder of answers."""

import json
from collections import Counter

import foveate
from foveate.apps.batch.settings import BatchSettings
from foveate.apps.evaluate.examples import sample_examples
from foveate.runtime.conversation import format_question
from foveate.runtime.load import load

KEEP = 0.1


def settings(**changes):
    chosen = {
        "model": "bundled", "keep": KEEP, "method": "foveate", "positions": "original", "engine": "hf", "batch": 4,
        "max_new_tokens": 8,
    }  # fmt: skip
    return BatchSettings(**{**chosen, **changes})


def draw(folder, count):
    """Save `count` images; return rows that ask about them."""
    rows = []
    for example in sample_examples(["existence", "attribute", "counting"], "dev", count)[::3][:count]:
        example.image().save(folder / f"{example.id}.png")
        rows.append({"image": f"{example.id}.png", "question": example.question, "id": example.id})
    return rows


def write_lines(path, rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def library(folder, rows, model="bundled", keep=KEEP, method="foveate", positions="original"):
    """One row at a time, through the public functions: (answer, kept, total) each."""
    loaded = load(model)
    answers = []
    for row in rows:
        image = foveate.runtime.files.open_image(folder / row["image"])
        text = format_question(loaded, row["question"])
        inputs = loaded.processor(text=[text], images=[image], return_tensors="pt")
        short = foveate.prune_inputs(loaded.model, inputs, keep=keep, method=method, positions=positions)
        out = loaded.model.generate(**short, max_new_tokens=8, do_sample=False)
        new = out[0, short["input_ids"].shape[1] :]
        answer = loaded.processor.decode(new, skip_special_tokens=True).strip()
        answers.append((answer, short.report.kept_count, short.report.total_count))
    return answers


def lines(out, kind):
    """All lines of the answers ("part") or of the rows set aside ("bad"), in the order of the rows."""
    parsed = [json.loads(line) for path in out.glob(f"{kind}-*.jsonl") for line in path.read_text().splitlines()]
    return sorted(parsed, key=lambda line: line["row"])


def replies(out):
    return [(line["answer"], line["kept"], line["total"]) for line in lines(out, "part")]


def check_once(out, count):
    """Every row of the input is there exactly once, and nothing is left over."""
    counts = Counter(line["row"] for kind in ("part", "bad") for line in lines(out, kind))
    assert counts == dict.fromkeys(range(count), 1)
    assert {path.suffix for path in out.iterdir()} <= {".jsonl", ".json"}
