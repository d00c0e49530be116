#!/usr/bin/env bash
# Chat messages that went through a Dataset lose their question: the Qwen-VL template prints an image in its
# place.
#
# Package: datasets 5.2.0 with the chat template of Qwen2.5-VL that trl 1.16.0 carries (rendered by Jinja2
#   3.1.6) (Python 3.11)
# Guess: Messages come back from a Dataset as they went in, or at worst with harmless extra None values.
# Instead: Arrow gives every content part all keys, so the text part gets 'image': None. The template takes a
#   part for an image as soon as the key 'image' is there, so the question becomes a second image placeholder.
# Why it matters: Data for fine-tuning and evaluation are kept like that. Where the number of images is not
#   checked, the model never reads the question; where it is checked, the error speaks of images and not of the
#   lost text.
# Seen: placeholders and question in the prompt: (1, True) before the Dataset, (2, False) after it
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet datasets==5.2.0 jinja2==3.1.6
"$dir/venv/bin/pip" install --quiet --no-deps trl==1.16.0
cd "$dir"
HF_HUB_OFFLINE=1 HF_HOME="$dir" TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - 2>errors <<'PY' || { cat errors >&2; exit 1; }
import importlib.metadata
import sys
import datasets
import jinja2

name = "trl/chat_templates/qwen2_5_vl.jinja"
template = importlib.metadata.distribution("trl").locate_file(name).read_text()
environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
content = [{"type": "image", "image": "chart.png"}, {"type": "text", "text": "Which bar is highest?"}]
messages = [{"role": "user", "content": content}]
stored = datasets.Dataset.from_list([{"messages": messages}])[0]["messages"]
before, after = (environment.from_string(template).render(messages=each) for each in (messages, stored))
counts = [(text.count("<|image_pad|>"), "Which bar" in text) for text in (before, after)]
if counts[0] != (1, True):
    sys.exit(f"Changed: the template prints the plain messages otherwise: {counts[0]}.")
if counts[1] != (2, False):
    sys.exit(f"Changed: the stored messages keep their question now: {counts[1]}.")
print(f"placeholders and question in the prompt: {counts[0]} before the Dataset, {counts[1]} after it")
PY
