"""Requests with several questions about each image, as a file for vLLM's own benchmark client.

    python benchmarks/replay.py --images 16 --questions 4 --out requests.jsonl
    vllm bench serve --backend openai-chat --endpoint /v1/chat/completions --model bundled --tokenizer FOLDER \\
      --dataset-name custom_image --dataset-path requests.jsonl --disable-shuffle --num-prompts 64 \\
      --custom-output-len 8 --max-concurrency 16 --request-rate 8 --metric-percentiles 50,95,99 \\
      --goodput ttft:1000 tpot:100

The client measures a server that runs (`foveate serve --engine vllm`), over HTTP; `foveate bench --engine vllm`
compares several engines in one process, turn by turn. The order of the requests is the same.
"""

from __future__ import annotations

import argparse
import base64
import json
from io import BytesIO
from pathlib import Path

from foveate.apps.bench.served.arms import make_question
from foveate.apps.bench.served.cases import LoadCase, order_requests
from foveate.world.drawing import draw_scene
from foveate.world.scenes import sample_scene


def make_lines(images: int, questions: int, clients: int) -> list[str]:
    """One request a line: a drawn scene and a question."""
    urls = []
    for number in range(images):
        out = BytesIO()
        draw_scene(sample_scene(0, number)).save(out, "PNG")
        urls.append(f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}")
    lines = []
    for image, question in order_requests(images * questions, LoadCase(questions, clients), seed=0):
        parts = [{"type": "image_url", "image_url": urls[image]}, {"type": "text", "text": make_question(question)}]
        lines.append(json.dumps({"content": parts}))
    return lines


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--questions", type=int, default=4, help="about each image")
    parser.add_argument("--clients", type=int, default=16, help="that each ask all questions about one image")
    parser.add_argument("--out", type=Path, default=Path("requests.jsonl"))
    options = parser.parse_args()
    lines = make_lines(options.images, options.questions, options.clients)
    options.out.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} requests in {options.out}")


if __name__ == "__main__":
    main()
