#!/usr/bin/env bash
# Mllama without a cross_attention_mask: "sdpa" and "eager" attention give different logits.
#
# Package: transformers 5.24.0 (with torch 2.13.0, Python 3.11)
# Guess: The attention backend changes rounding only. Without a cross-attention mask each text token attends to
#   the whole image in both.
# Instead: Under sdpa (the default) the cross-attention is silently causal: text token n sees image columns up
#   to n. Under eager it sees the whole image. With the mask that the processor makes the two agree to 1e-6.
# Why it matters: Own loops, exports and fine-tuning scripts that leave the optional mask out get a model that
#   is blind to most of the image for its first tokens, and a switch of the backend changes the results.
# Seen:
#   sdpa against eager, in standard deviations of the logits: with the mask 1e-06, without 0.97.
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
from transformers import MllamaConfig, MllamaForConditionalGeneration

rope = dict(rope_type="default", rope_theta=10000.0)
text = dict(vocab_size=99, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
text |= dict(num_key_value_heads=2, cross_attention_layers=[1], pad_token_id=0, bos_token_id=1, eos_token_id=2)
text |= dict(rope_parameters=rope, max_position_embeddings=64)
vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_global_layers=1, attention_heads=2)
vision |= dict(image_size=32, patch_size=8, vision_output_dim=64, max_num_tiles=4, intermediate_layers_indices=[0])
config = MllamaConfig(text_config=text, vision_config=vision, image_token_index=98)
torch.manual_seed(0)
model = MllamaForConditionalGeneration(config).eval()
for name, parameter in model.named_parameters():
    torch.nn.init.normal_(parameter, std=0.2) if parameter.ndim > 1 or "gate" in name else None
ids = torch.tensor([[98, 1, 5, 6, 7, 8]])
inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=torch.randn(1, 1, 4, 3, 32, 32))
inputs |= dict(aspect_ratio_ids=torch.tensor([[1]]), aspect_ratio_mask=torch.tensor([[[1, 0, 0, 0]]]))
mask = dict(cross_attention_mask=torch.tensor([1, 0, 0, 0]).expand(1, 6, 1, 4))
logits = {}
for backend in ("eager", "sdpa"):
    model.set_attn_implementation(backend)
    with torch.no_grad():
        logits[backend] = [model(**inputs, **mask).logits, model(**inputs).logits]
moved = [float((one - other).abs().max() / one.std()) for one, other in zip(logits["eager"], logits["sdpa"])]
if moved[1] < 1e-3:
    sys.exit("Changed: both backends agree without a mask now.")
print(f"sdpa against eager, in standard deviations of the logits: with the mask {moved[0]:.0e}, without {moved[1]:.2f}.")
PY
