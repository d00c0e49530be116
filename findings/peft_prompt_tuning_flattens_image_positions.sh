#!/usr/bin/env bash
# Prompt tuning on Qwen2-VL takes away the image's rows and columns, and the previous request moves the text.
#
# Package: peft 0.21.2 with transformers 5.24.0 and torch 2.13.0 (Python 3.11)
# Guess: Virtual tokens stand before the prompt and every token keeps its position relative to the others.
# Instead: All tokens, image included, are counted 0, 1, 2, ... alike on all three axes, so the image has
#   neither rows nor columns. After one ordinary request to the base model the count even starts at -2, as that
#   request's offset is kept.
# Why it matters: It trains and answers without a warning, only worse, on every model with multi-axis positions;
#   and results depend on which request came before.
# Seen: plain [[0, 1, 2, 2, 2, 2, 4, 5, 6, 7], [0, 1, 2, 2, 3, 3, 4, 5, 6, 7], [0, 1, 2, 3, 2, 3, 4, 5, 6, 7]];
#   tuned, alike on all axes: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]; tuned, after a plain request: [-2,
#   -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet torch==2.13.0
"$dir/venv/bin/pip" install --quiet transformers==5.24.0 peft==0.21.2
cd "$dir"
HF_HUB_OFFLINE=1 HF_HOME="$dir" TRANSFORMERS_VERBOSITY=error venv/bin/python -W ignore - 2>errors <<'PY' || { cat errors >&2; exit 1; }
import sys
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

rope = dict(rope_type="default", mrope_section=[2, 3, 3], rope_theta=1e4)
text = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
text |= dict(vocab_size=100, rope_parameters=rope, bos_token_id=1, eos_token_id=2)
vision = dict(depth=1, embed_dim=32, hidden_size=32, num_heads=2, patch_size=14, mlp_ratio=2)
special = dict(image_token_id=95, video_token_id=96, vision_start_token_id=97, vision_end_token_id=98)
model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, **special)).eval()
ids = torch.tensor([[1, 97, 95, 95, 95, 95, 98, 5, 6, 7]])
inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == 95).int())
inputs |= dict(pixel_values=torch.randn(16, 1176), image_grid_thw=torch.tensor([[1, 4, 4]]))
rotary = model.model.language_model.rotary_emb
rotary.register_forward_pre_hook(lambda module, args, kwargs: axes.append((list(args) + list(kwargs.values()))[1]), with_kwargs=True)
axes = []
tuned = get_peft_model(model, PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")).eval()
with torch.no_grad():
    tuned(**inputs)
    model(**inputs)
    tuned(**inputs)
first, stock, second = (positions[-3:, 0].tolist() for positions in axes)
if len(set(map(tuple, stock))) != 3:
    sys.exit(f"Changed: the plain model's axes are {stock}.")
if len(set(map(tuple, first))) != 1 or first == second:
    sys.exit(f"Changed: the axes under prompt tuning are {first}, later {second}.")
print(f"plain {stock}; tuned, alike on all axes: {first[0]}; tuned, after a plain request: {second[0]}")
PY
