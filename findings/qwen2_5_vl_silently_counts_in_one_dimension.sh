#!/usr/bin/env bash
# Qwen2.5-VL's forward without mm_token_type_ids silently numbers an image like text; Qwen2-VL's raises.
#
# Package: transformers 5.24.0 (with torch 2.13.0, Python 3.11)
# Guess: image_grid_thw and the placeholders say where the image is, so positions are computed from them, or
#   both sister models raise.
# Instead: Qwen2-VL raises a ValueError that names the missing input. Qwen2.5-VL runs with 1-D positions: the
#   logits are those of position_ids = 0, 1, 2, ...
# Why it matters: Collators and own loops often pass only ids, mask, pixels and grid. They train and score
#   Qwen2.5-VL without its spatial positions, and nothing tells so.
# Seen:
#   Without mm_token_type_ids Qwen2-VL raises; Qwen2.5-VL's logits move by 5.18 standard deviations and are 0e+00 from those of positions 0, 1, 2, ...
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
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

text = dict(vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
text |= dict(num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
text |= dict(rope_parameters=dict(rope_type="default", rope_theta=10000.0, mrope_section=[1, 1, 2]))
tokens = dict(image_token_id=98, video_token_id=95, vision_start_token_id=96, vision_end_token_id=97)
seven = dict(depth=1, embed_dim=32, hidden_size=32, num_heads=2, patch_size=14, spatial_merge_size=2)
vision = dict(depth=1, hidden_size=32, intermediate_size=48, out_hidden_size=32, num_heads=2, patch_size=14)
ids = torch.tensor([[1, 96] + [98] * 12 + [97, 5, 6, 7]])
inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), image_grid_thw=torch.tensor([[1, 6, 8]]))
torch.manual_seed(0)
inputs["pixel_values"] = torch.randn(48, 1176)
new = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)).eval()
old = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=seven, **tokens)).eval()
for parameter in new.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.3)
with torch.no_grad():
    try:
        old(**inputs)
        sister = "runs"
    except ValueError:
        sister = "raises"
    try:
        without = new(**inputs).logits
    except ValueError:
        sys.exit("Changed: Qwen2.5-VL raises without mm_token_type_ids, too.")
    right = new(**inputs, mm_token_type_ids=(ids == 98).int()).logits
    line = new(**inputs, position_ids=torch.arange(ids.shape[1]).expand(3, 1, -1)).logits
moved, to_line = (float((without - other).abs().max() / right.std()) for other in (right, line))
if moved < 1e-3:
    sys.exit("Changed: Qwen2.5-VL finds the image's positions by itself.")
print(
    f"Without mm_token_type_ids Qwen2-VL {sister}; Qwen2.5-VL's logits move by {moved:.2f} standard deviations "
    f"and are {to_line:.0e} from those of positions 0, 1, 2, ..."
)
PY
