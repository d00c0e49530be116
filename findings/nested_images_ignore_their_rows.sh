#!/usr/bin/env bash
# LlavaProcessor accepts a nested list of images whose rows disagree with the prompts, and gives a prompt
# another row's image.
#
# Package: transformers 5.24.0, pillow 13.0.0 (with torch 2.13.0, Python 3.11)
# Guess: images=[[a, b], [c]] says which prompt each image belongs to. Prompts with one and two placeholders
#   contradict it, so the processor raises.
# Instead: The nesting is thrown away. Only the total is compared (three images, three placeholders), and image
#   b becomes the second prompt's first image.
# Why it matters: One sample whose placeholder was lost and one with a placeholder too many (common in scraped
#   data) shift images between samples of a batch, and the batch trains or answers without an error.
# Seen:
#   Passed [[red, green], [blue]]; the prompts get ['red'] and ['green', 'blue'], without an error.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet torch==2.13.0
"$dir/venv/bin/pip" install --quiet transformers==5.24.0 pillow==13.0.0
cd "$dir"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - <<'PY'
import sys
import numpy as np
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

words = Tokenizer(models.WordLevel({w: n for n, w in enumerate(["<unk>", "<pad>", "<image>", "what"])}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", additional_special_tokens=["<image>"]
)
images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
processor = LlavaProcessor(images, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1)
red, green, blue = (Image.new("RGB", (28, 28), color) for color in ("red", "lime", "blue"))
prompts = ["<image> what", "<image> <image> what"]
try:
    batch = processor(images=[[red, green], [blue]], text=prompts, padding=True, return_tensors="np")
except ValueError as error:
    sys.exit(f"Changed: the processor refuses: {error}")
per_prompt = (batch["input_ids"] == 2).sum(axis=1) // 4
colors = [["red", "green", "blue"][int(pixels.mean(axis=(1, 2)).argmax())] for pixels in batch["pixel_values"]]
if colors != ["red", "green", "blue"] or per_prompt.tolist() != [1, 2]:
    sys.exit(f"Changed: {colors}, {per_prompt.tolist()} images per prompt.")
print(f"Passed [[red, green], [blue]]; the prompts get {colors[:1]} and {colors[1:]}, without an error.")
PY
