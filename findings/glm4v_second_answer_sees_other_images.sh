#!/usr/bin/env bash
# GLM-4V with two images in one prompt: num_return_sequences=2 shows each answer one of the images twice, and
# beam search answers about the first image alone.
#
# Package: transformers 5.24.0 (with torch 2.13.0, Python 3.11)
# Guess: Two samples with top_k=1 are the greedy answer twice, and beam search reads the same prompt as greedy
#   decoding does.
# Instead: generate repeats the images one by one (A, A, B, B) and not prompt by prompt (A, B, A, B). Answer 1
#   equals the greedy answer for the images (A, A), answer 2 that for (B, B); the beams' answer does not change
#   when B is replaced by A.
# Why it matters: Best-of-n, beam search and GRPO roll-outs on several images (comparisons, pages) run on other
#   prompts than they are scored on, without a warning. Seen also for GLM-4.6V, GLM-OCR; Qwen2-VL and Qwen2.5-VL
#   are right.
# Seen:
#   Two samples of (A, B) = greedy for (A, A), (B, B): True; = greedy for (A, B): False; beams for (A, B) = beams for (A, A): True, for (B, B): False.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet torch==2.13.0
"$dir/venv/bin/pip" install --quiet transformers==5.24.0
cd "$dir"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - <<'PY'
import sys
import torch
from transformers import Glm4vConfig, Glm4vForConditionalGeneration

rope = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=1.0, mrope_section=[1, 1, 2])
text = dict(vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
text |= dict(num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=None, rope_parameters=rope)
vision = dict(depth=1, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=32, image_size=56)
vision |= dict(patch_size=14, spatial_merge_size=2, temporal_patch_size=1)
tokens = dict(image_token_id=98, image_start_token_id=96, image_end_token_id=97)
tokens |= dict(video_token_id=95, video_start_token_id=94, video_end_token_id=93)
torch.manual_seed(0)
model = Glm4vForConditionalGeneration(Glm4vConfig(text_config=text, vision_config=vision, **tokens)).eval()
for parameter in model.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.3)
a, b = torch.randn(16, 588), torch.randn(16, 588)
image = [96, 98, 98, 98, 98, 97]
ids = torch.tensor([[1, *image, *image, 5, 6, 7]])


def answers(first, second, **options):
    inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == 98).int())
    inputs |= dict(pixel_values=torch.cat([first, second]), image_grid_thw=torch.tensor([[1, 4, 4]] * 2))
    return model.generate(**inputs, max_new_tokens=6, **options)[:, ids.shape[1] :].tolist()


greedy = [answers(*pair, do_sample=False)[0] for pair in ((a, b), (a, a), (b, b))]
two = answers(a, b, do_sample=True, top_k=1, num_return_sequences=2)
beams = [answers(*pair, do_sample=False, num_beams=2) for pair in ((a, b), (a, a), (b, b))]
if two == [greedy[0], greedy[0]]:
    sys.exit("Changed: both samples are the greedy answer now.")
print(
    f"Two samples of (A, B) = greedy for (A, A), (B, B): {two == greedy[1:]}; = greedy for (A, B): {greedy[0] in two}; "
    f"beams for (A, B) = beams for (A, A): {beams[0] == beams[1]}, for (B, B): {beams[0] == beams[2]}."
)
PY
