"""The questions of the public data set easy-VQA as lines that `foveate eval --data` reads.

Needs `pip install easy-vqa==1.0` (MIT), which carries 4,000 pictures to train on and 1,000 to test.

    python benchmarks/public_questions.py --split test --out runs/easy-vqa.jsonl
    foveate eval --model bundled --data runs/easy-vqa.jsonl --limit 1000
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

COLORS = ("red", "green", "blue", "black", "gray", "teal", "brown", "yellow")


def name_task(answer: str) -> str:
    """What the question asks for, by its answer."""
    return "verify" if answer in ("yes", "no") else "color" if answer in COLORS else "shape"


def list_questions(split: str, seed: int = 0) -> list[dict[str, str]]:
    """The questions of "train" or "test" in random order, so that any number of the first ones is a fair sample."""
    import easy_vqa

    texts, answers, numbers = getattr(easy_vqa, f"get_{split}_questions")()
    paths = getattr(easy_vqa, f"get_{split}_image_paths")()
    rows = [
        {
            "id": f"easy-vqa-{split}-{i}",
            "task": name_task(answer),
            "image": str(Path(paths[number]).resolve()),
            "question": text,
            "answer": answer,
        }
        for i, (text, answer, number) in enumerate(zip(texts, answers, numbers, strict=True))
    ]
    random.Random(f"easy-vqa {seed}").shuffle(rows)
    return rows


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", default="test", choices=("train", "test"))
    parser.add_argument("--out", type=Path, default=Path("runs/easy-vqa.jsonl"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("".join(json.dumps(row) + "\n" for row in list_questions(options.split)))


if __name__ == "__main__":
    main()
