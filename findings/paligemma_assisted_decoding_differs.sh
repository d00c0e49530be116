#!/usr/bin/env bash
# Assisted decoding writes other tokens than greedy decoding on PaliGemma, even where the draft model is the
# model itself.
#
# Package: transformers 5.24.0 (with torch 2.13.0, Python 3.11)
# Guess: Assisted decoding only saves time. With do_sample=False every draft token is checked, so the answer is
#   the greedy one; a model that drafts for itself is always right.
# Instead: The answers differ, without a warning, with and without token_type_ids in the inputs. LLaVA in the
#   same set-up gives the greedy answer.
# Why it matters: A speed-up that is known as lossless changes the answers of a served model, and nothing tells
#   so.
# Seen:
#   PaliGemma drafting for itself: 6 of 6 greedy answers differ from plain greedy decoding.
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
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

text = dict(model_type="gemma", vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8)
text |= dict(num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=None)
vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
vision |= dict(image_size=28, patch_size=14, projection_dim=32)
config = PaliGemmaConfig(text_config=text, vision_config=vision, image_token_id=98, projection_dim=32)
torch.manual_seed(0)
model = PaliGemmaForConditionalGeneration(config).eval()
for parameter in model.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.5)
differing = 0
for _ in range(6):
    question = torch.randint(2, 90, (1, 6))
    ids = torch.cat([torch.tensor([[98] * 4 + [1]]), question], dim=1)
    inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=torch.randn(1, 3, 28, 28))
    greedy = model.generate(**inputs, max_new_tokens=10, do_sample=False)
    assisted = model.generate(**inputs, max_new_tokens=10, do_sample=False, assistant_model=model)
    differing += not torch.equal(greedy, assisted)
if differing == 0:
    sys.exit("Changed: assisted decoding gives the greedy answer for all 6 prompts now.")
print(f"PaliGemma drafting for itself: {differing} of 6 greedy answers differ from plain greedy decoding.")
PY
