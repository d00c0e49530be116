#!/usr/bin/env bash
# Gemma 4 Unified: cache_implementation="static" changes the answer about an image, from the first token's
# logits on.
#
# Package: transformers 5.24.0 (with torch 2.13.0, Python 3.11)
# Guess: A static cache is the same computation with memory set aside (it is what torch.compile needs): same
#   greedy answer up to rounding.
# Instead: The prefill itself is another one. Without a cache, or with the default one, the answers agree to
#   1e-5; with the static cache the first logits differ by more than half of their standard deviation. Text
#   alone is not affected.
# Why it matters: The cache type is a speed setting. Here a server with compiled decoding answers otherwise than
#   the evaluation did.
# Seen:
#   First logits moved, in standard deviations: without a cache 0e+00, static cache 1.04, static cache and no image 3e-06.
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
from transformers import Gemma4UnifiedConfig, Gemma4UnifiedForConditionalGeneration

text = dict(vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4)
text |= dict(num_key_value_heads=2, head_dim=16, max_position_embeddings=512, per_layer_config={"1": {"head_dim": 32}, "3": {"head_dim": 32}})
text |= dict(layer_types=["sliding_attention", "full_attention"] * 2, use_bidirectional_attention="vision")
text |= dict(pad_token_id=0, bos_token_id=1, eos_token_id=None)
vision = dict(patch_size=4, pooling_kernel_size=2, mm_embed_dim=32, mm_posemb_size=16, output_proj_dims=32)
tokens = dict(boi_token_id=300, eoi_token_id=301, image_token_id=302, video_token_id=303, boa_token_id=304)
tokens |= dict(eoa_token_index=305, audio_token_id=306)
config = Gemma4UnifiedConfig(text_config=text, vision_config=vision, audio_config=None, **tokens)
torch.manual_seed(0)
model = Gemma4UnifiedForConditionalGeneration(config).eval()
for parameter in model.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, std=0.2)


def first_logits(ids, options, **image):
    ids = torch.tensor([ids])
    inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == 302).int(), **image)
    options = dict(options, do_sample=False, max_new_tokens=4, return_dict_in_generate=True, output_logits=True)
    return model.generate(**inputs, **options).logits[0]


places = torch.tensor([[[x, y] for y in range(2) for x in range(3)]])
image = dict(pixel_values=torch.rand(1, 6, 192), image_position_ids=places)
ids = [1, 300] + [302] * 6 + [301, 5, 6, 7, 8]
default, none, static = (
    first_logits(ids, options, **image) for options in ({}, {"use_cache": False}, {"cache_implementation": "static"})
)
plain = [first_logits(ids[9:], options) for options in ({}, {"cache_implementation": "static"})]
moved = [float((one - other).abs().max() / default.std()) for one, other in ((none, default), (static, default), plain)]
if moved[1] < 1e-3:
    sys.exit("Changed: the static cache gives the default cache's logits now.")
print(
    "First logits moved, in standard deviations: without a cache {:.0e}, static cache {:.2f}, "
    "static cache and no image {:.0e}.".format(*moved)
)
PY
